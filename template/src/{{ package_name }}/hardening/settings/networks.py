"""Reads `MCP_HTTP_ALLOW`: names, addresses and networks on the inside that calls may reach."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_allowed(entries: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Return names and networks of `MCP_HTTP_ALLOW`.

    Raises:
        ValueError: An entry is neither.
    """
    names: set[str] = set()
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            plain = entry.lower().rstrip(".")
            labels = plain.split(".")
            # The name of a request is ASCII: anything else would never be found in it.
            good = all(label.isascii() and label.replace("-", "").replace("_", "").isalnum() for label in labels)
            if not good or labels[-1].isdigit():
                raise ValueError("write names and networks, e.g. billing.internal,10.20.0.0/16") from None
            names.add(plain)
    return frozenset(names), tuple(networks)
