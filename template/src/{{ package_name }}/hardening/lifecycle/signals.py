"""Signal handlers, installed before anything is waited for: SIGTERM, SIGINT, SIGQUIT and SIGHUP begin the drain.

SIGUSR1 and SIGUSR2, which tools for logs send to every process, have no effect.
Handlers that a tool or a library sets meanwhile are replaced within a tenth of a second.
Child processes that a tool forks get the default handlers, and neither the port nor anybody's connection.
As process 1 of a container nobody else collects children that have ended: those that are left over are reaped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ..logs.setup import write_final_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

log = structlog.get_logger()

# Exit code of a second signal.
SECOND_SIGNAL = 130
# Signals that come within so long are one.
REPEAT_SECONDS = 1.0
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
# Their default is to end the process at once.
WITHOUT_EFFECT = (signal.SIGUSR1, signal.SIGUSR2)
# How long a handler that a tool has set can be in the place of the server's.
KEEP_SECONDS = 0.1
# An ended child that nothing has waited for within so long is collected.
REAP_SECONDS = 10.0


class Signals:
    """What ends the process, from its first moment to its last.

    Attributes:
        begin: Called with every signal once the server listens; before, a signal ends the process with 0.
    """

    def __init__(self) -> None:
        self.begin: Callable[[int, FrameType | None], None] | None = None
        self._handled = [number for number in STOP if signal.getsignal(number) is not signal.SIG_IGN]

    def install(self) -> bool:
        """Handle every signal that stops; one that was ignored at the start, as by `nohup`, stays ignored.

        Returns whether one of them had another handler.
        """
        others = [number for number in self._handled if signal.getsignal(number) is not self]
        for number in others:
            signal.signal(number, self)
        for number in WITHOUT_EFFECT:
            if signal.getsignal(number) is signal.SIG_DFL:
                # Not ignored, which the programs would inherit that a tool starts.
                signal.signal(number, _nothing)
        return bool(others)

    @contextmanager
    def handled_by(self, begin: Callable[[int, FrameType | None], None]) -> Generator[None]:
        """Hand signals to `begin` while the server serves, and collect children if nobody else does."""
        self.begin = begin
        # A library that the author's state has opened may have put its own handlers in their place.
        self.install()
        # As process 1, as in a container without an init.
        tasks = [asyncio.create_task(work) for work in (self.keep(), *([reap()] if os.getpid() == 1 else []))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def keep(self) -> None:
        """Put the handlers back that a tool has replaced, ten times a second: the server would never drain."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if self.install():
                log.warning("signal handler was replaced, put back")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle one signal."""
        if self.begin is None:
            # Nothing was promised to anybody yet. As process 1 it would be ignored without a handler.
            Context().run(write_final_line, "stopped before it served", signal=signal.Signals(number).name)
            os._exit(0)
        self.begin(number, frame)


def _nothing(_: int, __: FrameType | None) -> None:
    """Go on."""


class FirstSignal:
    """Tells the first signal from a second one, which ends the process at once (exit 130).

    What comes within a second is the same signal once more: a launcher such as `uv run` hands on what the whole
    process group got anyway.
    """

    def __init__(self) -> None:
        self._came: float | None = None

    def is_first(self) -> bool:
        """Return whether this signal is the first one; end the process if it is a second one."""
        now = time.monotonic()
        if self._came is None:
            self._came = now
            return True
        if now - self._came >= REPEAT_SECONDS:
            Context().run(write_final_line, "second signal, exiting at once")
            os._exit(SECOND_SIGNAL)
        return False


def release_in_children(listener: socket.socket) -> None:
    """Let forked children have default signals, and close the port and its connections in them.

    Otherwise they hold the port when this process has ended, and their clients hang.
    """
    family, address = listener.family, listener.getsockname()
    os.register_at_fork(after_in_child=lambda: _release(family, address[1]))


def _release(family: int, port: int) -> None:
    for number in (*STOP, *WITHOUT_EFFECT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    for entry in list(Path("/dev/fd").iterdir()):
        with suppress(OSError, ValueError):
            copy = socket.socket(fileno=(number := int(entry.name)))
            try:
                # Only what is on this port; everything else may be needed by the child.
                ours = copy.family == family and copy.getsockname()[1] == port
            finally:
                copy.detach()
            if ours:
                os.close(number)


async def reap() -> None:
    """Collect children that have ended and that nobody waits for, every ten seconds."""
    before: set[int] = set()
    while True:
        await asyncio.sleep(REAP_SECONDS)
        before = reap_left_over(before)


def reap_left_over(before: set[int]) -> set[int]:
    """Collect the ended children that were there before already; return those that are new."""
    ended = _ended_children()
    for child in ended & before:
        with suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
    return ended - before


def _ended_children() -> set[int]:
    own = b"%d" % os.getpid()
    found: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # The name, in brackets, can hold anything; state and parent follow it.
            state, parent, *_ = status.read_bytes().rpartition(b")")[2].split()
            if state == b"Z" and parent == own:
                found.add(int(status.parent.name))
    return found
