"""What is counted, measured and sent, each decision alone: one row for each case, and no collector."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sample
from captured import captured
from live import ENVIRONMENT, settings_from
from mcp import MCPError
from mcp.types import CallToolResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError

from hardening.telemetry import http_spans, operations, otlp, otlp_answers
from hardening.telemetry.http_metrics import HttpMetrics
from hardening.telemetry.metrics import Metrics
from hardening.telemetry.operations import Operations
from hardening.telemetry.tracing import Names, attributes_of, scrubbed, scrubbing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMES = Names(frozenset({"echo"}), frozenset({"greet"}))
HTTP = {"network.transport": "tcp", "network.protocol.name": "http"}


def make() -> Metrics:
    """Return the metrics of a server with two tools, one of which streams."""
    timeouts = {"forecast": 20.0, "countdown": 30.0}
    return Metrics(version="1", schema_sha256="a", timeouts=timeouts, streaming=["countdown"])


def series(metrics: Metrics, name: str) -> dict[str, float]:
    """Return every series of a name, by its labels."""
    lines = [line.rpartition(" ") for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {text.removeprefix(name): float(value) for text, _, value in lines if text.partition("{")[0] == name}


def test_every_series_of_a_tool_is_there_from_the_start() -> None:
    """What alerts divide by is zero, and not missing, before the first call."""
    metrics = make()
    both = {'{tool="countdown"}', '{tool="forecast"}'}
    assert series(metrics, "mcp_tool_duration_seconds_count") == dict.fromkeys(both, 0)
    assert series(metrics, "mcp_tool_timeout_seconds") == {'{tool="countdown"}': 30, '{tool="forecast"}': 20}
    for name in ("mcp_notifications_sent_total", "mcp_progress_requested_total"):
        assert series(metrics, name) == {'{tool="countdown"}': 0}
    assert len(series(metrics, "mcp_tool_calls_total")) == 6
    assert len(series(metrics, "mcp_tool_errors_total")) == 8


@pytest.mark.parametrize(
    ("name", "labels", "bounds"),
    [
        (
            "mcp_tool_duration_seconds_bucket",
            ',tool="forecast"',
            "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 30.0 60.0 +Inf",
        ),
        ("mcp_pool_acquire_seconds_bucket", "", "0.001 0.005 0.025 0.1 0.25 0.5 1.0 2.5 5.0 +Inf"),
    ],
)
def test_durations_are_told_apart_at_these_bounds(name: str, labels: str, bounds: str) -> None:
    """In seconds; alert rules and dashboards name some of them."""
    found = [text for text in series(make(), name) if labels in text]
    assert found == [f'{{le="{bound}"{labels}}}' for bound in bounds.split()]


@pytest.mark.parametrize(
    ("outcome", "asked", "counted"),
    [("ok", True, 1), ("ok", False, 0), ("error", True, 0), ("cancelled", True, 0)],
)
def test_only_good_calls_that_asked_are_expected_to_send(outcome: str, asked: bool, counted: int) -> None:  # noqa: FBT001
    """A call that failed early has nothing to tell; one without notifications makes no series of them."""
    metrics = make()
    metrics.observe_call("countdown", outcome, None, 0.1, 0, progress_requested=asked)
    metrics.observe_call("forecast", outcome, None, 0.1, 0)
    assert series(metrics, "mcp_progress_requested_total") == {'{tool="countdown"}': counted}
    assert series(metrics, "mcp_notifications_sent_total") == {'{tool="countdown"}': 0}


def test_a_value_that_only_grows_is_a_counter() -> None:
    """Prometheus takes the rate of those, and of no others."""
    metrics = make()
    metrics.read(**dict.fromkeys(("redis_errors", "log_lines_dropped", "in_flight", "streams"), lambda: 2))
    kinds = {line.split()[2]: line.split()[3] for line in metrics.render().decode().splitlines() if "# TYPE" in line}
    assert [kinds[f"mcp_{name}"] for name in ("in_flight", "streams")] == ["gauge"] * 2
    assert [kinds[f"mcp_{name}_total"] for name in ("redis_errors", "log_lines_dropped")] == ["counter"] * 2
    assert kinds["mcp_event_loop_lag_seconds"] == "gauge"


def test_deadlines_of_tools_are_their_own_or_the_setting() -> None:
    """And which tools send notifications is what they declare."""
    settings = settings_from(ENVIRONMENT | {"MCP_TOOL_TIMEOUT_SECONDS": "12"})
    declared: Any = {
        "own": SimpleNamespace(timeout_seconds=3.0, streams=True),
        "usual": SimpleNamespace(timeout_seconds=None, streams=False),
    }
    metrics = Metrics.of_tools(declared, settings, version="7", schema_sha256="ab")
    assert series(metrics, "mcp_tool_timeout_seconds") == {'{tool="own"}': 3, '{tool="usual"}': 12}
    assert series(metrics, "mcp_progress_requested_total") == {'{tool="own"}': 0}
    assert series(metrics, "mcp_build_info") == {'{version="7"}': 1}
    assert series(metrics, "mcp_schema_info") == {'{sha256="ab"}': 1}


def test_fifty_hosts_have_a_name_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have answered first; a host that only failed is `other`, and so is the 51st."""
    recorded: list[Any] = []
    monkeypatch.setattr("hardening.telemetry.http_metrics.record", lambda *given: recorded.append(given))
    counted = HttpMetrics(registry := CollectorRegistry())
    counted.answered("fails.test", "error", "GET", 503, 0.1)
    for number in range(52):
        counted.answered(f"{number}.test", "ok", "GET", 200, 0.25)
    counted.answered("1.test", "refused", "POST", None, 0.5)
    counted.answered("fails.test", "ok", "GET", 200, 0.1)

    def value(host: str, outcome: str) -> float | None:
        return registry.get_sample_value("mcp_http_requests_total", {"host": host, "outcome": outcome})

    assert [value(f"{number}.test", "ok") for number in (0, 49, 50, 51)] == [1, 1, None, None]
    assert (value("other", "ok"), value("other", "error"), value("1.test", "refused")) == (3, 1, 1)
    assert value("fails.test", "error") is None
    assert recorded[0] == ("GET", "other", "error", 503, 0.1)
    assert recorded[-2] == ("POST", "1.test", "refused", None, 0.5)


