"""Spans say who called what and how it ended, and nothing that a client wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import sample
from collector import collecting
from live import ENVIRONMENT, KEY, Live, Process, live, settings_from
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.exported_spans import exported
from wire import ERAS, Era, Wire

from hardening.exchange import current, open_exchange
from hardening.telemetry.tracing import Names, annotate, carry, leave_out, request_ids, scrubbed

if TYPE_CHECKING:
    from collections.abc import Generator

SENTINEL = "sentinel-7f3a9c"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What would be sent to the collector."""
    return exported(Names(frozenset({"echo", "crash", "fail"})))


@pytest.mark.parametrize(
    ("number", "kept"), [("7", True), ("9" * 20, True), ("9" * 21, False), ("-7", False), ("a7", False), ("", False)]
)
def test_the_id_of_a_request_is_a_number_or_left_out(number: str, *, kept: bool) -> None:
    """Up to 20 digits: a longer one, or a text, is whatever the client has written."""
    span = scrubbed(ReadableSpan("tools/call", attributes={"jsonrpc.request.id": number}), Names(frozenset()))

    assert dict(span.attributes or {}) == ({"jsonrpc.request.id": number} if kept else {})


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Generator[Live]:
    """A server whose spans are kept."""
    exporter.clear()
    with live() as running:
        yield running


def written(spans: tuple[ReadableSpan, ...]) -> str:
    """Return everything that would leave the process."""
    return json.dumps([json.loads(span.to_json()) for span in spans])


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_is_a_span_with_tool_and_caller(traced: Live, exporter: InMemorySpanExporter, era: Era) -> None:
    """The name has method and tool; who called and under which reference are attributes."""
    async with Wire(traced.url, KEY) as wire:
        reply = await wire.call(era, "echo", {"text": "hello"})

    (span,) = [span for span in exporter.get_finished_spans() if span.name == "tools/call echo"]
    attributes = span.attributes or {}
    assert attributes["hardening.principal"] == "api_key alice"
    assert attributes["hardening.request_id"] == reply.headers["x-request-id"]
    assert attributes["gen_ai.tool.name"] == "echo"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("echo", {"text": SENTINEL}),
        ("crash", {"text": SENTINEL}),
        ("fail", {"text": SENTINEL}),
        (SENTINEL, {}),
        ("echo", {"text": "x", SENTINEL: SENTINEL}),
    ],
    ids=["success", "crash", "failure", "unknown tool", "invalid"],
)
async def test_nothing_of_a_client_leaves(
    traced: Live, exporter: InMemorySpanExporter, era: Era, tool: str, arguments: dict[str, str]
) -> None:
    """Not in a name, an attribute, an event or a status."""
    async with Wire(traced.url, KEY) as wire:
        await wire.call(era, tool, arguments, rpc_id=SENTINEL)
        await wire.ask(era, f"{SENTINEL}/method")
        await wire.ask(era, "prompts/get", {"name": SENTINEL})
        await wire.ask(era, "resources/read", {"uri": f"sample://crash/{SENTINEL}"})

    spans = exporter.get_finished_spans()
    assert spans
    assert SENTINEL not in written(spans)


async def test_without_the_wall_it_would_leave(traced: Live) -> None:
    """The control: the SDK's own spans hold what a client wrote, so the test above can fail."""
    bare = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(bare))
    async with Wire(traced.url, KEY) as wire:
        await wire.call("modern", SENTINEL)

    assert SENTINEL in written(bare.get_finished_spans())


async def test_spans_reach_a_collector_at_the_latest_at_the_end() -> None:
    """With the standard variable set, over OTLP and HTTP; a drain sends what is left."""
    with collecting() as (endpoint, received), Process(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as process:
        async with Wire(process.url, KEY) as wire:
            await wire.call("modern", "echo", {"text": SENTINEL})
        code = process.stop()

    assert code == 0
    assert any(b"tools/call echo" in export for export in received)
    assert not any(SENTINEL.encode() in export for export in received)


async def test_a_collector_that_is_away_does_not_hold_the_process() -> None:
    """Telemetry is worth nothing that a call is worth."""
    with Process(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call("modern", "echo", {"text": "hello"})
        code = process.stop()

    assert reply.status == 200
    assert code == 0


@pytest.mark.parametrize(("provider", "wanted"), [(trace.ProxyTracerProvider(), False), (TracerProvider(), True)])
def test_spans_that_nobody_wants_are_not_made(
    monkeypatch: pytest.MonkeyPatch,
    provider: trace.TracerProvider,
    wanted: bool,  # noqa: FBT001 - the row
) -> None:
    """They would cost each request a twentieth; with a provider they are made, within the context of HTTP."""
    server = sample.build(settings_from(ENVIRONMENT))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    leave_out(server.middleware)

    made = [type(layer).__name__ for layer in server.middleware]
    assert ("OpenTelemetryMiddleware" in made) == wanted
    assert (server.middleware[0] is carry) == wanted


def test_a_trace_begins_with_the_id_of_the_log() -> None:
    """Lines that were written before the span began belong to it as well; what is no request has an id of its own."""
    exchange = open_exchange({"headers": [], "method": "POST", "path": "/mcp"}, Mock(), Mock())
    ids = request_ids()
    token = current.set(exchange)
    within = ids.generate_trace_id()
    current.reset(token)

    assert trace.format_trace_id(within) == exchange.trace_id
    assert ids.generate_trace_id() != within


@pytest.mark.parametrize("sent", [True, False])
async def test_the_trace_of_the_request_is_the_current_one_where_a_message_brings_none(*, sent: bool) -> None:
    """While the message is answered; without a `traceparent` whatever is current stays, and afterwards it is back."""
    parent = b"00-0000000000000000000000000000000a-000000000000000b-01"
    headers = [(b"traceparent", parent)] if sent else []
    exchange = open_exchange({"headers": headers, "method": "POST", "path": "/mcp"}, Mock(), Mock())
    seen: list[tuple[int, int]] = []

    async def answer(_: object) -> Any:
        context = trace.get_current_span().get_span_context()
        seen.append((context.trace_id, context.span_id))
        return "answer"

    token = current.set(exchange)
    with TracerProvider().get_tracer("test").start_as_current_span("around") as around:
        outer = around.get_span_context()
        answered = await carry(Mock(), answer)
        assert trace.get_current_span() is around
    current.reset(token)

    assert (answered, seen) == ("answer", [(10, 11) if sent else (outer.trace_id, outer.span_id)])


def test_a_line_has_the_trace_of_its_span() -> None:
    """Where there is no span, the id stays; a span of no request is left as it is."""
    exchange = open_exchange({"headers": [], "method": "POST", "path": "/mcp"}, Mock(), Mock())
    own = exchange.trace_id
    tracer = TracerProvider().get_tracer("test")
    token = current.set(exchange)
    annotate()
    assert exchange.trace_id == own
    with tracer.start_as_current_span("a") as span:
        annotate()
    current.reset(token)

    assert exchange.trace_id == trace.format_trace_id(span.get_span_context().trace_id) != own
    with tracer.start_as_current_span("b") as alone:
        annotate()
    assert isinstance(alone, ReadableSpan)
    assert dict(alone.attributes or {}) == {}
