"""What would be sent to a collector, kept in memory: for tests in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hardening.telemetry.tracing import scrubbing

if TYPE_CHECKING:
    from hardening.telemetry.tracing import Names


def exported(names: Names) -> InMemorySpanExporter:
    """Return the spans of this process from now on, scrubbed."""
    memory = InMemorySpanExporter()
    # A process has one provider, and other tests may have set it.
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(scrubbing(memory, names)))
    return memory
