"""HTTP parser limits: header fields and bytes (431), trailer fields and chunk framing (400), pipelined requests (429).

Before and after a head the parser keeps a known, small amount, and no field after the head is a header.
Trailer fields are counted and dropped: RFC 9110, section 6.5.1, forbids to merge fields that are not known to allow it.
Nothing of a request stays with its connection after the answer.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from httptools import HttpRequestParser

from ..response import Response
from .fair_reading import FairReading

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD_BYTES = 65_536
# Browsers send about 20 fields, proxies add about 20.
MAX_FIELDS = 100
# RFC 9110, section 4.1, asks for 8000.
MAX_TARGET_BYTES = 8192
MAX_TRAILERS = 16
MAX_TRAILER_BYTES = 8192
# Requests that wait behind the one that is being answered.
MAX_PIPELINED = 32
# Chunk sizes and extensions, in bytes: as long as the content, and so much more.
MAX_FRAMING_BYTES = 65_536
# Chunks of less than so many bytes, of a body and of those that wait behind it: each costs as much as a long one.
SMALL_CHUNK_BYTES = 256
MAX_SMALL_CHUNKS = 1024
FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding"})

CLOSE = ((b"connection", b"close"),)
MALFORMED = Response(400, "malformed", "This is not a request of HTTP/1.1.", headers=CLOSE)
TRAILERS = Response(400, "trailers", "Send at most 16 trailer fields, of 8192 bytes in all.", headers=CLOSE)
FRAMING = Response(400, "framing", "Send the body in fewer and longer chunks, without extensions.", headers=CLOSE)
HEAD_TOO_BIG = Response(431, "head_too_big", "Send at most 65536 bytes, 8192 of URL, 100 fields.", headers=CLOSE)
AHEAD = "Send at most 32 requests, 65536 bytes, ahead of answers."
PIPELINED = Response(429, "pipelined", AHEAD, headers=CLOSE, retry_after=1.0)


class _OverLimitError(Exception):
    """Stops the parser; the refusal is kept on the connection."""


class LimitedParser(FairReading):
    """Uvicorn's connection, whose parser stops at the limits of this module.

    Attributes:
        refusal: Why no more is read from this connection.
    """

    refusal: Response | None = None
    _in_body = False
    _fields = _field_bytes = _head_bytes = 0
    _wire_bytes = _content_bytes = _small_chunks = 0
    # What is being read, and the fields that say how long a body is that the parser leaves out.
    _data = b""
    _framing = b""
    # What is being answered; requests that came behind it on the same connection wait in `pipeline`.
    _answering: RequestResponseCycle | None = None

    def data_received(self, data: bytes) -> None:
        """Count the bytes that no callback of the parser sees."""
        if self.refusal is not None:
            self._drop(data)
            return
        if self._in_body:
            self._wire_bytes += len(data)
        else:
            self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        if self.refusal is not None:
            return
        if not self._in_body:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._reject(HEAD_TOO_BIG)
        elif self._wire_bytes > 2 * self._content_bytes + MAX_FRAMING_BYTES:
            self._reject(FRAMING)

    def on_message_begin(self) -> None:
        """Refuse a request too many behind the one that is being answered."""
        if self._in_body:
            # The head that stands for one that was read already.
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop(PIPELINED)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Bound the request target, which is decoded before anybody is known."""
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._stop(HEAD_TOO_BIG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field; one that comes after the head is dropped."""
        if self._in_body:
            self._fields += 1
            self._field_bytes += len(name) + len(value)
            if self._fields > MAX_TRAILERS or self._field_bytes > MAX_TRAILER_BYTES:
                self._stop(TRAILERS)
        elif len(self.headers) >= MAX_FIELDS:
            self._stop(HEAD_TOO_BIG)
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to count the body."""
        if self._in_body:
            return
        # What came with the head may be a part of the body.
        if self._head_bytes > MAX_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                self._stop(HEAD_TOO_BIG)
        if not self.url.startswith(b"/") and self._is_foreign():
            self._stop(MALFORMED)
        self._fields = self._field_bytes = self._head_bytes = self._wire_bytes = self._content_bytes = 0
        if not self.cycle or self.cycle.response_complete:
            self._small_chunks = 0
        self._in_body = True
        super().on_headers_complete()
        if self.parser.should_upgrade():
            framing = [field for field in self.headers if field[0] in FRAMING_FIELDS]
            self._framing = b"".join(b"%b: %b\r\n" % field for field in framing)
        # They belong to the request from here on, which may forget them earlier than its connection.
        self.headers = []
        if not self.pipeline:
            self._answering = self.cycle

    def _is_foreign(self) -> bool:
        """Return whether the target names another host than the header, which is what guards read (RFC 9112, 3.2)."""
        authority = self.url.partition(b"://")[2].partition(b"/")[0].lower()
        return self.url != b"*" and [authority] != [value.lower() for name, value in self.headers if name == b"host"]

    def on_body(self, body: bytes) -> None:
        """Count the content, and the small chunks that it comes in."""
        self._content_bytes += len(body)
        self._small_chunks += len(body) < SMALL_CHUNK_BYTES
        if self._small_chunks > MAX_SMALL_CHUNKS:
            self._stop(FRAMING)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count the next head."""
        if self._framing:
            # Left out by the parser; see `_unsupported_upgrade_warning`.
            return
        self._fields = self._field_bytes = self._head_bytes = 0
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Forget the request, and say why nothing more is read once everything before it is answered."""
        answered = self._answering
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()
        if answered is not None:
            self._forget(answered)
        if self.refusal is not None and (self._answering is None or self._answering.response_complete):
            self._refuse(self.refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """Read on as HTTP/1.1: whoever offers another protocol has to do without (RFC 9110, section 7.8).

        The parser takes what follows such a head for the other protocol, the body too, so a new one reads it.
        """
        stopped = sys.exception()
        self._data = rest = self._data[stopped.args[0] :] if stopped is not None else b""
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing, self._framing = self._framing, b""
        if framing:
            super().data_received(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
            self._fields = self._field_bytes = 0
        if rest and self.refusal is None:
            super().data_received(rest)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as uvicorn has it
        """Refuse what the parser has refused."""
        self._reject(self.refusal or MALFORMED)

    def _stop(self, refusal: Response) -> None:
        self.refusal = refusal
        raise _OverLimitError

    def _reject(self, refusal: Response) -> None:
        """Read no more; what came before is answered first, unless its own body is what is wrong."""
        self.refusal = refusal
        self._head_bytes = 0
        waiting = self._answering is not None and not self._answering.response_complete
        if not (waiting and not self.cycle.more_body and refusal is not HEAD_TOO_BIG):
            self._refuse(refusal)

    def _refuse(self, refusal: Response) -> None:
        """Answer where HTTP still allows it, and close."""
        raise NotImplementedError

    def _drop(self, data: bytes) -> None:
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def _forget(self, cycle: RequestResponseCycle) -> None:
        if self.scope is cycle.scope:
            self.scope, self.headers, self.url = {}, [], b""  # type: ignore[typeddict-item]
        cycle.scope = {}  # type: ignore[typeddict-item]
        cycle.body = bytearray()
        cycle.transport = self.transport