@pytest.mark.parametrize(
    ("method", "outcome", "status", "named", "attributes"),
    [
        ("PUT", "ok", 201, "PUT", {"http.response.status_code": 201}),
        ("GET", "error", 503, "GET", {"http.response.status_code": 503, "error.type": "error"}),
        ("PURGE", "refused", None, "_OTHER", {"error.type": "refused"}),
    ],
)
def test_a_span_of_an_http_request_says_this(  # noqa: PLR0913, PLR0917 - the row
    monkeypatch: pytest.MonkeyPatch, method: str, outcome: str, status: int | None, named: str, attributes: Any
) -> None:
    """Name, kind, attributes and duration; a method that nobody knows is a text of somebody's."""
    made: list[Any] = []

    def start_span(name: str, **given: Any) -> Any:
        made.extend((name, given))
        return SimpleNamespace(end=made.append)

    monkeypatch.setattr(http_spans, "_TRACER", SimpleNamespace(start_span=start_span))
    before = time.time_ns()
    http_spans.record(method, "a.test", outcome, status, 1.5)
    name, given, ended = made
    assert before <= ended <= time.time_ns()
    assert name == named
    assert given == {
        "kind": SpanKind.CLIENT,
        "attributes": {"http.request.method": named, "server.address": "a.test"} | attributes,
        "start_time": ended - 1_500_000_000,
    }


