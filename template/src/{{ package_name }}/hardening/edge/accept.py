"""Accept header guard: refuses a client that takes no media type which its answer can have (406).

A client that takes JSON alone is answered with JSON, without progress.
Sources: RFC 9110, section 12.5.1; 2026-07-28 and 2025-11-25, Transports, which have clients name both kinds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ..response import Response
from ..routes import LISTEN, MCP_PATH

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..settings import HardeningSettings

JSON = (b"*/*", b"application/*", b"application/json")
STREAM = (b"*/*", b"text/*", b"text/event-stream")
BOTH = b"application/json, text/event-stream"
# Bytes; a longer header says nothing that a client of this protocol needs to say.
LONGEST_REMEMBERED = 256
# A header longer than this is not read: nobody is known yet.
LONGEST_READ = 2048

NOT_JSON = Response(406, "not_acceptable", "Accept application/json; better, text/event-stream as well.")
NOT_STREAM = Response(406, "not_acceptable", "This answer is an event stream: accept text/event-stream as well.")


class Accept:
    """Refuses with 406 a request whose answer the client would not take; sets `exchange.accepts_stream`."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.stateful = settings.legacy == "stateful"

    def __call__(self, exchange: Exchange) -> Response | None:
        """Check one request; see the class."""
        if exchange.path != MCP_PATH or exchange.method not in {"GET", "POST"}:
            return None
        accept = exchange.headers.get(b"accept", b"")
        json, stream = _accepted(accept)
        if exchange.method == "GET":
            return None if stream else NOT_STREAM
        if not json:
            return NOT_JSON
        if not stream and accept and self._is_stream(exchange):
            return NOT_STREAM
        exchange.accepts_stream = stream and bool(accept)
        if not exchange.accepts_stream:
            # What has been decided here is not for the SDK to judge again.
            others = [pair for pair in exchange.scope["headers"] if pair[0] != b"accept"]
            exchange.scope["headers"] = [*others, (b"accept", BOTH)]
        return None

    def _is_stream(self, exchange: Exchange) -> bool:
        """Return whether the answer is a stream in every case: of a session, or of a subscription."""
        if exchange.era == "legacy":
            return self.stateful
        return exchange.header(b"mcp-method") == LISTEN


def _accepted(accept: bytes) -> tuple[bool, bool]:
    if len(accept) > LONGEST_READ:
        return False, False
    return (accepted if len(accept) <= LONGEST_REMEMBERED else accepted.__wrapped__)(accept)


@lru_cache(maxsize=256)
def accepted(accept: bytes) -> tuple[bool, bool]:
    """Return whether JSON and whether an event stream is taken; no header at all takes everything."""
    kinds: set[bytes] = set()
    for one in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in one.split(b";"))
        # A weight of nothing says "not this one" (RFC 9110, section 12.4.2).
        if not any(part.partition(b"=")[2].strip(b"0.") == b"" for part in parameters if part.startswith(b"q=")):
            kinds.add(kind)
    if not accept:
        return True, True
    return not kinds.isdisjoint(JSON), not kinds.isdisjoint(STREAM)
