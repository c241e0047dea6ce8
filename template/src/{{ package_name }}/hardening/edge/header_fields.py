"""Header fields guard: a field that is no list and comes twice is refused (400).

What the guards read and what the SDK reads is the same value: there is one.
Sources: RFC 9110, section 5.3 (only lists may be sent on several lines); 2026-07-28, Transports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response

if TYPE_CHECKING:
    from ..exchange import Exchange

REPEATED = Response(400, "repeated_header", "A header that may occur once has come more than once.")

# Defined as one value, or read as one here, by proxies or by the SDK.
SINGLE = frozenset(
    {b"authorization", b"content-length", b"content-type", b"date", b"expect", b"from", b"host", b"last-event-id"}
    | {b"max-forwards", b"origin", b"proxy-authorization", b"range", b"referer", b"traceparent", b"user-agent"}
    | {b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip", b"x-request-id"}
)
# Every header of the protocol, those that repeat arguments of a tool included, has one value.
PROTOCOL = b"mcp-"


class HeaderFields:
    """Refuses a repeated field that has one value by its definition; others are lists, or nothing here reads them."""

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Check one request; see the class."""
        if exchange.repeated and any(name in SINGLE or name.startswith(PROTOCOL) for name in exchange.repeated):
            return REPEATED
        return None
