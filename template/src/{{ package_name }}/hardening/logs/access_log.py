"""Access log: one line for each refusal, bounded to five a second for each layer; further ones are counted.

Answered requests are logged by what answers them; here are refusals and faults of the server.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from ..routes import MCP_PATH
from .throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..exchange import Exchange
    from ..response import Response
    from ..telemetry.metrics import Metrics

log = structlog.get_logger()

# The platform asks every few seconds and is no refusal; nor is a browser's preflight.
QUIET = frozenset({"health", "metrics"})
SERVER_FAULT = 500
CLIENT_FAULT = 400


class AccessLog:
    """Writes refusals; each layer has so many lines a second, further ones are counted."""

    def __init__(self, metrics: Metrics | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = metrics
        self.admit = Throttle(clock)
        self.suppressed: Counter[str] = Counter()

    def __call__(self, exchange: Exchange) -> None:
        """Note the end of a request."""
        layer = exchange.refused_by
        self._measure(exchange)
        if layer is None and exchange.status < SERVER_FAULT:
            return
        if layer in QUIET or (layer is not None and exchange.status < CLIENT_FAULT):
            return
        layer = layer or "protocol"
        if not self.admit(layer):
            self.suppressed[layer] += 1
            return
        log.info(
            "refused",
            layer=layer,
            limit=exchange.limit,
            error_code=exchange.reason,
            status=exchange.status,
            duration_ms=round((time.monotonic() - exchange.started) * 1000, 1),
            suppressed=self.suppressed.pop(layer, 0),
        )

    def connection(self, request_id: str, refusal: Response) -> None:
        """Note a refusal that no request came to: its head was not read, or its connection not taken."""
        layer = "connection"
        if self.metrics is not None:
            self.metrics.refused(layer, refusal.status)
        if self.admit(layer):
            log.info(
                "refused",
                layer=layer,
                limit=refusal.kind,
                status=refusal.status,
                reference=request_id,
                suppressed=self.suppressed.pop(layer, 0),
            )
        else:
            self.suppressed[layer] += 1

    def _measure(self, exchange: Exchange) -> None:
        if self.metrics is None:
            return
        if exchange.path == MCP_PATH:
            self.metrics.requested(exchange.era, probe=exchange.probe)
        if exchange.refused_by and exchange.status >= CLIENT_FAULT:
            self.metrics.refused(exchange.refused_by, exchange.status)
