"""Spans of HTTP requests: method, host and status, inside the span of their call, and nothing else of a request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import pytest
from live import ENVIRONMENT, KEY, Live, settings_from
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import Field
from support.exported_spans import exported
from wire import ERAS, Era, Wire

from hardening import Context, HardenedServer, HardeningSettings, harden, tool
from hardening.telemetry.tracing import Names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SECRET = "s3cret-of-a-request"  # noqa: S105 - to be looked for


@tool(read_only=True, open_world=True)
async def fetch(url: Annotated[str, Field(max_length=300)], ctx: Context) -> int:
    """Fetch a page with a credential."""
    answer = await ctx.http.get(url, params={"token": SECRET}, headers={"authorization": SECRET})
    trace.get_tracer("of an author").start_span("mine", attributes={"server.address": SECRET}).end()
    return answer.status_code


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with this tool."""
    return harden(settings, tools=(fetch,))


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What would be sent to the collector."""
    return exported(Names(frozenset({"fetch"})))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"traceparent" not in head.lower()
    writer.write(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("era", ERAS)
async def test_a_span_says_method_host_and_status(exporter: InMemorySpanExporter, era: Era) -> None:
    """A host that has never answered is `other`; neither path, query, header nor a span of the author's says more."""
    exporter.clear()
    upstream = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    with Live(settings_from(ENVIRONMENT | {"MCP_HTTP_ALLOW": "127.0.0.1"}), build) as live:
        async with Wire(live.url, KEY) as wire:
            reply = await wire.call(era, "fetch", {"url": f"http://127.0.0.1:{port}/{SECRET}"})
            await wire.call(era, "fetch", {"url": f"http://{SECRET}.invalid.localhost:{port}/"})
    upstream.close()

    assert reply.result["structuredContent"] == {"result": 404}
    spans = exporter.get_finished_spans()
    first, second = (span for span in spans if span.kind is SpanKind.CLIENT)
    call = next(span for span in spans if span.name == "tools/call fetch")
    assert first.name == "GET"
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "http.response.status_code": 404,
    }
    assert (second.attributes or {})["server.address"] == "other"
    assert first.parent is not None
    assert call.context is not None
    assert first.parent.span_id == call.context.span_id
    assert SECRET not in json.dumps([json.loads(span.to_json()) for span in spans])
