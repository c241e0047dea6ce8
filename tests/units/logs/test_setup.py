"""Whoever logs, at whatever level: no argument, header or exception text gets out of the process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
import structlog
from captured import calling, captured

from hardening.logs import setup as logs
from hardening.logs.record import WITHHELD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Not in the functions that log: a literal of theirs is written.
SENT = {"city": "Bern", "pin": 999, "slug": "alice-smith"}
LEVELS = ["debug", "info", "warning", "error"]
LIBRARIES = ["", "author.module", "mcp.server", "sse_starlette.sse", "uvicorn.error", "asyncpg", "asyncio", "httpx2"]


class Sentinel:
    """A value that must not get out, and a way to see whether it did."""

    def __init__(self, text: str) -> None:
        self.text = text
        raw = text.encode()
        coded = {base64.b64encode(b"x" * pad + raw + b"yyy").decode()[4 : 4 + len(text)] for pad in range(3)}
        self.forms = {text, text.upper(), text.lower(), raw.hex(), quote(text, safe=""), json.dumps(text)[1:-1], *coded}

    def found(self, output: str) -> list[str]:
        """Return the forms of it that are in the output."""
        return [form for form in self.forms if form in output]


@pytest.fixture
def sentinel(tmp_path: Path) -> Sentinel:
    """A value that no code of this test holds as a literal."""
    return Sentinel(f'S3ntinel "{tmp_path.name[:12]}"')


def fail(value: str) -> None:
    """Raise what holds the value, twice."""
    raise KeyError(value) from RuntimeError(value)


def careless_structlog(value: str) -> None:
    """What an author may do with structlog."""
    log = structlog.get_logger()
    log.debug(f"debug {value}", kind=value)  # noqa: G004 - the point
    log.info("looked up", city=value, kind=value, reference=f"<{value}>", arguments={"city": value}, count=3)
    log.info("looked up %s", value)
    log.warning(value, reason=repr(value), state=value.upper(), **{value: 1})
    log.bind(kind=base64.b64encode(value.encode()).decode()).error("bound", source=quote(value), step=value[2:-2])
    try:
        int(value)
    except ValueError as error:
        log.exception("failed", reason=str(error), error_type=value)
        log.warning("failed again", exc_info=error, stack_info=True)


def careless_logging(value: str) -> None:
    """What an author, the SDK or any library may do with the standard library."""
    for name in LIBRARIES:
        log = logging.getLogger(name)
        log.debug("chunk: %s", value)
        log.info(f"request {value}")  # noqa: G004 - the point
        log.warning("bad %(a)s", {"a": value}, extra={"city": value})
        log.warning(value)
        log.log(35, "%s", value, stack_info=True)
        try:
            fail(value)
        except KeyError:
            log.exception("failed for %s", value)
        # One argument too few: the library would print the value with its complaint.
        log.error("many %s %s", value)  # noqa: PLE1206
    logging.getLogger(f"named.after.{value}").error("hello")
    logging.getLogger("author").handle(logging.makeLogRecord({"msg": value, "levelno": 40, "funcName": value}))
    warnings.warn(f"deprecated {value}", UserWarning, stacklevel=1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("where", ["call", "task", "thread", "bare thread"])
@pytest.mark.filterwarnings("default")
async def test_a_careless_author_leaks_nothing(sentinel: Sentinel, tmp_path: Path, level: str, where: str) -> None:
    """Every logger at every level, in tasks and threads: the value is nowhere in the output."""

    def act() -> None:
        careless_structlog(sentinel.text)
        careless_logging(sentinel.text)

    async def task() -> None:
        act()

    with captured(tmp_path / "log", level) as log, calling({"city": sentinel.text}):
        if where == "call":
            act()
        elif where == "task":
            await asyncio.create_task(task())
        elif where == "thread":
            await asyncio.to_thread(act)
        else:
            thread = threading.Thread(target=act)
            thread.start()
            thread.join(20)
        output = log.text()
    assert sentinel.found(output) == []
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) >= 2
    if where != "bare thread":
        of_call = [line for line in lines if line["msg"] != "log field not declared"]
        assert {line["request_id"] for line in of_call} == {"0123456789abcdef"}
        assert {line["trace_id"] for line in of_call} == {"5" * 32}


def test_the_sweep_sees_a_leak(sentinel: Sentinel) -> None:
    """Control: the same careless code with loggers as they come leaks, and the sweep notices."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        logging.getLogger("author").warning("bad %s", sentinel.text)
    finally:
        root.removeHandler(handler)
    structlog.wrap_logger(structlog.PrintLogger(output), processors=[structlog.processors.JSONRenderer()]).critical(
        "looked up", kind=base64.b64encode(f"xx{sentinel.text}yyy".encode()).decode()
    )
    assert len(sentinel.found(output.getvalue())) >= 2


