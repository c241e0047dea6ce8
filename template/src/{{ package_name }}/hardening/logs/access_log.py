"""Access log: one line for each refusal, bounded to five a second for each layer; further ones are counted.

Answered requests are logged by what answers them; here are refusals and faults of the server, of guards and of the
protocol alike (`layer: protocol`, with the code of JSON-RPC where the status of HTTP is 200).
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
PROTOCOL = "protocol"
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
        layer = exchange.refused_by or _protocol(exchange)
        self._measure(exchange, layer)
        if layer is None or layer in QUIET or (layer != PROTOCOL and exchange.status < CLIENT_FAULT):
            return
        if not self.admit(layer):
            self.suppressed[layer] += 1
            return
        log.info(
            "refused",
            layer=layer,
            limit=exchange.limit,
            error_code=exchange.reason or exchange.rpc_error,
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

    def _measure(self, exchange: Exchange, layer: str | None) -> None:
        if self.metrics is None:
            return
        if exchange.path == MCP_PATH:
            self.metrics.requested(exchange.era, probe=exchange.probe)
        if layer is not None and (layer == PROTOCOL or exchange.status >= CLIENT_FAULT):
            self.metrics.refused(layer, exchange.status)


def _protocol(exchange: Exchange) -> str | None:
    """Return the layer of what the protocol has refused; None where it has not, or a line has told it already."""
    told = exchange.logged and exchange.status < SERVER_FAULT
    refused = exchange.status >= CLIENT_FAULT or exchange.rpc_error is not None
    return PROTOCOL if refused and not told else None
