"""The edge under attack: many addresses, many half requests, clients that never read, one caller gone wild.

In each of them somebody honest is answered meanwhile, and everything that was taken comes back.
"""

from __future__ import annotations

import asyncio
import socket
import time
import tracemalloc
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sample
from captured import nothing
from live import ENVIRONMENT, KEY, OTHER_KEY, Live, live, settings_from
from wire import ERAS, SECONDS, Era, Wire, opening, request

from hardening import Context, HardeningSettings, harden, tool
from hardening.edge.client_ip import ClientIp
from hardening.exchange import open_exchange
from hardening.limits.rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from hardening.server import HardenedServer

# What is sent without being read, against what the sockets of both sides take.
MUCH = 10_000_000
LITTLE = 25_000
SMALL_BUFFER = 4096

# The tool may run for ten minutes.
WAITS = {"MCP_DRAIN_TIMEOUT_SECONDS": "700"}

both_eras = pytest.mark.parametrize("era", ERAS)


@tool(read_only=True, streams=True, timeout_seconds=600)
async def chatter(ctx: Context) -> str:
    """Report progress in long messages for ever."""
    for step in range(100_000):
        await asyncio.sleep(0.06)
        await ctx.report_progress(step + 1, None, "x" * 100_000)
    return "never"


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server that sends much."""
    return harden(settings, tools=(chatter, sample.huge_result), instructions="For tests.")


@contextmanager
def sending(**environment: str) -> Generator[Live]:
    """Serve tools that send much, through sockets that take little at once."""
    usual = {"MCP_MAX_RESPONSE_BYTES": str(2 * MUCH), "MCP_BODY_TIMEOUT_SECONDS": "0.5", **WAITS}
    with Live(settings_from(ENVIRONMENT | usual | environment), build) as server:
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        yield server


@asynccontextmanager
async def unread(
    server: Live, era: Era, name: str, arguments: dict[str, Any], **more: str
) -> AsyncGenerator[socket.socket]:
    """Call a tool and read nothing of its answer."""
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}}
    headers, body = request(era, "tools/call", params, key=KEY)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, server.listener.getsockname())
        head = "".join(f"{key}: {value}\r\n" for key, value in (headers | more).items())
        await loop.sock_sendall(
            client, f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode()
        )
        await loop.sock_sendall(client, body)
        yield client


def connections(server: Live) -> int:
    """Return how many connections are open."""
    assert server.running is not None
    return len(server.running.http.server_state.connections)


async def until(condition: Any) -> None:
    """Wait for something in the server's thread, with a deadline."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@both_eras