def test_a_foreign_line_is_still_of_use(tmp_path: Path) -> None:
    """A library's record is reduced to its logger, its place, its literal text and the exception's type."""
    code = """
def act(value):
    log = logging.getLogger("some.library")
    try:
        raise KeyError(value)
    except KeyError:
        log.exception("cannot reach %s", value)
    log.warning("put together " + value)
"""
    library: dict[str, Any] = {"logging": logging, "__name__": "some.library"}
    exec(compile(code, "/venv/lib/site-packages/some/library.py", "exec"), library)  # noqa: S102 - to be installed
    with captured(tmp_path / "log") as log:
        library["act"]("10.0.0.1")
        first, second = log.lines()
    assert (first["level"], first["msg"], first["logger"]) == ("error", "cannot reach %s", "some.library")
    assert first["exception"][0]["type"] == "KeyError"
    assert second["msg"] == WITHHELD
    assert "some.library:act:" in second["where"]
    assert "10.0.0.1" not in log.path.read_text("utf-8")


@pytest.mark.parametrize("logger", [structlog.get_logger(), logging.getLogger("author")])
def test_arguments_of_a_text_are_put_in_and_scrubbed(tmp_path: Path, logger: Any) -> None:
    """`%s` means what it means in structlog and logging; each value is scrubbed by itself."""

    class Order:
        """Something that could print anything."""

    sent = SENT
    with captured(tmp_path / "log", "debug") as log, calling(sent):
        logger.warning("looked up %s, %d rows, %s", sent["city"], 3, ValueError(sent["city"]))
        logger.info("looked up %(city)s in %(seconds).1f s", {"city": "Basel", "seconds": 0.25})
        logger.error("pin %s of %s at %s", sent["pin"], Order(), UUID(int=5))
        logger.debug("too few %s %s", "Basel")  # noqa: PLE1206 - the point
        logger.warning("scrubbed %d", sent["pin"])
        logger.warning("no arguments, 100%")
        said = [line["msg"] for line in log.lines()]
    assert said == [
        "looked up [scrubbed], 3 rows, ValueError",
        "looked up Basel in 0.2 s",
        "pin [scrubbed] of <object> at 00000000-0000-0000-0000-000000000005",
        "too few %s %s",
        "scrubbed %d",
        "no arguments, 100%",
    ]


def test_what_is_put_around_a_logger_does_not_hide_its_text(tmp_path: Path) -> None:
    """A literal is one when a helper, or a tracer that replaces methods of loggers, hands it on."""

    def note(text: str) -> None:
        structlog.get_logger().info(text)

    with captured(tmp_path / "log") as log:
        note("a literal of the caller")
        note("put together".upper())
        first, second = log.lines()
    assert first["msg"] == "a literal of the caller"
    assert second["msg"] == WITHHELD


