"""Prometheus metrics of the server; no label holds text of a caller.

Every label has a bounded set of values: declared tools, kinds of failure, layers and statuses of
this server. A tool that does not exist, or a kind that is not declared, counts as `other`.
The names are those that the alert rules and the dashboard in `deploy/` use.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

import structlog
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from .. import errors
from .event_loop import EventLoopLag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from ..calls.declaration import Declaration
    from ..settings import HardeningSettings

log = structlog.get_logger()

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
OTHER = "other"
ERAS = ("modern", "legacy")
OUTCOMES = ("ok", "error", "cancelled")
KINDS = errors.KINDS | {"protocol_error"}
# These are there from the start: an increase from nothing to one is none for Prometheus.
SERVER_FAULTS = ("internal", "timeout", "upstream_unavailable", "busy")
CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
POOL_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# What is read when Prometheus asks: name, meaning. Those of the pool are given with a pool only.
READINGS = {
    "in_flight": "Requests being answered.",
    "oldest_call_seconds": "Age of the oldest call whose code still runs.",
    "background_tasks": "Tasks that run after the answers of their calls.",
    "background_failures": "Such tasks that have failed.",
    "threads_busy": "Threads that run a function of a tool.",
    "shared_threads_busy": "Functions on asyncio's own threads (to_thread), which all callers share.",
    "oldest_thread_seconds": "Age of the oldest function that runs in a thread.",
    "sessions": "Open sessions (legacy, stateful).",
    "streams": "Open subscription streams.",
    "draining": "1 from the first moment of a drain.",
    "database_up": "1 while the database answers this replica.",
    "pool_size": "Database connections open.",
    "pool_idle": "Database connections open and not in use.",
    "pool_waiting": "Calls that wait for a database connection.",
    "limits_degraded": "1 while limits are local and tighter, because Redis is slow or away.",
    "redis_errors": "Questions about limits that Redis did not answer.",
    "log_lines_dropped": "Log lines lost because standard error was slow or closed.",
    "log_fields_dropped": "Log fields left out because they are not in the table of fields.",
}
TOTALS = frozenset({"background_failures", "redis_errors", "log_lines_dropped", "log_fields_dropped"})

# Times of creation would double the number of series.
disable_created_metrics()


class Metrics:
    """The metrics of one server.

    Args:
        version: Version of the server.
        schema_sha256: Hash of the tool contract.
        timeouts: Deadline of each declared tool in seconds; its keys are the tools there are.
        streaming: Tools that declare that they send notifications.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        version: str,
        schema_sha256: str,
        timeouts: Mapping[str, float],
        streaming: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self._readings: dict[str, Callable[[], float]] = {}
        self._tools = frozenset(timeouts)
        self.event_loop = EventLoopLag(clock)
        calls = Counter("mcp_tool_calls", "Calls by outcome.", ["tool", "outcome"], registry=registry)
        failed = Counter("mcp_tool_errors", "Calls that failed, by kind.", ["tool", "kind"], registry=registry)
        lasted = Histogram(
            "mcp_tool_duration_seconds", "Time a call took.", ["tool"], registry=registry, buckets=CALL_BUCKETS
        )
        deadline = Gauge("mcp_tool_timeout_seconds", "Deadline of a call.", ["tool"], registry=registry)
        sent = Counter("mcp_notifications_sent", "Events sent during calls.", ["tool"], registry=registry)
        asked = Counter("mcp_progress_requested", "Good calls that asked for progress.", ["tool"], registry=registry)
        refused = Counter("mcp_refused", "Requests refused.", ["layer", "status"], registry=registry)
        requests = Counter("mcp_requests", "Requests to the protocol.", ["era", "probe"], registry=registry)
        self._pool = Histogram(
            "mcp_pool_acquire_seconds", "Wait for a database connection.", registry=registry, buckets=POOL_BUCKETS
        )
        Gauge("mcp_build_info", "1.", ["version"], registry=registry).labels(version).set(1)
        Gauge("mcp_schema_info", "1.", ["sha256"], registry=registry).labels(schema_sha256).set(1)
        ProcessCollector(namespace="mcp", registry=registry)
        registry.register(self)
        # Remembered, because the library takes longer to find a series than to count in it.
        self._calls, self._failed, self._lasted = cache(calls.labels), cache(failed.labels), cache(lasted.labels)
        self._sent, self._refused, self._requests = cache(sent.labels), cache(refused.labels), cache(requests.labels)
        self._asked = cache(asked.labels)
        for tool, seconds in timeouts.items():
            deadline.labels(tool).set(seconds)
            self._lasted(tool)
            for outcome in OUTCOMES:
                self._calls(tool, outcome)
            for kind in SERVER_FAULTS:
                self._failed(tool, kind)
        for tool in streaming:
            self._sent(tool)
            self._asked(tool)

    @classmethod
    def of_tools(
        cls, declared: Mapping[str, Declaration], settings: HardeningSettings, *, version: str, schema_sha256: str
    ) -> Metrics:
        """Return the metrics of a server with these tools."""
        default = settings.tool_timeout_seconds
        timeouts = {name: said.timeout_seconds or default for name, said in declared.items()}
        streaming = [name for name, said in declared.items() if said.streams]
        return cls(version=version, schema_sha256=schema_sha256, timeouts=timeouts, streaming=streaming)

    def observe_call(  # noqa: PLR0913 - what a line of a call says
        self,
        tool: str,
        outcome: str,
        error_code: str | None,
        seconds: float,
        notifications: int,
        *,
        progress_requested: bool = False,
    ) -> None:
        """Count a call.

        Args:
            tool: Its name; one that is not declared counts as `other`.
            outcome: ok, error or cancelled.
            error_code: Kind of failure where the outcome is error.
            seconds: How long it took.
            notifications: Events the caller was sent.
            progress_requested: Whether the caller gave a progress token; without one it gets no progress.
        """
        if tool not in self._tools:
            tool = OTHER
        self._calls(tool, outcome if outcome in OUTCOMES else OTHER).inc()
        self._lasted(tool).observe(seconds)
        if outcome == "error":
            self._failed(tool, error_code if error_code in KINDS else OTHER).inc()
        if notifications:
            self._sent(tool).inc(notifications)
        if progress_requested and outcome == "ok":
            self._asked(tool).inc()

    def refused(self, layer: str, status: int) -> None:
        """Count a refusal; layers and statuses are names of this server."""
        self._refused(layer, str(status)).inc()

    def requested(self, era: str, *, probe: bool) -> None:
        """Count a request to the protocol; what the probe asks is told apart."""
        self._requests(era if era in ERAS else OTHER, "true" if probe else "false").inc()

    def acquired(self, seconds: float) -> None:
        """Note how long a call waited for a database connection."""
        self._pool.observe(seconds)

    def read(self, **readings: Callable[[], float]) -> None:
        """Say where a value of `READINGS` is found when Prometheus asks.

        Raises:
            ValueError: There is no such value.
        """
        if unknown := readings.keys() - READINGS.keys():
            raise ValueError(f"no such reading: {', '.join(sorted(unknown))}")
        self._readings |= readings

    def collect(self) -> Iterator[Metric]:
        """Yield what is read when Prometheus asks; for the registry."""
        for name, read in self._readings.items():
            try:
                value = float(read())
            except Exception:
                # One value that cannot be read must not hide the others.
                log.warning("metric cannot be read", kind=name, exc_info=True)
                continue
            family = CounterMetricFamily if name in TOTALS else GaugeMetricFamily
            yield family(f"mcp_{name}", READINGS[name], value=value)
        yield GaugeMetricFamily(
            "mcp_event_loop_lag_seconds", "Longest delay of the event loop lately.", value=self.event_loop.seconds
        )

    def render(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)
