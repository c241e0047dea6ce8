"""The order of the stack is a decision, and none of its parts is there for show.

Each guard is taken out of a running server once: something that must not work then works, or something
that must work does not.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import sample
from live import KEY, OTHER_KEY, PROBE_KEY, Live, live
from wire import META, SECONDS, Wire, opening, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

# Every guard in its place, and why it stands there.
ORDER = {
    "header_fields": "What has two meanings is read by nobody below.",
    "host": "A foreign page learns nothing, not even that there is an authentication or a health check.",
    "health": "The platform has no credential, and is answered while everything else is refused.",
    "declared": "What is no request costs nothing below.",
    "drain": "A replica that is leaving sends everybody elsewhere, before it checks who they are.",
    "address": "Everything below counts by it.",
    "address_rate": "A flood is refused before it costs a signature check.",
    "authentication": "Nobody unknown makes this server read, hold or wait for anything.",
    "principal_rate": "No large body is read for a caller that is over its limit.",
    "in_flight": "Reading a body takes a slot already.",
    "body": "It is read once, within its bounds.",
    "envelope": "What the message asks for is known from here on.",
    "authorization": "What may not be done uses up nothing.",
    "rate": "What may be done is counted.",
    "streams": "Only what is allowed and within its rate takes a stream's place.",
    "sessions": "The last, because it may wait for its turn.",
    "metrics": "Not of the protocol, and behind everything that protects it.",
}


def test_the_order_is_pinned(server: Live) -> None:
    """A guard that moves, comes or goes is a decision; write its reason here."""
    assert [name for name, _ in server.app.pipeline.guards] == list(ORDER)


FIRST: dict[str, tuple[str, str, dict[str, str], int]] = {
    # What is asked: method, path, headers, and the answer of the guard that must be first.
    "host before health": ("GET", "/livez", {"origin": "https://evil.example.com"}, 403),
    "host before declared": ("GET", "/nothing", {"host": "evil.example.com"}, 421),
    "host before authentication": ("POST", "/mcp", {"host": "evil.example.com"}, 421),
    "health before authentication": ("GET", "/livez", {}, 200),
    "declared before authentication": ("PUT", "/mcp", {}, 405),
    "declared before authentication, by size": ("POST", "/mcp", {"content-length": "99999999"}, 413),
    "authentication before body": ("POST", "/mcp", {"content-length": "1000"}, 401),
    "authentication before envelope": ("POST", "/mcp", {"content-length": "0"}, 401),
}


@pytest.mark.parametrize("pair", FIRST)
async def test_the_first_guard_that_refuses_is_the_one_that_must_be(server: Live, pair: str) -> None:
    """A request that breaks several rules at once, without a credential, and never sends its body."""
    method, path, headers, status = FIRST[pair]

    assert await status_of_head(server, method, path, headers) == status


async def test_the_drain_comes_before_authentication_and_after_health(server: Live) -> None:
    """Nobody is told that a credential is missing by a replica that would not take it."""
    server.do(lambda: setattr(server.app.drain, "refusing", True))
    try:
        statuses = [await status_of_head(server, "POST", "/mcp", {}), await status_of_head(server, "GET", "/livez", {})]
    finally:
        server.do(lambda: setattr(server.app.drain, "refusing", False))

    assert statuses == [503, 200]


async def status_of_head(server: Live, method: str, path: str, headers: dict[str, str], seconds: float = 5) -> int:
    """Send the head of a request and nothing more; return the status of the answer, 0 when none comes."""
    host = server.url.removeprefix("http://")
    usual = {"host": host, "content-type": "application/json", "accept": "application/json, text/event-stream"}
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = "".join(f"{name}: {value}\r\n" for name, value in {**usual, **headers}.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
    try:
        line = await asyncio.wait_for(reader.readline(), seconds)
    except TimeoutError:
        return 0
    finally:
        writer.close()
    found = re.match(rb"HTTP/1.1 (\d+) ", line)
    return int(found[1]) if found else 0


# What each guard is for, as a question to a running server: does it still do that?


async def header_fields(server: Live) -> bool:
    """A header that has one value and comes twice is refused."""
    async with Wire(server.url, KEY) as wire:
        headers, content = request("modern", "tools/list", key=KEY)
        twice = [*headers.items(), ("user-agent", "one"), ("user-agent", "two")]
        return (await wire.http.post(f"{server.url}/mcp", content=content, headers=twice)).status_code == 400


async def host(server: Live) -> bool:
    """A page that has rebound its name is refused, though the browser sends a good key."""
    async with Wire(server.url, KEY) as wire:
        return (await wire.call("modern", "echo", {"text": "a"}, headers={"host": "evil.example.com"})).status == 421


async def health(server: Live) -> bool:
    """The platform is answered without a credential."""
    async with Wire(server.url) as wire:
        return (await wire.get("/livez")).status == 200


async def declared(server: Live) -> bool:
    """A body that says it is compressed is refused."""
    async with Wire(server.url, KEY) as wire:
        return (await wire.call("modern", "echo", {"text": "a"}, headers={"content-encoding": "gzip"})).status == 415


async def drain(server: Live) -> bool:
    """A replica that is leaving starts no call."""
    server.do(lambda: setattr(server.app.drain, "refusing", True))
    async with Wire(server.url, KEY) as wire:
        status = (await wire.call("modern", "echo", {"text": "a"})).status
    server.do(lambda: setattr(server.app.drain, "refusing", False))
    return status == 503


async def address(server: Live) -> bool:
    """A stranger is not held back for what another one behind the same proxy has sent."""
    async with Wire(server.url) as wire:
        flood = [await wire.ask("modern", "tools/list", headers={"x-forwarded-for": "192.0.2.1"}) for _ in range(4)]
        other = await wire.ask("modern", "tools/list", headers={"x-forwarded-for": "192.0.2.2"})
    return flood[-1].status == 429 and other.status == 401


async def address_rate(server: Live) -> bool:
    """Somebody unknown is refused in the end, however cheap each refusal was."""
    async with Wire(server.url) as wire:
        replies = [await wire.ask("modern", "tools/list", headers={"x-forwarded-for": "192.0.2.3"}) for _ in range(4)]
    return replies[-1].status == 429


async def authentication(server: Live) -> bool:
    """A key opens the server; without this guard nobody is let in, `authorization` sees to that."""
    async with Wire(server.url, KEY) as wire:
        return (await wire.call("modern", "echo", {"text": "a"})).status == 200


async def principal_rate(server: Live) -> bool:
    """The large body of a caller over its limit is not waited for."""
    async with Wire(server.url, KEY) as wire:
        for _ in range(3):
            await wire.ask("modern", "tools/list")
    headers, _ = request("modern", "tools/call", {"name": "echo"}, key=KEY)
    return await status_of_head(server, "POST", "/mcp", {**headers, "content-length": "500000"}, 0.5) == 429


async def in_flight(server: Live) -> bool:
    """A caller cannot have more calls at once than its slots."""
    server.do(sample.RUNNING.clear)
    async with Wire(server.url, KEY) as wire:
        call = asyncio.create_task(wire.call("modern", "wait", {"seconds": 30}))
        await until(sample.RUNNING.is_set)
        second = await wire.call("modern", "echo", {"text": "a"})
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await until(lambda: not server.app.pipeline.in_flight())
    return second.status == 503


async def body(server: Live) -> bool:
    """Half a request is answered at its deadline."""
    headers, _ = request("modern", "tools/call", {"name": "echo"}, key=KEY)
    return await status_of_head(server, "POST", "/mcp", {**headers, "content-length": "100"}, 1.5) == 408


async def envelope(server: Live) -> bool:
    """Nesting is bounded, also where no schema looks."""
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    async with Wire(server.url, KEY) as wire:
        params = {"name": "echo", "arguments": {"text": "a"}, "_meta": {**META, "deep": deep}}
        return (await wire.ask("modern", "tools/call", params)).status == 400


async def authorization(server: Live) -> bool:
    """The monitor's key calls no tool."""
    async with Wire(server.url, PROBE_KEY) as wire:
        return (await wire.call("modern", "echo", {"text": "a"})).status == 403


