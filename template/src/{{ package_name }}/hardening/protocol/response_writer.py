"""Writes the response of one request: JSON, or an event stream once a notification is sent.

It begins as an event stream with the first notification, or when it has been silent for so long that a
proxy might take it for dead; comments keep it alive then. A client that leaves ends the call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from pydantic_core import to_json
from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.shared.dispatcher import CallOptions
    from starlette.types import Receive, Send

    from ..exchange import Exchange

# A plain call is over before that, and costs no task that waits for its client to leave.
WATCH_AFTER_SECONDS = 0.02
JSON = (b"content-type", b"application/json")
# Read as it comes: not kept, not changed, not collected by a proxy on the way.
STREAM = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
PING = b": ping\r\n\r\n"


class ResponseWriter:
    """What the SDK sends by while it answers one request (its `DispatchContext`).

    Args:
        exchange: The request.
        receive: Reports the end of the connection.
        send: Where the answer goes.
        ping_seconds: How long it may be silent.
    """

    can_send_request = False

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, ping_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._exchange = exchange
        self.request_id = exchange.rpc_id
        self.message_metadata = ServerMessageMetadata(request_context=Request(exchange.scope, receive))
        self.streaming = False
        self._cancel_requested: anyio.Event | None = None
        self._token = exchange.meta.get("progressToken")
        self._receive = receive
        self._send = send
        self._ping_seconds = ping_seconds
        self._loop = loop
        self._last = loop.time()
        self._turn = asyncio.Lock()
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False

    def __enter__(self) -> Self:
        """Begin to watch the client, soon."""
        self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        # The task that was cancelled knows this object: what knows each other waits for the garbage collector.
        self._timer = self._watching = None

    def client_gone(self) -> bool:
        """Return whether the call was cancelled because its client has left, and for no other reason."""
        return self._gone and self._task is not None and not self._task.uncancel()

    @property
    def transport(self) -> TransportContext:
        """What the request came by."""
        headers = text_headers(self._exchange)
        return TransportContext(kind="streamable-http", can_send_request=False, headers=headers)

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set when the client has left; made on first use, because making it is expensive."""
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    # Names and order as in the SDK's protocol.
    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,  # noqa: ARG002
        opts: CallOptions | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Refuse: there is no way back to the client.

        Raises:
            NoBackChannelError: Always.
        """
        raise NoBackChannelError(method)

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,  # noqa: ARG002
    ) -> None:
        """Send a notification; it makes the answer an event stream."""
        message = {"jsonrpc": "2.0", "method": method}
        await self._write(_event(to_json(message | ({} if params is None else {"params": dict(params)}))))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Send progress to a client that has asked for it."""
        if isinstance(self._token, bool) or not isinstance(self._token, int | str):
            return
        given = {"progressToken": self._token, "progress": progress, "total": total, "message": message}
        await self.notify("notifications/progress", {name: value for name, value in given.items() if value is not None})

    async def finish(self, message: bytes, status: int) -> None:
        """Send the answer itself."""
        if self.streaming:
            await self._write(_event(message), more=False)
            return
        headers = [JSON, (b"content-length", str(len(message)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": message})

    async def _write(self, event: bytes, *, more: bool = True) -> None:
        if not self._exchange.accepts_stream:
            # Notifications and comments alone get here; the answer itself is JSON then.
            return
        async with self._turn:
            if not self.streaming:
                self.streaming = True
                await self._send({"type": "http.response.start", "status": 200, "headers": list(STREAM)})
            self._last = self._loop.time()
            await self._send({"type": "http.response.body", "body": event, "more_body": more})

    def _begin(self) -> None:
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Send comments while nothing else is sent, and end the call when the client leaves."""
        leaving = asyncio.ensure_future(self._disconnected())
        try:
            while not leaving.done():
                silent = self._loop.time() - self._last
                await asyncio.wait({leaving}, timeout=self._ping_seconds - silent)
                if not leaving.done() and self._loop.time() - self._last >= self._ping_seconds:
                    await self._write(PING)
        finally:
            leaving.cancel()
        self._gone = True
        self.cancel_requested.set()
        if self._task is not None:
            self._task.cancel()

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def text_headers(exchange: Exchange) -> dict[str, str]:
    """Return the headers as the SDK wants them."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers.items()}


def _event(message: bytes) -> bytes:
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"
