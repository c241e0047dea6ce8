"""One well-formed message, or an answer that repeats nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from captured import captured, exchange
from hypothesis import given, settings
from json_values import ANYTHING
from live import settings_from
from wire import ERAS, MODERN, Era, Wire, request

from hardening.protocol.message import MessageCheck, has_more_values, too_deep

SENTINEL = "sentinel-value"


def deep(levels: int) -> str:
    """Return JSON nested that deep."""
    return "[" * levels + "]" * levels


MALFORMED: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", -32700),
    "no JSON": (b"sentinel-value", -32700),
    "half": (b'{"jsonrpc":"2.0","id":1,"method":"sentinel-value', -32700),
    "trailing comma": (b'{"jsonrpc":"2.0","id":1,"method":"ping",}', -32700),
    "not a number": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700),
    "no text": (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700),
    "UTF-16": ('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), -32700),
    "half a surrogate pair": (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', -32700),
    "a number of 5000 digits": (b'{"jsonrpc":"2.0","method":"ping","id":1' + b"0" * 5000 + b"}", -32700),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"sentinel-value"}]', -32600),
    "a string": (b'"sentinel-value"', -32600),
    "null": (b"null", -32600),
    "no version": (b'{"id":1,"method":"sentinel-value"}', -32600),
    "another version": (b'{"jsonrpc":"1.0","id":1,"method":"sentinel-value"}', -32600),
    "no method": (b'{"jsonrpc":"2.0","id":1}', -32600),
    "an answer": (b'{"jsonrpc":"2.0","id":1,"result":{"a":"sentinel-value"}}', -32600),
    "a method that is no text": (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
    "an id of null": (b'{"jsonrpc":"2.0","id":null,"method":"sentinel-value"}', -32600),
    "an id that is a bool": (b'{"jsonrpc":"2.0","id":true,"method":"sentinel-value"}', -32600),
    "an id that is a list": (b'{"jsonrpc":"2.0","id":["sentinel-value"],"method":"ping"}', -32600),
    "an id that is a fraction": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
    "params that are a list": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":["sentinel-value"]}', -32600),
    "meta that is text": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":"sentinel-value"}}', -32602),
    "trace context that is no text": (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"baggage":["sentinel-value"]}}}',
        -32602,
    ),
    "too deep": (f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{deep(100)}}}}}'.encode(), -32600),
    "far too deep": (b"[" * 900, -32700),
    "far too many": (b"[" * 60_000, -32600),
    "an id of 129 characters": (b'{"jsonrpc":"2.0","id":"' + b"a" * 129 + b'","method":"ping"}', -32600),
    "an id beyond what every program reads": (b'{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}', -32600),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_is_refused_without_echo(wire: Wire, name: str, era: Era) -> None:
    """Each malformed message gets 400 and the code of JSON-RPC 2.0 for it, and nothing of it comes back."""
    body, code = MALFORMED[name]
    headers, _ = request(era, "ping", key=wire.key)
    answer = await wire.send(body, headers)

    assert answer.status == 400
    assert answer.error["code"] == code
    assert answer.error["data"]["reference"] == answer.headers["x-request-id"]
    assert SENTINEL not in answer.body.decode()
    assert SENTINEL not in str(answer.headers)


@pytest.mark.parametrize("era", ERAS)
async def test_a_refusal_answers_the_message_it_refuses(wire: Wire, era: Era) -> None:
    """Where the id can be read it is given back; where it cannot, there is none."""
    headers, _ = request(era, "ping", key=wire.key)
    known = await wire.send(b'{"jsonrpc":"2.0","id":"abc","method":"ping","params":{"_meta":5}}', headers)
    unknown = await wire.send(b"{", headers)

    assert known.message["id"] == "abc"
    assert unknown.message["id"] is None


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("rpc_id", [0, 1, -5, 2**53, "", "text", "ü"])
async def test_every_id_the_protocol_allows_comes_back(wire: Wire, era: Era, rpc_id: Any) -> None:
    """Integers and strings are ids."""
    answer = await wire.ask(era, "tools/list", rpc_id=rpc_id)

    assert answer.status == 200
    assert answer.message["id"] == rpc_id


@given(ANYTHING)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_nesting_is_measured_exactly(message: Any) -> None:
    """The depth that is found is that of the message, whatever brackets are inside its strings."""

    def depth(node: Any) -> int:
        inner = node.values() if isinstance(node, dict) else node
        return 1 + max(map(depth, inner), default=0) if isinstance(node, dict | list) else 0

    body = json.dumps(message).encode()
    for limit in range(6):
        assert too_deep(body, message, limit) is (depth(message) > limit)
    assert not too_deep(json.dumps("[" * 1000).encode(), "[" * 1000, 8)


async def check(legacy: str, **values: Any) -> tuple[Any, Any]:
    """Return what the guard answers to a message, and the exchange afterwards."""
    one = exchange(tool_name=None, **{"body": json.dumps(values.pop("message")).encode(), **values})
    return await MessageCheck(settings_from({"MCP_AUTH": "none", "MCP_LEGACY": legacy}))(one), one


async def test_a_server_that_refuses_the_older_protocols_says_which_it_speaks() -> None:
    """`MCP_LEGACY=refuse` answers with the versions that are served (2026-07-28, Versioning)."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    answer, _ = await check("refuse", message=message, era="legacy", protocol_version="2025-11-25")

    assert (answer.status, answer.code) == (400, -32022)
    assert dict(answer.data) == {"supported": [MODERN], "requested": "2025-11-25"}
    assert (await check("refuse", message=message))[0] is None
    assert (await check("stateless", message=message, era="legacy"))[0] is None