class Meter:
    """What measures, and what it was given."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.recorded: list[Any] = []

    def create_histogram(self, name: str, **given: Any) -> Any:
        """Note a histogram."""
        self.made[name] = given
        return SimpleNamespace(record=lambda value, attributes: self.recorded.append((name, value, attributes)))


class Needed(BaseModel):
    """Something with a field."""

    field: int


def invalid() -> ValidationError:
    """Return the failure of a request that has not the shape of one."""
    with pytest.raises(ValidationError) as raised:
        Needed.model_validate({})
    return raised.value


@pytest.mark.parametrize(
    ("came", "failed"),
    [
        ({"tools": []}, {}),
        ({"isError": False}, {}),
        ({"isError": True}, {"error.type": "tool_error"}),
        (CallToolResult(content=[], is_error=True), {"error.type": "tool_error"}),
        (CallToolResult(content=[]), {}),
        (MCPError(-32601, "x"), {"error.type": "-32601", "rpc.response.status_code": "-32601"}),
        (invalid(), {"error.type": "-32602", "rpc.response.status_code": "-32602"}),
        (KeyError("x"), {"error.type": "-32603", "rpc.response.status_code": "-32603"}),
        (KeyboardInterrupt(), {"error.type": "cancelled"}),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, dict) else str(given),
)
async def test_how_a_message_ended_is_measured(
    monkeypatch: pytest.MonkeyPatch, came: Any, failed: Mapping[str, str]
) -> None:
    """Its duration in seconds, with the code of its error; the result, or the error, is handed on as it is."""
    now = iter([10.0, 10.5])
    monkeypatch.setattr(operations, "time", SimpleNamespace(monotonic=lambda: next(now)))
    meter = Meter()
    measured = Operations(meter, NAMES)  # type: ignore[arg-type]

    async def call_next(_: Any) -> Any:
        if isinstance(came, BaseException):
            raise came
        return came

    ctx: Any = SimpleNamespace(method="tools/list", params=None, protocol_version="2025-11-25")
    if isinstance(came, BaseException):
        with pytest.raises(type(came)) as raised:
            await measured(ctx, call_next)
        assert raised.value is came
    else:
        assert await measured(ctx, call_next) is came
    said = {"mcp.method.name": "tools/list", "mcp.protocol.version": "2025-11-25"} | HTTP
    assert meter.recorded == [("mcp.server.operation.duration", 0.5, said | failed)]


def test_durations_have_the_bounds_of_the_conventions() -> None:
    """Seconds, and a sentence for who reads a dashboard."""
    meter = Meter()
    Operations(meter, NAMES).session_ended(3.0, "x")  # type: ignore[arg-type]
    bounds = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    assert set(meter.made) == {"mcp.server.operation.duration", "mcp.server.session.duration"}
    for given in meter.made.values():
        assert (given["unit"], given["explicit_bucket_boundaries_advisory"]) == ("s", bounds)
        assert given["description"].startswith("Duration of a ")
    assert meter.recorded == [("mcp.server.session.duration", 3.0, {"mcp.protocol.version": "other"} | HTTP)]


@pytest.mark.parametrize(
    ("method", "params", "version", "expected"),
    [
        ("tools/call", {"name": "echo"}, "2026-07-28", {"gen_ai.operation.name": "execute_tool", "tool": "echo"}),
        ("tools/call", {"name": "x"}, "2026-07-28", {"gen_ai.operation.name": "execute_tool", "tool": "other"}),
        ("tools/call", {"name": ["echo"]}, "2026-07-28", {"gen_ai.operation.name": "execute_tool", "tool": "other"}),
        ("tools/call", None, "2026-07-28", {"gen_ai.operation.name": "execute_tool", "tool": "other"}),
        ("prompts/get", {"name": "greet"}, "2025-06-18", {"prompt": "greet"}),
        ("prompts/get", {"name": "echo"}, "2025-06-18", {"prompt": "other"}),
        ("tools/list", {"name": "echo"}, "1999-01-01", {}),
        ("made/up", {"name": "echo"}, None, {}),
    ],
)
def test_a_message_has_these_attributes(
    method: str, params: dict[str, Any] | None, version: str | None, expected: dict[str, str]
) -> None:
    """Names that are declared, methods and versions of the protocol; everything else is `other`."""
    found = attributes_of(method, params, version, NAMES)
    named = {"tool": "gen_ai.tool.name", "prompt": "gen_ai.prompt.name"}
    said = {
        "mcp.method.name": "other" if method == "made/up" else method,
        "mcp.protocol.version": version if version and version.startswith("202") else "other",
    }
    assert found == said | HTTP | {named.get(name, name): value for name, value in expected.items()}


def context_of(span: int, *, remote: bool) -> SpanContext:
    """Return a context with a text of a client."""
    return SpanContext(1, span, remote, TraceFlags(1), TraceState([("vendor", "secret")]))


@pytest.mark.parametrize(
    ("scope", "attributes", "name", "kept"),
    [
        (
            "mcp",
            {"mcp.method.name": "tools/call", "gen_ai.tool.name": "echo", "jsonrpc.request.id": "7", "text": "secret"},
            "tools/call echo",
            {"mcp.method.name": "tools/call", "gen_ai.tool.name": "echo", "jsonrpc.request.id": "7"},
        ),
        (
            "mcp",
            {"mcp.method.name": "secret", "gen_ai.prompt.name": "secret", "jsonrpc.request.id": "secret"},
            "other other",
            {"mcp.method.name": "other", "gen_ai.prompt.name": "other"},
        ),
        (
            "mcp",
            {"mcp.protocol.version": "secret", "server.address": "secret"},
            "other",
            {"mcp.protocol.version": "other"},
        ),
        (None, {"http.request.method": "secret"}, "other", {}),
        (
            "hardening.http",
            {"http.request.method": "GET", "server.address": "a.test", "mcp.method.name": "tools/call"},
            "GET",
            {"http.request.method": "GET", "server.address": "a.test"},
        ),
    ],
)
def test_a_span_leaves_with_what_is_allowed(
    scope: str | None, attributes: dict[str, str], name: str, kept: dict[str, str]
) -> None:
    """Name, attributes, contexts, links, kind, code and times; no event, no text, no `tracestate`."""
    given = ReadableSpan(
        "secret",
        context=context_of(2, remote=False),
        parent=context_of(3, remote=True),
        resource=(resource := Resource({"service.name": "mine"})),
        attributes=attributes,
        events=[Event("secret")],
        links=[Link(context_of(4, remote=True), {"text": "secret"})],
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, "secret"),
        start_time=5,
        end_time=9,
        instrumentation_scope=InstrumentationScope(scope) if scope else None,
    )
    sent: list[ReadableSpan] = []
    exporter: Any = SimpleNamespace(export=sent.extend, shutdown=lambda: "closed", force_flush=lambda most: most)
    outer = scrubbing(exporter, NAMES)
    outer.export([given])
    (span,) = sent
    assert (span.name, dict(span.attributes or {})) == (name, kept)
    assert span.resource is resource
    assert (span.kind, span.start_time, span.end_time) == (SpanKind.SERVER, 5, 9)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert span.instrumentation_scope == given.instrumentation_scope
    assert (list(span.events), len(span.links), dict(span.links[0].attributes or {})) == ([], 1, {})
    contexts = [span.context, span.parent, span.links[0].context]
    assert [(one.trace_id, one.span_id, one.is_remote, one.trace_flags, len(one.trace_state)) for one in contexts] == [
        (1, 2, False, 1, 0),
        (1, 3, True, 1, 0),
        (1, 4, True, 1, 0),
    ]
    assert "secret" not in span.to_json()


def test_an_exporter_is_ended_and_flushed_through() -> None:
    """What holds spans back sends them at the end."""
    done: list[Any] = []
    exporter: Any = SimpleNamespace(
        shutdown=lambda: done.append("closed"), force_flush=lambda most: (done.append(most), True)[1]
    )
    outer = scrubbing(exporter, NAMES)
    outer.shutdown()
    assert outer.force_flush() is True
    assert outer.force_flush(7) is True
    assert done == ["closed", 2000, 7]


def test_a_span_without_parent_keeps_none() -> None:
    """Neither is made up."""
    span = scrubbed(ReadableSpan("x", context=context_of(2, remote=False)), NAMES)
    assert span.parent is None
    assert list(span.links) == []


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({}, False, False),
        (ENDPOINT, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True, False),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:2"}, True, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": " TRUE "}, False, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "1"}, True, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False, True),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "console, otlp"}, True, True),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "console"}, True, False),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": ""}, True, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, False),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, False, True),
    ],
)
def test_what_the_variables_ask_for(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    traces: bool,  # noqa: FBT001 - the row
    metrics: bool,  # noqa: FBT001 - the row
) -> None:
    """An endpoint, not switched off, an exporter that is ours, and the one protocol that is spoken."""
    monkeypatch.setattr(otlp.os, "environ", environment)
    assert (otlp.can_be_sent("traces"), otlp.can_be_sent("metrics")) == (traces, metrics)


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({}, True, True),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "mine"}, False, False),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER": "mine"}, False, True),
    ],
)
def test_who_brings_an_http_client_means_that_one(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    traces: bool,  # noqa: FBT001 - the row
    metrics: bool,  # noqa: FBT001 - the row
) -> None:
    """Otherwise it is one whose answers are bounded."""
    monkeypatch.setattr(otlp.os, "environ", environment)
    assert [otlp._session(signal) is not None for signal in ("traces", "metrics")] == [traces, metrics]  # noqa: SLF001


async def test_a_variable_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which signal, and what was raised; the other one is sent."""
    server = sample.build(settings_from(ENVIRONMENT))

    def unreadable(*_: Any) -> Any:
        raise ValueError("secret")

    monkeypatch.setattr(otlp, "can_be_sent", lambda _: True)
    monkeypatch.setattr(otlp, "_open_traces", unreadable)
    monkeypatch.setattr(otlp, "_open_metrics", lambda *_: print)
    with captured(tmp_path / "log") as log:
        assert await otlp.start(server) == [print]
        (line,) = log.lines()
    assert (line["msg"], line["kind"]) == ("an OTEL variable cannot be read, nothing is sent", "traces")
    assert line["exception"][0]["type"] == "ValueError"


