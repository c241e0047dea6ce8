"""Client IP guard: reads `X-Forwarded-For` behind `MCP_TRUSTED_PROXY_HOPS` trusted proxies; refuses nothing.

`X-Forwarded-For` is a list to which each proxy appends what it saw.
Only the entries that our own proxies wrote are true; the rest is whatever the client sent.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..response import Response

# One household or machine holds a whole /64 of IPv6 (RFC 6177), so addresses in it are one caller.
IPV6_PREFIX = 64


class ClientIp:
    """Finds the client's address behind `MCP_TRUSTED_PROXY_HOPS` proxies; never refuses."""

    def __init__(self, hops: int) -> None:
        self.hops = hops

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Set `exchange.address`."""
        client = exchange.scope.get("client")
        address = client[0] if client else ""
        if self.hops:
            entries = [entry.strip() for entry in exchange.header(b"x-forwarded-for").split(",") if entry.strip()]
            if len(entries) >= self.hops:
                address = entries[-self.hops]
        exchange.address = fold(address)


@lru_cache(maxsize=1024)
def fold(address: str) -> str:
    """Return an address to count by: IPv4 as it is, IPv6 as its /64, anything else as one and the same."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed, IPV6_PREFIX), strict=False))
