"""Client spans of the HTTP requests of calls: method, host and status, for OpenTelemetry.

Never a path, a query, a header or a body; a host is named as the metrics name it, and no header goes to it.
Source: OpenTelemetry semantic conventions for HTTP, client spans.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import trace

SCOPE = "hardening.http"
REQUEST_METHOD = "http.request.method"
HOST = "server.address"
STATUS = "http.response.status_code"
KEPT = frozenset({REQUEST_METHOD, HOST, STATUS, "error.type"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What the conventions have for a method that is not known.
OTHER_METHOD = "_OTHER"
# Takes the provider that is set later, at start.
_TRACER = trace.get_tracer(SCOPE)


def record(method: str, host: str, outcome: str, status: int | None, seconds: float) -> None:
    """Make the span of a request that has ended, inside that of its call.

    Args:
        method: Of the request.
        host: As the metrics name it.
        outcome: ok, error or refused.
        status: Of the answer, None without one.
        seconds: How long it took.
    """
    known = method if method in METHODS else OTHER_METHOD
    attributes: dict[str, Any] = {REQUEST_METHOD: known, HOST: host}
    if status is not None:
        attributes[STATUS] = status
    if outcome != "ok":
        attributes["error.type"] = outcome
    ended = time.time_ns()
    span = _TRACER.start_span(
        known, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=ended - int(seconds * 1e9)
    )
    span.end(ended)
