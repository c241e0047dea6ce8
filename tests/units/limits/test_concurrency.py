"""Caps of requests in flight and of open streams hold, and every slot is released."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
import sample
from live import KEY, OTHER_KEY, PROBE_KEY, SECONDS, live
from wire import ERAS, Era, Wire, opening, request

from hardening.exchange import Exchange, Principal, open_exchange
from hardening.limits.concurrency import InFlight, OpenStreams, Slots
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from hardening.response import Response

HUGE_RESULTS = ("mcp_tool_calls_total", {"tool": "huge_result", "outcome": "ok"})


@pytest.mark.parametrize("era", ERAS)
async def test_one_caller_cannot_take_every_slot(era: Era) -> None:
    """Over its own cap a caller gets 503 with `Retry-After`; another one is answered meanwhile."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as busy:
        async with Wire(busy.url, KEY) as alice, Wire(busy.url, OTHER_KEY) as bob:
            busy.do(sample.RUNNING.clear)
            waiting = asyncio.ensure_future(alice.call(era, "wait", {"seconds": 3}))
            await asyncio.to_thread(until, sample.RUNNING.is_set)
            second = await alice.ask(era, *opening(era))
            other = await bob.ask(era, *opening(era))
            waiting.cancel()

    assert second.status == 503
    assert int(second.headers["retry-after"]) >= 1
    assert other.status == 200


@pytest.mark.parametrize("era", ERAS)
async def test_the_probe_is_answered_when_the_server_is_full(era: Era) -> None:
    """A monitor that is refused because of others would report a fault that is not there."""
    with live(MCP_MAX_IN_FLIGHT="1", MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as full:
        async with Wire(full.url, KEY) as alice, Wire(full.url, OTHER_KEY) as bob, Wire(full.url, PROBE_KEY) as probe:
            full.do(sample.RUNNING.clear)
            waiting = asyncio.ensure_future(alice.call(era, "wait", {"seconds": 3}))
            await asyncio.to_thread(until, sample.RUNNING.is_set)
            refused = await bob.ask(era, *opening(era))
            looked = await probe.ask(era, *opening(era))
            waiting.cancel()

    assert refused.status == 503
    assert looked.status == 200


async def test_open_streams_take_no_slots_of_calls() -> None:
    """A caller that listens can still call."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as server:
        listen = request("modern", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, key=KEY)
        async with Wire(server.url, KEY) as wire:
            stream = wire.http.stream("POST", f"{server.url}/mcp", content=listen[1], headers=listen[0])
            async with stream as listening:
                called = await wire.call("modern", "echo", {"text": "a"})

    assert (listening.status_code, called.status) == (200, 200)


@pytest.mark.parametrize("key", [KEY, PROBE_KEY], ids=["caller", "probe"])
@pytest.mark.parametrize("method", ["subscriptions/listen", "tools/call"])
async def test_each_body_that_is_read_holds_a_slot(method: str, key: str) -> None:
    """A third body of one caller is not waited for, whatever method its header names: 503."""
    headers, _ = request("modern", method, {"name": "echo"}, key=key)
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="2") as server:
        host = server.url.removeprefix("http://")
        head = "".join(f"{name}: {value}\r\n" for name, value in {"host": host, **headers}.items())
        writers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*host.split(":"))
            writer.write(f"POST /mcp HTTP/1.1\r\n{head}content-length: 5000\r\n\r\n{{".encode())
            writers.append(writer)
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reader.readline(), SECONDS)
        held = server.do(lambda: server.app.in_flight.slots.total)
        for writer in writers:
            writer.close()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert held == 2


async def test_a_call_whose_client_has_left_holds_its_slot() -> None:
    """In a session, work goes on when its client leaves: slot, metric and the count of the drain go on with it."""
    with live(MCP_LEGACY="stateful", MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="3") as server:
        async with Wire(server.url, KEY) as wire:
            session = {"mcp-session-id": (await wire.ask("legacy", *opening("legacy"))).headers["mcp-session-id"]}
            await wire.ask("legacy", "notifications/initialized", rpc_id=None, headers=session)
        for number in range(3):
            server.do(sample.RUNNING.clear)
            headers, body = request(
                "legacy", "tools/call", {"name": "wait", "arguments": {"seconds": 2}}, rpc_id=number, key=KEY
            )
            lines = {"host": server.url.removeprefix("http://"), "content-length": str(len(body)), **headers, **session}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            _, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
            writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
            await asyncio.to_thread(until, sample.RUNNING.is_set)
            writer.transport.abort()
        await asyncio.sleep(0.2)
        counted = server.do(lambda: (server.app.pipeline.in_flight(), server.app.in_flight.slots.total))
        async with Wire(server.url, KEY) as wire:
            refused = await wire.ask("legacy", "ping", headers=session)
        await asyncio.to_thread(until, lambda: not server.app.pipeline.in_flight())
        left = server.do(lambda: server.app.in_flight.slots.total)

    assert counted == (3, 3)
    assert refused.status == 503
    assert left == 0


@pytest.mark.parametrize("era", ERAS)
async def test_a_slot_is_held_until_the_answer_is_taken(era: Era) -> None:
    """What waits for a slow reader is bounded by the caller's slots; slot and metric come back when it was read."""
    headers, body = request(era, "tools/call", {"name": "huge_result", "arguments": {"size": 300_000}}, key=KEY)
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="2") as server:
        host = server.url.removeprefix("http://")
        lines = {"host": host, "content-length": str(len(body)), **headers}
        sent = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        clients = []
        loop = asyncio.get_running_loop()
        for _ in range(2):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(0)
            await loop.sock_connect(client, ("127.0.0.1", int(host.rpartition(":")[2])))
            await loop.sock_sendall(client, f"POST /mcp HTTP/1.1\r\n{sent}\r\n".encode() + body)
            clients.append(client)
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob, asyncio.timeout(SECONDS):
            # Both answers are whole, and neither has been read.
            while server.do(lambda: server.app.metrics.registry.get_sample_value(*HUGE_RESULTS)) != 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            counted = server.do(lambda: (server.app.pipeline.in_flight(), server.app.in_flight.slots.total))
            refused, other = await alice.ask(era, *opening(era)), await bob.ask(era, *opening(era))
            reader, writer = await asyncio.open_connection(sock=clients[0])
            size = int((await reader.readuntil(b"\r\n\r\n")).lower().partition(b"content-length: ")[2].split()[0])
            await reader.readexactly(size)
            again = await alice.ask(era, *opening(era))
            writer.close()
            clients[1].close()
            await asyncio.to_thread(until, lambda: not server.app.pipeline.in_flight())
        left = server.do(lambda: server.app.in_flight.slots.total)

    assert counted == (2, 2)
    assert (refused.status, other.status, again.status) == (503, 200, 200)
    assert left == 0


