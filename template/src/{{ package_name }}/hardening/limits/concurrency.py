"""Concurrency limits: requests in flight and open streams, in total and for each caller (503).

A slot is returned when its request ends, also when it is cancelled.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..response import Response
from ..routes import LISTEN, MCP_PATH

if TYPE_CHECKING:
    from ..exchange import Exchange, Principal
    from ..settings import HardeningSettings

RETRY_SECONDS = 1.0
OVERLOADED = Response(503, "overloaded", "Too many requests are being answered.", retry_after=RETRY_SECONDS)
TOO_MANY = Response(503, "concurrency", "Too many of your requests are being answered.", retry_after=RETRY_SECONDS)


class Slots:
    """A counter of slots with a cap in total and for each caller; a slot is released when its exchange ends."""

    def __init__(self, most: int, most_per_principal: int) -> None:
        self.most = most
        self.most_per_principal = most_per_principal
        self.total = 0
        self.by_principal: Counter[str] = Counter()

    def take(self, exchange: Exchange, principal: Principal) -> Response | None:
        """Take a slot, or answer 503 with `Retry-After`."""
        # A monitor that is refused because of others would report a fault that is not there.
        if principal.kind != "probe" and self.total >= self.most:
            return OVERLOADED
        if self.by_principal[principal.id] >= self.most_per_principal:
            return TOO_MANY
        self.total += 1
        self.by_principal[principal.id] += 1
        held = [principal.id]

        def give_back() -> None:
            # Once, however often it is asked for.
            while held:
                self._give_back(held.pop())

        exchange.on_end.append(give_back)
        exchange.in_flight = exchange.in_flight or give_back
        return None

    def _give_back(self, principal: str) -> None:
        self.total -= 1
        self.by_principal[principal] -= 1
        if not self.by_principal[principal]:
            del self.by_principal[principal]


class InFlight:
    """Concurrency limit of requests being answered, in total and for each caller (503)."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.slots = Slots(settings.max_in_flight, settings.max_in_flight_per_principal)

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Take a slot for a request of the protocol."""
        if exchange.principal is None or exchange.path != MCP_PATH:
            return None
        return self.slots.take(exchange, exchange.principal)


class OpenStreams:
    """Concurrency limit of open streams: subscriptions, and GET of sessions (503)."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.slots = Slots(settings.max_streams, settings.max_streams_per_principal)

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Take a slot for a stream, in place of the one in flight."""
        if exchange.principal is None or exchange.path != MCP_PATH or not _is_long_lived(exchange):
            return None
        refusal = self.slots.take(exchange, exchange.principal)
        if refusal is None and exchange.in_flight is not None:
            exchange.in_flight()
        return refusal


def _is_long_lived(exchange: Exchange) -> bool:
    return exchange.method == "GET" or (exchange.era == "modern" and exchange.rpc_method == LISTEN)
