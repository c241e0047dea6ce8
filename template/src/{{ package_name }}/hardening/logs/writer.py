"""Log writer thread with a bounded queue: a slow or closed reader costs lines, never calls.

One thread writes what a bounded queue holds. What does not fit, or cannot be written, is counted,
and the count is the next line that gets through.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# 4096 lines of at most 16 KiB.
MOST_LINES = 4096
LONGEST_LINE = 16_384
# Lines are gathered this long and written together: a wake-up for each would halt the event loop.
GATHER_SECONDS = 0.01
WAIT_SECONDS = 1.0
LAST_SECONDS = 0.1
BATCH_BYTES = 65_536
NEWLINE = 10


class Writer:
    """Writes lines to a copy of a file descriptor.

    Args:
        stream: The descriptor; one that is closed only counts.
        lost: Makes the line that says how many were lost.
    """

    def __init__(self, stream: int, lost: Callable[[int], bytes]) -> None:
        there = _is_open(stream)
        # A standard descriptor that is closed would be taken by the next socket, and written to.
        for number in range(3):
            if not _is_open(number):
                os.open(os.devnull, os.O_RDWR)
        self.descriptor = os.dup(stream) if there else -1
        self.terminal = self.descriptor >= 0 and os.isatty(self.descriptor)
        self.dropped = 0
        self._reported = 0
        self._lost = lost
        self._torn = False
        self._queue: deque[bytes | threading.Event] = deque()
        # A finalizer may log in the middle of another line, in the same thread: nothing here may
        # be held twice by one thread, which an Event would be.
        self._counting = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._awake = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, without its end; never waits."""
        if len(self._queue) >= MOST_LINES or len(line) > LONGEST_LINE or self._closing.is_set():
            self._drop(1)
            return
        self._queue.append(line)
        if not self._awake:
            self._rouse()

    def write_now(self, line: bytes) -> None:
        """Write one line past the queue, unless it would take longer than 0.1 s to begin."""
        with contextlib.suppress(OSError, ValueError):
            if select.select([], [self.descriptor], [], LAST_SECONDS)[1]:
                os.write(self.descriptor, b"\n" + line + b"\n")

    @property
    def waiting(self) -> int:
        """How many lines are queued; never more than 4096, and those who wait for a flush."""
        return len(self._queue)

    def flush(self, seconds: float) -> bool:
        """Wait until what is queued now has been written; False when that takes too long."""
        done = threading.Event()
        self._queue.append(done)
        self._rouse()
        return done.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Write what is queued, and end; False when that takes too long."""
        self._closing.set()
        self._rouse()
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        return True

    def _rouse(self) -> None:
        self._awake = True
        self._wake.put(None)

    def _drop(self, lines: int) -> None:
        with self._counting:
            self.dropped += lines

    def _run(self) -> None:
        while not self._closing.is_set() or self._queue:
            with contextlib.suppress(Empty):
                self._wake.get(timeout=WAIT_SECONDS)
            self._closing.wait(GATHER_SECONDS)
            self._awake = False
            while self._queue:
                self._write_batch()

    def _write_batch(self) -> None:
        lines: list[bytes] = []
        flushed: list[threading.Event] = []
        size = 0
        while self._queue and size < BATCH_BYTES:
            item = self._queue.popleft()
            if isinstance(item, bytes):
                lines.append(item)
                size += len(item)
            else:
                flushed.append(item)
                break
        if lines:
            self._write(lines)
        for event in flushed:
            event.set()

    def _write(self, lines: list[bytes]) -> None:
        dropped = self.dropped
        if dropped > self._reported:
            lines.insert(0, self._lost(dropped - self._reported))
        # A line that an error cut off is ended before the next one begins.
        data = memoryview(b"\n" * self._torn + b"\n".join(lines) + b"\n")
        rest = data
        try:
            while rest:
                rest = rest[self._written(rest) :]
        except OSError:
            lost = min(bytes(rest).count(b"\n"), len(lines))
            if len(rest) < len(data):
                self._torn = data[-len(rest) - 1] != NEWLINE
            if dropped > self._reported:
                # The report comes first: unless nothing got through, it did.
                self._reported = dropped if lost < len(lines) else self._reported
                lost -= lost == len(lines)
            self._drop(lost)
        else:
            self._torn = False
            self._reported = dropped

    def _written(self, data: memoryview) -> int:
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            # Another process has made the terminal or pipe non-blocking.
            _, ready, _ = select.select([], [self.descriptor], [], WAIT_SECONDS)
            if not ready and self._closing.is_set():
                raise
            return 0


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
