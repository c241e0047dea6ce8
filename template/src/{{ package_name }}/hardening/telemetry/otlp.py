"""OpenTelemetry export over OTLP/HTTP: spans, durations of operations and sessions, where an `OTEL_*` endpoint is set.

What cannot be sent is one warning and no reason not to serve: platforms set these variables for every workload.

The standard variables mean what they mean elsewhere: endpoints, headers, timeouts and certificates of the exporter,
`OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
`OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL`. Only `http/protobuf` is spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace

from .operations import Operations
from .tracing import Names, leave_out, request_ids, scrubbing

if TYPE_CHECKING:
    import requests

    from ..server import HardenedServer

log = structlog.get_logger()

FLUSH_SECONDS = 2.0
SCOPE = "hardening"
SPOKEN = "http/protobuf"
Stop = Callable[[], object]


def wanted(signal: str) -> bool:
    """Return whether the variables ask for `traces` or `metrics`."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") or "otlp"
    return bool(_of(signal, "ENDPOINT")) and "otlp" in {name.strip() for name in exporters.split(",")}


def can_be_sent(signal: str) -> bool:
    """Return whether a signal is wanted and this process can send it; say why not."""
    if not wanted(signal):
        return False
    if not find_spec("opentelemetry.sdk"):
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT needs the extra, nothing is sent: uv sync --extra otel", kind=signal)
        return False
    if (_of(signal, "PROTOCOL") or SPOKEN) != SPOKEN:
        log.warning("OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf, nothing is sent", kind=signal)
        return False
    return True


def _of(signal: str, name: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
    return (own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") or "").strip()


async def start(server: HardenedServer) -> list[Stop]:
    """Send what is wanted from now on; return what stops it at the end."""
    prompts = frozenset(prompt.name for prompt in await server.list_prompts())
    names = Names(frozenset(server.declared), prompts)
    stops: list[Stop] = []
    for signal, opened in (("traces", _open_traces), ("metrics", _open_metrics)):
        if can_be_sent(signal):
            try:
                stops.append(opened(server, names))
            except (ValueError, RuntimeError):
                # The SDK reads the variables, and raises at a number that is none, and at a plug-in that is not there.
                log.warning("an OTEL variable cannot be read, nothing is sent", kind=signal, exc_info=True)
    leave_out(server.middleware)
    return stops


async def stop(stops: list[Stop]) -> None:
    """Send what is left, within a moment: an endpoint that is away must not hold the process."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await asyncio.gather(*(asyncio.to_thread(each) for each in stops))


def _resource(server: HardenedServer) -> Any:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {"service.name": server.name, "service.version": server.version, "service.instance.id": str(uuid.uuid4())}
    # What the operator says of the service counts for more than what the service says of itself.
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _session(signal: str) -> requests.Session | None:
    from .otlp_answers import bounded_session

    # A credential provider brings an HTTP client of its own, which is used instead.
    own = os.environ.get("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER") or os.environ.get(
        f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal.upper()}_CREDENTIAL_PROVIDER"
    )
    return None if own else bounded_session()


def _open_traces(server: HardenedServer, names: Names) -> Stop:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=_resource(server), id_generator=request_ids())
    exporter = OTLPSpanExporter(session=_session("traces"))
    provider.add_span_processor(BatchSpanProcessor(scrubbing(exporter, names)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _open_metrics(server: HardenedServer, names: Names) -> Stop:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    # Not the provider of the whole process: what an author's libraries measure is not known here.
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(session=_session("metrics")))
    provider = MeterProvider(resource=_resource(server), metric_readers=[reader])
    operations = Operations(provider.get_meter(SCOPE, server.version), names)
    server.middleware.insert(0, operations)
    server.on_session_end.append(operations.session_ended)
    return lambda: provider.shutdown(timeout_millis=int(FLUSH_SECONDS * 1000))
