"""Prometheus is told how much, how long and how full, and nothing that a caller wrote."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from captured import captured, exchange
from prometheus_client.parser import text_string_to_metric_families

from hardening.telemetry.endpoint import MetricsEndpoint
from hardening.telemetry.metrics import CONTENT_TYPE, READINGS, SERVER_FAULTS, Metrics

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 20.0
# What deploy/prometheus and deploy/grafana ask for.
EXPORTED = {
    "mcp_background_failures_total",
    "mcp_background_tasks",
    "mcp_build_info",
    "mcp_database_up",
    "mcp_draining",
    "mcp_event_loop_lag_seconds",
    "mcp_in_flight",
    "mcp_limits_degraded",
    "mcp_log_fields_dropped_total",
    "mcp_log_lines_dropped_total",
    "mcp_notifications_sent_total",
    "mcp_oldest_call_seconds",
    "mcp_oldest_thread_seconds",
    "mcp_pool_acquire_seconds_bucket",
    "mcp_pool_idle",
    "mcp_pool_size",
    "mcp_pool_waiting",
    "mcp_progress_requested_total",
    "mcp_process_resident_memory_bytes",
    "mcp_redis_errors_total",
    "mcp_refused_total",
    "mcp_requests_total",
    "mcp_schema_info",
    "mcp_sessions",
    "mcp_shared_threads_busy",
    "mcp_streams",
    "mcp_threads_busy",
    "mcp_tool_calls_total",
    "mcp_tool_duration_seconds_bucket",
    "mcp_tool_errors_total",
    "mcp_tool_timeout_seconds",
}


def make(**values: float) -> Metrics:
    """Return the metrics of a server with two tools, one of which streams."""
    metrics = Metrics(
        version="1.2.3", schema_sha256="ab" * 32, timeouts={"forecast": 20, "countdown": 30}, streaming=["countdown"]
    )
    metrics.read(**{name: (lambda value=value: value) for name, value in values.items()})
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample as Prometheus would parse it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one sample."""
    return samples(metrics)[name, frozenset(labels.items())]


def test_everything_that_is_watched_is_exported() -> None:
    """Alert rules and dashboard find every series they name, before the first call."""
    metrics = make(**dict.fromkeys(READINGS, 0.0))
    metrics.refused("address_rate", 429)
    metrics.requested("modern", probe=False)
    names = {name for name, _ in samples(metrics)}
    assert names >= EXPORTED
    assert {name for name in names if not name.startswith("mcp_") or name.endswith("_created")} == set()
    assert CONTENT_TYPE.startswith(b"text/plain; version=0.0.4")


def test_a_call_is_counted() -> None:
    """Number, outcome, kind of failure, duration and events of each tool."""
    metrics = make()
    metrics.observe_call("forecast", "ok", None, 0.2, 0)
    metrics.observe_call("forecast", "error", "not_found", 0.2, 0)
    metrics.observe_call("countdown", "cancelled", "cancelled", 40.0, 7)
    assert value(metrics, "mcp_tool_calls_total", tool="forecast", outcome="ok") == 1
    assert value(metrics, "mcp_tool_calls_total", tool="forecast", outcome="error") == 1
    assert value(metrics, "mcp_tool_errors_total", tool="forecast", kind="not_found") == 1
    assert value(metrics, "mcp_tool_calls_total", tool="countdown", outcome="cancelled") == 1
    assert value(metrics, "mcp_tool_duration_seconds_bucket", tool="forecast", le="0.25") == 2
    assert value(metrics, "mcp_tool_duration_seconds_bucket", tool="countdown", le="30.0") == 0
    assert value(metrics, "mcp_tool_duration_seconds_count", tool="countdown") == 1
    assert value(metrics, "mcp_notifications_sent_total", tool="countdown") == 7
    kinds = {labels for name, labels in samples(metrics) if name == "mcp_tool_errors_total"}
    assert frozenset({("tool", "countdown"), ("kind", "cancelled")}) not in kinds


def test_series_exist_before_the_first_event() -> None:
    """The first error of a kind that pages somebody is an increase from zero, not a new series."""
    metrics = make()
    for kind in SERVER_FAULTS:
        assert value(metrics, "mcp_tool_errors_total", tool="forecast", kind=kind) == 0
    assert value(metrics, "mcp_tool_calls_total", tool="forecast", outcome="ok") == 0
    assert value(metrics, "mcp_notifications_sent_total", tool="countdown") == 0
    # Only for tools that say that they stream: silence of the others is no fault.
    assert ("mcp_notifications_sent_total", frozenset({("tool", "forecast")})) not in samples(metrics)
    assert value(metrics, "mcp_tool_timeout_seconds", tool="forecast") == 20


def test_what_a_caller_makes_up_is_no_label() -> None:
    """However many names are tried, the number of series stays the same and none holds a name."""
    metrics = make()
    metrics.observe_call("made up", "made up", "made up", 0.1, 1)
    metrics.observe_call("made up", "error", "made up", 0.1, 1)
    metrics.requested("made up", probe=True)
    before = len(samples(metrics))
    for number in range(1000):
        name = f"made up {number}"
        metrics.observe_call(name, name, name, 0.1, 1)
        metrics.observe_call(name, "error", name, 0.1, 1)
        metrics.requested(name, probe=True)
    assert len(samples(metrics)) == before
    assert b"made up" not in metrics.render()
    assert value(metrics, "mcp_tool_calls_total", tool="other", outcome="error") == 1001
    assert value(metrics, "mcp_tool_errors_total", tool="other", kind="other") == 1001
    assert value(metrics, "mcp_requests_total", era="other", probe="true") == 1001