@pytest.mark.parametrize(
    ("verify", "cert", "asked"),
    [
        ("{}/file.pem", None, {"cafile": "{}/file.pem", "capath": None}),
        ("{}", None, {"cafile": None, "capath": "{}"}),
        ("{}", "both.pem", {"cafile": None, "capath": "{}", "chain": ("both.pem",)}),
        (True, ("one.pem", "key.pem"), {"usual": True, "chain": ("one.pem", "key.pem")}),
        (True, None, {"usual": True}),
    ],
)
def test_whom_an_export_trusts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verify: Any, cert: Any, asked: dict[str, Any]
) -> None:
    """A file or a folder of authorities, or the usual ones; with a certificate of its own, in one file or two."""
    made: dict[str, Any] = {}
    context = SimpleNamespace(load_cert_chain=lambda *chain: made.update(chain=chain))
    monkeypatch.setattr(otlp_answers.ssl, "create_default_context", lambda **given: made.update(given) or context)
    monkeypatch.setattr(otlp_answers.httpx2, "create_ssl_context", lambda: made.update(usual=True) or context)
    given = verify.format(tmp_path) if isinstance(verify, str) else verify
    assert otlp_answers._context(given, cert) is context  # noqa: SLF001 - what the exporter's variables say
    expected = {name: value.format(tmp_path) if isinstance(value, str) else value for name, value in asked.items()}
    assert made == expected
