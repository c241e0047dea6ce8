"""Connection caps, in all and for each address: one too many is closed, or takes an idle one's place (429, 503).

Connections of an authenticated caller, up to as many as one address may have, are not closed for a stranger; one
address cannot take all connections, and neither can one caller from many addresses.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ..response import Response

if TYPE_CHECKING:
    from .connections import BoundedConnection

# For log and metric; such a connection is closed without an answer.
TOO_MANY = Response(503, "connections", "Too many connections.")
TOO_MANY_OF_ADDRESS = Response(429, "connections_address", "Too many connections from this address.")


class ConnectionTable:
    """The open connections of one server.

    Args:
        most: Connections in all.
        most_per_address: Connections of one address, and connections of one caller that no stranger takes the place of.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self._address: dict[BoundedConnection, str] = {}
        self._by_address: Counter[str] = Counter()
        self._caller: dict[BoundedConnection, str] = {}
        self._by_caller: Counter[str] = Counter()
        # In the order in which they became idle, in all and by address. No caller is protected on any of them.
        self._idle: dict[BoundedConnection, None] = {}
        self._idle_of: defaultdict[str, dict[BoundedConnection, None]] = defaultdict(dict)

    def admit(self, connection: BoundedConnection, address: str) -> Response | None:
        """Count a connection, or say why there is no place for it."""
        if self._by_address.get(address, 0) >= self.most_per_address:
            oldest = next(iter(self._idle_of.get(address, ())), None)
            if oldest is None:
                return TOO_MANY_OF_ADDRESS
            # So a client gets in although another one at its address has taken all connections.
            self.remove(oldest)
            oldest.turn_away(TOO_MANY_OF_ADDRESS)
        if len(self._address) >= self.most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return TOO_MANY
            self.remove(oldest)
            oldest.transport.abort()
        self._address[connection] = address
        self._by_address[address] += 1
        self.idle(connection)
        return None

    def protect(self, connection: BoundedConnection, caller: str) -> None:
        """Note that a caller has authenticated; of one caller, as many are kept as one address may have."""
        if connection not in self._address or connection in self._caller:
            return
        if self._by_caller[caller] < self.most_per_address:
            self._caller[connection] = caller
            self._by_caller[caller] += 1
            self.busy(connection)

    def busy(self, connection: BoundedConnection) -> None:
        """Note that a request has begun."""
        if connection in self._idle:
            del self._idle[connection]
            address = self._address[connection]
            del self._idle_of[address][connection]
            if not self._idle_of[address]:
                del self._idle_of[address]

    def idle(self, connection: BoundedConnection) -> None:
        """Note that everything is answered, or that the client does not take its answer."""
        if connection in self._address and connection not in self._caller and connection not in self._idle:
            self._idle[connection] = None
            self._idle_of[self._address[connection]][connection] = None

    def remove(self, connection: BoundedConnection) -> None:
        """Forget a connection that has ended; a second time does nothing."""
        self.busy(connection)
        address = self._address.pop(connection, None)
        if address is not None:
            _less(self._by_address, address)
        caller = self._caller.pop(connection, None)
        if caller is not None:
            _less(self._by_caller, caller)


def _less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
