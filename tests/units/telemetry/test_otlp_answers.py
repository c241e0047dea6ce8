"""Answers of a collector are bounded: whatever it sends, one export costs little memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from collector import Exports, Handler, collecting
from live import KEY, Process
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from support.hostile_host import CHUNKED, ENDLESS, OK, Hostile
from support.pgbouncer import certificates
from wire import Wire

from hardening.telemetry.otlp_answers import bounded_session

if TYPE_CHECKING:
    from collections.abc import Iterator

# What never ends, as fast as it can be read and byte by byte.
SLOW = {
    "a slow head": (OK + b"a:", b"x"),
    "a slow body": (CHUNKED, b"1\r\n \r\n"),
    "slow interim answers": (b"", b"HTTP/1.1 100 \r\n\r\n"),
}
# One export, in a process of its own: peak memory in MiB, CPU seconds, seconds by the clock.
EXPORT = """
import re, resource, sys, time, alias
alias.install()
from hardening.telemetry.otlp_answers import bounded_session
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
exporter = OTLPSpanExporter(sys.argv[1], session=bounded_session(), timeout=1)
span = TracerProvider().get_tracer("t").start_span("s")
span.end()
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
    return int(peak[1]) / 1024, usage.ru_utime + usage.ru_stime, time.monotonic()
before = used()
outcome = exporter.export([span])
print(outcome.name, *(after - was for after, was in zip(used(), before)))
"""


@contextlib.contextmanager
def hostile(first: bytes, more: bytes, pause_seconds: float = 0) -> Iterator[str]:
    """Serve one kind of answer."""
    host = Hostile(lambda _: (first, more), pause_seconds)
    try:
        yield host.url
    finally:
        host.close()


# The others are tried on the transport that this one uses.
@pytest.mark.parametrize("kind", ["interim answers", "fields", "chunks of one byte", "body", *SLOW])
def test_an_export_costs_no_more_than_its_bounds(kind: str) -> None:
    """With a timeout of 1 s: 16 MiB of memory, a second of CPU and 3 s by the clock at most, whatever comes."""
    answer = (*SLOW[kind], 0.05) if kind in SLOW else ENDLESS[kind]
    with hostile(*answer) as url:
        python_path = os.pathsep.join(filter(None, sys.path))
        run = subprocess.run(
            (sys.executable, "-c", EXPORT, f"{url}/v1/traces"),
            env=os.environ | {"PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    outcome, mebibytes, cpu, clock = run.stdout.split()

    assert outcome == "FAILURE"
    assert float(mebibytes) < 16
    assert float(cpu) < 1
    assert float(clock) < 3


@pytest.mark.parametrize(("size", "taken"), [(65_536, True), (65_537, False)])
def test_a_body_has_its_bound(size: int, taken: bool) -> None:  # noqa: FBT001
    """64 KiB are read, one byte more is not."""
    head = OK + f"content-length: {size}\r\n\r\n".encode()
    with (
        hostile(head + b"x" * size, b"") as url,
        contextlib.nullcontext() if taken else pytest.raises(requests.RequestException, match="too large"),
    ):
        assert len(bounded_session().post(url, b"a", timeout=5).content) == size


async def test_an_export_may_be_made_on_an_event_loop() -> None:
    """Whoever flushes inside a coroutine waits for the answer, as ever."""
    with collecting() as (endpoint, received):
        answer = bounded_session().post(endpoint, b"a", timeout=5)

    assert answer.status_code == 200
    assert received == [b"a"]


def test_no_redirect_is_followed() -> None:
    """What is exported goes where the variable says: the exporter asks for no redirects, and gets none."""
    with (
        collecting() as (elsewhere, received),
        hostile(
            OK.replace(b"200", b"307") + f"location: {elsewhere}\r\ncontent-length: 0\r\n\r\n".encode(), b""
        ) as url,
    ):
        answer = bounded_session().post(url, b"a", timeout=5, allow_redirects=False)

    assert answer.status_code == 307
    assert not received


def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `requests` does: HTTP_PROXY, unless NO_PROXY names the host."""
    with collecting() as (endpoint, received):
        monkeypatch.setenv("HTTP_PROXY", endpoint)
        session = bounded_session()
        through = session.post("http://collector.invalid:4318/v1/traces", b"a", timeout=5)
        monkeypatch.setenv("NO_PROXY", "collector.invalid")
        with pytest.raises(requests.ConnectionError):
            session.post("http://collector.invalid:4318/v1/traces", b"b", timeout=5)

    assert through.status_code == 200
    assert received == [b"a"]


def test_the_authority_of_the_variables_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_EXPORTER_OTLP_CERTIFICATE` is the one authority; without it a certificate of nobody known is refused."""
    # With these `requests` looks no further.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    folder = certificates(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as collector:
        Handler.received = Exports()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        collector.socket = context.wrap_socket(collector.socket, server_side=True)
        collector.handle_error = lambda *_: None
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        outcomes: list[str] = []
        for name in ("server", "other"):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(folder / f"{name}.crt"))
            exporter = OTLPSpanExporter(
                f"https://127.0.0.1:{collector.server_port}/v1/traces", session=bounded_session(), timeout=2
            )
            span = TracerProvider().get_tracer("t").start_span("s")
            span.end()
            outcomes.append(exporter.export([span]).name)
        collector.shutdown()

    assert outcomes == ["SUCCESS", "FAILURE"]


async def test_a_server_outlives_its_collector() -> None:
    """A collector that answers without end costs a server in service 16 MiB at most, and no call its answer."""
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with (
        hostile(*ENDLESS["body"]) as url,
        Process(OTEL_EXPORTER_OTLP_ENDPOINT=url, **quick) as process,
    ):
        async with Wire(process.url, KEY) as wire:
            await wire.call("modern", "echo", {"text": "hello"})
            before = memory(process)
            answers = []
            for _ in range(20):
                answers.append((await wire.call("modern", "echo", {"text": "hello"})).status)
                await asyncio.sleep(0.05)
        grown = memory(process) - before
        code = process.stop()

    assert answers == [200] * 20
    assert grown < 16
    assert code == 0


def memory(process: Process) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{process.child.pid}/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
