"""Client IP guard: reads `X-Forwarded-For` behind `MCP_TRUSTED_PROXY_HOPS` trusted proxies; refuses nothing.

`X-Forwarded-For` is a list to which each proxy appends what it saw.
Only the entries that our own proxies wrote are true; the rest is whatever the client sent.
Read are addresses with and without a port, in brackets, in quotes (RFC 7239) and with a zone (RFC 4007).
An entry that is none of these counts as the proxy that wrote it: the next entry, or the nearest proxy.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..response import Response

# One household or machine holds a whole /64 of IPv6 (RFC 6177), so addresses in it are one caller.
IPV6_PREFIX = 64
# Translators put the IPv4 address of a client behind these (RFC 6052, RFC 7915; RFC 4291 for the last).
IPV4_INSIDE = tuple(ipaddress.IPv6Network(prefix) for prefix in ("64:ff9b::/96", "::ffff:0:0:0/96", "::ffff:0:0/96"))
UNKNOWN = "unknown"
# An address with port and zone; what is longer is none, and is not remembered.
LONGEST = 100
# Entries without an address that are passed over, from the right.
MOST_EMPTY = 16
# In brackets, or IPv4, each perhaps with a port; or IPv6, with one where it cannot be a part of the address.
FORM = re.compile(
    r"""\[(?P<inside>[^\]]*)\](?::\d{1,5})?|(?P<ipv4>[\d.]+)(?::\d{1,5})?"""
    r"""|(?P<whole>[^:\[\]"]+(?::[^:\[\]"]+){7}):\d{1,5}|(?P<ipv6>[^\[\]"]*?)(?::\d{5})?"""
)


class ClientIp:
    """Finds the client's address behind `MCP_TRUSTED_PROXY_HOPS` proxies; never refuses."""

    def __init__(self, hops: int) -> None:
        self.hops = hops

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Set `exchange.address`."""
        client = exchange.scope.get("client")
        exchange.address = fold(client[0]) if client else UNKNOWN
        if self.hops:
            stated = exchange.header(b"x-forwarded-for").rsplit(",", self.hops + MOST_EMPTY)
            entries = [entry.strip() for entry in stated if entry.strip()]
            if len(entries) >= self.hops:
                found = (fold(entry[:LONGEST]) for entry in entries[-self.hops :])
                exchange.address = next((one for one in found if one != UNKNOWN), exchange.address)


@lru_cache(maxsize=1024)
def fold(address: str) -> str:
    """Return an address to count by: IPv4 as it is, IPv6 as its /64, anything else as one and the same."""
    form = FORM.fullmatch(address.removeprefix('"').removesuffix('"'))
    try:
        parsed = ipaddress.ip_address(form[form.lastgroup or 0] if form else "")
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if any(parsed in prefix for prefix in IPV4_INSIDE):
        return str(ipaddress.IPv4Address(parsed.packed[-4:]))
    return str(ipaddress.ip_network((parsed.packed, IPV6_PREFIX), strict=False))
