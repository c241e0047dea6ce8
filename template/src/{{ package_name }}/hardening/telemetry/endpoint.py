"""Metrics endpoint: `/metrics` in the text format of Prometheus.

Authentication has let the probe key pass, and nobody else (403).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response
from ..routes import METRICS_PATH
from .metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from ..exchange import Exchange
    from .metrics import Metrics


class MetricsEndpoint:
    """The guard that answers `/metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Response Prometheus."""
        if exchange.path != METRICS_PATH:
            return None
        return Response(200, "metrics", body=self.metrics.render(), content_type=CONTENT_TYPE)
