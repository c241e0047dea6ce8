"""Streams that stand open without a call (GET, stateful sessions) end cleanly, at a drain or when a token expires.

To the protocol it looks as if the client had gone, to the client as a stream that has come to its end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .context import current

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StandingStreams:
    """Passes calls on as they are, and ends GET streams when told to."""

    def __init__(self, protocol: ASGIApp) -> None:
        self.protocol = protocol
        self._over = asyncio.Event()

    def end(self) -> None:
        """End every stream, and each one that is opened from now on."""
        self._over.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the protocol."""
        if scope["method"] != "GET":
            await self.protocol(scope, receive, send)
            return
        open_now = False

        async def watched(message: Message) -> None:
            nonlocal open_now
            open_now = message["type"] == "http.response.start" or bool(message.get("more_body"))
            await send(message)

        await self.protocol(scope, self._until_over(receive), watched)
        if open_now:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _until_over(self, receive: Receive) -> Receive:
        # Asked here, because the protocol may receive on behalf of the session.
        exchange = current.get()
        principal = exchange.principal if exchange else None

        async def either() -> Message:
            waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(self._over.wait())]
            seconds = principal.remaining_seconds() if principal else None
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                received = waits[0]
                return received.result() if received.done() else {"type": "http.disconnect"}  # type: ignore[return-value]
            finally:
                for wait in waits:
                    wait.cancel()

        return either
