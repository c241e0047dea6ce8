"""A small HTTP client, for what wrk cannot do: handshakes, sessions, the first answer of a process."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Self

from messages import ID, LEGACY, listing, opening, ready

SECONDS = 20.0


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def result(self) -> dict[str, Any]:
        """Return the result in it, from JSON or from an event stream."""
        text = self.body.decode()
        if "event-stream" in self.headers.get("content-type", ""):
            text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and '"id"' in line)
        return json.loads(text)["result"]


class Client:
    """One connection that is kept."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.reader = reader
        self.writer = writer
        self.number = 0

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: tuple[dict[str, str], str], method: str = "POST", **more: str) -> Reply:
        """Send one request and read its whole answer."""
        self.number += 1
        headers, body = request
        payload = body.replace(ID, str(self.number)).encode() if method == "POST" else b""
        lines = [f"{method} /mcp HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (headers | more).items()]
        lines += [f"Content-Length: {len(payload)}", "", ""]
        self.writer.write("\r\n".join(lines).encode() + payload)
        async with asyncio.timeout(SECONDS):
            return await self._read()

    async def alive(self) -> Reply:
        """Ask whether the process can answer at all."""
        self.writer.write(f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        async with asyncio.timeout(SECONDS):
            return await self._read()

    async def _read(self) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


async def session(client: Client) -> dict[str, str]:
    """Shake hands as a legacy client does; return the headers of the session, none without one."""
    reply = await client.ask(opening("legacy"))
    if reply.status != 200:  # noqa: PLR2004
        raise RuntimeError(f"initialize was answered with {reply.status}")
    name = reply.headers.get("mcp-session-id")
    held = {"Mcp-Session-Id": name} if name else {}
    await client.ask(ready(), **held)
    return held


async def _opening(port: int, era: str, until: float, times: list[float]) -> None:
    client = await Client.open(port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        if era == "modern":
            await client.ask(opening(era))
            await client.ask(listing(era))
        else:
            held = await session(client)
            await client.ask(listing(era), **held)
            if held:
                await client.ask(({"MCP-Protocol-Version": LEGACY, **listing(era)[0]}, ""), "DELETE", **held)
        times.append(time.perf_counter() - started)
    client.close()


async def openings(port: int, era: str, seconds: float, connections: int) -> list[float]:
    """Let clients open and list, one after the other on each connection; return how long each took."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_opening(port, era, until, times) for _ in range(connections)))
    return times


async def sessions(port: int, number: int) -> list[str]:
    """Open so many sessions and leave them; return their names."""
    client = await Client.open(port)
    names = [(await session(client)).get("Mcp-Session-Id", "") for _ in range(number)]
    client.close()
    return names


async def once(port: int, request: tuple[dict[str, str], str], **more: str) -> Reply:
    """Ask one thing on a connection of its own."""
    client = await Client.open(port)
    try:
        return await client.ask(request, **more)
    finally:
        client.close()


async def longest_wait(port: int, request: tuple[dict[str, str], str] | None, seconds: float = 0.2) -> float:
    """Return the longest wait of somebody else while one request is answered, or for so long on a server at rest."""
    prober, other = await Client.open(port), await Client.open(port)
    worst, until = 0.0, time.perf_counter() + seconds
    asked = asyncio.create_task(other.ask(request)) if request else None
    while not asked.done() if asked else time.perf_counter() < until:
        started = time.perf_counter()
        await prober.alive()
        worst = max(worst, time.perf_counter() - started)
    prober.close()
    other.close()
    return worst
