"""The checks of the 2026-07-28 protocol, one each, on a socket; the depth is in the test file of each module."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mcp.server.request_state
import pytest
import sample
from jsonschema import Draft202012Validator
from live import ENVIRONMENT as USUAL
from live import KEY, OTHER_KEY, Live, live, settings_from
from mcp.types import CallToolResult, ElicitRequest, ElicitRequestFormParams, InputRequiredResult, TextContent
from wire import META, MODERN, SECONDS, Reply, Wire, request

from hardening import Context, HardeningSettings, harden, tool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from hardening.server import HardenedServer

HELLO = {"name": "echo", "arguments": {"text": "hello"}}
VERSION = "io.modelcontextprotocol/protocolVersion"
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
FORM = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
SHARED = {"MCP_REQUEST_STATE_KEYS": "k" * 40}


@tool(read_only=True)
async def confirm(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Ask once, then say what was kept meanwhile."""
    if ctx.sdk.request_state is None:
        question = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema=FORM))
        return InputRequiredResult(input_requests={"sure": question}, request_state="kept by the client")
    return CallToolResult(content=[TextContent(type="text", text=ctx.sdk.request_state)])


@tool(read_only=True)
async def confirm_else(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Do the same under another name."""
    return await confirm(ctx)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose tools ask back."""
    return harden(settings, tools=(confirm, confirm_else), instructions="For tests.")


@pytest.fixture(scope="module")
def asking() -> Iterator[tuple[Live, Live]]:
    """Two replicas whose tools ask back."""
    environment = {**USUAL, **SHARED}
    with Live(settings_from(environment), build) as one, Live(settings_from(environment), build) as two:
        yield one, two


async def changed(wire: Wire, *, drop: str = "", params: dict[str, Any] = HELLO, **headers: str) -> Reply:
    """Call a tool with one thing wrong."""
    sent, body = request("modern", "tools/call", params, key=wire.key)
    sent.pop(drop, None)
    return await wire.send(body, {**sent, **{name.replace("_", "-"): value for name, value in headers.items()}})


@pytest.mark.parametrize("header", ["mcp-method", "mcp-name"])
async def test_p1_a_missing_header_is_32020(wire: Wire, header: str) -> None:
    """What the body says must stand in the headers too."""
    reply = await changed(wire, drop=header)

    assert (reply.status, reply.error["code"]) == (400, -32020)


@pytest.mark.parametrize("wrong", [{"mcp_method": "tools/list"}, {"mcp_name": "other"}, {"mcp_name": "ECHO"}], ids=str)
async def test_p1_a_header_that_differs_is_32020(wire: Wire, wrong: dict[str, Any]) -> None:
    """Names are compared with case."""
    reply = await changed(wire, **wrong)

    assert (reply.status, reply.error["code"]) == (400, -32020)


async def test_p1_a_name_may_come_in_base64(wire: Wire) -> None:
    """The form for values that are not safe in a header."""
    reply = await changed(wire, mcp_name=f"=?base64?{base64.b64encode(b'echo').decode()}?=")

    assert reply.status == 200


async def test_p1_an_unknown_version_is_32022_and_says_which_are_known(wire: Wire) -> None:
    """The client can choose another one."""
    params = {**HELLO, "_meta": {**META, VERSION: "2099-01-01"}}
    reply = await changed(wire, params=params, mcp_protocol_version="2099-01-01")

    assert (reply.status, reply.error["code"]) == (400, -32022)
    assert MODERN in reply.error["data"]["supported"]
    assert reply.error["data"]["requested"] == "2099-01-01"


@pytest.mark.parametrize("missing", [VERSION, "io.modelcontextprotocol/clientCapabilities", "_meta"])
async def test_p1_a_missing_meta_is_32602(wire: Wire, missing: str) -> None:
    """Every request says version and capabilities."""
    headers, body = request("modern", "tools/call", HELLO, key=KEY)
    message = json.loads(body)
    message["params"]["_meta"].pop(missing, None)
    if missing == "_meta":
        del message["params"]["_meta"]
    reply = await wire.send(json.dumps(message).encode(), headers)

    assert (reply.status, reply.error["code"]) == (400, -32602)


@pytest.mark.parametrize(
    "method", ["no/such", "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
)
async def test_p1_unknown_and_removed_methods_are_404_with_32601(wire: Wire, method: str) -> None:
    """The code in the body tells them from an address that does not exist."""
    reply = await wire.ask("modern", method)

    assert (reply.status, reply.error["code"]) == (404, -32601)


async def test_p1_a_batch_is_400(wire: Wire) -> None:
    """One message in one request."""
    headers, body = request("modern", "tools/call", HELLO, key=KEY)
    reply = await wire.send(b"[" + body + b"]", headers)

    assert (reply.status, reply.error["code"]) == (400, -32600)


async def test_p2_there_is_no_session(wire: Wire) -> None:
    """None is given out, and one that is sent changes nothing."""
    replies = [await changed(wire), await changed(wire, mcp_session_id="0" * 32)]

    assert [reply.status for reply in replies] == [200, 200]
    assert not any("mcp-session-id" in reply.headers for reply in replies)
    assert replies[0].result == replies[1].result


@pytest.mark.parametrize("method", ["server/discover", *LISTS])
async def test_p3_lists_say_how_long_they_hold_and_stay_the_same(wire: Wire, method: str) -> None:
    """`ttlMs`, `cacheScope`, `resultType`; two answers are equal byte for byte."""
    one, two = await wire.ask("modern", method), await wire.ask("modern", method)

    assert one.result["ttlMs"] >= 0
    assert one.result["cacheScope"] in {"public", "private"}
    assert one.result["resultType"] == "complete"
    assert one.body == two.body


async def test_p3_capabilities_are_what_is_served(wire: Wire, asking: tuple[Live, Live]) -> None:
    """A method is there if and only if it was advertised."""
    async with Wire(asking[0].url, KEY) as other:
        for client in (wire, other):
            capabilities = (await client.ask("modern", "server/discover")).result["capabilities"]
            for kind, method in (("tools", "tools/list"), ("prompts", "prompts/list"), ("resources", "resources/list")):
                reply = await client.ask("modern", method)
                listed = bool(reply.status == 200 and reply.result[kind])
                assert (kind in capabilities) is listed


@pytest.mark.parametrize("method", LISTS)
async def test_p4_a_cursor_that_was_never_given_out_is_32602(wire: Wire, method: str) -> None:
    """It is not ignored: the client would read the first page for ever."""
    reply = await wire.ask("modern", method, {"cursor": "made up"})

    assert reply.error["code"] == -32602


async def test_p5_an_unknown_tool_is_32602(wire: Wire) -> None:
    """A fault of the client, not of a tool."""
    reply = await wire.call("modern", "no_such_tool")

    assert reply.error["code"] == -32602
    assert "no_such_tool" not in reply.error["message"]


async def test_p5_bad_arguments_name_the_field_and_the_rule_and_no_value(wire: Wire) -> None:
    """The model can correct itself, and nothing is repeated."""
    reply = await wire.call("modern", "echo", {"text": "hello", "number": 7_654_321})

    assert reply.result["isError"]
    assert "number" in reply.text
    assert "100" in reply.text
    assert "7654321" not in reply.body.decode()


async def test_p6_an_unexpected_exception_says_a_reference_and_nothing_else(wire: Wire) -> None:
    """No text, no path, no name of a class."""
    reply = await wire.call("modern", "crash", {"text": "of no concern"})
    told = reply.body.decode()

    assert reply.result["isError"]
    assert reply.headers["x-request-id"] in reply.text
    assert not [word for word in ("secret detail", "of no concern", "RuntimeError", ".py", "Traceback") if word in told]


async def test_p7_output_fits_its_schema_or_does_not_leave(wire: Wire) -> None:
    """What a tool promises, or a failure."""
    tools = {one["name"]: one for one in (await wire.ask("modern", "tools/list")).result["tools"]}
    good = await wire.call("modern", "echo", {"text": "a"})
    bad = await wire.call("modern", "wrong_result", {"text": "a"})

    Draft202012Validator(tools["echo"]["outputSchema"]).validate(good.result["structuredContent"])
    assert bad.result["isError"]
    assert "many" not in bad.body.decode()


async def test_p8_over_a_rate_is_429_and_others_are_unaffected() -> None:
    """`Retry-After`, and a JSON-RPC body with the id of the request."""
    with live(MCP_RATE_PRINCIPAL_BURST="3", MCP_RATE_PRINCIPAL_PER_MINUTE="3") as server:
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob:
            replies = [await alice.ask("modern", "tools/list", rpc_id=f"id {number}") for number in range(5)]
            other = await bob.ask("modern", "tools/list")

    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert int(replies[3].headers["retry-after"]) == replies[3].error["data"]["retryAfter"] >= 1
    assert replies[3].message["id"] == "id 3"
    assert other.status == 200


async def test_p8_over_a_concurrency_cap_is_503_and_others_are_unaffected() -> None:
    """A caller that holds its slots waits; nobody else does."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as server:
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob, waiting(server, alice):
            refused, other = await alice.ask("modern", "tools/list"), await bob.ask("modern", "tools/list")

    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert other.status == 200


@asynccontextmanager
async def waiting(server: Live, wire: Wire) -> AsyncGenerator[asyncio.Task[Reply]]:
    """Have a call run meanwhile; its client goes away at the end."""
    server.do(sample.RUNNING.clear)
    server.do(sample.CANCELLED.clear)
    call = asyncio.create_task(wire.call("modern", "wait", {"seconds": 60}))
    await until(sample.RUNNING.is_set)
    try:
        yield call
    finally:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def until(condition: Any) -> None:
    """Wait for something in another thread, with a deadline."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def test_p9_a_client_that_goes_away_ends_its_call(server: Live, wire: Wire) -> None:
    """The task is cancelled, and what it held is free."""
    async with waiting(server, wire):
        pass
    await until(sample.CANCELLED.is_set)
    await until(lambda: not server.app.pipeline.in_flight())

    assert server.app.server.deadlines.names() == []


async def resumed(wire: Wire, state: str, name: str = "confirm") -> Reply:
    """Answer the question of a tool, with this state."""
    answer = {"sure": {"action": "accept", "content": {"ok": True}}}
    params = {"name": name, "arguments": {}, "requestState": state, "inputResponses": answer}
    return await wire.ask("modern", "tools/call", with_elicitation(params))


def with_elicitation(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of a client that can ask its user."""
    return {**params, "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}}


@pytest.fixture
async def clients(asking: tuple[Live, Live]) -> AsyncIterator[tuple[Wire, Wire, Wire]]:
    """Alice at each of two replicas, and Bob."""
    one, two = asking
    async with Wire(one.url, KEY) as here, Wire(two.url, KEY) as there, Wire(one.url, OTHER_KEY) as bob:
        yield here, there, bob


async def asked(wire: Wire) -> str:
    """Call a tool that asks back; return the state that it gives away."""
    reply = await wire.ask("modern", "tools/call", with_elicitation({"name": "confirm", "arguments": {}}))
    assert reply.result["resultType"] == "input_required", reply.body
    return reply.result["requestState"]


async def test_p10_request_state_is_accepted_on_another_replica(clients: tuple[Wire, Wire, Wire]) -> None:
    """And the client cannot read what is in it."""
    here, there, _ = clients
    state = await asked(here)
    reply = await resumed(there, state)

    assert "kept" not in state
    assert reply.text == "kept by the client"


@pytest.mark.parametrize("how", ["a flipped bit", "another principal", "another tool", "expired"])
async def test_p10_a_request_state_that_was_misused_is_refused(
    clients: tuple[Wire, Wire, Wire], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the client's to keep, and nobody's to change, share or keep for ever."""
    here, _, bob = clients
    state = await asked(here)
    if how == "a flipped bit":
        middle = len(state) // 2
        reply = await resumed(here, state[:middle] + ("B" if state[middle] == "A" else "A") + state[middle + 1 :])
    elif how == "another principal":
        reply = await resumed(bob, state)
    elif how == "another tool":
        reply = await resumed(here, state, "confirm_else")
    else:
        later = SimpleNamespace(time=lambda: time.time() + 3600)
        monkeypatch.setattr(mcp.server.request_state, "time", later)
        reply = await resumed(here, state)

    assert reply.error["code"] == -32602
    assert "kept" not in reply.body.decode()


async def test_p11_the_handle_of_another_caller_looks_like_an_unknown_one() -> None:
    """Sessions are the only handle that this server gives out; both answers are the same."""
    with live(MCP_LEGACY="stateful") as server:
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob:
            client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
            opened = await alice.ask("legacy", "initialize", client)
            session = opened.headers["mcp-session-id"]
            foreign = await bob.ask("legacy", "tools/list", headers={"mcp-session-id": session})
            unknown = await bob.ask("legacy", "tools/list", headers={"mcp-session-id": "0" * len(session)})

    assert foreign.status == unknown.status == 404
    assert foreign.body == unknown.body


async def test_p12_a_stream_is_acknowledged_capped_and_ends_with_its_result() -> None:
    """The acknowledgement comes first, each message carries the id, and a drain is no fault."""
    with live(MCP_MAX_STREAMS_PER_PRINCIPAL="1") as server:
        wanted = {"notifications": {"toolsListChanged": True}}
        headers, body = request("modern", "subscriptions/listen", wanted, rpc_id="my stream", key=KEY)
        wire = Wire(server.url, KEY)
        async with wire, wire.http.stream("POST", f"{server.url}/mcp", content=body, headers=headers) as answer:
            lines = answer.aiter_lines()
            first = await message_of(lines)
            refused = await wire.send(body, headers)
            assert server.app.listening is not None
            server.do(server.app.listening.end)
            last = await message_of(lines)

    assert first["method"] == "notifications/subscriptions/acknowledged"
    assert first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "my stream"
    assert refused.status == 503
    assert last["id"] == "my stream"
    assert "result" in last


async def message_of(lines: AsyncIterator[str]) -> dict[str, Any]:
    """Wait for the next message of a stream."""
    async with asyncio.timeout(SECONDS):
        async for line in lines:
            if line.startswith("data:") and line[5:].strip():
                return json.loads(line[5:])
    return {}