async def rate(server: Live) -> bool:
    """A caller over its rate is refused."""
    async with Wire(server.url, KEY) as wire:
        return [(await wire.ask("modern", "tools/list")).status for _ in range(4)][-1] == 429


async def streams(server: Live) -> bool:
    """A caller cannot have more streams open than its slots."""
    headers, content = request("modern", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, key=KEY)
    wire = Wire(server.url, KEY)

    def stream() -> AbstractAsyncContextManager[httpx2.Response]:
        return wire.http.stream("POST", f"{server.url}/mcp", content=content, headers=headers)

    async with wire, stream() as first, stream() as second:
        statuses = [first.status_code, second.status_code]
    await until(lambda: not server.app.pipeline.in_flight())
    return statuses == [200, 503]


async def sessions(server: Live) -> bool:
    """A caller cannot open more sessions than its share."""
    async with Wire(server.url, KEY) as wire:
        return [(await wire.ask("legacy", *opening("legacy"))).status for _ in range(2)] == [200, 503]


async def metrics(server: Live) -> bool:
    """The monitor reads them."""
    async with Wire(server.url, PROBE_KEY) as wire:
        wire.http.timeout = httpx2.Timeout(1)
        try:
            return (await wire.get("/metrics", authorization=f"Bearer {PROBE_KEY}")).status == 200
        except httpx2.TimeoutException:
            return False


