"""Request body limits: bounded size and read time (413, 408).

Runs after authentication and the concurrency limit, so a body is read for authenticated callers only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..response import Response
from .request_head import TOO_BIG

if TYPE_CHECKING:
    from starlette.types import Message, Receive

    from ..exchange import Exchange
    from ..settings import HardeningSettings

TOO_SLOW = Response(408, "too_slow", "The request did not arrive in time.", headers=((b"connection", b"close"),))


class Body:
    """Reads the whole body within its size and its time: 413, 408."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self.seconds = settings.body_timeout_seconds

    async def __call__(self, exchange: Exchange) -> Response | None:
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
                        return Response(400, "disconnected", "The request ended early.")
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
    left: list[bytes] = [body]

    async def replay() -> Message:
        # Given away, and not kept for as long as the answer takes.
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return replay