def test_fields_that_the_settings_declare_are_written(tmp_path: Path) -> None:
    """Declared fields of their type are written, a number as it is, a text scrubbed; others are named once, counted."""
    with captured(tmp_path / "log") as log, calling({"order_id": 12345, "customer": "Alice Smith"}):
        log.logs.declare({"order_id": int, "customer_name": str, "paid": bool})
        logger = structlog.get_logger()
        for _ in range(2):
            logger.info("job done", order_id=12345, customer_name=SENT["slug"], paid=True, color="red")
        logger.info("job done", order_id="12345", customer_name="Bob")
        logger.info("job done", **{"made up".upper(): 1})
        lines = log.lines()
        assert log.logs.dropped_fields == 4
    told = [line for line in lines if line["msg"] == "log field not declared"]
    assert [line["field"] for line in told] == ["color", "order_id"]
    first, *_, third, last = [line for line in lines if line["msg"] == "job done"]
    assert (first["order_id"], first["customer_name"], first["paid"]) == (12345, "[scrubbed]", True)
    assert "color" not in first
    assert (third["customer_name"], third["dropped_fields"]) == ("Bob", 1)
    assert "order_id" not in third
    assert last["dropped_fields"] == 1


def test_a_warning_says_what_and_where(tmp_path: Path) -> None:
    """`warnings` go the same way: category and place, not the text, nor what was named after a value."""
    made = type("Value", (UserWarning,), {})
    with captured(tmp_path / "log") as log:
        warnings.showwarning("text with a value", DeprecationWarning, structlog.__file__, 12)
        warnings.showwarning("text with a value", made, "/srv/app/value.py", 12)
        said = [(line["msg"], line["kind"], line["source"]) for line in log.lines()]
    assert said == [
        ("python warning", "DeprecationWarning", "__init__.py:12"),
        ("python warning", "Warning", "generated code"),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_levels(tmp_path: Path, level: str) -> None:
    """Lines below the level are not made; chatty libraries speak at debug only."""
    with captured(tmp_path / "log", level) as log:
        structlog_log = structlog.get_logger()
        for name in LEVELS:
            getattr(structlog_log, name)("ours")
            getattr(logging.getLogger("author"), name)("theirs")
            getattr(logging.getLogger("mcp.server"), name)("chatty")
        lines = log.lines()
    shown = LEVELS[LEVELS.index(level) :]
    assert [line["level"] for line in lines if line["msg"] == "ours"] == shown
    assert [line["level"] for line in lines if line["msg"] == "theirs"] == shown
    chatty = shown if level == "debug" else [name for name in shown if name in {"warning", "error"}]
    assert [line["level"] for line in lines if line["msg"] == "chatty"] == chatty


def test_a_logger_that_is_in_use_follows_a_new_configuration(tmp_path: Path) -> None:
    """Loggers of modules keep working when the log is set up again, as tests do."""
    log = structlog.get_logger()
    for name in ("one", "two"):
        with captured(tmp_path / name) as output:
            log.info("here")
            assert [line["msg"] for line in output.lines()] == ["here"]


def test_a_handler_of_a_library_is_taken_away(tmp_path: Path) -> None:
    """A logger that brought its own way out is led through ours."""
    output = io.StringIO()
    library = logging.getLogger("library.with.handler")
    library.addHandler(logging.StreamHandler(output))
    library.propagate = False
    with captured(tmp_path / "log") as log:
        library.warning("here")
        assert [line["msg"] for line in log.lines()] == ["here"]
    assert output.getvalue() == ""


def test_a_line_that_cannot_be_made_is_a_line(tmp_path: Path) -> None:
    """A fault of the log costs the line, never the call."""

    class Hostile(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise RuntimeError

    with captured(tmp_path / "log") as log, calling({"city": "somewhere"}):
        structlog.get_logger().info("text", kind=Hostile("value"))
        (line,) = log.lines()
    assert line["msg"] == "a log line could not be made"


@pytest.mark.parametrize("value", ["\ud800", chr(0x9B) + "2J", "\x1b[2J", "\u2028", "é", "🜁"])
def test_what_reads_the_log_is_not_steered(tmp_path: Path, value: str) -> None:
    """Half a surrogate pair, control characters and line separators leave one line of JSON in ASCII."""

    def act(value: str) -> None:
        structlog.get_logger().info("odd", kind=value)

    with captured(tmp_path / "log") as log:
        act(value)
        text = log.text()
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["kind"] == value


def test_a_handler_that_fails_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library does not print the arguments of a record that it cannot format."""
    library = logging.getLogger("library.with.late.handler")
    handler = logging.StreamHandler(io.StringIO())
    with captured(tmp_path / "log"):
        library.addHandler(handler)
        library.warning("%d", "a value")
        library.removeHandler(handler)
    assert capsys.readouterr().err == ""


def test_known_words_are_told_from_what_callers_make_up(tmp_path: Path) -> None:
    """Tools that the server declares are named; kinds of failure survive an argument of the same text."""

    def act(kind: str) -> None:
        structlog.get_logger().info("text", error_code=kind)

    with captured(tmp_path / "log") as log, calling({"a": "not_found"}, tool_name="forecast"):
        act("not_found")
        log.logs.allow_words({"forecast"})
        act("not_found")
        first, second = log.lines()
    assert (first["tool_name"], second["tool_name"]) == ("unknown", "forecast")
    assert second["error_code"] == "not_found"


def test_last_words_come_out_at_once(tmp_path: Path) -> None:
    """A process that is about to end writes one line past the queue."""
    with captured(tmp_path / "log") as log:
        logs.write_final_line("deadline passed", calls=["a", "b"], city="Bern")
        line = json.loads(log.path.read_text().strip())
    assert (line["level"], line["msg"], line["calls"]) == ("critical", "deadline passed", ["a", "b"])
    assert line["dropped_fields"] == 1


def test_a_logger_in_use_follows_a_later_level(tmp_path: Path) -> None:
    """A command sets another level than the server; a logger that has written already takes the new one."""
    log = structlog.get_logger()
    with captured(tmp_path / "quiet", level="warning") as quiet:
        log.info("one")
        log.warning("two")
        first = [line["msg"] for line in quiet.lines()]
    with captured(tmp_path / "loud", level="debug") as loud:
        log.debug("three")
        log.info("four")
        second = [line["msg"] for line in loud.lines()]

    assert (first, second) == (["two"], ["three", "four"])


def test_dropped_lines_are_reported(tmp_path: Path) -> None:
    """The line after a loss says how many are missing."""
    with captured(tmp_path / "log") as log:
        log.logs.writer.put(b"x" * 100_000)
        structlog.get_logger().info("after")
        first, second = log.lines()
    assert (first["msg"], first["dropped"], second["msg"]) == ("log lines dropped", 1, "after")
    assert first["level"] == "warning"


def test_the_standard_library_gets_its_loggers_back(tmp_path: Path) -> None:
    """Closing leaves no handler of ours behind."""
    before: list[Any] = logging.getLogger().handlers[:]
    with captured(tmp_path / "log"):
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before


def _best(action: Callable[[], object], times: int) -> float:
    """Return microseconds for one of `times`, in the best of five rounds."""
    rounds: list[float] = []
    for _ in range(5):
        before = time.perf_counter()
        for _ in range(times):
            action()
        rounds.append((time.perf_counter() - before) / times * 1e6)
    return min(rounds)


def test_a_line_is_cheap(tmp_path: Path) -> None:
    """The line of a call costs a fraction of the call: less than 100 microseconds on a slow machine."""
    log = structlog.get_logger()
    with captured(tmp_path / "log"), calling({"city": "Winterthur", "days": 3, "unit": "celsius"}):
        cost = _best(
            lambda: log.info("tool call", duration_ms=1.5, outcome="ok", error_code=None, notifications_sent=0), 500
        )
    assert cost < 100


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_cloud_logging_reads_severity_and_text(tmp_path: Path, level: str) -> None:
    """`MCP_LOG_FORMAT=gcp` adds the two fields that Cloud Logging looks for; all others are as ever."""
    with captured(tmp_path / "log", level="debug", fmt="gcp") as log:
        logging.getLogger("author").log(getattr(logging, level.upper()), "stored")
        (line,) = log.lines()

    assert (line["severity"], line["message"]) == (level.upper(), "stored")
    assert (line["level"], line["msg"]) == (level, "stored")
