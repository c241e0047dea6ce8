"""What a line of the log holds and when there is one, each decision alone: one row for each case."""

from __future__ import annotations

import json
import logging
import time
from inspect import currentframe
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from captured import calling, captured, exchange

from hardening.exchange import current
from hardening.logs import access_log, call_log, past_redaction, setup, stdio, throttle
from hardening.logs.access_log import AccessLog
from hardening.logs.console import Console
from hardening.logs.fields import FIELDS, RESERVED, cut
from hardening.logs.origin import exception_of, names_field
from hardening.logs.recent import RecentValues
from hardening.logs.record import Lines, hashed, to_gcp_line
from hardening.logs.redaction import RECENT, leaks_recent
from hardening.logs.stdio import StreamCounter
from hardening.response import Response

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = "tool_name prompt_name outcome error_type layer rpc_method route field setting version schema host signal"
TEXTS += " stream logger where backend key_id kind state step reason source"
NUMBERS = "duration_ms notifications_sent retry_after suppressed port pid exit_code in_flight streams sessions dropped"
NUMBERS += (
    " pool_size pool_idle waiting count total size bytes rows attempt share remaining cost seconds timeout_seconds"
)


def test_each_field_has_its_type() -> None:
    """What reads the log can rely on it; a type that is wider lets more of a call through."""
    types: dict[str, tuple[type, ...]] = dict.fromkeys(TEXTS.split(), (str,)) | dict.fromkeys(
        NUMBERS.split(), (int, float)
    )
    types |= dict.fromkeys(("error_code", "status", "reference", "limit"), (int, str))
    types |= {"calls": (list, tuple), "settings": (dict,)}
    types |= dict.fromkeys(("cached", "retryable", "ok"), (bool,))
    assert {name: row[0] for name, row in FIELDS.items()} == types
    assert {"settings", "tool_name", "prompt_name"} == RESERVED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x" * 128, "x" * 128),
        ("x" * 129, "x" * 127 + "…"),
        (["x" * 129, 1, 1.5, True, None, [1], {}], ["x" * 127 + "…", 1, 1.5, True, None, "…", "…"]),
        (tuple(range(200)), list(range(128))),
        ({number: [1] for number in range(200)}, {str(number): "…" for number in range(128)}),
        (7, 7),
        (None, None),
    ],
    ids=str,
)
def test_a_value_is_cut(value: object, expected: object) -> None:
    """128 characters, 128 items, and nothing inside of what is inside."""
    assert cut(value) == expected


