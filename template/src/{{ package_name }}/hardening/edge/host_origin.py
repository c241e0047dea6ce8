"""Host and Origin guard: DNS rebinding protection on every route (421, 403).

A browser can be made to send requests to this server by any page (DNS rebinding); it cannot
be made to lie about Host and Origin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..response import Response

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..settings import HardeningSettings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

# What browsers must be allowed to send and to read, in both eras (Fetch, CORS protocol).
ALLOWED_HEADERS = (
    b"authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id, "
    b"traceparent, tracestate, baggage"
)
# An argument that a tool wants repeated in a header (2026-07-28, Transports): any name after the prefix.
PARAM_HEADER = re.compile(rb"mcp-param-[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
MOST_PARAM_HEADERS = 32
# Names that are looked at; what stands behind them is not allowed.
MOST_ASKED = 128
EXPOSED_HEADERS = b"x-request-id, retry-after, www-authenticate, mcp-session-id"
PREFLIGHT_SECONDS = b"600"


class HostOrigin:
    """Refuses a foreign Host with 421 and a foreign Origin with 403; answers CORS for allowed origins.

    Args:
        settings: Public URL, further hosts and origins.
        any_host: Paths that are answered under every Host: a kubelet and Prometheus ask by the pod's address.
    """

    def __init__(self, settings: HardeningSettings, any_host: frozenset[str] = frozenset()) -> None:
        hosts = {host.lower() for host in settings.allowed_hosts}
        origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        if settings.public_url:
            url = urlsplit(settings.public_url.lower())
            hosts.add(url.netloc)
            origins.add(f"{url.scheme}://{url.netloc}")
            default_port = {"https": 443, "http": 80}.get(url.scheme)
            if url.port is None and url.hostname:
                hosts.add(f"{url.netloc}:{default_port}")
        self.hosts = hosts
        self.any_host = any_host
        self.origins = origins
        self.loopback = settings.loopback

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Check one request; see the class."""
        if self._host_ok(host := exchange.header(b"host").lower()):
            exchange.host = host
        elif exchange.path not in self.any_host:
            return Response(421, "host", "This server does not answer to that Host; see MCP_PUBLIC_URL.")
        origin = exchange.header(b"origin").lower()
        if not origin:
            return None
        if not self._origin_ok(origin):
            return Response(403, "origin", "This Origin is not allowed; see MCP_ALLOWED_ORIGINS.")
        exchange.response_headers += [
            (b"access-control-allow-origin", exchange.headers[b"origin"]),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
            (b"vary", b"origin, access-control-request-headers" if exchange.method == "OPTIONS" else b"origin"),
        ]
        if exchange.method != "OPTIONS":
            return None
        return Response(
            204,
            "preflight",
            body=b"",
            headers=(
                (b"access-control-allow-methods", b"POST, GET, DELETE"),
                (b"access-control-allow-headers", _allowed_headers(exchange)),
                (b"access-control-max-age", PREFLIGHT_SECONDS),
            ),
        )

    def _host_ok(self, host: str) -> bool:
        return host in self.hosts or (self.loopback and _without_port(host) in LOOPBACK)

    def _origin_ok(self, origin: str) -> bool:
        if origin in self.origins:
            return True
        scheme, _, host = origin.partition("://")
        return self.loopback and scheme in {"http", "https"} and _without_port(host) in LOOPBACK


def _allowed_headers(exchange: Exchange) -> bytes:
    asked = exchange.headers.get(b"access-control-request-headers", b"").lower().split(b",", MOST_ASKED)
    names = [name.strip() for name in asked[:MOST_ASKED] if PARAM_HEADER.fullmatch(name.strip())]
    return b", ".join([ALLOWED_HEADERS, *names[:MOST_PARAM_HEADERS]])


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host
