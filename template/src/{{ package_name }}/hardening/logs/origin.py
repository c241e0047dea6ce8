"""Origin of a log line, and exceptions as types and code locations, without messages and values.

Everything here is read from code objects and classes, which no caller of a tool can write to.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from functools import lru_cache
from inspect import currentframe
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

# Enough to find the fault; an exception that recurses has thousands of frames.
MOST_FRAMES = 20
MOST_EXCEPTIONS = 6
# Of exceptions that were raised from each other.
LONGEST_CHAIN = 16
# Between the code that logs and the logger: a helper of the author's, what a tracer puts around loggers.
MOST_WRAPPERS = 8
STDLIB = sysconfig.get_path("stdlib")
# This package; its rooms have a dot behind it, and nothing counts that only begins with the same letters.
OURS = __name__.rpartition(".")[0].rpartition(".")[0]


def caller(machinery: frozenset[str]) -> FrameType | None:
    """Return the nearest frame outside `machinery`: names of modules, or of top-level packages."""
    frame = currentframe()
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name not in machinery and name.partition(".")[0] not in machinery and name != __name__:
            break
        frame = frame.f_back
    return frame


def literal(value: object, frame: FrameType | None) -> bool:
    """Return whether `value` stands in the code that logs it, so that it cannot come from a call.

    What is put together at run time (an f-string, `%`, an exception's text) is not a constant of
    the calling function, and code that was itself made at run time has no file.
    """
    return frame is not None and _from_file(frame.f_code) and value in frame.f_code.co_consts


def literal_frame(text: str, frame: FrameType | None) -> FrameType | None:
    """Return the function, at most eight calls out, in whose code a text stands: a wrapper does not hide it."""
    for _ in range(MOST_WRAPPERS):
        if frame is None or literal(text, frame):
            return frame
        frame = frame.f_back
    return None


def names_field(name: str, frame: FrameType | None) -> bool:
    """Return whether `name` is a keyword in the code that logs: a name that was made at run time may be a value."""
    return (
        frame is not None
        and _from_file(frame.f_code)
        and any(isinstance(constant, tuple) and name in constant for constant in frame.f_code.co_consts)
    )


def literal_class(kind: type) -> bool:
    """Return whether a module defines a class; one that was made at run time could be named after a value."""
    return getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind


def is_library(frame: FrameType | None) -> bool:
    """Return whether a function is neither this project's nor lies beside it: a module that was installed."""
    if frame is None:
        return True
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return top != __name__.partition(".")[0] and _installed(frame.f_code.co_filename)


@lru_cache(maxsize=1024)
def _installed(filename: str) -> bool:
    return filename.startswith(("<", STDLIB)) or "site-packages" in filename or "dist-packages" in filename


def place(frame: FrameType, line: int | None = None) -> str:
    """Return `module:function:line` of a frame."""
    code = frame.f_code
    if not _from_file(code):
        return "generated code"
    return f"{frame.f_globals.get('__name__', '?')}:{code.co_qualname}:{line or frame.f_lineno}"


def _from_file(code: CodeType) -> bool:
    return not code.co_filename.startswith("<") or code.co_filename.startswith("<frozen ")


class Described(TypedDict):
    """One exception of a chain."""

    type: str
    frames: list[str]


def described(error: BaseException) -> list[Described]:
    """Return the type and frames of `error`, then of what caused it; innermost frames last."""
    return [{"type": type_name(one), "frames": _frames(one)} for one in _chain(error)]


def exception_of(given: object) -> BaseException | None:
    """Return what a logger was given as `exc_info`: an exception, the three of `sys.exc_info`, or true."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        parts = cast("tuple[object, ...]", given)
        return next((part for part in parts if isinstance(part, BaseException)), None)
    return sys.exc_info()[1] if given else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    pending = deque([error])
    for _ in range(MOST_EXCEPTIONS):
        if not pending:
            return
        one = pending.popleft()
        yield one
        if isinstance(one, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", one)
            pending.extend(group.exceptions[:MOST_EXCEPTIONS])
        if one.__cause__ is not None:
            pending.append(one.__cause__)
        elif one.__context__ is not None and not one.__suppress_context__:
            pending.append(one.__context__)


def _frames(error: BaseException) -> list[str]:
    kept: deque[str] = deque(maxlen=MOST_FRAMES)
    trace = error.__traceback__
    while trace is not None:
        kept.append(place(trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return list(kept)


def warning_fields(category: type[Warning], file: str, number: int) -> dict[str, str]:
    """Return class and place of a warning; a class made at run time, or a file of no module, may hold a value."""
    known = any(getattr(module, "__file__", None) == file for module in list(sys.modules.values()))
    kind = category.__name__ if literal_class(category) else Warning.__name__
    return {"kind": kind, "source": f"{Path(file).name}:{number}" if known else "generated code"}


def type_name(error: BaseException) -> str:
    """Return the name of the exception's class, or of its nearest base that a module defines.

    A class made at run time could be named after a value.
    """
    for kind in type(error).__mro__:
        if literal_class(kind):
            break
    else:
        kind = Exception
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def system_error(error: BaseException) -> BaseException:
    """Return what the system has said below an exception of a library, such as a refused certificate; or itself."""
    cause: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if cause is None or isinstance(cause, OSError):
            break
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, OSError) else error