class Counted:
    """What metrics were told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def refused(self, layer: str, status: int) -> None:
        """Note a refusal."""
        self.told.append((layer, status))

    def requested(self, era: str, *, probe: bool) -> None:
        """Note a request."""
        self.told.append((era, probe))

    def observe_call(self, *given: Any, progress_requested: bool) -> None:
        """Note a call."""
        self.told.append((*given, progress_requested))


ASKED = ("modern", False)


@pytest.mark.parametrize(
    ("given", "line", "counted"),
    [
        ({"status": 200}, None, [ASKED]),
        ({"status": 399}, None, [ASKED]),
        ({"status": 400}, ("protocol", None, None, 400), [ASKED, ("protocol", 400)]),
        ({"status": 499, "logged": True}, None, [ASKED]),
        ({"status": 500, "logged": True}, ("protocol", None, None, 500), [ASKED, ("protocol", 500)]),
        ({"status": 200, "rpc_error": -32601}, ("protocol", None, -32601, 200), [ASKED, ("protocol", 200)]),
        ({"status": 200, "rpc_error": -32601, "logged": True}, None, [ASKED]),
        ({"status": 429, "refused_by": "rate", "limit": "a"}, ("rate", "a", None, 429), [ASKED, ("rate", 429)]),
        (
            {"status": 401, "refused_by": "authentication", "reason": "expired", "rpc_error": -1},
            ("authentication", None, "expired", 401),
            [ASKED, ("authentication", 401)],
        ),
        # An answer of a guard, and no refusal.
        ({"status": 200, "refused_by": "metadata", "path": "/x"}, None, []),
        ({"status": 399, "refused_by": "metadata", "path": "/x"}, None, []),
        ({"status": 400, "refused_by": "metadata", "path": "/x"}, ("metadata", None, None, 400), [("metadata", 400)]),
        ({"status": 503, "refused_by": "health", "path": "/readyz"}, None, [("health", 503)]),
        ({"status": 500, "refused_by": "metrics", "path": "/metrics"}, None, [("metrics", 500)]),
        ({"status": 200, "era": "legacy", "probe": True}, None, [("legacy", True)]),
    ],
    ids=str,
)
def test_what_of_a_request_is_a_line_and_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], line: Any, counted: list[Any]
) -> None:
    """Refusals and faults, once each, in milliseconds; health checks and what a line of a call has told are none."""
    monkeypatch.setattr(access_log, "time", SimpleNamespace(monotonic=lambda: 10.25046))
    path = given.get("path", "/mcp")
    one = exchange(started=10.0, **{name: value for name, value in given.items() if name != "path"})
    one.path = path
    metrics = Counted()
    with captured(tmp_path / "log") as log:
        AccessLog(metrics, clock=lambda: 5.0)(one)  # type: ignore[arg-type]
        AccessLog(clock=lambda: 5.0)(exchange(status=200))
        lines = log.lines()
    assert metrics.told == counted
    found = [(one["layer"], one["limit"], one["error_code"], one["status"]) for one in lines]
    assert found == ([] if line is None else [line])
    assert [(one["duration_ms"], one["suppressed"]) for one in lines] == [(250.5, 0)] * len(found)


def test_connections_are_refused_with_five_lines_a_second(tmp_path: Path) -> None:
    """Each is counted; the next line says how many were left out since."""
    now, metrics = [5.0], Counted()
    with captured(tmp_path / "log") as log:
        access = AccessLog(metrics, clock=lambda: now[0])  # type: ignore[arg-type]
        for _ in range(8):
            access.connection("abc", Response(503, "connections", "Too many."))
        now[0] = 6.0
        for _ in range(2):
            access.connection("def", Response(408, "head_timeout", "Too slow."))
        AccessLog(clock=lambda: 5.0).connection("ghi", Response(408, "head_timeout", "Too slow."))
        lines = log.lines()
    assert metrics.told == [("connection", 503)] * 8 + [("connection", 408)] * 2
    assert {(line["msg"], line["layer"]) for line in lines} == {("refused", "connection")}
    shown = [(line["limit"], line["status"], line["reference"], line["suppressed"]) for line in lines]
    later = [("head_timeout", 408, "def", 3), ("head_timeout", 408, "def", 0), ("head_timeout", 408, "ghi", 0)]
    assert shown == [("connections", 503, "abc", 0)] * 5 + later


@pytest.mark.parametrize(
    ("outcome", "ended", "code"),
    [("ok", "ok", None), ("cancelled", "cancelled", "cancelled"), ("busy", "error", "busy")],
)
@pytest.mark.parametrize("token", [None, 0, "p"])
def test_a_call_is_one_line_and_one_count(
    tmp_path: Path, outcome: str, ended: str, code: str | None, token: object
) -> None:
    """Tool, outcome, kind of failure, milliseconds, events; whether progress was asked for is for the metric."""
    meta = {} if token is None else {"progressToken": token}
    one = exchange(notifications_sent=3, params={"_meta": meta})
    metrics = Counted()
    with captured(tmp_path / "log") as log:
        call_log.log_call("echo", outcome, 0.25049, one, metrics)  # type: ignore[arg-type]
        call_log.log_call("echo", outcome, 0.25049, None, None)
        call_log.log_call("echo", outcome, 0.25049, None, metrics)  # type: ignore[arg-type]
        first, second, _ = log.lines()
    assert one.logged
    assert metrics.told == [
        ("echo", ended, code, 0.25049, 3, token is not None),
        ("echo", ended, code, 0.25049, 0, False),
    ]
    for line, sent in ((first, 3), (second, 0)):
        shown = [line[name] for name in ("msg", "duration_ms", "outcome", "error_code", "notifications_sent")]
        assert shown == ["tool call", 250.5, ended, code, sent]


@pytest.mark.parametrize(
    ("kind", "text"), [("prompt", "prompt call"), ("resource", "resource read"), ("", "completion call")]
)
@pytest.mark.parametrize(("outcome", "ended", "code"), [("ok", "ok", None), ("internal", "error", "internal")])
def test_prompts_and_resources_are_a_line_too(  # noqa: PLR0913, PLR0917 - the row
    tmp_path: Path, kind: str, text: str, outcome: str, ended: str, code: str | None
) -> None:
    """Only a prompt is named; the request has its line then."""
    one = exchange()
    token = current.set(one)
    try:
        with captured(tmp_path / "log") as log:
            call_log.log_other(kind, "greet", outcome, 1.5)
            (line,) = log.lines()
    finally:
        current.reset(token)
    assert one.logged
    assert [line[name] for name in ("msg", "duration_ms", "outcome", "error_code")] == [text, 1500, ended, code]
    assert line.get("prompt_name", "") in ({"greet", "unknown", "[scrubbed]"} if kind == "prompt" else {""})


def test_the_bound_of_lines_is_for_each_second_and_key() -> None:
    """Five; a second is one of the clock. Errors are always written, and what a line of ours says better never."""
    now = [0.0]
    admit = throttle.Throttle(lambda: now[0])
    assert [admit("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert admit("b")
    now[0] = 0.99
    assert not admit("a")
    now[0] = 1.0
    assert admit("a")

    def passes(level: int, text: str) -> bool:
        return throttle.RATE_LIMITED.filter(logging.LogRecord("x", level, "", 0, text, None, None))

    assert not passes(logging.WARNING, "Invalid HTTP request received.")
    assert passes(logging.ERROR, "Invalid HTTP request received.")
    assert passes(logging.WARNING, f"a text of its own {time.monotonic()}")


def test_a_line_of_a_call_has_exactly_this_context() -> None:
    """Who, which request, which session, in which era; what is made up is unknown."""
    given: dict[str, Any] = {"session_id": "a-session", "probe": True, "era": "legacy", "tool_name": "echo"}
    with calling(**given):
        line = Lines({"echo"}).make("info", "a text", {}, None, currentframe())
    assert line.pop("ts")
    assert line == {
        "level": "info",
        "msg": "a text",
        "request_id": "0123456789abcdef",
        "trace_id": "5" * 32,
        "session_id": hashed("a-session"),
        "principal": "alice",
        "client_name": "a-client/1.0",
        "probe": True,
        "era": "legacy",
        "protocol_version": "2026-07-28",
        "tool_name": "echo",
    }
    assert len(hashed("a-session")) == 16
    with calling(principal=None, client_name="", protocol_version="2026-07-28x", tool_name="made up"):
        line = Lines({"echo"}).make("info", "a text", {}, None, currentframe())
    named = ("session_id", "principal", "client_name", "protocol_version", "tool_name")
    assert [line[name] for name in named] == [None, None, None, "unknown", "unknown"]


def test_fields_without_a_place_are_counted_and_named_once() -> None:
    """A hundred names at most, however many an author makes up."""
    lines = Lines(())
    for _ in range(2):
        line = lines.make("info", "a text", {"city": 1, "size": 2, "settings": {}}, None, currentframe())
        assert line["dropped_fields"] == 2
        assert line["size"] == 2
    assert lines.dropped_fields == 4
    assert lines.undeclared == ["city", "settings"]


def test_the_readable_form_has_a_colour_for_each_level() -> None:
    """Level, text and what is not on every line."""
    line: dict[str, object] = {"ts": "2026-11-22T09:32:11.123Z", "msg": "text", "trace_id": "t", "principal": "p"}
    line |= {"era": "modern", "probe": False, "request_id": "r", "kind": None, "count": 1}
    for level, colour in (("debug", 2), ("info", 36), ("warning", 33), ("error", 31), ("critical", 41)):
        head = f"09:32:11.123 {level:<8} text"
        rest = ' request_id="r" count=1'
        assert Console(colour=True).render(line | {"level": level}) == f"\x1b[{colour}m{head}\x1b[0m{rest}".encode()
        assert Console(colour=False).render(line | {"level": level}) == f"{head}{rest}".encode()


def test_cloud_logging_gets_two_more_fields() -> None:
    """First, and the others as ever."""
    line: dict[str, object] = {"level": "warning", "msg": "a text", "count": 1}
    assert to_gcp_line(line) == b'{"severity":"WARNING","message":"a text","level":"warning","msg":"a text","count":1}'


@pytest.mark.parametrize(("later", "known"), [(40.0, True), (320.0, True), (320.01, False)])
def test_a_value_is_remembered_for_eight_times_forty_seconds(later: float, known: bool) -> None:  # noqa: FBT001 - the row
    """And not a moment longer."""
    now = [1000.0]
    recent = RecentValues(lambda: now[0])
    recent.add({"wolpertinger"}, 12)
    now[0] += later
    assert recent.holds(("wolpertinger", "wolpertinger")) is known


def test_what_is_remembered_is_bounded_in_number() -> None:
    """Eight parts of 131,072 characters, a call counting 64 more; a part also ends after 40 s."""
    now = [1000.0]
    recent = RecentValues(lambda: now[0])
    parts = recent._generations  # noqa: SLF001 - its size is the promise
    recent.add({"first value"}, 131_072 - 64)
    recent.add(set(), 0)
    assert len(parts) == 1
    assert parts[0].characters == 131_072 + 64
    recent.add(set(), 0)
    assert [part.characters for part in parts] == [131_136, 64]
    now[0] += 40.0
    recent.add(set(), 0)
    assert len(parts) == 2
    now[0] += 0.01
    recent.add(set(), 0)
    assert len(parts) == 3
    for _ in range(20):
        recent.add(set(), 140_000)
    assert len(parts) == 8
    assert not recent.holds(("first value", "firstvalue"))


def test_a_call_that_holds_more_counts_for_whole_answers_only() -> None:
    """Once it is forgotten, lines of nobody are compared as before."""
    now = [1000.0]
    recent = RecentValues(lambda: now[0])
    recent.add({"a value"}, 7)
    assert not recent.holds(("other", "other"), whole=True)
    recent.add({"a value"}, 7, unread=True)
    assert recent.holds(("other", "other"), whole=True)
    assert not recent.holds(("other", "other"))
    now[0] += 320.01
    assert not recent.holds(("other", "other"), whole=True)


def test_what_is_written_astray_is_one_line_a_second(tmp_path: Path) -> None:
    """Bytes and writes since the last line; nothing written is no line."""
    now = [5.0]
    counter = StreamCounter("stdout", 1, lambda: now[0])
    with captured(tmp_path / "log") as log:
        StreamCounter("stderr", 2, lambda: 5.0).report()
        assert counter.write(b"abc") == 3
        counter.note(4)
        now[0] = 5.99
        counter.note(5)
        now[0] = 6.0
        counter.note(6)
        counter.note(7)
        counter.report()
        lines = [(line["msg"], line["stream"], line["size"], line["count"]) for line in log.lines()]
    shown = [(3, 1), (15, 3), (7, 1)]
    assert lines == [("stray output", "stdout", size, count) for size, count in shown]
    assert (counter.writable(), counter.fileno()) == (True, 1)
    counter.close()
    assert counter.write(b"x") == 1
    text = counter.text()
    assert (text.encoding, text.errors, text.line_buffering) == ("utf-8", "replace", True)


def test_what_nobody_caught_is_told_by_where_it_was(tmp_path: Path) -> None:
    """Interpreter, thread, finalizer and event loop, each in a line of its own with the type."""
    error = KeyError("secret")
    with captured(tmp_path / "log") as log:
        stdio._uncaught(KeyError, error, None)  # noqa: SLF001 - what the interpreter calls
        stdio._uncaught_in_thread(SimpleNamespace(exc_value=error))  # type: ignore[arg-type]  # noqa: SLF001
        stdio._unraisable(SimpleNamespace(exc_value=error))  # noqa: SLF001
        for key in ("task", "future", "handle", "protocol", "transport", "other"):
            stdio._loop_error(None, {key: 1, "exception": error})  # type: ignore[arg-type]  # noqa: SLF001
        stdio._loop_error(None, {"message": "x"})  # type: ignore[arg-type]  # noqa: SLF001
        lines = log.lines()
    assert [(line["level"], line["msg"], line.get("kind")) for line in lines] == [
        ("critical", "uncaught exception", None),
        ("error", "uncaught exception in a thread", None),
        ("error", "exception that could not be raised", None),
        *(
            ("error", "event loop error", kind)
            for kind in ("task", "future", "handle", "protocol", "transport", "loop")
        ),
        ("error", "event loop error", "loop"),
    ]
    assert [line["exception"][0]["type"] for line in lines[:-1]] == ["KeyError"] * 9
    assert "exception" not in lines[-1]


def test_what_a_loop_cannot_hand_on_becomes_a_line() -> None:
    """The loop of the server gets the handler, and keeps its threads, which `services` has given it."""
    given: list[Any] = []
    loop: Any = SimpleNamespace(set_exception_handler=given.append)
    stdio.StdioCapture.watch(None, loop)  # type: ignore[arg-type] - nothing of it is used
    assert given == [stdio._loop_error]  # noqa: SLF001


class Sentry:
    """The package, as far as it is asked."""

    def __init__(self, options: dict[str, Any], *, there: bool = True) -> None:
        self._options = options
        self._there = there

    def is_initialized(self) -> bool:
        """Return whether it was set up."""
        return self._there

    def get_client(self) -> Any:
        """Return what has the options."""
        return SimpleNamespace(options=self._options)


QUIET: dict[str, Any] = {
    "include_local_variables": False,
    "default_integrations": False,
    "auto_enabling_integrations": False,
    "max_breadcrumbs": 0,
    "before_send": print,
}


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (None, False),
        (Sentry(QUIET), False),
        (Sentry({}, there=False), False),
        (Sentry({}), True),
        *((Sentry(QUIET | {name: value}), True) for name, value in (("before_send", None), ("max_breadcrumbs", 100))),
        *((Sentry(QUIET | {name: True}), True) for name in list(QUIET)[:3]),
    ],
)
def test_what_sentry_may_send_is_told(monkeypatch: pytest.MonkeyPatch, package: Sentry | None, told: bool) -> None:  # noqa: FBT001
    """Any one of its defaults is enough."""
    monkeypatch.setitem(past_redaction.sys.modules, "sentry_sdk", package)  # type: ignore[arg-type]
    assert past_redaction._sentry_sends_values() is told  # noqa: SLF001


def test_a_last_line_without_a_log_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process may end before its log was set up; later the line is written at once, and is critical."""
    monkeypatch.setattr(setup._Sink, "logs", None)  # noqa: SLF001 - as at the start of a process
    setup.write_final_line("stopped before it served", signal="SIGTERM")
    with captured(tmp_path / "log"):
        setup.write_final_line("stopped before it served", signal="SIGTERM")
        (line,) = [json.loads(text) for text in (tmp_path / "log").read_text("utf-8").splitlines() if text]
    assert (line["level"], line["msg"], line["signal"]) == ("critical", "stopped before it served", "SIGTERM")


