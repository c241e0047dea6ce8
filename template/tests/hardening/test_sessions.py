"""Stateful sessions: bounded for each caller, bound to it, and answers that cannot cross."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from live import KEY, OTHER_KEY, Live, live
from wire import LEGACY, Reply, Wire, opening

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="module")
def stateful() -> Generator[Live]:
    """A server with sessions, two for each caller."""
    with live(MCP_LEGACY="stateful", MCP_MAX_SESSIONS_PER_PRINCIPAL="2") as running:
        yield running


async def opened(wire: Wire) -> str:
    """Open a session and return its id."""
    reply = await wire.ask("legacy", *opening("legacy"))
    assert reply.status == 200, reply.body
    session = reply.headers["mcp-session-id"]
    await wire.send(
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {wire.key}",
            "mcp-session-id": session,
            "mcp-protocol-version": LEGACY,
        },
    )
    return session


async def ended(wire: Wire, session: str) -> Reply:
    """End a session."""
    headers = {"authorization": f"Bearer {wire.key}", "mcp-session-id": session, "mcp-protocol-version": LEGACY}
    return await wire.send(b"", headers, method="DELETE")


async def test_a_caller_has_so_many_sessions_and_no_more(stateful: Live) -> None:
    """Over its cap one caller is refused; another one is not; an ended session makes room."""
    async with Wire(stateful.url, KEY) as alice, Wire(stateful.url, OTHER_KEY) as bob:
        first, second = await opened(alice), await opened(alice)
        refused = await alice.ask("legacy", *opening("legacy"))
        other = await opened(bob)
        await ended(alice, first)
        third = await opened(alice)
        for wire, session in ((alice, second), (alice, third), (bob, other)):
            await ended(wire, session)

    assert refused.status == 503
    assert "retry-after" in refused.headers


async def test_a_foreign_session_looks_like_none(stateful: Live) -> None:
    """Whoever guesses an id learns nothing: both answers are the same."""
    async with Wire(stateful.url, KEY) as alice, Wire(stateful.url, OTHER_KEY) as bob:
        session = await opened(alice)
        foreign = await bob.ask("legacy", "tools/list", headers={"mcp-session-id": session})
        unknown = await bob.ask("legacy", "tools/list", headers={"mcp-session-id": "0" * 32})
        own = await alice.ask("legacy", "tools/list", headers={"mcp-session-id": session})
        await ended(alice, session)

    assert foreign.status == unknown.status == 404
    assert foreign.body == unknown.body
    assert own.status == 200


async def test_answers_to_one_id_do_not_cross(stateful: Live) -> None:
    """A client that gives every request the same id, as number or text, gets each answer where it belongs."""
    async with Wire(stateful.url, KEY) as alice:
        session = {"mcp-session-id": await opened(alice)}
        texts = [f"text {number}" for number in range(5)]
        replies = await asyncio.gather(
            *(
                alice.call("legacy", "echo", {"text": text}, rpc_id=rpc_id, headers=session)
                for text, rpc_id in zip(texts, [1, "1", 1, "1", 1], strict=True)
            )
        )
        await ended(alice, session["mcp-session-id"])

    assert [reply.result["structuredContent"]["text"] for reply in replies] == texts


async def test_a_session_ends_when_it_is_idle() -> None:
    """What nobody uses is not kept."""
    with live(MCP_LEGACY="stateful", MCP_SESSION_IDLE_SECONDS="1") as short:
        async with Wire(short.url, KEY) as alice:
            session = await opened(alice)
            reply = await alice.ask("legacy", "tools/list", headers={"mcp-session-id": session})
            for _ in range(50):
                await asyncio.sleep(0.1)
                if reply.status == 404:
                    break
                later = await alice.get("/livez")
                assert later.status == 200
                if not short.app.sessions.open or _ > 15:
                    reply = await alice.ask("legacy", "tools/list", headers={"mcp-session-id": session})

    assert reply.status == 404


async def test_the_modern_era_has_no_sessions(stateful: Live) -> None:
    """A session id is neither made nor needed nor echoed."""
    async with Wire(stateful.url, KEY) as alice:
        reply = await alice.call("modern", "echo", {"text": "hello"}, headers={"mcp-session-id": "0" * 32})

    assert reply.status == 200
    assert "mcp-session-id" not in reply.headers
