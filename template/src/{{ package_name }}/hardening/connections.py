"""A connection is given so much time and so many bytes for the head of each request, and then it is closed.

The ASGI application sees a request when its head is complete; whoever never gets that far
("Slowloris") is met here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from .settings import HardeningSettings

MAX_HEAD_BYTES = 65_536
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_BIG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def bounded(settings: HardeningSettings) -> type[BoundedConnection]:
    """Return the kind of connection that these settings ask for."""

    class Connection(BoundedConnection):
        head_seconds = settings.body_timeout_seconds
        max_connections = settings.max_connections

    return Connection


class BoundedConnection(HttpToolsProtocol):
    """Uvicorn's connection with bounds: 408 for a slow head, 431 for a big one, no more than so many at once."""

    head_seconds: ClassVar[float] = 10.0
    max_connections: ClassVar[int] = 4096

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn has it
        """Begin to wait for the first head, or close at once when there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an unfinished head."""
        if self._timer is None:
            self._wait_for_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._close(TOO_BIG)

    def on_headers_complete(self) -> None:
        """The head is there; the body has bounds of its own."""
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self._head_bytes = 0
            self._timer = self.loop.call_later(self.head_seconds, self._close, TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, answer: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
