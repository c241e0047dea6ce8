"""How big, how slow, how many at once.

What headers declare is checked before authentication.
The body is read after it, so that nobody unknown makes this server hold or wait for anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from .context import MCP_PATH
from .errors import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive

    from .context import Exchange, Principal
    from .settings import HardeningSettings

JSON = "application/json"
# In the header, which the protocol compares with the body before it opens a stream.
LISTEN = b"subscriptions/listen"
RETRY_SECONDS = 1.0
OVERLOADED = Answer(503, "overloaded", "Too many requests are being answered.", retry_after=RETRY_SECONDS)
TOO_MANY = Answer(503, "concurrency", "Too many of your requests are being answered.", retry_after=RETRY_SECONDS)
TOO_BIG = Answer(413, "too_big", "The request is larger than MCP_MAX_BODY_BYTES.")
TOO_SLOW = Answer(408, "too_slow", "The request did not arrive in time.", headers=((b"connection", b"close"),))


class DeclaredLimits:
    """Refuses by method, path, media type, encoding and declared size: 404, 405, 413, 415."""

    def __init__(self, settings: HardeningSettings, routes: Mapping[str, frozenset[str]]) -> None:
        self.routes = routes
        self.max_body_bytes = settings.max_body_bytes

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Check one request; see the class."""
        methods = self.routes.get(exchange.path)
        if methods is None:
            return Answer(404, "not_found", "There is nothing at this path; the endpoint is /mcp.")
        if exchange.method not in methods:
            allow = ((b"allow", ", ".join(sorted(methods)).encode()),)
            return Answer(405, "method", "This method is not served here.", headers=allow)
        length = exchange.header(b"content-length")
        if length and (not length.isdigit() or int(length) > self.max_body_bytes):
            return TOO_BIG
        if exchange.method == "POST":
            # A small compressed body can unpack to anything (a "zip bomb").
            if exchange.header(b"content-encoding").lower() not in {"", "identity"}:
                return Answer(415, "encoding", "Send the body uncompressed.")
            if exchange.header(b"content-type").partition(";")[0].strip().lower() != JSON:
                return Answer(415, "media_type", "Send application/json.")
        return None


class Slots:
    """So many at once, in all and for each caller; whoever takes one gives it back when its exchange ends."""

    def __init__(self, most: int, most_per_principal: int) -> None:
        self.most = most
        self.most_per_principal = most_per_principal
        self.total = 0
        self.by_principal: Counter[str] = Counter()

    def take(self, exchange: Exchange, principal: Principal) -> Answer | None:
        """Take a slot, or answer 503 with `Retry-After`."""
        # A monitor that is refused because of others would report a fault that is not there.
        if principal.kind != "probe" and self.total >= self.most:
            return OVERLOADED
        if self.by_principal[principal.id] >= self.most_per_principal:
            return TOO_MANY
        self.total += 1
        self.by_principal[principal.id] += 1
        exchange.on_end.append(lambda: self._give_back(principal.id))
        return None

    def _give_back(self, principal: str) -> None:
        self.total -= 1
        self.by_principal[principal] -= 1
        if not self.by_principal[principal]:
            del self.by_principal[principal]


class InFlight:
    """Caps the requests being answered; streams that stay open have a cap of their own."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.slots = Slots(settings.max_in_flight, settings.max_in_flight_per_principal)

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Take a slot for a request of the protocol."""
        if exchange.principal is None or exchange.path != MCP_PATH or _stands(exchange):
            return None
        return self.slots.take(exchange, exchange.principal)


class OpenStreams:
    """Caps the streams that stay open: subscriptions, and GET in sessions."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.slots = Slots(settings.max_streams, settings.max_streams_per_principal)

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Take a slot for a stream."""
        if exchange.principal is None or exchange.path != MCP_PATH or not _stands(exchange):
            return None
        return self.slots.take(exchange, exchange.principal)


def _stands(exchange: Exchange) -> bool:
    return exchange.method == "GET" or (exchange.era == "modern" and exchange.headers.get(b"mcp-method") == LISTEN)


class Body:
    """Reads the whole body within its size and its time: 413, 408."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self.seconds = settings.body_timeout_seconds

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Set `exchange.body`, and let the protocol read it once more.

        A GET has a body too if its head says so, and the SDK would wait for it; only that of a POST is a message.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await exchange.receive()
                    if message["type"] == "http.disconnect":
                        return Answer(400, "disconnected", "The request ended early.")
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self.max_body_bytes:
                        return TOO_BIG
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            return TOO_SLOW
        body = b"".join(chunks)
        exchange.body = body if exchange.method == "POST" else None
        exchange.receive = _replay(body, exchange.receive)
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once more, then whatever the connection says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
