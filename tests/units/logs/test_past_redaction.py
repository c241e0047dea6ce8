"""What libraries report by themselves: a documented way that sends no argument, and a line for every other."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from collector import Exports, collecting
from live import KEY, Process
from support.dev_server import free_port
from support.faults import redis
from wire import ERAS, Wire

from hardening.logs import past_redaction

SERVER = str(Path(__file__).with_name("reporting_server.py"))
PAGE = Path(__file__).parents[3] / "template/docs/operations.md"
SENTINEL = "S3ntinel-of-a-call"
(DOCUMENTED,) = [
    block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "sentry" in block
]
PLAIN = "import os, sentry_sdk\nsentry_sdk.init(os.environ['SENTRY_DSN'], traces_sample_rate=1.0)"
NOTHING = "pass"
# A handler at the first line, as of a library that is imported late.
FILE = """
import logging, os
class Later(logging.Filter):
    def filter(self, record):
        logger = logging.getLogger("author")
        if not logger.handlers:
            logger.addHandler(logging.FileHandler(os.environ["LOG_FILE"]))
        return True

logging.getLogger("author").addFilter(Later())
"""
INSTRUMENTED = "import sys; sys.modules['opentelemetry.instrumentation.asgi'] = sys"


async def reported(setup: str, **environment: str) -> tuple[Exports, list[str]]:
    """Call the tool in both eras; return what the collector has got, and the log."""
    with collecting() as (endpoint, sent):
        dsn = endpoint.replace("://", "://0123456789abcdef@") + "/1"
        with Process(SERVER, REPORTS=setup, SENTRY_DSN=dsn, **environment) as server:
            async with Wire(server.url, KEY) as wire:
                for era in ERAS:
                    reply = await wire.call(era, "report", {"text": SENTINEL})
                    assert reply.result["isError"]
            assert server.stop() == 0
    return sent, server.lines


def told(lines: list[str]) -> set[str]:
    """Return what the log says of others that report."""
    return {line["kind"] for line in map(json.loads, lines) if line["msg"] == "reported past the redaction"}


def shape(lines: list[str]) -> list[tuple[object, ...]]:
    """Return what is the same in two runs of each line of a call."""
    calls = [line for line in map(json.loads, lines) if line.get("tool_name")]
    return [(line["msg"], line["level"], line["era"], line.get("logger")) for line in calls]


async def test_sentry_as_documented_sends_no_argument() -> None:
    """Types and places of exceptions leave, nothing of a call does, and the log is as it is without Sentry."""
    sent, lines = await reported(DOCUMENTED)
    _, without = await reported(NOTHING)

    everything = b"\n".join(sent)
    assert everything.count(b'"type":"LookupError"') >= len(ERAS)
    assert b"look_up" in everything
    assert SENTINEL.encode() not in everything
    assert KEY.encode() not in everything
    assert told(lines) == set()
    assert shape(lines) == shape(without)
    assert SENTINEL not in "\n".join(lines)


async def test_sentry_with_its_defaults_is_named() -> None:
    """It sends what callers have sent: one line says so at the start, and the log holds nothing all the same."""
    sent, lines = await reported(PLAIN)

    assert SENTINEL.encode() in b"\n".join(sent)
    assert told(lines) == {"sentry_sdk"}
    assert SENTINEL not in "\n".join(lines)


async def test_a_handler_of_a_library_is_named(tmp_path: Path) -> None:
    """What it writes is its own decision; the log names its class."""
    file = tmp_path / "log"
    _, lines = await reported(FILE, LOG_FILE=str(file))

    assert told(lines) == {"logging.FileHandler"}
    assert SENTINEL in file.read_text("utf-8")
    assert SENTINEL not in "\n".join(lines)


async def test_instrumentations_are_named() -> None:
    """`opentelemetry-instrument` brings its own way out."""
    _, lines = await reported(INSTRUMENTED)

    assert told(lines) == {"opentelemetry.instrumentation"}


async def test_asyncio_in_debug_mode_shows_no_argument() -> None:
    """Slow callbacks are reported with what they were called with; of that nothing is written."""
    _, lines = await reported(NOTHING, PYTHONASYNCIODEBUG="1", PYTHONDEVMODE="1")

    assert told(lines) == set()
    assert SENTINEL not in "\n".join(lines)


async def test_nothing_of_ours_is_named(tmp_path: Path) -> None:
    """With Redis and a collector nothing goes past the redaction: a line at each start would be read by nobody."""
    port = free_port()
    with redis(tmp_path, port), collecting() as (endpoint, _):
        environment = {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        _, lines = await reported(NOTHING, **environment)

    assert {"started", "stopped"} <= {json.loads(line)["msg"] for line in lines}
    assert told(lines) == set()


def test_a_handler_that_does_nothing_is_no_handler() -> None:
    """Libraries add `NullHandler` so that nothing is printed."""
    logger = logging.getLogger("a library of this test")
    for handler in (logging.NullHandler(), logging.StreamHandler()):
        logger.addHandler(handler)

    found = list(past_redaction.handlers(logger))
    logger.handlers.clear()
    assert found == ["logging.StreamHandler"]
