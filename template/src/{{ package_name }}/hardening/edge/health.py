"""Health guard: answers `/livez` and `/readyz` (200, 503).

`/livez` touches no dependency: a database that is away is no reason to be restarted.
`/readyz` is 503 from the first moment of a drain, and while the database does not answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..response import Response
from ..routes import LIVE_PATH, READY_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..exchange import Exchange
    from .draining import Drain

CACHE_SECONDS = 1.0

# For the platform only, and never older than the question.
UNCACHED = ((b"cache-control", b"no-store"),)
LIVE = Response(200, "live", body=b'{"status":"live"}', headers=UNCACHED)
READY = Response(200, "ready", body=b'{"status":"ready"}', headers=UNCACHED)
UNREADY = Response(503, "unready", body=b'{"status":"unready"}', headers=UNCACHED)


class Health:
    """Answers the two health paths before anything is asked of the caller but its Origin."""

    def __init__(
        self,
        drain: Drain,
        ping: Callable[[], Awaitable[bool]] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drain = drain
        self.ping = ping
        self.clock = clock
        self._answered = True
        self._checked = float("-inf")
        self._check: asyncio.Task[bool] | None = None

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Response a health check; see the module."""
        if exchange.path == LIVE_PATH and exchange.method in {"GET", "HEAD"}:
            return LIVE
        if exchange.path == READY_PATH and exchange.method in {"GET", "HEAD"}:
            ready = not self.drain.unready and await self._dependencies()
            return READY if ready and not self.drain.unready else UNREADY
        return None

    async def _dependencies(self) -> bool:
        """Ask the database at most once a second, however many ask."""
        if self.ping is None:
            return True
        if self.clock() - self._checked >= CACHE_SECONDS:
            check = self._check = self._check or asyncio.ensure_future(self.ping())
            self._answered = await asyncio.shield(check)
            if self._check is check:
                self._check = None
                self._checked = self.clock()
        return self._answered
