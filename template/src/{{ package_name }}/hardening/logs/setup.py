"""Configures structlog, `logging` and `warnings` to write redacted JSON lines through one writer.

structlog, the standard library's loggers at any level and `warnings` share one way out:
`record` makes the line, `writer` writes it without anybody waiting.
Stray output and uncaught exceptions are sent the same way by `stdio`.
No setting changes what may be written.
"""

from __future__ import annotations

import atexit
import logging
import warnings
from contextvars import Context
from inspect import currentframe
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from .. import errors
from . import past_redaction
from .console import Console
from .origin import caller, exception_of, is_library, warning_fields
from .record import Lines, now, to_gcp_line, to_line
from .redaction import RECENT
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping
    from types import FrameType

# Between the function that logs and the line; not the origin of a line.
LEVELS = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"), (10, "debug"))
MACHINERY = frozenset({"structlog", "logging", __name__})
# Their INFO lines repeat what our line of the call says; at debug they are let through.
# To `push_response` the client of Redis adds a handler for standard error, unless the logger is there already.
CHATTY = ("mcp", "sse_starlette", "uvicorn", "httpx2", "httpcore2", "asyncpg", "redis", "push_response")
WORDS = frozenset(
    {"ok", "error", "cancelled", "protocol_error", "stdout", "stderr", "descriptor"}
    | {"asyncio", "py.warnings", "uvicorn.error", "uvicorn.access", "postgres", "redis", "jwks"}
)


class Logs:
    """What `configure` set up, and the way to end it.

    Args:
        level: Lines below it are not made.
        fmt: `json`, `gcp` for Cloud Logging, or `console` for reading by eye.
        stream: Descriptor to write to.
    """

    def __init__(self, level: int, fmt: Literal["json", "gcp", "console"], stream: int) -> None:
        self.lines = Lines(WORDS | errors.KINDS)
        self.writer = Writer(stream, self._lost)
        self.render = {"json": to_line, "gcp": to_gcp_line}.get(fmt) or Console(colour=self.writer.terminal).render
        self.handler = _Handler(self)
        self._before = (logging.root.handlers[:], logging.root.level, warnings.showwarning)
        logging.raiseExceptions = False
        logging.root.handlers[:] = [self.handler]
        logging.root.setLevel(level)
        for name in CHATTY:
            quiet = logging.NOTSET if level <= logging.DEBUG else max(level, logging.WARNING)
            logging.getLogger(name).setLevel(quiet)
        for other in logging.root.manager.loggerDict.values():
            if isinstance(other, logging.Logger):
                other.handlers.clear()
                other.propagate = True
        warnings.showwarning = self._warned
        atexit.register(self.close)

    def declare(self, fields: Mapping[str, type], secrets: Iterable[str] = ()) -> None:
        """Let the author's lines have these fields too, and no line a secret of the settings.

        Args:
            fields: `log_fields` of the settings class: name and type.
            secrets: What must not be written by anybody.
        """
        self.lines.declared.update(fields)
        RECENT.keep(secrets)

    def allow_words(self, words: Iterable[str]) -> None:
        """Name things of this server: its tools and their parameters.

        A tool that is not among them is logged as unknown, and these words are never scrubbed.
        """
        self.lines.words.update(words)

    @property
    def dropped(self) -> int:
        """How many lines were lost so far."""
        return self.writer.dropped

    @property
    def dropped_fields(self) -> int:
        """How many fields were left out so far because they are not in the table."""
        return self.lines.dropped_fields

    def flush(self, seconds: float = 1.0) -> bool:
        """Wait until what was logged so far is written; False when that takes longer."""
        return self.writer.flush(seconds)

    def close(self, seconds: float = 1.0) -> bool:
        """Write what is left, within a deadline; nothing is logged afterwards."""
        atexit.unregister(self.close)
        logging.root.handlers[:], level, warnings.showwarning = self._before
        logging.root.setLevel(level)
        return self.writer.close(seconds)

    def line(  # noqa: PLR0913, PLR0917 - what a line is made of
        self,
        level: str,
        text: object,
        fields: Mapping[str, object],
        error: BaseException | None = None,
        frame: FrameType | None = None,
        arguments: tuple[object, ...] = (),
    ) -> bytes:
        """Return a finished line; a line that cannot be made is a line too, never an error."""
        try:
            return self.render(self.lines.make(level, text, fields, error, frame or caller(MACHINERY), arguments))
        except Exception:  # noqa: BLE001 - logging must not fail the call
            return self.render({"ts": now(), "level": "error", "msg": "a log line could not be made"})
        finally:
            self._name_undeclared()

    def _name_undeclared(self) -> None:
        while self.lines.undeclared:
            fields = {"field": self.lines.undeclared.pop(), "setting": "log_fields"}
            # The name stands in the code and is no caller's, so the line is no call's either.
            line = Context().run(self.line, "warning", "log field not declared", fields, frame=currentframe())
            self.writer.put(line)

    def structured(self, _: object, method: str, event: MutableMapping[str, Any]) -> bytes:
        """Make a line from what structlog was given: its only processor."""
        text = event.pop("event", None)
        given = event.pop("exc_info", None)
        event.pop("stack_info", None)
        arguments = event.pop("positional_args", ())
        return self.line(method, text, event, exception_of(given), arguments=arguments)

    def _lost(self, count: int) -> bytes:
        return self.line("warning", "log lines dropped", {"dropped": count}, frame=currentframe())

    def _warned(self, *warning: Any) -> None:
        fields = warning_fields(*warning[1:4])
        self.writer.put(self.line("warning", "python warning", fields, frame=currentframe()))


