"""SSRF guard: each address is checked where the connection to it is made (`permission_denied`).

No request reaches loopback, link-local, private or otherwise inside addresses, by any spelling of the URL, any
redirect or any answer of the DNS, except what `MCP_HTTP_ALLOW` names. What was checked is what is connected to.
An address that is silent leaves time for the others of its name: 1 s at most, the last one has the rest.
Names are looked up in threads of their own, 32 at once and 8 for one caller: a name server that never answers takes
none from the database or from anybody else.
Sources: RFC 6890 (special addresses), RFC 6052 and 3056 (IPv4 inside IPv6).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, cast

import httpcore2

from ..calls.shares import Shares, current_caller
from ..calls.threads import Threads
from ..errors import PermissionDenied
from ..settings.networks import parse_allowed

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python's table of special addresses lacks, or counts as global.
INSIDE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's address of the host, which gives out certificates
        "192.0.0.0/24",  # protocols, and the metadata of a cloud
        "192.88.99.0/24",  # relays of 6to4
        "224.0.0.0/4",  # multicast
        "2001::/23",  # Teredo and other protocols
    )
)
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# IPv4 addresses written as IPv6: NAT64 (RFC 6052), 6to4 (RFC 3056); the number of bits behind them.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")

SILENT_SECONDS = 1.0
# Threads that look names up; who waits longer for one is told `busy`.
MOST_LOOKUPS = 32
LOOKUPS_PER_CALLER = 8
LOOKUP_WAIT_SECONDS = 2.0


class InsideAddressError(PermissionDenied):
    """The address is on the inside, and `MCP_HTTP_ALLOW` does not name it."""

    default_advice = "This server does not reach that address. Use another one."


def is_outside(address: Address) -> bool:
    """Return whether an address is one of the public Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_outside(address.ipv4_mapped)
        if address in NAT64:
            return is_outside(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in GLOBAL_IPV6 or address in SIX_TO_FOUR:
            return False
    return address.is_global and not any(address in network for network in INSIDE)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to nothing else.

    Args:
        allowed: Entries of `MCP_HTTP_ALLOW`.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._names, self._networks = parse_allowed(allowed)
        # uvloop has two for all that it looks up: a caller would hold them with names that no server answers for.
        self.lookups = Threads(Shares(MOST_LOOKUPS, LOOKUPS_PER_CALLER), LOOKUP_WAIT_SECONDS, name="lookup")
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of `host` that may be reached and answers.

        Raises:
            InsideAddressError: None of them may be reached.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
                patience = SILENT_SECONDS if timeout is None else min(SILENT_SECONDS, timeout / len(addresses))
                for address in addresses[:-1]:
                    try:
                        return await self._inner.connect_tcp(address, port, patience, local_address, socket_options)
                    except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                        continue
                return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None

    def close(self) -> None:
        """End the threads that look names up; one that waits for a name server ends after its answer."""
        self.lookups.close()

    async def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = await self.lookups.run(current_caller(), _look_up, host, port)
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError from None
        named = host.lower().rstrip(".") in self._names
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        reachable = [address for address in addresses if named or self._may_reach(address)]
        if not reachable:
            raise InsideAddressError
        return reachable

    def _may_reach(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return is_outside(address) or any(address in network for network in self._networks)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: a socket file is on the inside."""
        del path, timeout, socket_options
        raise InsideAddressError


def _look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
