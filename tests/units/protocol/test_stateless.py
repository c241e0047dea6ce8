"""A request that stands alone is answered without the SDK's transports, and nothing is lost by it, in either era."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import sample
from live import KEY, Live, live
from wire import ERAS, LEGACY, SECONDS, Era, Reply, Wire, request

from hardening.protocol.stateless import LONGEST_KEPT, _read

if TYPE_CHECKING:
    from collections.abc import Iterator

both_eras = pytest.mark.parametrize("era", ERAS)
PROGRESS = {"name": "stream", "arguments": {"steps": 2, "seconds": 0.06}}


@pytest.fixture
def fresh() -> Iterator[Live]:
    """A server that nobody else is calling."""
    sample.RUNNING.clear()
    sample.CANCELLED.clear()
    with live() as running:
        yield running


@both_eras
@pytest.mark.parametrize("method", ["tools/call", "tools/list", "resources/list"])
async def test_what_does_not_stream_is_json(wire: Wire, era: Era, method: str) -> None:
    """Results and errors, with the id of the request, even when progress was asked for."""
    params = {"name": "echo", "arguments": {"text": "hello"}, "_meta": {"progressToken": "p"}}
    reply = await wire.ask(era, method, params if method == "tools/call" else {}, rpc_id="mine")

    assert reply.headers["content-type"] == "application/json"
    assert reply.message["id"] == "mine"
    assert reply.message["jsonrpc"] == "2.0"


@both_eras
async def test_progress_is_a_stream_when_somebody_asks_for_it(wire: Wire, era: Era) -> None:
    """The same call is JSON without a token."""
    asked = await wire.ask(era, "tools/call", {**PROGRESS, "_meta": {"progressToken": "p"}})
    plain = await wire.ask(era, "tools/call", PROGRESS)

    assert asked.headers["content-type"] == "text/event-stream"
    assert [message["params"]["progress"] for message in asked.notifications] == [1, 2]
    assert plain.headers["content-type"] == "application/json"
    assert asked.result["structuredContent"] == plain.result["structuredContent"] == {"result": 2}


@both_eras
async def test_a_client_that_leaves_ends_a_plain_call(fresh: Live, era: Era) -> None:
    """The call is cancelled, and its slot is free again."""
    headers, body = request(era, "tools/call", {"name": "wait", "arguments": {"seconds": 3600}}, key=KEY)
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        leaving = asyncio.ensure_future(client.post(f"{fresh.url}/mcp", headers=headers, content=body))
        await until(fresh, sample.RUNNING)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
    await until(fresh, sample.CANCELLED)
    async with asyncio.timeout(SECONDS):
        while fresh.do(fresh.app.pipeline.in_flight):
            await asyncio.sleep(0.01)

    assert fresh.do(fresh.app.server.deadlines.names) == []


@both_eras
async def test_a_silent_call_is_kept_alive(era: Era) -> None:
    """After `MCP_STREAM_PING_SECONDS` of silence comments are sent, whether the call streams or not."""
    with live(MCP_STREAM_PING_SECONDS="1") as server:
        async with Wire(server.url, KEY) as wire:
            reply = await wire.call(era, "wait", {"seconds": 2.5})

    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.body.count(b": ping\r\n\r\n") == 2
    assert reply.text == "waited"


@both_eras
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {}),
        ("tools/list", {"cursor": "made up"}),
        ("tools/call", {"name": "echo", "arguments": {"text": "hello"}}),
        ("tools/call", {"name": "echo", "arguments": {"text": 1}}),
        ("tools/call", {"name": "echo", "arguments": "none"}),
        ("tools/call", {"name": "crash", "arguments": {"text": "hello"}}),
        ("tools/call", {"name": "no_such_tool", "arguments": {}}),
        ("prompts/get", {"name": "no_such_prompt"}),
        ("resources/read", {"uri": "no://such"}),
        ("completion/complete", {}),
        ("no/such", {}),
        ("ping", {}),
    ],
)
async def test_the_answer_is_the_one_of_the_sdks_transports(
    wire: Wire, era: Era, method: str, params: dict[str, Any]
) -> None:
    """A parameter in `Accept`, which changes nothing, makes them answer; message and status are the same."""
    theirs = {"accept": "application/json;q=1, text/event-stream;q=1"}
    ours = await wire.ask(era, method, params)
    reply = await wire.ask(era, method, params, headers=theirs)

    assert blank(ours) == blank(reply)
    assert ours.status == reply.status


@both_eras
async def test_errors_have_the_status_of_their_era(wire: Wire, era: Era) -> None:
    """404 and 400 in the modern one, a success of HTTP in the older ones."""
    unknown_method = await wire.ask(era, "no/such")
    unknown_tool = await wire.call(era, "no_such_tool")

    assert (unknown_method.error["code"], unknown_tool.error["code"]) == (-32601, -32602)
    assert [unknown_method.status, unknown_tool.status] == ([404, 400] if era == "modern" else [200, 200])


@both_eras
@pytest.mark.parametrize("accept", ["application/json", "application/json;q=0.9", "application/*", None])
async def test_whoever_takes_json_alone_gets_json(wire: Wire, era: Era, accept: str | None) -> None:
    """Also from a tool that reports progress, which such a client does without; so does one that says nothing."""
    headers, body = request(era, "tools/call", {"name": "echo", "arguments": {"text": "hello"}}, key=wire.key)
    progress = {"name": "stream", "arguments": {"steps": 3, "seconds": 0.06}, "_meta": {"progressToken": "p"}}
    more, streaming = request(era, "tools/call", progress, key=wire.key)
    for sent in (headers, more):
        sent.pop("accept")
    # An HTTP library sends a header of its own in place of none; an empty one says as much.
    chosen = {"accept": accept or ""}

    plain = await wire.send(body, headers | chosen)
    silent = await wire.send(streaming, more | chosen)
    notified = await wire.send(
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}', headers | chosen
    )

    for reply in (plain, silent):
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert not reply.message["result"].get("isError")
    assert not silent.notifications
    assert notified.status in {202, 400}


@both_eras
@pytest.mark.parametrize(
    "accept", ["text/html", "text/event-stream", "application/json;q=0", "application/json;q=0.0, text/*"]
)
async def test_an_answer_that_nobody_takes_is_refused_with_a_reason(wire: Wire, era: Era, accept: str) -> None:
    """406 with a body, in either era."""
    reply = await wire.call(era, "echo", {"text": "hello"}, headers={"accept": accept})

    assert reply.status == 406
    assert reply.error["data"]["kind"] == "not_acceptable"
    assert "application/json" in reply.error["message"]


async def test_a_subscription_needs_a_stream(wire: Wire) -> None:
    """What is a stream and nothing else is not begun for a client that does not take one."""
    reply = await wire.ask("modern", "subscriptions/listen", {}, headers={"accept": "application/json"})

    assert reply.status == 406
    assert reply.error["data"]["kind"] == "not_acceptable"


@pytest.mark.parametrize(
    "headers",
    [{"mcp-method": "tools/list"}, {"mcp-name": "who"}, {"mcp-protocol-version": "2026-07-29"}, {"mcp-name": ""}],
)
async def test_headers_that_contradict_the_message_are_refused(wire: Wire, headers: dict[str, str]) -> None:
    """A proxy that routes by them must not be shown another request than the one that is answered."""
    reply = await wire.call("modern", "echo", {"text": "hello"}, headers=headers)
    assert reply.status == 400
    assert "error" in reply.message


async def test_a_repeated_header_is_refused(server: Live) -> None:
    """The first reader and the last would see different ones."""
    headers, body = request("modern", "tools/list", {}, key=KEY)
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        twice = [*headers.items(), ("mcp-method", "tools/list")]
        answer = await client.post(f"{server.url}/mcp", headers=twice, content=body)
    assert answer.status_code == 400
    assert "more than once" in answer.json()["error"]["message"]


async def test_arguments_repeated_in_headers_have_to_agree(fresh: Live) -> None:
    """Where a schema asks for it (`x-mcp-header`), the header says what the argument says."""
    schema = {"type": "object", "properties": {"text": {"type": "string", "x-mcp-header": "Text"}}}
    fresh.app.session_manager.app.get_tool_input_schema = lambda name: schema if name == "echo" else None
    async with Wire(fresh.url, KEY) as wire:
        agreed = await wire.call("modern", "echo", {"text": "a"}, headers={"mcp-param-text": "a"})
        other = await wire.call("modern", "echo", {"text": "a"}, headers={"mcp-param-text": "b"})
        free = await wire.call("modern", "who", {}, headers={"mcp-param-text": "b"})

    assert (agreed.status, other.status, free.status) == (200, 400, 200)


async def test_sessions_stay_with_the_sdk() -> None:
    """A session has a life beyond one request, which only the SDK's transport knows."""
    with live(MCP_LEGACY="stateful") as server:
        async with Wire(server.url, KEY) as wire:
            params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
            opened = await wire.ask("legacy", "initialize", params)
            alone = await wire.call("legacy", "echo", {"text": "hello"})

    assert opened.headers["mcp-session-id"]
    assert alone.status == 400


async def test_a_long_claim_of_a_client_is_not_kept(wire: Wire) -> None:
    """What is remembered of clients is bounded, in number and in size."""
    _read.cache_clear()
    for version in ("1", "x" * LONGEST_KEPT):
        claim = {"io.modelcontextprotocol/clientInfo": {"name": "wire", "version": version}}
        reply = await wire.ask("modern", "tools/call", {"name": "echo", "arguments": {"text": "a"}, "_meta": claim})
        assert reply.status == 200

    assert _read.cache_info().currsize == 1


def blank(reply: Reply) -> str:
    """Return the message without the reference, which is another one in each."""
    return json.dumps(reply.message, sort_keys=True).replace(reply.headers["x-request-id"], "…")


async def until(server: Live, event: asyncio.Event) -> None:
    """Wait for an event of the server's loop."""
    async with asyncio.timeout(SECONDS):
        while not server.do(event.is_set):
            await asyncio.sleep(0.01)