async def test_a_client_that_never_reads_a_stream_is_cut_off(era: Era) -> None:
    """Long before the tool's own deadline: the call ends, the connection is gone, the slot is free."""
    with sending(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as server:
        async with unread(server, era, "chatter", {}):
            await until(server.app.server.deadlines.names)
            await until(lambda: not server.app.server.deadlines.names())
            await until(lambda: not connections(server))
        async with Wire(server.url, KEY) as wire:
            after = await wire.ask(era, *opening(era))

    assert after.status == 200


@both_eras
@pytest.mark.parametrize(
    ("size", "connection"), [(MUCH, "keep-alive"), (LITTLE, "close")], ids=["much", "a little, then closing"]
)
async def test_a_client_that_never_reads_a_result_is_cut_off(era: Era, size: int, connection: str) -> None:
    """The answer is not kept in memory for somebody who does not take it, nor is the connection."""
    with sending() as server:
        async with unread(server, era, "huge_result", {"size": size}, connection=connection):
            await until(lambda: connections(server))
            await until(lambda: not connections(server))
            await until(lambda: not server.app.pipeline.in_flight())


@both_eras
async def test_a_client_that_reads_slowly_gets_everything(era: Era) -> None:
    """The deadline is for those who take nothing; a slow line is no attack."""
    received = 0
    with sending() as server:
        async with unread(server, era, "huge_result", {"size": MUCH // 5}) as client:
            loop = asyncio.get_running_loop()
            started = time.monotonic()
            async with asyncio.timeout(SECONDS):
                while received < MUCH // 5:
                    part = await loop.sock_recv(client, 65_536)
                    assert part, f"cut off after {received} bytes"
                    received += len(part)
                    await asyncio.sleep(0.002)
            took = time.monotonic() - started

    assert took > 0.6


async def test_half_open_connections_end_and_hinder_nobody() -> None:
    """Heads and bodies that never come: an honest client is answered meanwhile, and then they are gone."""
    with live(MCP_BODY_TIMEOUT_SECONDS="1") as server:
        headers, _ = request("modern", "tools/list", key=KEY)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        starts = [b"", b"POST /mcp HT", f"POST /mcp HTTP/1.1\r\n{head}".encode()]
        starts.append(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 100\r\n\r\n{{".encode())
        held = [await asyncio.open_connection(*server.listener.getsockname()) for _ in range(200)]
        for number, (_, writer) in enumerate(held):
            writer.write(starts[number % len(starts)])
        async with Wire(server.url, OTHER_KEY) as honest:
            answers = [(await honest.ask(era, *opening(era))).status for era in ERAS for _ in range(5)]
        await until(lambda: connections(server) == 0)
        await until(lambda: not server.app.pipeline.in_flight())
        for _, writer in held:
            writer.close()

    assert answers == [200] * 10


@both_eras
async def test_one_caller_at_a_hundred_times_its_limit_harms_nobody(era: Era) -> None:
    """From the same address, at the same time: every request of the other caller is answered."""
    limits = {"MCP_RATE_PRINCIPAL_PER_MINUTE": "5", "MCP_RATE_PRINCIPAL_BURST": "5"}
    with live(**limits) as server:
        async with Wire(server.url, KEY) as wild, Wire(server.url, OTHER_KEY) as calm:
            flood: list[int] = []
            answers: list[int] = []
            for _ in range(5):
                burst = asyncio.gather(*(wild.ask(era, "tools/list") for _ in range(100)))
                answers.append((await calm.ask(era, "tools/list")).status)
                flood += [reply.status for reply in await burst]

    assert answers == [200] * 5
    assert flood.count(200) <= 10
    assert set(flood) <= {200, 429, 503}


@both_eras
async def test_one_caller_without_a_free_slot_harms_nobody(era: Era) -> None:
    """What is refused for lack of a slot uses up nothing of others at the same address."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1", MCP_RATE_ADDRESS_BURST="20") as server:
        async with Wire(server.url, KEY) as wild, Wire(server.url, OTHER_KEY) as calm:
            server.do(sample.RUNNING.clear)
            call = asyncio.create_task(wild.call(era, "wait", {"seconds": 30}))
            await until(sample.RUNNING.is_set)
            flood = [(await wild.ask(era, "tools/list")).status for _ in range(40)]
            answers = [(await calm.ask(era, "tools/list")).status for _ in range(10)]
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    assert set(flood) == {503}
    assert answers == [200] * 10


async def test_a_flood_from_many_addresses_hinders_nobody() -> None:
    """Each request from somewhere else, none with a credential: whoever has one is answered all the time."""
    with live(MCP_TRUSTED_PROXY_HOPS="1") as server:
        async with Wire(server.url, KEY) as honest:
            answers: list[int] = []
            refused = 0
            for batch in range(100):
                # As many as may wait on one connection.
                refused += await flood_of(server, batch * 30, 30)
                era = ERAS[batch % 2]
                reply = await honest.ask(era, *opening(era), headers={"x-forwarded-for": f"198.51.100.{batch}"})
                answers.append(reply.status)

    assert refused == 3000
    assert answers == [200] * 100


async def flood_of(server: Live, first: int, count: int) -> int:
    """Send so many requests over one connection, one behind the other; return how many were refused."""
    headers, body = request("modern", "tools/list")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(*server.listener.getsockname())
    for number in range(first, first + count):
        forwarded = f"x-forwarded-for: 203.{number >> 16}.{(number >> 8) & 255}.{number & 255}\r\n"
        start = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}{forwarded}content-length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body)
    refused = 0
    async with asyncio.timeout(SECONDS):
        while refused < count:
            refused += (await reader.readuntil(b"jsonrpc")).count(b"HTTP/1.1 401 ")
    writer.close()
    return refused


async def test_memory_is_bounded_whatever_addresses_come() -> None:
    """Ten thousand addresses through the guards take no more than the first three thousand did."""
    # A bucket that fills slowly is not forgotten by itself.
    slow = {"MCP_RATE_ADDRESS_PER_MINUTE": "1", "MCP_RATE_ADDRESS_BURST": "1", "MCP_RATE_MAX_KEYS": "1024"}
    limits = RateLimits(settings_from(ENVIRONMENT | slow))
    guards = (ClientIp(1), limits.address)

    async def flood(first: int, count: int) -> None:
        for number in range(first, first + count):
            forwarded = f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}".encode()
            scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": [(b"x-forwarded-for", forwarded)]}
            exchange = open_exchange(scope, nothing, nothing)
            for guard in guards:
                await guard(exchange)
            for release in exchange.on_end:
                release()

    await flood(0, 3_000)
    tracemalloc.start()
    try:
        await flood(3_000, 10_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Without a bound it is about 300 bytes for each address.
    assert grown < 1_000_000


@both_eras
async def test_a_result_over_the_cap_does_not_leave(era: Era) -> None:
    """The caller learns that it asked for too much; nothing of the result is sent."""
    with live(MCP_MAX_RESPONSE_BYTES="100000") as server:
        async with Wire(server.url, KEY) as wire:
            small = await wire.call(era, "huge_result", {"size": 40_000})
            large = await wire.call(era, "huge_result", {"size": 200_000})

    assert not small.result.get("isError")
    assert large.result["isError"]
    assert len(large.body) < 2_000
    assert b"xxxx" not in large.body


@pytest.mark.parametrize("legacy", ["stateless", "stateful"])
async def test_one_session_for_each_call_fits_the_defaults(legacy: str) -> None:
    """As some frameworks do: 100 calls at once from one address, five requests each, and none is refused."""
    with live(MCP_LEGACY=legacy) as server:
        async with Wire(server.url, KEY) as wire:
            statuses = [status for _ in range(100) for status in await one_call_of_a_session(wire)]

    assert len(statuses) == 500
    assert set(statuses) <= {200, 202, 405}


async def one_call_of_a_session(wire: Wire) -> list[int]:
    """Open a session, call a tool and leave, as a client does; return the statuses."""
    opened = await wire.ask("legacy", *opening("legacy"))
    session = {name: value for name, value in opened.headers.items() if name == "mcp-session-id"}
    headers = request("legacy", "ping", {}, key=wire.key)[0] | session
    ready = await wire.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', headers)
    # In place of the stream that a client asks for, which counts the same.
    pinged = await wire.ask("legacy", "ping", headers=session)
    called = await wire.call("legacy", "echo", {"text": "hello"}, headers=session)
    left = await wire.send(b"", headers, method="DELETE")
    return [reply.status for reply in (opened, ready, pinged, called, left)]
