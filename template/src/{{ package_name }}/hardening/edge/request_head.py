"""Request head limits: method, path, media types, encoding, declared size (404, 405, 406, 413, 415).

Runs before authentication, reads the head only, and holds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response
from .accept import Accept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..exchange import Exchange
    from ..settings import HardeningSettings

JSON = "application/json"
# Digits; with zeros in front it could be of any length.
LONGEST_LENGTH = 20
TOO_BIG = Response(413, "too_big", "The request is larger than MCP_MAX_BODY_BYTES.")


class RequestHead:
    """Refuses by method, path, media types, encoding and declared size: 404, 405, 406, 413, 415."""

    def __init__(self, settings: HardeningSettings, routes: Mapping[str, frozenset[str]]) -> None:
        self.routes = routes
        self.max_body_bytes = settings.max_body_bytes
        self.accept = Accept(settings)

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Check one request; see the class."""
        methods = self.routes.get(exchange.path)
        if methods is None:
            return Response(404, "not_found", "There is nothing at this path; the endpoint is /mcp.")
        if exchange.method not in methods:
            allow = ((b"allow", ", ".join(sorted(methods)).encode()),)
            return Response(405, "method", "This method is not served here.", headers=allow)
        length = exchange.header(b"content-length")
        if length and (len(length) > LONGEST_LENGTH or not length.isdigit() or int(length) > self.max_body_bytes):
            return TOO_BIG
        if exchange.method == "POST":
            # A small compressed body can unpack to anything (a "zip bomb").
            plain = exchange.header(b"transfer-encoding").lower() in {"", "chunked"}
            if not plain or exchange.header(b"content-encoding").lower() not in {"", "identity"}:
                return Response(415, "encoding", "Send the body uncompressed.")
            if exchange.header(b"content-type").partition(";")[0].strip().lower() != JSON:
                return Response(415, "media_type", "Send application/json.")
        return self.accept(exchange)
