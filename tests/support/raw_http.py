"""Sends whatever it is given over a socket, and judges what comes back."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fuzz_grammar import Input

# Longer than each deadline of the server under test together.
ANSWER_SECONDS = 15.0
REFUSALS = {400, 401, 403, 404, 405, 406, 408, 413, 415, 421, 429, 431, 503}
# The library's own for what its session has cancelled; nobody waits for it any more.
CANCELLED = -32800
CODES = {-32700, -32600, -32601, -32602, -32020, -32021, -32022, CANCELLED} | REFUSALS
# What the library refuses by itself, it refuses without a word.
EMPTY = {200, 202, 204, 405, 406}
TEXTS = re.compile(
    rb"Traceback|File \"|\.py\b|line \d+|Exception|[a-z]Error\b(?!\")|pydantic|asyncpg|uvicorn|starlette|anyio"
    rb"|object at 0x|validation error|input_value|<class|NoneType|codec can't|JSONDecode"
)
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    messages: list[Any] = field(default_factory=list[Any])
    # The client has left a stream that stays open.
    left: bool = False


class ClosedError(Exception):
    """The server has closed the connection without an answer."""


class Connection:
    """One connection, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def send(self, sent: Input) -> Reply | None:
        """Send one input; return the answer, or None where there is none."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        reply: Reply | None = None
        last = sent.last
        try:
            self.writer.write(sent.raw)
            if sent.ends:
                self.writer.write_eof()
            if not sent.leaves:
                async with asyncio.timeout(ANSWER_SECONDS):
                    reply = await _read(self.reader, sent)
        except (ClosedError, OSError):
            # What has no end has no answer; everything else has.
            last = True
        if last or reply is None or reply.left or reply.headers.get("connection") == "close":
            await self.close()
        return reply

    async def close(self) -> None:
        """Close it."""
        if self.reader is None:
            return
        self.reader = None
        self.writer.transport.abort()


async def _read(reader: asyncio.StreamReader, sent: Input) -> Reply:
    status = 100
    headers: dict[str, str] = {}
    while status < 200:
        block = await _until(reader, b"\r\n\r\n")
        first, *rest = block.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
    reply = Reply(status, headers)
    if sent.head or status in {204, 304}:
        return reply
    if headers.get("transfer-encoding") == "chunked":
        stream = headers.get("content-type", "").startswith("text/event-stream")
        if stream and sent.raw.startswith(b"GET "):
            reply.left = True
            return reply
        async for chunk in _chunks(reader):
            reply.body += chunk
            if stream and ACKNOWLEDGED.encode() in chunk:
                reply.left = True
                break
    else:
        reply.body = await _exactly(reader, int(headers.get("content-length", 0)))
    return reply


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await _until(reader, b"\r\n"), 16):
        yield await _exactly(reader, size)
        await _exactly(reader, 2)
    await _exactly(reader, 2)


async def _until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError:
        raise ClosedError from None


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise ClosedError from None


def wrong(sent: Input, reply: Reply | None) -> str:  # noqa: PLR0911 - one for each thing that can be wrong
    """Say what is wrong with an answer; "" when nothing is."""
    if reply is None:
        return "" if sent.last or sent.stalls or sent.ends or sent.leaves else "no answer"
    if reply.status not in REFUSALS | {200, 202, 204}:
        return f"status {reply.status}"
    if found := TEXTS.search(reply.body):
        return f"says {found[0]!r}"
    if "x-request-id" not in reply.headers:
        return "no request id"
    if "server" in reply.headers:
        return "names the server"
    if sent.head or not reply.body:
        return "" if sent.head or reply.status in EMPTY else f"nothing said with {reply.status}"
    return _wrong_body(sent, reply)


def _wrong_body(sent: Input, reply: Reply) -> str:
    kind = reply.headers.get("content-type", "")
    if kind.startswith("text/plain"):
        return "" if reply.status == 200 else "plain text"
    try:
        if kind.startswith("text/event-stream"):
            lines = reply.body.decode().splitlines()
            reply.messages = [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]
        else:
            reply.messages = [json.loads(reply.body)]
    except ValueError:
        return f"no JSON: {reply.body[:200]!r}"
    return next((fault for message in reply.messages if (fault := _wrong_message(sent, reply, message))), "")


def _wrong_message(sent: Input, reply: Reply, message: Any) -> str:  # noqa: PLR0911 - the same
    if not isinstance(message, dict):
        return "no object"
    if "jsonrpc" not in message:
        # Health and metadata are no messages.
        return "" if reply.status in {200, 503} and "error" not in message else f"no message: {message}"
    if "method" in message:
        return ""
    error = message.get("error")
    if error is not None:
        if error["code"] not in CODES:
            return f"code {error['code']}"
        if error["code"] > 0 and error["code"] != reply.status:
            return f"code {error['code']} with status {reply.status}"
    elif "result" not in message:
        return "neither result nor error"
    given = message.get("id")
    return "" if given is None or same(given, _id_of(sent.body)) else f"another id: {given!r}"


def _id_of(body: bytes) -> Any:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message.get("id") if isinstance(message, dict) else None


def same(one: Any, other: Any) -> bool:
    """Return whether two ids are the same, type included."""
    return type(one) is type(other) and one == other
