"""A steady load of plain, streaming and failing calls in both eras, and what became of each call."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from support.mcp_client import ERAS, tool_call
from support.programs import KEY
from support.servers import install

if TYPE_CHECKING:
    from pathlib import Path

    from support.proxies import Proxy

# Both together below what one caller may have in flight, for a moment when one replica is left.
CLIENTS, LONG_CLIENTS = 26, 4
# One round of a client: most calls are short, some stay in flight.
ROUND = ("plain", "plain", "failing", "plain", "streaming", "plain", "plain", "failing", "plain", "held")
# Of these there are always some that a replica has to finish after its readiness delay.
LONG_ROUND = ("long",)
NAMES = sorted({*ROUND, *LONG_ROUND})
# Nothing of the load takes that long, however busy the machine is.
PATIENCE = 60
GENEROUS = {
    f"MCP_RATE_{name}": "1000000"
    for name in ("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST", "TOOL_PER_MINUTE")
}

TOOLS = '''
from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from ..hardening import Context, errors, tool
from ..settings import Settings

Number = Annotated[int, Field(ge=0, description="What tells this call from all others.")]


@tool(read_only=True)
async def plain(number: Number) -> int:
    """Answer at once with the number."""
    return number


@tool(read_only=True)
async def held(number: Number) -> int:
    """Answer after a moment, as a database would."""
    await asyncio.sleep(0.3)
    return number


@tool(read_only=True)
async def long(number: Number) -> int:
    """Answer after more than the readiness delay."""
    await asyncio.sleep(6)
    return number


@tool(read_only=True)
async def failing(number: Number) -> int:
    """Fail as the author says."""
    raise errors.NotFound


@tool(read_only=True, streams=True)
async def streaming(number: Number, ctx: Context[Settings]) -> int:
    """Report three steps, then answer with the number."""
    for step in range(1, 4):
        await asyncio.sleep(0.1)
        await ctx.report_progress(step, 3)
    return number
'''


def with_tools(render: Path, to: Path) -> Path:
    """Return a copy of the render, installed, with the tools that the load calls."""
    root = shutil.copytree(render, to)
    tools = root / "src/weather_server/tools"
    (tools / "load.py").write_text(TOOLS, "utf-8")
    names = ", ".join(NAMES)
    (tools / "__init__.py").write_text(f"from .load import {names}\n\nTOOLS = ({names})\n", "utf-8")
    install(root)
    return root


class BrokenError(Exception):
    """What came back is not the whole answer of this call."""


@dataclass(frozen=True)
class Call:
    """One call; its number is its argument, and its trace in the logs."""

    number: int
    name: str

    @property
    def trace(self) -> str:
        """Return the trace id."""
        return f"{self.number:032x}"

    def request(self, host: str) -> bytes:
        """Return the bytes of the request."""
        headers, body = tool_call(ERAS[self.number % 2], KEY, self.name, {"number": self.number})
        headers |= {"host": host, "traceparent": f"00-{self.trace}-{1:016x}-01", "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body

    def check(self, messages: list[dict[str, Any]]) -> None:
        """Raise unless the messages are the whole answer of this call, and of no other.

        Raises:
            BrokenError: They are not.
        """
        *progress, last = messages
        result = last.get("result", {})
        if self.name == "failing":
            right = result.get("isError") is True
        else:
            right = not result.get("isError") and result.get("structuredContent") == {"result": self.number}
        steps = [message["params"]["progress"] for message in progress]
        # None at all, where the answer was a plain one; else each of them.
        if not right or steps not in ([], [1, 2, 3] if self.name == "streaming" else []):
            raise BrokenError(messages)


@dataclass
class Answer:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of an event stream, or the one of a plain body."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            data = [line[5:] for line in self.body.splitlines() if line.startswith(b"data:") and line[5:].strip()]
            return [json.loads(part) for part in data]
        return [json.loads(self.body)]


class Connection:
    """One connection that is kept; the protocol by hand, because the load should cost less than the servers."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self.port = port
        self.trust = trust
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer to the end.

        Raises:
            BrokenError: The connection ended before.
        """
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost"
            )
        try:
            self.writer.write(request)
            answer = await self._answer(self.reader)
        except (OSError, EOFError, ValueError) as error:
            await self.close()
            raise BrokenError(repr(error)) from error
        if answer.headers.get("connection", "").lower() == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """End the connection."""
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> Answer:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(first.split(" ")[1])
        if headers.get("transfer-encoding") != "chunked":
            return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return Answer(status, headers, body)


@dataclass
class Load:
    """Clients that honour Retry-After, each with a connection of its own."""

    proxy: Proxy
    answered: set[Call] = field(default_factory=set[Call])
    refused: int = 0
    failed: dict[Call, str] = field(default_factory=dict[Call, str])
    in_flight: set[Call] = field(default_factory=set[Call])
    # The number of the newest call.
    begun: int = 0

    async def __aenter__(self) -> Self:
        self._over = False
        self._moved = asyncio.Event()
        trust = ssl.create_default_context(cafile=str(self.proxy.authority))
        rounds = [ROUND[turn % len(ROUND) :] + ROUND[: turn % len(ROUND)] for turn in range(CLIENTS)]
        rounds += [LONG_ROUND] * LONG_CLIENTS
        self._clients = [asyncio.ensure_future(self._client(names, trust)) for names in rounds]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._clients)

    async def more(self, calls: int) -> None:
        """Wait until so many more calls were answered, as long as there are any."""
        wanted = len(self.answered) + calls
        while len(self.answered) < wanted:
            self._moved.clear()
            async with asyncio.timeout(PATIENCE):
                await self._moved.wait()

    async def _client(self, names: tuple[str, ...], trust: ssl.SSLContext) -> None:
        connection = Connection(self.proxy.port, trust)
        turns = itertools.cycle(names)
        while not self._over:
            self.begun += 1
            call = Call(self.begun, next(turns))
            self.in_flight.add(call)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._call(connection, call)
                self.answered.add(call)
            except (BrokenError, TimeoutError, OSError) as failure:
                self.failed[call] = repr(failure)
            self.in_flight.remove(call)
            self._moved.set()
        await connection.close()

    async def _call(self, connection: Connection, call: Call) -> None:
        while True:
            answer = await connection.ask(call.request("localhost"))
            if "retry-after" not in answer.headers:
                break
            self.refused += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
        if answer.status != HTTPStatus.OK:
            raise BrokenError(answer.status, answer.body)
        call.check(answer.messages())
