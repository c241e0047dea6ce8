"""Ends long-lived streams at a drain and when their caller's token expires.

GET streams of stateful sessions end by a simulated client disconnect; streams of `subscriptions/listen` end
with their result. To the client both are a stream that has come to its end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mcp.server.subscriptions import ListenHandler
from mcp.types import SubscriptionsListenRequestParams

from ..exchange import current
from ..routes import LISTEN, SESSION_HEADER

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.subscriptions import SubscriptionBus
    from mcp.types import SubscriptionsListenResult
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..exchange import Exchange

NEEDED = frozenset({b"host", SESSION_HEADER, b"mcp-protocol-version"})
ACCEPT = (b"accept", b"text/event-stream")


class LongLivedStreams:
    """Passes calls on as they are, and ends GET streams when told to."""

    def __init__(self, inner_app: ASGIApp) -> None:
        self.inner_app = inner_app
        self._over = asyncio.Event()

    def end(self) -> None:
        """End every stream, and each one that is opened from now on."""
        self._over.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the protocol."""
        if scope["method"] != "GET":
            await self.inner_app(scope, receive, send)
            return
        open_now, exchange = False, current.get()

        async def watched(message: Message) -> None:
            nonlocal open_now
            open_now = message["type"] == "http.response.start" or bool(message.get("more_body"))
            if exchange is not None and message["type"] == "http.response.start":
                exchange.forget(scope)
            await send(message)

        # The SDK keeps several copies of the head for as long as the stream is open, and needs no more of it than this.
        # Without `last-event-id`: where it keeps no events, it leaves a request to resume without any answer.
        needed = [(name, value) for name, value in scope["headers"] if name in NEEDED]
        await self.inner_app({**scope, "headers": [ACCEPT, *needed]}, self._until_over(receive), watched)
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


def serve_listen(server: Server[Any], bus: SubscriptionBus | None) -> Listening | None:
    """Serve `subscriptions/listen` with streams that can be ended, where there is a bus."""
    if bus is None:
        return None
    listening = Listening(bus)
    server.add_request_handler(LISTEN, SubscriptionsListenRequestParams, listening)
    return listening


class Listening:
    """Serves `subscriptions/listen`; a stream ends with its result, at a drain and when its caller's token expires.

    Each stream has a handler of its own, because the SDK's ends all of its streams or none.
    """

    def __init__(self, bus: SubscriptionBus) -> None:
        self._bus = bus
        self._open: set[ListenHandler] = set()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream."""
        exchange = current.get()
        seconds = exchange.principal.remaining_seconds() if exchange and exchange.principal else None
        _forget_message(exchange, params)
        handler = ListenHandler(self._bus, max_subscriptions=1)
        self._open.add(handler)
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, handler.close)
        try:
            return await handler(ctx, params)
        finally:
            self._open.discard(handler)
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """End every stream."""
        for handler in tuple(self._open):
            handler.close()


def _forget_message(exchange: Exchange | None, params: SubscriptionsListenRequestParams) -> None:
    """Keep what is subscribed to, and nothing else of the message, for as long as the stream is open."""
    if params.model_extra:
        params.model_extra.clear()
    if exchange is not None:
        exchange.forget(exchange.scope)
