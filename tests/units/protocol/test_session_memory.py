"""What a session keeps: short claims of its client, and nothing of its last message."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest
from captured import exchange, nothing
from live import KEY, Live, live
from wire import LEGACY, SECONDS, Wire, opening, request

from hardening.exchange import current
from hardening.protocol import session_memory
from hardening.protocol.session_memory import SessionMemory, shorten_opening

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp.types import InitializeRequestParams

MARK = "kept-by-nobody"
ROOM = {"MCP_RATE_INITIALIZE_PER_MINUTE": "1000", "MCP_MAX_SESSIONS_PER_PRINCIPAL": "100"}


@pytest.fixture(scope="module")
def stateful() -> Generator[Live]:
    """A server with sessions."""
    with live(MCP_LEGACY="stateful", **ROOM) as running:
        yield running


async def opened(wire: Wire, **said: Any) -> dict[str, str]:
    """Open a session and return the header that names it."""
    method, params = opening("legacy")
    reply = await wire.ask("legacy", method, params | said)
    assert reply.status == 200, reply.body
    return {"mcp-session-id": reply.headers["mcp-session-id"]}


def marked() -> int:
    """Count the parsed objects of the process that have the mark."""
    return sum(type(each) is dict and MARK in each for each in gc.get_objects())


def message(kind: str) -> bytes:
    """Write a message of some length with the mark in it, as its own text alone."""
    rest = {"a call": '"id":7,"method":"tools/call","params":{"name":"echo","arguments":%s}'}
    rest["an answer to no question"] = '"id":"nobody asked","result":%s'
    rest["a notification"] = '"method":"notifications/progress","params":{"progressToken":1,"progress":1,"more":%s}'
    rest["a method that does not exist"] = '"id":8,"method":"none","params":%s'
    return ('{"jsonrpc":"2.0",' + rest[kind] % f'{{"{MARK}":["{"x" * 3000}"]}}' + "}").encode()


@pytest.mark.parametrize(
    "kind", ["a call", "an answer to no question", "a notification", "a method that does not exist"]
)
async def test_nothing_of_the_last_message_stays(stateful: Live, kind: str) -> None:
    """The session is open, idle, and has released the message, whichever it was."""
    async with Wire(stateful.url, KEY) as wire:
        session = await opened(wire)
        reply = await wire.send(message(kind), request("legacy", "ping", key=KEY)[0] | session)
        async with asyncio.timeout(SECONDS):
            while await asyncio.to_thread(stateful.do, marked):
                await asyncio.sleep(0.02)
        after = await wire.ask("legacy", "ping", headers=session)

    assert reply.status in {200, 202}, reply.body
    assert after.result == {}


async def test_nothing_of_the_last_answer_stays(stateful: Live) -> None:
    """A result of a megabyte is released with its answer, and not with that of the next call."""

    def long_texts() -> int:
        blocks = (block for each in gc.get_objects() if type(each) is list for block in each if type(block) is dict)
        return sum(len(str(block.get("text", ""))) == 1_000_003 for block in blocks)

    async with Wire(stateful.url, KEY) as wire:
        session = await opened(wire)
        reply = await wire.call("legacy", "huge_result", {"size": 1_000_003}, headers=session)
        assert len(reply.text) == 1_000_003
        del reply
        async with asyncio.timeout(SECONDS):
            while await asyncio.to_thread(stateful.do, long_texts):
                await asyncio.sleep(0.02)
        after = await wire.ask("legacy", "ping", headers=session)

    assert after.result == {}


ANSWER = {"jsonrpc": "2.0", "id": "session memory", "result": {}}
PING = {"jsonrpc": "2.0", "id": "session memory", "method": "ping"}


@pytest.mark.parametrize(
    ("body", "header", "answer", "more", "followed"),
    [
        (2047, 0, 8192, {}, None),
        (2048, 0, 8192, {}, ANSWER),
        (0, 2047, 0, {}, None),
        (0, 2048, 0, {}, ANSWER),
        (0, 0, 8193, {}, PING),
        (2048, 0, 8193, {}, PING),
        (2048, 0, 8193, {"method": "GET"}, None),
        (2048, 0, 8193, {"session": b""}, None),
        (2049, 0, 0, {"session": b"", "opened": b"n"}, ANSWER),
    ],
)
async def test_a_longer_message_is_followed_by_a_short_one(
    body: int, header: int, answer: int, more: dict[str, Any], followed: dict[str, Any] | None
) -> None:
    """More than 2048 bytes of a request, headers included, or 8192 of an answer; in the same session, with no key."""
    session, opened = more.get("session", b"s"), more.get("opened")
    one = exchange(body=b"x" * body)
    one.method = more.get("method", "POST")
    one.headers = {b"mcp-session-id": session, b"x-long": b"x" * header}
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        sent.append((dict(scope["headers"]), await receive()))
        headers = [] if opened is None else [(b"mcp-session-id", opened)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * answer})

    token = current.set(one)
    try:
        await SessionMemory(inner)({"type": "http", "headers": [(b"authorization", b"x")]}, nothing, nothing)
    finally:
        current.reset(token)

    assert sent.pop(0) == ({b"authorization": b"x"}, None)
    assert [(headers, json.loads(message["body"])) for headers, message in sent] == (
        []
        if followed is None
        else [
            (
                {
                    b"content-type": b"application/json",
                    b"accept": b"application/json, text/event-stream",
                    b"mcp-protocol-version": b"2026-07-28",
                    b"mcp-session-id": opened or session,
                },
                followed,
            )
        ]
    )


async def test_a_session_that_takes_no_message_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request whose message is to be forgotten has an end, and so has what was sent after it."""
    monkeypatch.setattr(session_memory, "FORGET_SECONDS", 0.02)
    one = exchange(body=b"x" * 3000)
    one.headers = {b"mcp-session-id": b"s"}
    asked: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        del send
        asked.append(scope)
        if len(asked) > 1:
            await receive()
            await receive()

    token = current.set(one)
    try:
        async with asyncio.timeout(SECONDS):
            await SessionMemory(inner)({"type": "http", "headers": []}, nothing, nothing)
    finally:
        current.reset(token)
    await asyncio.sleep(0)

    assert len(asked) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_head_is_released_while_its_stream_is_open(stateful: Live) -> None:
    """GET of a session: neither the server's request nor the SDK's copies of it keep the header fields."""
    async with Wire(stateful.url, KEY) as wire:
        session = await opened(wire)
        headers = {**session, "accept": "text/event-stream", "x-long": MARK * 100, "mcp-protocol-version": LEGACY}

        def held() -> int:
            pairs = (pair for each in gc.get_objects() if type(each) is list for pair in each if type(pair) is tuple)
            return sum(len(pair) == 2 and pair[1] == (MARK * 100).encode() for pair in pairs)

        headers["authorization"] = f"Bearer {KEY}"
        host, port = stateful.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, port)
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": f"{host}:{port}", **headers}.items())
        writer.write(f"GET /mcp HTTP/1.1\r\n{head}\r\n".encode())
        status = await asyncio.wait_for(reader.readline(), SECONDS)
        async with asyncio.timeout(SECONDS):
            while await asyncio.to_thread(stateful.do, held):
                await asyncio.sleep(0.02)
        writer.transport.abort()

    assert b" 200 " in status