async def until(condition: Callable[[], object]) -> None:
    """Wait for something in another thread, with a deadline."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


TIGHT_ADDRESS = {"MCP_TRUSTED_PROXY_HOPS": "1", "MCP_RATE_ADDRESS_BURST": "3", "MCP_RATE_ADDRESS_PER_MINUTE": "3"}
TIGHT_PRINCIPAL = {"MCP_RATE_PRINCIPAL_BURST": "3", "MCP_RATE_PRINCIPAL_PER_MINUTE": "3"}
# Without the guard the request is waited for until the drain gives up.
SHORT = {"MCP_TOOL_TIMEOUT_SECONDS": "0.5", "MCP_DRAIN_TIMEOUT_SECONDS": "0.6"}
WORK: dict[str, tuple[Callable[[Live], Awaitable[bool]], dict[str, str]]] = {
    "header_fields": (header_fields, {}),
    "host": (host, {}),
    "health": (health, {}),
    "declared": (declared, {}),
    "drain": (drain, {}),
    "address": (address, TIGHT_ADDRESS),
    "address_rate": (address_rate, TIGHT_ADDRESS),
    "authentication": (authentication, {}),
    "principal_rate": (principal_rate, {**TIGHT_PRINCIPAL, "MCP_BODY_TIMEOUT_SECONDS": "1"}),
    "in_flight": (in_flight, {"MCP_MAX_IN_FLIGHT_PER_PRINCIPAL": "1"}),
    "body": (body, {**SHORT, "MCP_BODY_TIMEOUT_SECONDS": "0.5"}),
    "envelope": (envelope, {}),
    "authorization": (authorization, {}),
    "rate": (rate, TIGHT_PRINCIPAL),
    "streams": (streams, {"MCP_MAX_STREAMS_PER_PRINCIPAL": "1"}),
    "sessions": (sessions, {"MCP_LEGACY": "stateful", "MCP_MAX_SESSIONS_PER_PRINCIPAL": "1"}),
    "metrics": (metrics, {}),
}


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("taken_out", [False, True], ids=["in its place", "taken out"])
async def test_each_guard_is_needed(name: str, taken_out: bool) -> None:  # noqa: FBT001 - a column of the table
    """With it the server does what it must, and without it alone it does not."""
    works, environment = WORK[name]
    with live(**environment) as server:
        if taken_out:
            edge = server.app.pipeline
            edge.guards = tuple(guard for guard in edge.guards if guard[0] != name)

        assert await works(server) is not taken_out


async def test_without_both_halves_of_authentication_anybody_calls() -> None:
    """The control for the table above: it is these two that keep strangers out, and either one does."""
    for halves, status in (({"authentication"}, 401), ({"authentication", "authorization"}, 200)):
        with live() as server:
            edge = server.app.pipeline
            edge.guards = tuple(guard for guard in edge.guards if guard[0] not in halves)
            async with Wire(server.url) as stranger:
                reply = await stranger.call("modern", "echo", {"text": "a"})

        assert reply.status == status, halves


async def test_taking_out_a_guard_leaves_the_others(server: Live) -> None:
    """One that was forgotten does not open what another one closes."""
    edge = server.app.pipeline
    guards = edge.guards
    async with Wire(server.url) as stranger, Wire(server.url, OTHER_KEY) as bob:
        for name in ORDER.keys() - {"authentication"}:
            edge.guards = tuple(guard for guard in guards if guard[0] != name)
            refused, answered = await stranger.ask("modern", "tools/list"), await bob.ask("modern", "tools/list")
            edge.guards = guards

            assert (name, refused.status, answered.status) == (name, 401, 200)
