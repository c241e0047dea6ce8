"""Connection caps, in all and for each address: one too many is closed, or takes an idle one's place (429, 503).

Nobody who has authenticated loses a connection to somebody who has not, and one address cannot take all of them.
"""

from __future__ import annotations

from collections import Counter
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
        most_per_address: Connections of one address.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self._address: dict[BoundedConnection, str] = {}
        self._by_address: Counter[str] = Counter()
        # In the order in which they became idle. No caller has authenticated on any of them.
        self._idle: dict[BoundedConnection, None] = {}

    def admit(self, connection: BoundedConnection, address: str) -> Response | None:
        """Count a connection, or say why there is no place for it."""
        if self._by_address.get(address, 0) >= self.most_per_address:
            return TOO_MANY_OF_ADDRESS
        if not self._has_room():
            return TOO_MANY
        self._address[connection] = address
        self._by_address[address] += 1
        self._idle[connection] = None
        return None

    def _has_room(self) -> bool:
        while len(self._address) >= self.most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            self.remove(oldest)
            oldest.transport.abort()
        return True

    def busy(self, connection: BoundedConnection) -> None:
        """Note that a request has begun."""
        self._idle.pop(connection, None)

    def idle(self, connection: BoundedConnection) -> None:
        """Note that everything is answered, and that nobody has authenticated."""
        if connection in self._address:
            self._idle[connection] = None

    def remove(self, connection: BoundedConnection) -> None:
        """Forget a connection that has ended; a second time does nothing."""
        self._idle.pop(connection, None)
        address = self._address.pop(connection, None)
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
