"""Metrics endpoint: `/metrics` in the text format of Prometheus.

Authentication has let the probe key pass, and nobody else (403).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response
from ..routes import METRICS_PATH
from .metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..exchange import Exchange
    from .metrics import Metrics


class MetricsEndpoint:
    """The guard that answers `/metrics`.

    Args:
        metrics: What is answered.
        ping: Asks the database, so that what is told of it is never older than the scrape; bounded by itself.
    """

    def __init__(self, metrics: Metrics, ping: Callable[[], Awaitable[object]] | None = None) -> None:
        self.metrics = metrics
        self.ping = ping

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Answer Prometheus."""
        if exchange.path != METRICS_PATH:
            return None
        if self.ping is not None:
            await self.ping()
        return Response(200, "metrics", body=self.metrics.render(), content_type=CONTENT_TYPE)
