"""What a collector reads over OTLP: from a server in a process of its own, in both eras, by the standard variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured
from collector import collecting
from live import ENVIRONMENT, KEY, Process, settings_from
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from queries import eventually
from sample import build
from wire import ERAS, Era, Wire, opening

from hardening.telemetry import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from collector import Exports

SENTINEL = "sentinel-7f3a9c"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
OF_THE_MESSAGE = f"00-{TRACE}-{PARENT}-01"
OF_HTTP = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVER_KIND = 2
ERROR_STATUS = 2


def attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as a mapping."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def spans(exports: Exports) -> list[Any]:
    """Return every span."""
    read = [
        ExportTraceServiceRequest.FromString(body)
        for path, body in zip(exports.paths, exports, strict=True)
        if path == "/v1/traces"
    ]
    return [
        span
        for export in read
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def start(span: Any) -> int:
    """Return when a span began."""
    return span.start_time_unix_nano


def metrics(exports: Exports) -> list[Any]:
    """Return every metric of every export."""
    return [metric for resource in of_metrics(exports) for scope in resource.scope_metrics for metric in scope.metrics]


def of_metrics(exports: Exports) -> list[Any]:
    """Return what each export of metrics says of one resource."""
    pairs = zip(exports.paths, exports, strict=True)
    read = [ExportMetricsServiceRequest.FromString(body) for path, body in pairs if path == "/v1/metrics"]
    return [resource for export in read for resource in export.resource_metrics]


def calls(process: Process) -> list[dict[str, Any]]:
    """Return the log lines of calls."""
    return [line for text in process.lines if text.startswith("{") and (line := json.loads(text))["msg"] == "tool call"]


@pytest.mark.parametrize("era", ERAS)
async def test_log_and_span_have_one_trace_id(era: Era) -> None:
    """That of the message, or of the HTTP request, or the server's own; the parent is who sent the context.

    Where both bring one, the message's is the parent, and HTTP's is linked.
    """
    # The last is of a version that comes after ours, and readable all the same (W3C Trace Context, 3.2.4).
    sent = [
        (message, http) for message in ("", OF_THE_MESSAGE, f"01-{TRACE}-{PARENT}-01-more") for http in ("", OF_HTTP)
    ]
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        async with Wire(process.url, KEY) as wire:
            for message, http in sent:
                meta = {"_meta": {"traceparent": message}} if message else {}
                call = {"name": "echo", "arguments": {"text": "hello"}, **meta}
                await wire.ask(era, "tools/call", call, headers={"traceparent": http} if http else {})
        assert process.stop() == 0

    found = sorted((span for span in spans(received) if span.name == "tools/call echo"), key=start)
    for (message, http), span, line in zip(sent, found, calls(process), strict=True):
        parent = message or http
        assert span.trace_id.hex() == line["trace_id"]
        assert span.parent_span_id.hex() == (parent.split("-")[2] if parent else "")
        assert not parent or line["trace_id"] == parent.split("-")[1]
        linked = [f"00-{link.trace_id.hex()}-{link.span_id.hex()}-01" for link in span.links]
        assert linked == ([OF_HTTP] if http and message else [])


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_is_told_by_the_names_of_the_conventions(era: Era) -> None:
    """Span and metric have the attributes of the conventions for MCP; ours have a name of our own."""
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call(era, "echo", {"text": "hello"}, rpc_id=7)
            await wire.call(era, "fail", {"text": "hello"})
            await wire.ask(era, "tools/list")
        assert process.stop() == 0

    version = "2026-07-28" if era == "modern" else "2025-11-25"
    shared = {"mcp.method.name": "tools/call", "mcp.protocol.version": version, "gen_ai.operation.name": "execute_tool"}
    shared |= {"network.transport": "tcp", "network.protocol.name": "http"}
    found = {span.name: span for span in spans(received)}
    echo, fail = found["tools/call echo"], found["tools/call fail"]
    assert attributes(echo.attributes) == shared | {
        "gen_ai.tool.name": "echo",
        "jsonrpc.request.id": "7",
        "hardening.request_id": reply.headers["x-request-id"],
        "hardening.principal": "api_key alice",
    }
    assert (echo.kind, fail.status.code, fail.status.message) == (SERVER_KIND, ERROR_STATUS, "")
    assert attributes(fail.attributes)["error.type"] == "tool_error"
    durations = [metric for metric in metrics(received) if metric.name == "mcp.server.operation.duration"]
    points = {
        (said["mcp.method.name"], said.get("gen_ai.tool.name"), said.get("error.type")): (point, said)
        for metric in durations
        for point in metric.histogram.data_points
        for said in [attributes(point.attributes)]
    }
    point, said = points["tools/call", "echo", None]
    assert {metric.unit for metric in durations} == {"s"}
    assert said == shared | {"gen_ai.tool.name": "echo"}
    assert (point.count, list(point.explicit_bounds)[:3]) == (1, [0.01, 0.02, 0.05])
    assert points["tools/call", "fail", "tool_error"][0].count == 1
    assert ("tools/list", None, None) in points


async def test_a_session_is_told_when_it_ends() -> None:
    """`mcp.server.session.duration` measures each stateful session once: ended by its client, or open at the end."""
    stateful = {"MCP_LEGACY": "stateful"}
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **stateful) as process:
        async with Wire(process.url, KEY) as wire:
            for leaves in (True, False):
                opened = await wire.ask("legacy", *opening("legacy"))
                session = {"mcp-session-id": opened.headers["mcp-session-id"]}
                await wire.ask("legacy", "ping", headers=session)
                if leaves:
                    version = {"authorization": f"Bearer {KEY}", "mcp-protocol-version": "2025-11-25"}
                    await wire.send(b"", session | version, method="DELETE")
        assert process.stop() == 0

    (found,) = [metric for metric in metrics(received) if metric.name == "mcp.server.session.duration"]
    (point,) = found.histogram.data_points
    assert (found.unit, point.count) == ("s", 2)
    assert attributes(point.attributes) == {
        "mcp.protocol.version": "2025-11-25",
        "network.transport": "tcp",
        "network.protocol.name": "http",
    }


async def test_the_operator_names_the_service() -> None:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` count for more than what the server says of itself."""
    named = {"OTEL_SERVICE_NAME": "weather", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging"}
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **named) as process:
        async with Wire(process.url, KEY) as wire:
            await wire.call("modern", "echo", {"text": "hello"})
        assert process.stop() == 0

    said = [attributes(each.resource.attributes) for each in of_metrics(received)]
    said += [
        attributes(resource.resource.attributes)
        for path, body in zip(received.paths, received, strict=True)
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
    ]
    assert len(said) >= 2
    assert {each["service.name"] for each in said} == {"weather"}
    assert {each["deployment.environment.name"] for each in said} == {"staging"}
    assert all(each["service.version"] and each["service.instance.id"] for each in said)


