"""Metric and span of each HTTP request of a call, by host: at most 50 that have answered, the rest is `other`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

from .http_spans import record

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MOST_HOSTS = 50
OTHER = "other"


class HttpMetrics:
    """Counts by host and outcome, and makes the spans.

    A name becomes a label only when it has answered, so that nobody can fill the table with names made up.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter("mcp_http_requests", "HTTP requests of calls.", ["host", "outcome"], registry=registry)
        self._known: set[str] = set()

    def answered(self, host: str, outcome: str, method: str, status: int | None, seconds: float) -> None:
        """Count a request whose outcome is `ok`, `error` or `refused`."""
        if outcome == "ok" and len(self._known) < MOST_HOSTS:
            self._known.add(host)
        named = host if host in self._known else OTHER
        self._count.labels(named, outcome).inc()
        record(method, named, outcome, status, seconds)
