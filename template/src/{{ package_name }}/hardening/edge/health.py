"""Health guard: answers `/livez` and `/readyz` (200, 503).

`/livez` touches nothing: what is away is no reason to be restarted.
`/readyz` is 503 from the first moment of a drain. Before the start is complete nobody listens. A database that is away
later changes neither: taking every replica out of service would refuse the calls that need no database. It is a metric
and an alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response
from ..routes import LIVE_PATH, READY_PATH

if TYPE_CHECKING:
    from ..exchange import Exchange
    from .draining import Drain

# For the platform only, and never older than the question.
UNCACHED = ((b"cache-control", b"no-store"),)
LIVE = Response(200, "live", body=b'{"status":"live"}', headers=UNCACHED)
READY = Response(200, "ready", body=b'{"status":"ready"}', headers=UNCACHED)
UNREADY = Response(503, "unready", body=b'{"status":"unready"}', headers=UNCACHED)


class Health:
    """Answers the two health paths before anything is asked of the caller but its Origin."""

    def __init__(self, drain: Drain) -> None:
        self.drain = drain

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Answer a health check; see the module."""
        if exchange.path == LIVE_PATH and exchange.method in {"GET", "HEAD"}:
            return LIVE
        if exchange.path == READY_PATH and exchange.method in {"GET", "HEAD"}:
            return UNREADY if self.drain.unready else READY
        return None
