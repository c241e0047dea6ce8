"""Captures standard output and standard error, subprocesses included, and logs only how much was written.

A `print` left in a tool, a library that writes to descriptor 2, a child process that inherits the
descriptors: each becomes a line that says how much was written, never what.
Uncaught exceptions of threads, of the event loop and of the interpreter become lines as well.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import structlog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from .setup import Logs

log = structlog.get_logger()

# A tool that prints in a loop costs one line a second.
EVERY_SECONDS = 1.0
CHUNK_BYTES = 65_536


class StdioCapture:
    """Takes standard output, standard error and the hooks for uncaught exceptions.

    Made once for a process, after `logs.configure`; `release` gives everything back.

    Args:
        logs: Where lines go; it writes to its own copy of standard error.
        clock: Seconds, monotonic.
    """

    def __init__(self, logs: Logs, clock: Callable[[], float] = time.monotonic) -> None:
        self._before = sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook
        self._saved = os.dup(1), os.dup(2)
        self._strays = (
            StreamCounter("stdout", 1, clock),
            StreamCounter("stderr", 2, clock),
            StreamCounter("descriptor", -1, clock),
        )
        self._reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stdout, sys.stderr = self._strays[0].text(), self._strays[1].text()
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread
        sys.unraisablehook = _unraisable
        if logs.writer.descriptor >= 0:
            # It writes names of functions and files, when no Python runs any more that could do it.
            faulthandler.enable(logs.writer.descriptor)
        self._counter = threading.Thread(target=self._count, name="stray output", daemon=True)
        self._counter.start()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log what a loop cannot hand to anybody."""
        loop.set_exception_handler(_loop_error)

    def release(self) -> None:
        """Give back the streams, the descriptors and the hooks."""
        for stream in (sys.stdout, sys.stderr):
            # Whatever an author has put there, or closed, is no reason for another exit code.
            with suppress(AttributeError, ValueError, OSError):
                stream.flush()
        sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook = self._before
        faulthandler.disable()
        for saved, number in zip(self._saved, (1, 2), strict=True):
            os.dup2(saved, number)
            os.close(saved)
        # With the last writer gone the reader comes to its end, unless a child still has a copy.
        self._counter.join(1)
        for stray in self._strays:
            stray.report()

    def _count(self) -> None:
        while chunk := os.read(self._reader, CHUNK_BYTES):
            self._strays[2].note(len(chunk))
        os.close(self._reader)


def _uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    log.critical("uncaught exception", exc_info=error)


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    log.error("uncaught exception in a thread", exc_info=args.exc_value)


def _unraisable(args: Any) -> None:
    log.error("exception that could not be raised", exc_info=args.exc_value)


def _loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    kind = next((key for key in ("task", "future", "handle", "protocol", "transport") if key in context), "loop")
    log.error("event loop error", kind=kind, exc_info=context.get("exception"))


class StreamCounter(io.RawIOBase):
    """Counts what is written to it.

    Args:
        name: What the line calls it.
        number: Descriptor it stands for.
        clock: Seconds, monotonic.
    """

    def __init__(self, name: str, number: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self.stream = name
        self._number = number
        self._clock = clock
        self._size = self._writes = 0
        self._last = float("-inf")
        self._counting = threading.RLock()

    def text(self) -> io.TextIOWrapper:
        """Return the file that takes the place of `sys.stdout` or `sys.stderr`."""
        return io.TextIOWrapper(cast("BinaryIO", self), "utf-8", "replace", line_buffering=True)

    def note(self, size: int) -> None:
        """Count `size` bytes, and report them unless there was a report within the last second."""
        with self._counting:
            self._size += size
            self._writes += 1
            if self._clock() - self._last < EVERY_SECONDS:
                return
        self.report()

    def report(self) -> None:
        """Log what was counted since the last time."""
        with self._counting:
            size, writes, self._size, self._writes = self._size, self._writes, 0, 0
            self._last = self._clock()
        if writes:
            log.warning("stray output", stream=self.stream, size=size, count=writes)

    def write(self, data: ReadableBuffer, /) -> int:
        """Count; nothing is kept."""
        size = memoryview(data).nbytes
        self.note(size)
        return size

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, which is counted too: a child process may be given it."""
        return self._number

    def close(self) -> None:
        """Stay open: a closed standard output would make the next `print` fail."""
