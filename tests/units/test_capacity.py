"""What the page for operators says a connection, a call, a stream and a session cost is what they cost, within 20 %."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from live import KEY, Process
from wire import SECONDS, Wire, opening, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAGE = Path(__file__).parents[2] / "template/docs/operations.md"
ROW = re.compile(r"^\| ([^|]+?) \| [^|]+ \| [^|]+ \| (\d+) \|$", re.MULTILINE)
NO_RATES = dict.fromkeys(
    (
        "MCP_RATE_PRINCIPAL_BURST",
        "MCP_RATE_ADDRESS_BURST",
        "MCP_RATE_TOOL_PER_MINUTE",
        "MCP_RATE_INITIALIZE_PER_MINUTE",
    ),
    "100000",
) | dict.fromkeys(
    ("MCP_MAX_CONNECTIONS_PER_ADDRESS", "MCP_MAX_IN_FLIGHT", "MCP_MAX_IN_FLIGHT_PER_PRINCIPAL", "MCP_MAX_STREAMS"),
    "4000",
)
MOST = {
    **NO_RATES,
    "MCP_RATE_PRINCIPAL_PER_MINUTE": "100000",
    "MCP_RATE_ADDRESS_PER_MINUTE": "100000",
    "MCP_MAX_STREAMS_PER_PRINCIPAL": "4000",
    "MCP_MAX_SESSIONS_PER_PRINCIPAL": "1000",
    "MCP_LEGACY": "stateful",
    "MCP_BODY_TIMEOUT_SECONDS": "120",
}
FIELDS = "".join(f"f{number}: {'v' * 600}\r\n" for number in range(95))
# Beside the fields of a call.
LONG_HEAD = {f"f{number}": "v" * 600 for number in range(80)}
MANY_VALUES = [f"{number:x<98}" for number in range(9900)]


class Load:
    """Connections to one server, all open until the end."""

    def __init__(self, server: Process) -> None:
        self.server = server
        self.host = server.url.removeprefix("http://")
        self.open: list[asyncio.StreamWriter] = []
        self.key = KEY

    async def raw(self, sent: bytes, *, answered: bool = False) -> None:
        """Send something on a connection of its own, of which no more is read than the first line, if at all."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0)
        host, port = self.host.split(":")
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        self.open.append(writer)
        writer.write(sent)
        await writer.drain()
        if answered:
            assert b" 200 " in await asyncio.wait_for(reader.readline(), SECONDS)

    async def post(
        self, method: str, params: dict[str, Any], *, answered: bool = False, head: dict[str, str] | None = None
    ) -> None:
        """Send a request of a caller."""
        headers, body = request("modern", method, params, key=self.key, rpc_id=len(self.open))
        lines = {"host": self.host, "content-length": str(len(body)), **headers, **(head or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.raw(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body, answered=answered)

    def kib(self) -> int:
        """Return the resident memory of the server."""
        status = Path(f"/proc/{self.server.child.pid}/status").read_text("utf-8")
        return int(status.partition("VmRSS:")[2].split()[0])


async def idle(load: Load) -> None:
    """A connection that waits after a large request of nobody known."""
    await load.raw(f"GET /livez HTTP/1.1\r\nhost: {load.host}\r\n{FIELDS}\r\n".encode(), answered=True)


async def unfinished(load: Load) -> None:
    """A head that has almost come to its bound, and does not end."""
    await load.raw(f"GET /livez HTTP/1.1\r\nhost: {load.host}\r\n{FIELDS}".encode())


async def small_call(load: Load) -> None:
    """A call that runs."""
    await load.post("tools/call", {"name": "wait", "arguments": {"seconds": 60}})


async def large_call(load: Load) -> None:
    """A call whose message is as long, and holds as many values, as it may."""
    params = {"name": "wait", "arguments": {"seconds": 60}, "_meta": {"filler": MANY_VALUES}}
    await load.post("tools/call", params, head=LONG_HEAD)


async def answer(load: Load) -> None:
    """A call whose answer is as long as it may be, and is not read."""
    await load.post("tools/call", {"name": "huge_result", "arguments": {"size": 4_190_000}})


async def stream(load: Load) -> None:
    """A stream whose message was as long as it may be."""
    params = {"notifications": {"toolsListChanged": True}, "filler": "a" * 60_000}
    await load.post("subscriptions/listen", params, answered=True, head=LONG_HEAD)


async def listener(load: Load) -> None:
    """A stream that listens to an address as long as a message may be, in characters that take four bytes each."""
    address = "\U0001f600" + "a" * 60_000
    await load.post("subscriptions/listen", {"notifications": {"resourceSubscriptions": [address]}}, answered=True)


async def opened(load: Load, **said: Any) -> dict[str, str]:
    """Open a session, call something in it, and return the header that names it."""
    method, params = opening("legacy")
    async with Wire(load.server.url, KEY) as wire:
        reply = await wire.ask("legacy", method, params | said)
        headers = {"mcp-session-id": reply.headers["mcp-session-id"]}
        await wire.call("legacy", "echo", {"text": "a"}, headers=headers)
    return headers


async def session(load: Load) -> None:
    """A session in which something was called."""
    await opened(load)


async def session_with_stream(load: Load) -> None:
    """A session whose client waits for messages of the server."""
    fields = {"host": load.host, "authorization": f"Bearer {KEY}", "accept": "text/event-stream"}
    fields |= await opened(load) | LONG_HEAD
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    await load.raw(f"GET /mcp HTTP/1.1\r\n{head}\r\n".encode(), answered=True)


async def large_session(load: Load) -> None:
    """A session whose client says as much of itself as it may, in characters that take four bytes each."""
    text = "\U0001f600" + "a" * 45
    said = {"experimental": {f"{number}{text}": {"a": 1} for number in range(60)}}
    names = dict.fromkeys(("name", "title", "version"), text * 5)
    await opened(load, capabilities=said, clientInfo=names)


COSTS: dict[str, tuple[Callable[[Load], Awaitable[None]], int]] = {
    "connection, idle": (idle, 600),
    "connection of a stranger, at worst": (unfinished, 300),
    "call in flight, small": (small_call, 150),
    "call in flight, at worst": (large_call, 40),
    "answer that is not read, at worst": (answer, 20),
    "stream": (stream, 150),
    "stream, at worst": (listener, 60),
    "session": (session, 80),
    "session with a stream": (session_with_stream, 50),
    "session, at worst": (large_session, 50),
}


@pytest.mark.parametrize("name", COSTS)
async def test_a_cost_is_what_the_page_says(name: str) -> None:
    """Resident memory for each of many, after a few that warm up, is within 20 % of the row."""
    stated = {row.partition(" (")[0]: int(kib) for row, kib in ROW.findall(PAGE.read_text("utf-8"))}
    one, count = COSTS[name]
    with Process(**MOST) as server:
        load = Load(server)
        for _ in range(20):
            await one(load)
        await asyncio.sleep(1)
        before = load.kib()
        for _ in range(count):
            await one(load)
        await asyncio.sleep(1)
        each = (load.kib() - before) / count
        with contextlib.suppress(OSError):
            for writer in load.open:
                writer.transport.abort()

    assert 0.8 * stated[name] <= each <= 1.2 * stated[name], f"{name}: {each:.1f} KiB"


async def test_everything_at_once_costs_the_sum() -> None:
    """Many keys behind one address, strangers, calls, answers and streams that nobody reads: no more than the rows."""
    each = {row.partition(" (")[0]: int(kib) for row, kib in ROW.findall(PAGE.read_text("utf-8"))}
    counts = {
        "connection of a stranger, at worst": 250,
        "call in flight, at worst": 30,
        "answer that is not read, at worst": 10,
        "stream, at worst": 60,
    }
    keys = [f"{number:02}{KEY}" for number in range(10)]
    named = ",".join(f"caller{number}:{key}" for number, key in enumerate(keys))
    with Process(**{**MOST, "MCP_LEGACY": "stateless", "MCP_API_KEYS": named}) as server:
        load = Load(server)
        for name, count in counts.items():
            for number in range(count):
                load.key = keys[number % len(keys)]
                await COSTS[name][0](load)
            await asyncio.sleep(0.5)
        kib = load.kib()
        for writer in load.open:
            writer.transport.abort()

    most = each["the server itself"] + sum(each[name] * count for name, count in counts.items())
    assert 0.6 * most <= kib <= 1.2 * most, (kib, most)


async def test_the_server_itself_costs_what_the_page_says() -> None:
    """After its start, before anybody came."""
    stated = {row: int(kib) for row, kib in ROW.findall(PAGE.read_text("utf-8"))}
    with Process() as server:
        kib = Load(server).kib()

    assert 0.8 * stated["the server itself"] <= kib <= 1.2 * stated["the server itself"], kib
