"""A stream that stands open without a call ends cleanly when the drain begins, and nothing else does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from live import KEY, Live, live
from wire import LEGACY, SECONDS, Wire, opening, request

from hardening.dev.issuer import LocalIssuer
from hardening.protocol.long_lived_streams import LongLivedStreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


@pytest.fixture
def stateful() -> Iterator[Live]:
    """A server with sessions."""
    with live(MCP_LEGACY="stateful") as running:
        yield running


@asynccontextmanager
async def standing(
    server: Live, wire: Wire, more: dict[str, str] | None = None
) -> AsyncGenerator[tuple[asyncio.StreamReader, dict[str, str]]]:
    """Open a session and its GET stream, on a socket of its own."""
    opened = await wire.ask("legacy", *opening("legacy"))
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    headers, _ = request("legacy", "ping", key=wire.key)
    sent = {**headers, **session, "accept": "text/event-stream", "mcp-protocol-version": LEGACY} | (more or {})
    host = server.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"GET /mcp HTTP/1.1\r\nhost: {host}\r\n{head}\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"text/event-stream" in answer
    yield reader, session
    writer.close()


async def test_a_stream_that_cannot_be_resumed_begins_anew(stateful: Live) -> None:
    """No events are kept: `Last-Event-ID`, of whatever length, opens a stream like any other, and leaves a slot."""
    for event in ("1", "e" * 7000):
        async with Wire(stateful.url, KEY) as wire, standing(stateful, wire, {"last-event-id": event}) as (_, session):
            alive = await wire.ask("legacy", "ping", headers=session)

        assert alive.status == 200


async def test_a_stream_ends_cleanly_at_a_drain(stateful: Live) -> None:
    """The client reads the end of the stream, not a broken connection."""
    async with Wire(stateful.url, KEY) as wire, standing(stateful, wire) as (reader, _):
        running = stateful.running
        assert running is not None
        stateful.do(lambda: running.http.handle_exit(15, None))
        rest = await asyncio.wait_for(reader.read(), SECONDS)

    # The last chunk of a chunked answer (RFC 9112, section 7.1).
    assert rest.endswith(b"0\r\n\r\n")


async def test_a_stream_ends_cleanly_when_its_token_expires() -> None:
    """It lives no longer than what has opened it."""
    audience = "https://mcp.example.com/mcp"
    with LocalIssuer() as issuer, live(MCP_LEGACY="stateful", **issuer.environment(audience)) as running:
        token = issuer.token(audience, lifetime_seconds=2)
        async with Wire(running.url, token) as wire, standing(running, wire) as (reader, _):
            await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), SECONDS)
            async with asyncio.timeout(SECONDS):
                while running.app.pipeline.in_flight():
                    await asyncio.sleep(0.005)


async def test_a_stream_that_ends_gives_its_slot_back(stateful: Live) -> None:
    """So the drain does not wait for it, and neither does the next stream."""
    async with Wire(stateful.url, KEY) as wire, standing(stateful, wire):
        held = stateful.app.pipeline.in_flight()
        stateful.do(stateful.app.streams.end)
        async with asyncio.timeout(SECONDS):
            while stateful.app.pipeline.in_flight():
                await asyncio.sleep(0.005)

    assert held == 1
    assert not dict[str, Any](stateful.app.pipeline.guards)["streams"].slots.total


async def test_calls_go_on_when_streams_end(stateful: Live) -> None:
    """A call in the same session is answered after its stream has ended."""
    async with Wire(stateful.url, KEY) as wire, standing(stateful, wire) as (reader, session):
        call = asyncio.create_task(wire.call("legacy", "wait", {"seconds": 0.5}, headers=session))
        stateful.do(stateful.app.streams.end)
        await asyncio.wait_for(reader.read(5), SECONDS)
        reply = await call

    assert reply.result["content"][0]["text"] == "waited"


async def test_a_stream_that_is_opened_later_ends_at_once() -> None:
    """A request that was under way when the drain began stands open no more than the others."""
    sent: list[Any] = []

    async def protocol(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"

    async def never() -> Any:
        await asyncio.sleep(SECONDS)

    async def send(message: Any) -> None:
        sent.append(message)

    streams = LongLivedStreams(protocol)
    streams.end()
    await asyncio.wait_for(streams({"method": "GET", "headers": []}, never, send), 1)

    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_an_answer_that_is_complete_gets_no_second_end() -> None:
    """A stream that the protocol has refused or ended itself is left as it is."""
    sent: list[Any] = []

    async def protocol(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Any) -> None:
        sent.append(message)

    await LongLivedStreams(protocol)({"method": "GET", "headers": []}, send, send)  # type: ignore[arg-type] - nothing is received

    assert len(sent) == 2


@pytest.mark.parametrize("legacy", ["stateless", "stateful"])
async def test_a_silent_legacy_stream_is_kept_alive(legacy: str) -> None:
    """A comment now and then, so that no proxy takes a long call for a dead one; in sessions too."""
    with live(MCP_LEGACY=legacy, MCP_STREAM_PING_SECONDS="1") as running:
        async with Wire(running.url, KEY) as wire:
            opened = await wire.ask("legacy", *opening("legacy"))
            session = {name: opened.headers[name] for name in ("mcp-session-id",) if legacy == "stateful"}
            reply = await wire.call("legacy", "wait", {"seconds": 1.3}, headers=session)

    assert reply.body.count(b": ping") >= 1
    assert reply.result["structuredContent"] == {"result": "waited"}