def test_what_structlog_adds_is_no_field(tmp_path: Path) -> None:
    """An exception is described, a stack is not written, and neither counts as dropped."""
    log = structlog.get_logger()
    with captured(tmp_path / "log") as seen:
        try:
            missing({})
        except KeyError as error:
            log.warning("a text", exc_info=True, stack_info=True)
            log.warning("a text", exc_info=error)
        log.warning("a text", exc_info=False, stack_info=None)
        first, second, third = seen.lines()
    assert [one["exception"][0]["type"] for one in (first, second)] == ["KeyError"] * 2
    assert "exception" not in third
    assert not any("dropped_fields" in one for one in (first, second, third))


def missing(given: dict[str, int]) -> int:
    """Raise."""
    return given["missing"]


def test_a_name_of_a_field_is_told_when_it_stands_in_the_code() -> None:
    """One that was made at run time may be a value of a call."""
    frame = currentframe()
    assert dict(city=1)  # noqa: C408 - a keyword in this code
    assert names_field("city", frame)
    assert not names_field("made up", frame)
    assert not names_field("city", None)
    made: dict[str, Any] = {"currentframe": currentframe}
    exec("dict(city=1)\nframe = currentframe()", made)  # noqa: S102 - code that was made at run time
    assert not names_field("city", made["frame"])


def test_what_may_be_an_exception_is_looked_at() -> None:
    """The exception, the three that `sys.exc_info` returns, or true for the one that is being handled."""
    error = KeyError("x")
    assert exception_of(error) is error
    assert exception_of((KeyError, error, None)) is error
    assert exception_of((None, None, None)) is None
    assert exception_of(True) is None  # noqa: FBT003 - as loggers are given it
    try:
        missing({})
    except KeyError as handled:
        found = [exception_of(1) is handled, exception_of(None) is None]
    assert found == [True, True]


def test_a_text_is_compared_without_separators_too() -> None:
    """A value of a recent call is found between punctuation, and a text that nobody sent is not."""
    RECENT.add({"wolpertinger"}, 12)
    assert leaks_recent("W-o-l-p-e-r-t-i-n-g-e-r")
    assert leaks_recent("wolpertinger")
    assert not leaks_recent("W-o-l-f")


def test_the_thread_that_writes_ends_with_the_process(tmp_path: Path) -> None:
    """A reader that sleeps must not keep it."""
    with captured(tmp_path / "log") as log:
        thread = log.logs.writer._thread  # noqa: SLF001 - nobody else knows it
        assert (thread.daemon, thread.name) == (True, "log writer")
