"""Spans of each message for OpenTelemetry, rebuilt from an allow-list before they leave the process.

The SDK makes the spans. Names of declared methods, tools and prompts leave, and codes; no text of a client, not even
its `tracestate`, no exception, no event. The log's `trace_id` is that of the span.

The parent is the context in the message's `_meta`; that of the HTTP request is linked, or the parent where the message
has none. Source: OpenTelemetry semantic conventions for MCP. Names of ours begin with `hardening.`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..exchange import current
from ..routes import DISCOVER, INITIALIZE, LISTEN, TOOLS_CALL, TOOLS_LIST
from . import http_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    from ..exchange import Exchange

METHOD = "mcp.method.name"
TOOL = "gen_ai.tool.name"
PROMPT = "gen_ai.prompt.name"
VERSION = "mcp.protocol.version"
RPC_ID = "jsonrpc.request.id"
PRINCIPAL = "hardening.principal"
REQUEST = "hardening.request_id"
TRANSPORT = {"network.transport": "tcp", "network.protocol.name": "http"}
KEPT = frozenset(
    {*TRANSPORT, METHOD, TOOL, PROMPT, VERSION, RPC_ID, PRINCIPAL, REQUEST}
    | {"gen_ai.operation.name", "error.type", "rpc.response.status_code"}
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
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        LISTEN,
    }
)
VERSIONS = frozenset({*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS})
OTHER = "other"
LONGEST_NUMBER = 20


class Names(NamedTuple):
    """What the author has declared; other names are a client's, and count as `other`."""

    tools: frozenset[str]
    prompts: frozenset[str] = frozenset()


def attributes_of(method: str, params: Mapping[str, Any] | None, version: str | None, names: Names) -> dict[str, str]:
    """Return what the conventions say of a message, each with a bounded set of values."""
    said = {METHOD: method if method in METHODS else OTHER} | attributes_of_session(version)
    named = (params or {}).get("name")
    target = named if isinstance(named, str) else ""
    if method == TOOLS_CALL:
        said |= {"gen_ai.operation.name": "execute_tool", TOOL: target if target in names.tools else OTHER}
    elif method == "prompts/get":
        said[PROMPT] = target if target in names.prompts else OTHER
    return said


def attributes_of_session(version: str | None) -> dict[str, str]:
    """Return what the conventions say of a session."""
    return {VERSION: version if version in VERSIONS else OTHER} | TRANSPORT


async def carry(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Make the trace context of the HTTP request the current one, for spans of messages that bring none."""
    exchange = current.get()
    carried = transport(exchange) if exchange is not None else None
    if carried is None:
        return await call_next(ctx)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(carried)))
    try:
        return await call_next(ctx)
    finally:
        context.detach(token)


def transport(exchange: Exchange) -> trace.SpanContext | None:
    """Return the trace context of the HTTP request, without its `tracestate`."""
    header = exchange.headers.get(b"traceparent", b"").decode("latin-1")
    found = TraceContextTextMapPropagator().extract({"traceparent": header}, context.Context())
    carried = trace.get_current_span(found).get_span_context()
    return carried if carried.is_valid else None


def annotate() -> None:
    """Give the log the trace id of the current span, and the span the caller and the reference."""
    span, exchange = trace.get_current_span(), current.get()
    own = span.get_span_context()
    if exchange is None or not own.is_valid:
        return
    exchange.trace_id = trace.format_trace_id(own.trace_id)
    if not span.is_recording():
        return
    span.set_attributes({REQUEST: exchange.request_id, **TRANSPORT})
    if exchange.principal is not None:
        span.set_attribute(PRINCIPAL, f"{exchange.principal.kind} {exchange.principal.name}")
    carried = transport(exchange)
    parent: trace.SpanContext | None = getattr(span, "parent", None)
    if carried is not None and (parent is None or parent.span_id != carried.span_id):
        span.add_link(carried)


def leave_out(middleware: list[Any]) -> None:
    """Take the SDK's spans out of its chain when nobody wants any; otherwise put the HTTP context around them."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        middleware[:] = [layer for layer in middleware if type(layer).__name__ != "OpenTelemetryMiddleware"]
    else:
        middleware.insert(0, carry)


def request_ids() -> Any:
    """Return a generator of ids that begins a trace with the id that the request's log lines have already."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RequestIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            exchange = current.get()
            return int(exchange.trace_id, 16) if exchange is not None else super().generate_trace_id()

    return RequestIds()


def scrubbing(exporter: SpanExporter, names: Names) -> SpanExporter:
    """Return an exporter that passes on nothing but what is allowed."""
    from opentelemetry.sdk.trace.export import SpanExporter as Base

    class Scrubbing(Base):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([scrubbed(span, names) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 2000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Scrubbing()


def scrubbed(span: ReadableSpan, names: Names) -> ReadableSpan:
    """Return a span with allowed attributes only, a name of ours, no events and no `tracestate`."""
    from opentelemetry.sdk.trace import ReadableSpan as Span
    from opentelemetry.trace import Link, Status

    http = span.instrumentation_scope is not None and span.instrumentation_scope.name == http_spans.SCOPE
    allowed_names = http_spans.KEPT if http else KEPT
    kept: dict[str, Any] = {name: value for name, value in (span.attributes or {}).items() if name in allowed_names}
    allowed = {METHOD: METHODS, TOOL: names.tools, PROMPT: names.prompts, VERSION: VERSIONS}
    kept |= {name: OTHER for name, values in allowed.items() if name in kept and kept[name] not in values}
    # An id that is a text is whatever the client has written.
    if not (number := str(kept.get(RPC_ID, ""))).isdecimal() or len(number) > LONGEST_NUMBER:
        kept.pop(RPC_ID, None)
    parts = (kept.get(METHOD, OTHER), kept.get(TOOL), kept.get(PROMPT))
    return Span(
        name=kept[http_spans.REQUEST_METHOD] if http else " ".join(str(part) for part in parts if part),
        context=_bare(span.context),
        parent=_bare(span.parent),
        resource=span.resource,
        attributes=kept,
        links=[Link(bare) for link in span.links if (bare := _bare(link.context)) is not None],
        kind=span.kind,
        # The code alone: a description holds the text of an error.
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _bare(given: trace.SpanContext | None) -> trace.SpanContext | None:
    """Return a context without its `tracestate`, which is a client's text (W3C Trace Context, 3.3)."""
    return given and trace.SpanContext(given.trace_id, given.span_id, given.is_remote, given.trace_flags)