def write_final_line(text: str, **fields: Any) -> None:
    """Write one line past the queue, for a process that ends without waiting for anything.

    Args:
        text: What happens; a literal.
        fields: As for any line.
    """
    logs = _Sink.logs
    if logs is not None:
        logs.writer.write_now(logs.line("critical", text, fields))


class _Handler(logging.Handler):
    """What the standard library's loggers are reduced to: logger, place, literal text, types, scrubbed arguments."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self.logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; what is put into its text is scrubbed."""
        past_redaction.warn_of_handlers(record.name)
        level = next((name for floor, name in LEVELS if record.levelno >= floor), "debug")
        frame = caller(MACHINERY)
        fields = {"logger": record.name}
        # A library may put anything into its texts, such as a URL with a key in it, so its arguments are left out.
        given = () if record.args is None or is_library(frame) else record.args
        arguments = given if isinstance(given, tuple) else (given,)
        line = self.logs.line(level, record.msg, fields, exception_of(record.exc_info), frame, arguments)
        self.logs.writer.put(line)


class _Sink:
    """Where structlog's finished lines go; loggers keep it, so it outlives a configuration."""

    logs: Logs | None = None

    def put(self, line: bytes) -> None:
        if self.logs is not None:
            self.logs.writer.put(line)

    debug = info = warning = error = critical = msg = put


_sink = _Sink()
_processors: list[Any] = []


# One class, whose methods `_filter` replaces, because loggers that are in use keep it.
_Logger: Any = type("Logger", (structlog.make_filtering_bound_logger(logging.NOTSET),), {})


def _filter(floor: int) -> None:
    """Filter by level; hand on the arguments of a text, and put none in unscrubbed."""

    def method(name: str) -> Callable[..., Any]:
        def write(self: Any, event: object = None, *arguments: object, **fields: Any) -> Any:
            if arguments:
                fields["positional_args"] = arguments
            return self._proxy_to_logger(name, event, **fields)

        return write

    own: dict[str, Any] = {name: method(name) for at, name in LEVELS if at >= floor}
    own |= {"fatal": own["critical"], "exception": _exception}
    own |= {"warn": own["warning"]} if "warning" in own else {}
    for name, value in (vars(structlog.make_filtering_bound_logger(floor)) | own).items():
        if not name.startswith("__"):
            setattr(_Logger, name, value)


def _exception(self: Any, event: object = None, *arguments: object, **fields: Any) -> Any:
    return self.error(event, *arguments, **{"exc_info": True} | fields)


def configure(*, level: str, fmt: Literal["json", "gcp", "console"], stream: int | TextIO | None = None) -> Logs:
    """Send every logger of the process through the redaction; call it before anything logs.

    Args:
        level: `debug`, `info`, `warning` or `error`. The redaction is the same at each.
        fmt: `json`, or `console` for reading by eye.
        stream: Where lines go: a descriptor or a file that has one; default: standard error.
    """
    number = next(floor for floor, name in LEVELS if name == level)
    descriptor = stream if isinstance(stream, int) else stream.fileno() if stream else 2
    logs = _Sink.logs = Logs(number, fmt, descriptor)
    # In place, because loggers that are in use already keep the list and the class.
    _processors[:] = [logs.structured]
    _filter(number)
    structlog.configure(
        processors=_processors,
        wrapper_class=_Logger,
        context_class=dict,
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=True,
    )
    return logs
