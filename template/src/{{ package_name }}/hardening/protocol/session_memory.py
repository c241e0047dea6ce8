"""Session memory: bounds what an open session keeps of its client and of its last messages (400).

What a client says of itself is kept for as long as the session, so it is short, or refused before a session is opened.
The SDK's loops hold the last message of each direction until the next one comes; here a message of a few bytes follows
each longer one.
Sources: 2025-11-25, Lifecycle (initialization) and Transports (session management).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_json

from ..exchange import current
from ..response import Response
from ..routes import SESSION_HEADER
from .message import INVALID_PARAMS, has_more_values

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Clients in use send less than 1 KiB and 40 values.
MAX_CAPABILITY_BYTES = 4096
MAX_CAPABILITY_VALUES = 128
TOO_MUCH = Response(
    400, "capabilities", "Describe capabilities in at most 4096 bytes and 128 values.", code=INVALID_PARAMS
)

OPENING = frozenset({"protocolVersion", "capabilities", "clientInfo"})
# Not the icons, which may be whole pictures, and nothing else that nobody here reads.
CLIENT_INFO = frozenset({"name", "title", "version", "description", "websiteUrl"})
# Characters.
LONGEST_TEXT = 256
LONGEST_VERSION = 32

# Bytes, headers included; what is not longer may be kept.
SHORT_REQUEST = 2048
SHORT_ANSWER = 8192
FORGET_SECONDS = 1.0
# An answer to a question that was never asked reaches the loop of requests, and nothing behind it.
NO_ANSWER = b'{"jsonrpc":"2.0","id":"session memory","result":{}}'
# Its answer takes the place of the last one; to telemetry it is a ping.
PING = b'{"jsonrpc":"2.0","id":"session memory","method":"ping"}'
HEADERS = ((b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream"))


def refuse_opening(params: dict[str, Any]) -> Response | None:
    """Refuse an `initialize` whose capabilities are too large to be kept."""
    capabilities = params.get("capabilities")
    if not isinstance(capabilities, dict):
        return None
    written = to_json(capabilities)
    too_much = len(written) > MAX_CAPABILITY_BYTES or has_more_values(written, MAX_CAPABILITY_VALUES)
    return TOO_MUCH if too_much else None


def shorten_opening(params: dict[str, Any]) -> None:
    """Keep of an `initialize` what names the client and what it can do, in place: the SDK keeps the rest too."""
    for name in params.keys() - OPENING:
        del params[name]
    version, info = params.get("protocolVersion"), params.get("clientInfo")
    if isinstance(version, str):
        params["protocolVersion"] = version[:LONGEST_VERSION]
    if isinstance(info, dict):
        said = cast("dict[str, Any]", info)
        params["clientInfo"] = {
            name: text[:LONGEST_TEXT] if isinstance(text, str) else text
            for name, text in said.items()
            if name in CLIENT_INFO
        }


class SessionMemory:
    """Passes requests of sessions on, and has longer messages of a session followed by a short one."""

    def __init__(self, inner_app: ASGIApp) -> None:
        self.inner_app = inner_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = current.get()
        if exchange is None or exchange.method != "POST":
            await self.inner_app(scope, receive, send)
            return
        session, version = exchange.headers.get(SESSION_HEADER, b""), exchange.protocol_version.encode()
        asked = len(exchange.body or b"") + sum(map(len, exchange.headers.values()))
        answered = 0

        async def watched(message: Message) -> None:
            nonlocal session, answered
            if message["type"] == "http.response.start":
                session = dict(message.get("headers", ())).get(SESSION_HEADER, session)
            answered += len(message.get("body", b""))
            await send(message)

        await self.inner_app(scope, receive, watched)
        if session and (asked > SHORT_REQUEST or answered > SHORT_ANSWER):
            follow = {**scope, "headers": [*HEADERS, (b"mcp-protocol-version", version), (SESSION_HEADER, session)]}
            short = PING if answered > SHORT_ANSWER else NO_ANSWER
            # The context of a request holds the request.
            task = asyncio.get_running_loop().create_task(self._follow(follow, short), context=Context())
            with suppress(TimeoutError):
                async with asyncio.timeout(FORGET_SECONDS):
                    await task

    async def _follow(self, scope: Scope, message: bytes) -> None:
        left: list[Message] = [{"type": "http.request", "body": message, "more_body": False}]

        async def receive() -> Message:
            if not left:
                await asyncio.Event().wait()
            return left.pop()

        await self.inner_app(scope, receive, _nowhere)


async def _nowhere(message: Message) -> None:
    """The session knows nobody who waits for this answer."""