async def test_answers_of_a_client_pass_in_sessions_only() -> None:
    """Only a session can have asked the client something."""
    answered = {"jsonrpc": "2.0", "id": 1, "result": {}}

    assert (await check("stateful", message=answered, era="legacy"))[0] is None
    assert (await check("stateful", message=answered, era="modern"))[0].kind == "invalid_request"
    assert (await check("stateless", message=answered, era="legacy"))[0].kind == "invalid_request"


@pytest.mark.parametrize(
    "answered",
    [
        {"result": "sentinel-value"},
        {"error": "sentinel-value"},
        {"error": {"code": "sentinel-value", "message": ""}},
        {"error": {"code": 1, "message": ["sentinel-value"]}},
        {},
    ],
)
async def test_an_answer_of_a_client_that_is_none_gets_no_further(answered: dict[str, Any]) -> None:
    """It is refused here, since the SDK's own refusal repeats it."""
    refused, _ = await check("stateful", message={"jsonrpc": "2.0", "id": 1, **answered}, era="legacy")

    assert refused.kind == "invalid_request"


async def test_later_guards_learn_what_the_message_is() -> None:
    """Method, id, tool and parameters are set for limits and log lines, and every string in it is kept from lines."""
    arguments = {"text": "Reykjavik", "deep": [{"key": "Akureyri"}], "number": 123456}
    message = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": arguments, "_meta": {"progressToken": "token"}},
    }
    answer, one = await check("stateless", message=message)

    assert answer is None
    assert (one.rpc_method, one.rpc_id, one.tool_name) == ("tools/call", 7, "echo")
    assert one.meta == {"progressToken": "token"}
    assert {"Reykjavik", "Akureyri", "123456"} <= one.sensitive