@pytest.mark.parametrize(
    "capabilities",
    [{"experimental": {"a": {"b": "x" * 4096}}}, {"experimental": {f"{number}": {} for number in range(128)}}],
    ids=["bytes", "values"],
)
async def test_capabilities_that_are_too_large_open_no_session(stateful: Live, capabilities: dict[str, Any]) -> None:
    """Over 4096 bytes or 128 values: 400, -32602, also for a session that is open already; nothing is kept."""
    method, params = opening("legacy")
    async with Wire(stateful.url, KEY) as wire:
        session = await opened(wire)
        before = len(stateful.app.sessions.open)
        new = await wire.ask("legacy", method, params | {"capabilities": capabilities})
        again = await wire.ask("legacy", method, params | {"capabilities": capabilities}, headers=session)

    for refused in (new, again):
        assert refused.status == 400
        assert refused.error["code"] == -32602
        assert refused.error["data"]["kind"] == "capabilities"
    assert len(stateful.app.sessions.open) == before


async def test_a_session_knows_its_client_and_keeps_no_pictures(
    stateful: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's record of a client has its names, cut at 256 characters, and its capabilities; icons are not kept."""
    seen: list[InitializeRequestParams | None] = []
    server = stateful.app.session_manager.app

    async def look(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx.session.client_params)
        return await call_next(ctx)

    monkeypatch.setattr(server, "middleware", [*server.middleware, look])
    icon = {"src": "data:image/png;base64," + "A" * 30_000, "mimeType": "image/png"}
    client = {"name": "client", "title": "t" * 3000, "version": "1", "icons": [icon]}
    async with Wire(stateful.url, KEY) as wire:
        said = {"clientInfo": client, "capabilities": {"roots": {"listChanged": True}}, "_meta": {"x": "y" * 10_000}}
        session = await opened(wire, **said)
        await wire.ask("legacy", "ping", headers=session)

    known = seen[-1]
    assert known is not None
    assert (known.client_info.name, known.client_info.title) == ("client", "t" * 256)
    assert known.client_info.icons is None
    assert known.capabilities.roots is not None
    assert known.capabilities.roots.list_changed is True
    assert len(known.model_dump_json()) < 1000


def test_what_is_malformed_is_for_the_sdk_to_judge() -> None:
    """Only texts are cut: whatever else stands there is refused as ever."""
    params: dict[str, Any] = {"protocolVersion": 1, "clientInfo": ["a"], "capabilities": None, "more": "x"}
    shorten_opening(params)

    assert params == {"protocolVersion": 1, "clientInfo": ["a"], "capabilities": None}


async def test_sessions_of_real_size_are_opened(stateful: Live) -> None:
    """What the richest client in use says of itself is far below the bounds."""
    said = {
        "roots": {"listChanged": True},
        "sampling": {"context": {}, "tools": {}},
        "elicitation": {"form": {}, "url": {}},
        "tasks": {"list": {}, "cancel": {}, "requests": {"elicitation": {"create": {}}}},
        "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
    }
    assert len(json.dumps(said)) < 1024
    async with Wire(stateful.url, KEY) as wire:
        session = await opened(wire, capabilities=said)
        assert (await wire.ask("legacy", "ping", headers=session)).status == 200
