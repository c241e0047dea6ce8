"""Prometheus metric of the HTTP requests of calls, by host: at most 50 that have answered, the rest is `other`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MOST_HOSTS = 50
OTHER = "other"


class HttpMetrics:
    """Counts by host and outcome.

    A name becomes a label only when it has answered, so that nobody can fill the table with names made up.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter("mcp_http_requests", "HTTP requests of calls.", ["host", "outcome"], registry=registry)
        self._known: set[str] = set()

    def answered(self, host: str, outcome: str) -> None:
        """Count a request whose outcome is `ok`, `error` or `refused`."""
        if outcome == "ok" and len(self._known) < MOST_HOSTS:
            self._known.add(host)
        self._count.labels(host if host in self._known else OTHER, outcome).inc()
