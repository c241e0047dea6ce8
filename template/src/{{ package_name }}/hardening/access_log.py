"""One line for each refusal, and in a flood one for many, with their number: a log cannot be filled from outside."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import structlog

from .context import MCP_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from .context import Exchange
    from .metrics import Metrics

log = structlog.get_logger()

LINES_PER_SECOND = 5
# The platform asks every few seconds and is no refusal; nor is a browser's preflight.
QUIET = frozenset({"health", "metrics"})
SERVER_FAULT = 500
CLIENT_FAULT = 400


class AccessLog:
    """Writes refusals; each layer has so many lines a second, further ones are counted."""

    def __init__(self, metrics: Metrics | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = metrics
        self.clock = clock
        self.second = 0
        self.written: defaultdict[str, int] = defaultdict(int)
        self.suppressed: defaultdict[str, int] = defaultdict(int)

    def __call__(self, exchange: Exchange) -> None:
        """Note the end of a request."""
        layer = exchange.refused_by
        self._measure(exchange)
        if layer is None and exchange.status < SERVER_FAULT:
            return
        if layer in QUIET or (layer is not None and exchange.status < CLIENT_FAULT):
            return
        layer = layer or "protocol"
        now = self.clock()
        if int(now) != self.second:
            self.second = int(now)
            self.written.clear()
        if self.written[layer] >= LINES_PER_SECOND:
            self.suppressed[layer] += 1
            return
        self.written[layer] += 1
        log.info(
            "refused",
            layer=layer,
            limit=exchange.limit,
            status=exchange.status,
            duration_ms=round((time.monotonic() - exchange.started) * 1000, 1),
            suppressed=self.suppressed.pop(layer, 0),
        )

    def _measure(self, exchange: Exchange) -> None:
        if self.metrics is None:
            return
        if exchange.path == MCP_PATH:
            self.metrics.requested(exchange.era, probe=exchange.probe)
        if exchange.refused_by and exchange.status >= CLIENT_FAULT:
            self.metrics.refused(exchange.refused_by, exchange.status)


class Seldom(logging.Filter):
    """Lets so many warnings of one text through in a second.

    The server beneath has one for each request that is no HTTP, before anything is asked of who sends it.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.second = 0
        self.written: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written; errors always are."""
        if record.levelno >= logging.ERROR:
            return True
        now = int(self.clock())
        if now != self.second:
            self.second = now
            self.written.clear()
        text = str(record.msg)
        self.written[text] += 1
        return self.written[text] <= LINES_PER_SECOND


SELDOM = Seldom()