async def test_what_meta_holds_beyond_the_protocol_is_kept_from_lines() -> None:
    """So are an id and a progress token that are texts; what the client says of itself is written, and is not."""
    meta = {
        "com.example/session": {"key": "Reykjavik"},
        "progressToken": "Akureyri",
        "io.modelcontextprotocol/clientInfo": {"name": "Claimed"},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    params = {"name": "echo", "arguments": {"text": "a text"}, "_meta": meta}
    _, one = await check(
        "stateless", message={"jsonrpc": "2.0", "id": "Egilsstadir", "method": "tools/call", "params": params}
    )
    counted = {"name": "echo", "_meta": {"progressToken": 1234}}
    _, other = await check(
        "stateless", message={"jsonrpc": "2.0", "id": 5678, "method": "tools/call", "params": counted}
    )

    assert {"Reykjavik", "Akureyri", "Egilsstadir", "a text"} <= one.sensitive
    assert one.sensitive.isdisjoint({"Claimed", meta["traceparent"]})
    assert other.sensitive.isdisjoint({"1234", "5678"})


@pytest.mark.parametrize("era", ERAS)
async def test_a_notification_is_taken_without_an_answer(wire: Wire, era: Era) -> None:
    """A message without an id gets 202 and no body (2026-07-28, Transports)."""
    headers, _ = request(era, "notifications/initialized", key=wire.key)
    answer = await wire.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', headers)

    assert answer.status == 202
    assert answer.body == b""


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_without_an_id_runs_no_tool(wire: Wire, era: Era, tmp_path: Any) -> None:
    """A tool is never run where nobody can get its result."""
    headers, body = request(era, "tools/call", {"name": "echo", "arguments": {"text": "hello"}}, key=wire.key)
    message = json.loads(body)
    del message["id"]
    with captured(tmp_path / "log") as log:
        answer = await wire.send(json.dumps(message).encode(), headers)
        again = await wire.call(era, "who")
        lines = [line for line in log.lines() if line["msg"] == "tool call"]

    assert answer.status in {202, 400}
    assert not again.result["isError"]
    assert [line["tool_name"] for line in lines] == ["who"]


NESTED = "[" + "[]," * 12_000 + "[]]"
WIDE = "{" + ",".join(f'"{number}":1' for number in range(12_000)) + "}"
NUMBERS = "[" + "1," * 12_000 + "1]"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("given_", [NESTED, WIDE, NUMBERS], ids=["lists", "members", "numbers"])
@pytest.mark.parametrize("place", ["arguments", "_meta"])
async def test_values_are_counted_before_they_are_parsed(wire: Wire, era: Era, given_: str, place: str) -> None:
    """10,000 values are parsed and no more, wherever they stand: 400."""
    headers, body = request(era, "tools/call", {"name": "echo", "arguments": {"text": "a"}}, key=wire.key)
    many = body.replace(b'"params": {', f'"params": {{"{place}x": {given_}, '.encode(), 1)
    answer = await wire.send(many, headers)

    assert len(many) < 200_000
    assert (answer.status, answer.error["data"]["kind"]) == (400, "too_many_values")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "method", ["tools/list", "ping", "no/such", "initialize", "server/discover", "subscriptions/listen"]
)
async def test_a_method_without_arguments_has_smaller_bounds(wire: Wire, era: Era, method: str) -> None:
    """1,000 values (400) and 65,536 bytes (413), though the name of a method with arguments stands in the text."""
    for names in ("", "tools/call"):
        many = await wire.ask(era, method, {"filler": [0] * 1200, "names": names})
        long = await wire.ask(era, method, {"filler": "a" * 66_000, "names": names})

        assert (many.status, many.error["data"]["kind"]) == (400, "too_many_values")
        assert (long.status, long.error["data"]["kind"]) == (413, "too_big")


@pytest.mark.parametrize("era", ERAS)
async def test_the_probe_key_has_the_smaller_bounds_whatever_it_names(probe: Wire, era: Era) -> None:
    """It may call nothing, so it makes the server parse no arguments."""
    answer = await probe.call(era, "echo", {"text": "a", "filler": [0] * 1200})

    assert (answer.status, answer.error["data"]["kind"]) == (400, "too_many_values")


@pytest.mark.parametrize("era", ERAS)
async def test_a_long_text_is_no_large_number_of_values(wire: Wire, era: Era) -> None:
    """Commas and brackets inside strings do not count, escapes or not."""
    text = 'a, "b" [c] \\ {d} ' * 40_000
    answer = await wire.call(era, "echo", {"text": text})

    assert answer.status == 200
    assert answer.result["isError"] is True


@given(ANYTHING)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_values_are_counted_exactly(message: Any) -> None:
    """What is counted is arrays, objects, and every member or item but the first, whatever is inside strings."""

    def count(node: Any) -> int:
        if not isinstance(node, dict | list):
            return 0
        inner = list(node.values() if isinstance(node, dict) else node)
        return 1 + max(len(inner) - 1, 0) + sum(map(count, inner))

    body = json.dumps(message).encode()
    exact = count(message)
    assert not has_more_values(body, exact)
    assert exact == 0 or has_more_values(body, exact - 1)


def test_more_quotes_than_so_many_values_can_have_are_too_many() -> None:
    """A text that is nothing but quotes is not taken apart: 35 ms for 1 MB."""
    text = b'["' + b"," * 11 + b'"%b]'

    assert not has_more_values(text % (b'""' * 20), 10)
    assert has_more_values(text % (b'""' * 21), 10)
