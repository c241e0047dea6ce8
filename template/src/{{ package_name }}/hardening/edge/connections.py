"""TCP connection limits: number, size and read time of the request head, slow readers (408, 431, closed).

A slow or endless request head ("Slowloris") holds a connection for a bounded time only.
The ASGI application sees a request when its head is complete, and it is done with an answer when that
is in the buffer of the connection. A client that never gets that far ("Slowloris"), or never takes its
answer, is met here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..logs.throttle import RATE_LIMITED

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from ..settings import HardeningSettings

MAX_HEAD_BYTES = 65_536
# A client that takes less of a waiting answer in each interval is as good as gone.
SLOWEST_BYTES_PER_SECOND = 1024
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_BIG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def bounded(settings: HardeningSettings) -> type[BoundedConnection]:
    """Return the connection class for these settings; requests that are not HTTP cannot fill the log."""
    logging.getLogger("uvicorn.error").addFilter(RATE_LIMITED)

    class Connection(BoundedConnection):
        seconds = settings.body_timeout_seconds
        max_connections = settings.max_connections

    return Connection


class BoundedConnection(HttpToolsProtocol):
    """Uvicorn's connection with bounds: 408 for a slow head, 431 for a big one, no more than so many at once.

    The rest of a body that was refused unread is taken and thrown away, for `seconds`: a client that is
    still sending when the connection is closed would lose the answer that says why.
    """

    seconds: ClassVar[float] = 10.0
    max_connections: ClassVar[int] = 4096

    _receiving: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    # What is being answered; requests that came behind it on the same connection wait in `pipeline`.
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn has it
        """Begin to wait for the first head, or close at once when there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._wait_for_client()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell what is being answered, which uvicorn tells the last request alone."""
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an unfinished head."""
        if self._receiving is None:
            self._wait_for_client()
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._close(TOO_BIG)

    def on_headers_complete(self) -> None:
        """The head is there; the body has bounds of its own."""
        self._stop_waiting()
        self._head_bytes = 0
        self._in_body = True
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle

    def on_message_complete(self) -> None:
        """The connection may idle now, or the rest of a refused body has gone by."""
        self._stop_waiting()
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take what is written; watch it."""
        super().pause_writing()
        self._watch_client()

    def resume_writing(self) -> None:
        """It does again."""
        if not self.transport.is_closing():
            self._stop_watching()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Closing waits for the client to take everything, and the rest of a body to come; not for ever."""
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_client()
        elif self._in_body and self._receiving is None:
            self._wait_for_client()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; see `on_response_complete`."""
        super().timeout_keep_alive_handler()
        self._watch_client()

    def _wait_for_client(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self._receiving = self.loop.call_later(self.seconds, self._close, TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _close(self, answer: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            # Not into an answer that is under way, nor after the one that has refused this body.
            if not self._in_body and (not self.cycle or self.cycle.response_complete):
                self.transport.write(answer)
            self.transport.close()
            self._watch_client()

    def _watch_client(self) -> None:
        if self._sending is None:
            unsent = self.transport.get_write_buffer_size()
            self._sending = self.loop.call_later(self.seconds, self._check_client, unsent)

    def _check_client(self, unsent: int) -> None:
        self._sending = None
        left = self.transport.get_write_buffer_size()
        if unsent - left >= self.seconds * SLOWEST_BYTES_PER_SECOND:
            self._watch_client()
        elif left:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