@pytest.mark.parametrize("era", ERAS)
async def test_nothing_of_a_client_reaches_the_collector(era: Era) -> None:
    """Not its `tracestate`, `baggage` or ids, no name that nobody has declared, no text of an error."""
    meta = {"traceparent": OF_THE_MESSAGE, "tracestate": f"a={SENTINEL}", "baggage": f"a={SENTINEL}"}
    headers = {"traceparent": OF_HTTP, "tracestate": f"b={SENTINEL}"}
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        async with Wire(process.url, KEY) as wire:
            for tool, arguments in (("echo", {"text": SENTINEL}), ("crash", {"text": SENTINEL}), (SENTINEL, {})):
                call = {"name": tool, "arguments": arguments, "_meta": meta}
                await wire.ask(era, "tools/call", call, rpc_id=SENTINEL, headers=headers)
            await wire.ask(era, "prompts/get", {"name": SENTINEL})
            await wire.ask(era, "tools/call", {"name": [SENTINEL], "arguments": {}})
            await wire.ask(era, f"{SENTINEL}/method")
        assert process.stop() == 0

    assert len(spans(received)) >= 3
    assert metrics(received)
    assert [span.trace_state for span in spans(received) if span.trace_state] == []
    assert not any(SENTINEL.encode() in export for export in received)


@pytest.mark.parametrize(
    ("variables", "paths"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, {"/v1/metrics"}),
        ({"OTEL_METRICS_EXPORTER": "none"}, {"/v1/traces"}),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, {"/v1/metrics"}),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, set()),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, {"/v1/metrics"}),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "soon"}, {"/v1/traces", "/v1/metrics"}),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "1"}, {"/v1/metrics"}),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "missing"}, set()),
    ],
    ids=lambda value: next(iter(value), None) if isinstance(value, dict) else "",
)
async def test_standard_variables_mean_what_they_say(variables: dict[str, str], paths: set[str]) -> None:
    """What is switched off, or cannot be sent, is not sent; the server serves in any case, and drains to exit 0."""
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **variables) as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call("modern", "echo", {"text": "hello"})
        assert process.stop() == 0

    assert reply.status == 200
    assert set(received.paths) == paths


async def test_an_interval_is_kept() -> None:
    """Metrics come while the server runs, as often as `OTEL_METRIC_EXPORT_INTERVAL` says."""
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "100"}
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **often) as process:
        async with Wire(process.url, KEY) as wire:
            await wire.call("modern", "echo", {"text": "hello"})
            await eventually(lambda: received.paths.count("/v1/metrics") >= 2)
        assert process.stop() == 0


async def test_an_endpoint_without_the_extra_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A platform that sets the variable for every workload stops no server: it says what is missing, and serves."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(otlp, "find_spec", lambda _: None)
    server = build(settings_from(ENVIRONMENT))
    with captured(tmp_path / "log") as log:
        stops = await otlp.start(server)
        lines = log.lines()

    assert stops == []
    assert {line["kind"] for line in lines} == {"traces", "metrics"}
    assert {(line["level"], line["msg"]) for line in lines} == {
        ("warning", "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra, nothing is sent: uv sync --extra otel")
    }