def test_refusals_are_counted_by_layer_and_status() -> None:
    """The layer says which protection refused."""
    metrics = make()
    metrics.refused("host", 421)
    metrics.refused("host", 421)
    assert value(metrics, "mcp_refused_total", layer="host", status="421") == 2


def test_the_probe_is_told_apart() -> None:
    """Traffic of the monitor does not look like traffic of clients."""
    metrics = make()
    metrics.requested("legacy", probe=False)
    metrics.requested("legacy", probe=True)
    assert value(metrics, "mcp_requests_total", era="legacy", probe="false") == 1
    assert value(metrics, "mcp_requests_total", era="legacy", probe="true") == 1


def test_versions_are_exported() -> None:
    """Which build runs, and which contract it publishes."""
    metrics = make()
    assert value(metrics, "mcp_build_info", version="1.2.3") == 1
    assert value(metrics, "mcp_schema_info", sha256="ab" * 32) == 1


def test_values_are_read_when_asked_for() -> None:
    """Gauges are never stale: they are read at the scrape; waits for the pool are a histogram."""
    metrics = make()
    full = [1.0]
    metrics.read(in_flight=lambda: full[0], pool_waiting=lambda: 3, draining=lambda: True)
    metrics.acquired(0.2)
    assert value(metrics, "mcp_in_flight") == 1
    full[0] = 5.0
    assert value(metrics, "mcp_in_flight") == 5
    assert value(metrics, "mcp_pool_waiting") == 3
    assert value(metrics, "mcp_draining") == 1
    assert value(metrics, "mcp_pool_acquire_seconds_bucket", le="0.25") == 1
    assert ("mcp_pool_idle", frozenset[tuple[str, str]]()) not in samples(metrics)
    with pytest.raises(ValueError, match="no such reading: full"):
        metrics.read(full=lambda: 1)


def test_a_value_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """A fault in one reading costs that reading, and the log says which."""
    metrics = make()

    def fail() -> float:
        raise RuntimeError("with a value in it")

    metrics.read(streams=fail, in_flight=lambda: 2)
    with captured(tmp_path / "log") as log:
        assert value(metrics, "mcp_in_flight") == 2
        (line,) = log.lines()
    assert (line["msg"], line["kind"]) == ("metric cannot be read", "streams")
    assert line["exception"][0]["type"] == "RuntimeError"


async def test_a_blocked_event_loop_is_seen() -> None:
    """A tool that blocks shows as a delay, and the delay is forgotten after a while."""
    metrics = make()
    assert metrics.event_loop.seconds == 0
    task = asyncio.create_task(metrics.event_loop.watch())
    await asyncio.sleep(0)
    time.sleep(0.8)  # noqa: ASYNC251 - the fault that is looked for
    async with asyncio.timeout(SECONDS):
        while metrics.event_loop.seconds < 0.25:
            await asyncio.sleep(0.01)
    task.cancel()
    assert value(metrics, "mcp_event_loop_lag_seconds") == metrics.event_loop.seconds


async def test_a_delay_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst delay stands for at least one window, and for two at most."""
    now = 0.0
    delays = iter([0.5, 1.5, *[0.5] * 200])

    async def sleep(_: float) -> None:
        nonlocal now
        delay = next(delays, None)
        if delay is None:
            raise asyncio.CancelledError
        now += delay
        seen.append((now, metrics.event_loop.seconds))

    seen: list[tuple[float, float]] = []
    metrics = Metrics(version="1", schema_sha256="a", timeouts={}, clock=lambda: now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await metrics.event_loop.watch()
    lagging = [moment for moment, lag in seen if lag >= 1]
    assert lagging[0] == 2.5
    assert 15 <= lagging[-1] - lagging[0] <= 31
    assert metrics.event_loop.seconds == 0


def test_counting_is_cheap() -> None:
    """Counting a call costs a fraction of it, and a scrape of many tools does not stop the server."""
    metrics = Metrics(version="1", schema_sha256="a", timeouts={f"tool_{number}": 1.0 for number in range(50)})
    before = time.thread_time()
    for _ in range(1000):
        metrics.observe_call("tool_7", "error", "not_found", 0.1, 1)
    assert (time.thread_time() - before) / 1000 < 0.0002
    before = time.thread_time()
    metrics.render()
    assert time.thread_time() - before < 0.5


async def test_the_database_is_asked_before_it_is_told_of() -> None:
    """What a scrape says of the database is never older than the scrape; anything else is asked nothing."""
    asked: list[float] = []
    metrics = make()
    metrics.read(database_up=lambda: len(asked))

    async def ping() -> None:
        await asyncio.sleep(0)
        asked.append(1)

    endpoint = MetricsEndpoint(metrics, ping)
    asking = exchange()
    assert await endpoint(asking) is None
    assert asked == []
    asking.path = "/metrics"
    response = await endpoint(asking)
    assert response is not None
    assert b"\nmcp_database_up 1.0\n" in response.body
