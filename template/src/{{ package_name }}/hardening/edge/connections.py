"""Connection limits: time for a head (408), unread answers, connections in all and for each address (closed).

The ASGI application sees a request when its head is complete, and it is done with an answer when that is in the buffer
of the connection. A client that never gets that far ("Slowloris"), or never reads its answer, is closed here.
What a head, a body's framing and a pipeline may hold is bounded in `parser_limits.py`.
"""

from __future__ import annotations

import logging
import secrets
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar, cast

from ..logs.access_log import AccessLog
from ..logs.throttle import RATE_LIMITED
from .body import TOO_SLOW
from .client_ip import fold
from .connection_table import ConnectionTable
from .unread_answers import WHEN_TAKEN, UnreadAnswers

if TYPE_CHECKING:
    import asyncio

    from ..response import Response
    from ..settings import HardeningSettings

PHRASES = {400: b"Bad Request", 408: b"Request Timeout", 429: b"Too Many Requests"}
PHRASES[431] = b"Request Header Fields Too Large"


def bounded(settings: HardeningSettings, access_log: AccessLog, max_connections: int) -> type[BoundedConnection]:
    """Return the kind of connection that these settings ask for.

    Args:
        settings: Times and numbers.
        access_log: What writes and counts a line for a refusal.
        max_connections: The setting, or fewer where the file descriptors of this process allow fewer.
    """
    # What uvicorn says of a client that sends no HTTP is said by the access log.
    logging.getLogger("uvicorn.error").addFilter(RATE_LIMITED)
    # Behind a proxy every client has the proxy's address.
    per_address = max_connections if settings.trusted_proxy_hops else settings.max_connections_per_address

    class Connection(BoundedConnection):
        seconds = settings.body_timeout_seconds
        table = ConnectionTable(max_connections, per_address)
        _refusals = access_log

    return Connection


class BoundedConnection(UnreadAnswers):
    """Uvicorn's connection with bounds on time: 408 for a slow head, no end of a connection is waited for without one.

    The rest of a body that was refused unread is taken and thrown away, for `seconds`, also when the answer is the
    last of its connection: a client that is still sending when it is closed would lose the answer that says why.
    """

    table: ClassVar[ConnectionTable] = ConnectionTable(4096, 4096)
    _refusals: ClassVar[AccessLog] = AccessLog()

    _receiving: asyncio.TimerHandle | None = None
    # When the rest of a body is no longer waited for, and whether its end is the end of the connection.
    _body_until = 0.0
    _last = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn has it
        """Begin to wait for the first head, or close at once when there are too many connections."""
        super().connection_made(transport)
        # Sockets of the file system have no address, and everybody who can open one is on this machine.
        refusal = self.table.admit(self, fold(self.client[0]) if self.client else "")
        if refusal is not None:
            self.turn_away(refusal)
            return
        self._wait_for_client()

    def turn_away(self, refusal: Response) -> None:
        """Close without an answer, with a line and a count."""
        self._refusals.connection(secrets.token_hex(8), refusal)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell what is being answered, which uvicorn tells the last request alone."""
        self.table.remove(self)
        self._stop_waiting()
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
            self._answering.transport = self.transport
        if self._answering is not None:
            # Of requests that wait behind it, the last one; what knows each other waits for the garbage collector.
            self.cycle.transport = self.transport
            cast("dict[str, object]", self.cycle.scope).pop(WHEN_TAKEN, None)

    def data_received(self, data: bytes) -> None:
        """Begin to wait for the rest of a head that has begun."""
        if self._receiving is None:
            self._wait_for_client()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is there; the body has bounds of its own."""
        self._stop_waiting()
        if not self.flow.write_paused:
            self.table.busy(self)
        self._body_until = self.loop.time() + self.seconds
        super().on_headers_complete()
        # An answer is written and closed through the methods below.
        self.cycle.transport = cast("asyncio.Transport", self)
        cast("dict[str, object]", self.cycle.scope)[WHEN_TAKEN] = self.when_taken

    def on_message_complete(self) -> None:
        """The connection may idle now, or the rest of a refused body has gone by."""
        self._stop_waiting()
        super().on_message_complete()
        if self._last:
            self.transport.close()
            self._watch_client()

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        self.transport.write(data)

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self.transport.is_closing()

    def close(self) -> None:
        """Close behind an answer; the rest of its request's body goes by first (RFC 9112, section 9.6)."""
        left = self._body_until - self.loop.time()
        cycle = self._answering
        unread = self._in_body and cycle is not None and cycle is self.cycle and cycle.response_complete
        if unread and left > 0:
            self._last = True
            self._receiving = self.loop.call_later(left, self._refuse, TOO_SLOW, context=Context())
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not take what is written; watch it, and count a stranger's connection as idle."""
        super().pause_writing()
        self._protect()
        self.table.idle(self)

    def resume_writing(self) -> None:
        """It does again."""
        if self._answering is not None and not self._answering.response_complete:
            self.table.busy(self)
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Closing waits for the client to take everything, and the rest of a body to come; not for ever."""
        # A timer keeps the context that it is made in, and that one keeps the request.
        Context().run(self._response_complete)

    def _response_complete(self) -> None:
        self._protect()
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_client()
        elif self._in_body and self._receiving is None:
            self._wait_for_client()
        if self._answering is not None and self._answering.response_complete:
            self.table.idle(self)

    def _protect(self) -> None:
        # Only authentication puts a user there.
        user = self._answering.scope.get("user") if self._answering is not None else None
        if user is not None:
            self.table.protect(self, user.username)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; see `on_response_complete`."""
        super().timeout_keep_alive_handler()
        self._watch_client()

    def _wait_for_client(self) -> None:
        if not self.cycle or self.cycle.response_complete:
            self._receiving = self.loop.call_later(self.seconds, self._refuse, TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _refuse(self, refusal: Response) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle = self._answering
        over = cycle is None or cycle.response_complete
        # Not into an answer that is under way, nor after the one that has refused this body.
        if not (over and self._in_body):
            request_id = secrets.token_hex(8)
            self._refusals.connection(request_id, refusal)
            if cycle is None or over or (cycle is self.cycle and not cycle.response_started):
                self.transport.write(_written(refusal, request_id))
        if cycle is not None and not over:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._watch_client()


def _written(refusal: Response, request_id: str) -> bytes:
    headers, body = refusal.render(request_id, None)
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (refusal.status, PHRASES[refusal.status], lines, body)