def test_nothing_is_remembered_of_those_who_have_gone() -> None:
    """A slot comes back with the end of its request, and a caller without one takes no memory."""
    slots = Slots(2, 1)
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    exchange = open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent
    alice = Principal("api_key", "alice")
    taken, refused = slots.take(exchange, alice), slots.take(exchange, alice)
    for release in exchange.on_end:
        release()

    assert taken is None
    assert refused is not None
    assert (slots.total, dict(slots.by_principal)) == (0, {})


def exchange_of(method: str = "POST", path: str = "/mcp", rpc_method: str = "", era: Era = "modern") -> Exchange:
    """Return a request of Alice, as it is when its message has been read."""
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    exchange = open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent
    exchange.principal, exchange.rpc_method, exchange.era = Principal("api_key", "alice"), rpc_method, era
    return exchange


@pytest.mark.parametrize(
    ("exchange", "calls", "streams"),
    [
        (exchange_of(), 1, 0),
        (exchange_of(path="/metrics"), 0, 0),
        (exchange_of(method="GET"), 1, 1),
        (exchange_of(method="GET", path="/metrics"), 0, 0),
        (exchange_of(rpc_method="subscriptions/listen"), 1, 1),
        (exchange_of(rpc_method="subscriptions/listen", era="legacy"), 1, 0),
        (exchange_of(rpc_method="tools/call"), 1, 0),
    ],
    ids=["call", "metrics", "stream", "GET of metrics", "subscription", "legacy", "tool"],
)
async def test_what_takes_a_slot(exchange: Exchange, calls: int, streams: int) -> None:
    """What is not of the protocol takes none, and a stream has one of its own."""
    settings = HardeningSettings(max_in_flight=2, max_streams=2)
    for guard, expected in ((InFlight(settings), calls), (OpenStreams(settings), streams)):
        assert await guard(exchange) is None
        assert guard.slots.total == expected
    exchange.principal = None
    for guard in (InFlight(settings), OpenStreams(settings)):
        assert await guard(exchange) is None
        assert guard.slots.total == 0


async def test_a_stream_that_is_refused_keeps_the_slot_that_it_is_read_with() -> None:
    """Once it is open, it has a slot of its own and gives the other one back; each cap is exact: 503."""
    settings = HardeningSettings(max_in_flight=9, max_streams=3, max_streams_per_principal=2)
    calls, streams = InFlight(settings), OpenStreams(settings)
    refusals: list[Response | None] = []
    for name in ("alice", "alice", "alice", "bob", "carol"):
        exchange = exchange_of(method="GET")
        exchange.principal = Principal("api_key", name)
        await calls(exchange)
        refusals.append(await streams(exchange))
    monitor = exchange_of(method="GET")
    monitor.principal = Principal("probe", "probe")

    kinds = [answer and (answer.status, answer.kind, answer.retry_after) for answer in refusals]
    assert kinds == [None, None, (503, "concurrency", 1.0), None, (503, "overloaded", 1.0)]
    assert (calls.slots.total, streams.slots.total) == (2, 3)
    assert await streams(monitor) is None


def until(condition) -> None:  # noqa: ANN001 - any question
    """Wait for a condition of another thread, with a deadline."""
    import time

    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
