"""OpenTelemetry spans, with an allow-list of attributes; on when the `otel` extra and `OTEL_*` are there.

The SDK makes the spans; what leaves this process is rebuilt from an allow-list: names of declared
methods and tools, no text of a client, no exception, no event. What is redacted in logs is redacted here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from ..exchange import current
from ..routes import DISCOVER, INITIALIZE, LISTEN, TOOLS_CALL, TOOLS_LIST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 2.0
TOOL = "gen_ai.tool.name"
METHOD = "mcp.method.name"
PRINCIPAL = "enduser.id"
REQUEST = "mcp.request.id"
# Attributes with a bounded set of values (OpenTelemetry semantic conventions for MCP), and ours.
KEPT = frozenset(
    {
        METHOD,
        TOOL,
        PRINCIPAL,
        REQUEST,
        "mcp.protocol.version",
        "gen_ai.operation.name",
        "error.type",
        "rpc.response.status_code",
    }
)
METHODS = frozenset(
    {
        INITIALIZE,
        "ping",
        DISCOVER,
        TOOLS_LIST,
        TOOLS_CALL,
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
        LISTEN,
    }
)
OTHER = "other"


def wanted() -> bool:
    """Return whether an endpoint is configured."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in ENDPOINTS)


def annotate() -> None:
    """Say in the current span who is calling, and under which reference."""
    span = trace.get_current_span()
    exchange = current.get()
    if exchange is None or not span.is_recording():
        return
    span.set_attribute(REQUEST, exchange.request_id)
    if exchange.principal is not None:
        span.set_attribute(PRINCIPAL, f"{exchange.principal.kind} {exchange.principal.name}")


def leave_out(middleware: list[Any]) -> None:
    """Take the SDK's spans out of its chain when no tracer provider is configured by the time the server starts."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        middleware[:] = [layer for layer in middleware if type(layer).__name__ != "OpenTelemetryMiddleware"]


def start(service: str, version: str, tools: Iterable[str]) -> Any:
    """Send spans to the configured endpoint from now on; returns the provider, to be shut down at the end.

    Raises:
        ImportError: The `otel` extra is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": service, "service.version": version})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(scrubbing(OTLPSpanExporter(), tools)))
    trace.set_tracer_provider(provider)
    return provider


async def stop(provider: Any) -> None:
    """Send what is left, within a moment: an endpoint that is away must not hold the process."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await asyncio.to_thread(provider.shutdown)


def scrubbing(exporter: SpanExporter, tools: Iterable[str]) -> SpanExporter:
    """Return an exporter that passes on nothing but what is allowed."""
    from opentelemetry.sdk.trace.export import SpanExporter as Base

    known = frozenset(tools)

    class Scrubbing(Base):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([scrubbed(span, known) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = int(FLUSH_SECONDS * 1000)) -> bool:
            return exporter.force_flush(timeout_millis)

    return Scrubbing()


def scrubbed(span: ReadableSpan, tools: frozenset[str]) -> ReadableSpan:
    """Return a span with allowed attributes only, a name of ours, and no events."""
    from opentelemetry.sdk.trace import ReadableSpan as Span
    from opentelemetry.trace import Status

    kept: dict[str, Any] = {name: value for name, value in (span.attributes or {}).items() if name in KEPT}
    method = kept.get(METHOD)
    if METHOD in kept and method not in METHODS:
        kept[METHOD] = method = OTHER
    if TOOL in kept and kept[TOOL] not in tools:
        kept[TOOL] = OTHER
    name = " ".join(str(part) for part in (method or OTHER, kept.get(TOOL)) if part)
    return Span(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=kept,
        kind=span.kind,
        # The code alone: a description holds the text of an error.
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
