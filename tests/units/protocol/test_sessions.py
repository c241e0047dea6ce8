"""Stateful sessions: bounded for each caller, bound to it, and answers that cannot cross."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sample
from captured import captured
from live import ENVIRONMENT, KEY, OTHER_KEY, Live, live, settings_from
from wire import LEGACY, SECONDS, Reply, Wire, opening, request

from hardening.exchange import Exchange, Principal, open_exchange
from hardening.logs.record import hashed
from hardening.protocol.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


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


async def test_a_line_names_its_session_and_opens_none(stateful: Live, tmp_path: Path) -> None:
    """The id of a session is as good as a key, so a hash of it stands in the log."""
    async with Wire(stateful.url, KEY) as alice:
        session = await opened(alice)
        with captured(tmp_path / "log") as log:
            await alice.call("legacy", "echo", {"text": "hello"}, headers={"mcp-session-id": session})
            (line,) = [line for line in log.lines() if line["msg"] == "tool call"]
            text = log.text()
        await ended(alice, session)

    assert line["session_id"] == hashed(session)
    assert session not in text


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


async def test_a_server_has_so_many_sessions_and_no_more() -> None:
    """Over the cap of all callers together: 503 for whoever comes; open sessions go on, and an ended one makes room."""
    with live(MCP_LEGACY="stateful", MCP_MAX_SESSIONS="2") as small:
        async with Wire(small.url, KEY) as alice, Wire(small.url, OTHER_KEY) as bob:
            first, second = await opened(alice), await opened(bob)
            refused = await bob.ask("legacy", *opening("legacy"))
            alive = await bob.ask("legacy", "ping", headers={"mcp-session-id": second})
            await ended(alice, first)
            await ended(bob, await opened(bob))

    assert refused.status == 503
    assert alive.result == {}


async def test_a_call_of_a_session_is_cancelled_by_its_client(stateful: Live, tmp_path: Path) -> None:
    """By a notification with its id: the code ends, a line says so, the slot is free, and the session goes on."""
    async with Wire(stateful.url, KEY) as alice:
        session = {"mcp-session-id": await opened(alice)}
        stateful.do(sample.RUNNING.clear)
        with captured(tmp_path / "log") as log:
            calling = asyncio.ensure_future(alice.call("legacy", "wait", {"seconds": 60}, rpc_id=7, headers=session))
            async with asyncio.timeout(SECONDS):
                while not sample.RUNNING.is_set():
                    await asyncio.sleep(0.01)
            note = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}'
            told = await alice.send(note, request("legacy", "ping", key=KEY)[0] | session)
            async with asyncio.timeout(SECONDS):
                while not (lines := [line for line in log.lines() if line["msg"] == "tool call"]):
                    await asyncio.sleep(0.01)
        alive = await alice.ask("legacy", "ping", rpc_id=8, headers=session)
        calling.cancel()
        await ended(alice, session["mcp-session-id"])
        async with asyncio.timeout(SECONDS):
            while stateful.do(lambda: stateful.app.in_flight.slots.total):
                await asyncio.sleep(0.01)

    assert told.status == 202
    assert [(line["outcome"], line["error_code"]) for line in lines] == [("cancelled", "cancelled")]
    assert alive.result == {}


async def test_a_session_takes_bodies_of_the_size_that_is_set() -> None:
    """The SDK has a bound of its own, 4 MiB, which is not what the operator has asked for."""
    with live(MCP_LEGACY="stateful", MCP_MAX_BODY_BYTES="6000000") as large:
        async with Wire(large.url, KEY) as alice:
            session = {"mcp-session-id": await opened(alice)}
            reply = await alice.call("legacy", "echo", {"text": "x" * 4_500_000}, headers=session)

    assert reply.status == 200
    assert reply.result["isError"] is True


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


async def test_one_id_for_everything_loses_no_answer() -> None:
    """A turn ends when the SDK has forgotten the request before, or it would forget the next one with it."""

    async def one_after_the_other(alice: Wire, session: dict[str, str]) -> None:
        for _ in range(40):
            reply = await alice.ask("legacy", "ping", headers=session)
            assert reply.result == {}

    with live(MCP_LEGACY="stateful", MCP_RATE_ADDRESS_BURST="1000", MCP_RATE_PRINCIPAL_BURST="1000") as patient:
        async with Wire(patient.url, KEY) as alice:
            session = {"mcp-session-id": await opened(alice)}
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*(one_after_the_other(alice, session) for _ in range(8)))


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


def asking(name: str, session: str) -> Exchange:
    """Return a request of a caller in a session."""
    headers = [(b"mcp-session-id", session.encode()), (b"mcp-protocol-version", LEGACY.encode())]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers}
    exchange = open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent
    exchange.principal, exchange.rpc_id = Principal("api_key", name), 1
    return exchange


def guarding(**environment: str) -> tuple[Sessions, list[float]]:
    """Return the guard, in which alice has the session `s`, and its clock."""
    clock = [0.0]
    settings = settings_from(ENVIRONMENT | {"MCP_LEGACY": "stateful"} | environment)
    sessions = Sessions(settings, clock=lambda: clock[0])
    sessions.opened(asking("alice", "s"), "s")
    return sessions, clock


async def test_nobody_else_takes_a_turn_in_a_session() -> None:
    """Whoever has heard a session's id can neither keep its owner waiting nor keep the session alive."""
    sessions, clock = guarding()
    bob = asking("bob", "s")
    clock[0] = 5.0

    assert await sessions(bob) is None
    assert (bob.session_id, bob.on_done, sessions.open["s"].used) == ("", [], 0.0)


async def test_a_session_that_was_idle_has_ended_when_its_time_was_over() -> None:
    """Its duration is told once, up to the moment at which it could not be used any more."""
    sessions, clock = guarding(MCP_SESSION_IDLE_SECONDS="10")
    told: list[tuple[float, str]] = []
    sessions.on_end = [lambda seconds, version: told.append((seconds, version))]
    clock[0] = 4.0
    exchange = asking("alice", "s")
    await sessions(exchange)
    for end in exchange.on_done:
        end()
    clock[0] = 100.0
    await sessions(asking("bob", ""))
    sessions.close()

    assert told == [(14.0, LEGACY)]


async def test_only_its_caller_can_make_a_session_forgotten(stateful: Live) -> None:
    """Whatever is answered to somebody else, or in the other era, the session still counts and keeps its turns."""
    async with Wire(stateful.url, KEY) as alice, Wire(stateful.url, OTHER_KEY) as bob:
        session = await opened(alice)
        headers = {"mcp-session-id": session}
        answers = [
            await bob.ask("legacy", "tools/list", headers=headers),
            await ended(bob, session),
            await alice.ask("modern", "none/such", headers=headers),
        ]
        known = stateful.do(lambda: session in stateful.app.sessions.open)
        await ended(alice, session)
        forgotten = stateful.do(lambda: session not in stateful.app.sessions.open)

    assert [answer.status for answer in answers] == [404, 404, 404]
    assert (known, forgotten) == (True, True)


async def test_one_id_is_answered_once_at_a_time() -> None:
    """A request whose id is being answered waits for its turn, and is told to come again when that takes long."""
    sessions, _ = guarding(MCP_TOOL_TIMEOUT_SECONDS="0.05")
    first, second, third = (asking("alice", "s") for _ in range(3))
    answers = [await sessions(first)]
    async with asyncio.timeout(SECONDS):
        answers.append(await sessions(second))
    for release in reversed(first.on_done):
        release()
    answers.append(await sessions(third))

    assert [answer and answer.kind for answer in answers] == [None, "duplicate_id", None]


async def test_an_idle_session_makes_room() -> None:
    """One that nobody has used for so long does not count any more."""
    sessions, clock = guarding(MCP_MAX_SESSIONS_PER_PRINCIPAL="1", MCP_SESSION_IDLE_SECONDS="60")
    opening_one = asking("alice", "")
    opening_one.rpc_method = "initialize"
    refused = await sessions(opening_one)
    clock[0] = 61.0

    assert (refused and refused.kind) == "sessions"
    assert await sessions(opening_one) is None


async def test_a_session_keeps_no_id_of_an_answered_request() -> None:
    """While a stream is open, a thousand ids leave nothing behind."""
    with live(MCP_LEGACY="stateful", MCP_RATE_PRINCIPAL_BURST="5000", MCP_RATE_ADDRESS_BURST="5000") as server:
        async with Wire(server.url, KEY) as wire:
            name = (await wire.ask("legacy", *opening("legacy"))).headers["mcp-session-id"]
            held = {"mcp-session-id": name, "authorization": f"Bearer {KEY}", "accept": "text/event-stream"}
            async with wire.http.stream("GET", f"{server.url}/mcp", headers=held):
                for number in range(200):
                    await wire.ask("legacy", "ping", rpc_id=f"{number:0>100}", headers={"mcp-session-id": name})
                kept = server.do(lambda: len(server.app.sessions.open[name].turns))

    assert kept == 0
