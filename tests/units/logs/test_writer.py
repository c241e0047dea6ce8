"""A slow or closed reader of standard error costs lines, and they are counted; it never costs a call."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hardening.logs.writer import LONGEST_LINE, MOST_LINES, Writer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SECONDS = 20.0


def lost(count: int) -> bytes:
    """Say how many."""
    return b"lost %d" % count


@pytest.fixture
def pipe() -> Generator[tuple[int, int]]:
    """A pipe that nobody reads yet."""
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        with contextlib.suppress(OSError):
            os.close(descriptor)


class Reader:
    """Reads a pipe to its end in a thread."""

    def __init__(self, descriptor: int) -> None:
        self.text = b""
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._descriptor, 65_536):
            self.text += chunk

    def lines(self) -> list[bytes]:
        """Return every line, once the other end is closed."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        return self.text.splitlines()


def test_lines_come_whole_and_in_order(tmp_path: Path) -> None:
    """Everything that was put is there after a flush, one line each."""
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = Writer(descriptor, lost)
    os.close(descriptor)
    for number in range(1000):
        writer.put(b"%d" % number)
    assert writer.flush(SECONDS)
    assert (tmp_path / "log").read_bytes().splitlines() == [b"%d" % number for number in range(1000)]
    assert writer.dropped == 0
    assert writer.close(SECONDS)


def test_a_reader_that_sleeps_stops_nobody(pipe: tuple[int, int]) -> None:
    """100,000 lines into a pipe that nobody reads: each returns at once, memory is bounded, losses are counted."""
    read, write = pipe
    writer = Writer(write, lost)
    line = b"x" * 400
    slowest = 0.0
    started = time.monotonic()
    for _ in range(100_000):
        before = time.monotonic()
        writer.put(line)
        slowest = max(slowest, time.monotonic() - before)
    assert time.monotonic() - started < SECONDS
    assert slowest < 1
    assert writer.waiting <= MOST_LINES
    assert writer.dropped > 90_000
    assert not writer.flush(0.05)
    # The reader wakes up: the next line that gets through says how many are missing.
    os.close(write)
    reader = Reader(read)
    assert writer.flush(SECONDS)
    writer.put(b"after")
    assert writer.close(SECONDS)
    lines = reader.lines()
    reported = sum(int(entry.split()[1]) for entry in lines if entry.startswith(b"lost"))
    assert reported == writer.dropped
    assert lines.count(line) + reported == 100_000
    assert lines[-1] == b"after"


def test_a_reader_that_has_gone_stops_nobody(pipe: tuple[int, int]) -> None:
    """A closed standard error costs lines and nothing else."""
    read, write = pipe
    os.close(read)
    writer = Writer(write, lost)
    for _ in range(10):
        writer.put(b"line")
    assert writer.flush(SECONDS)
    assert writer.dropped == 10
    writer.put(b"line")
    assert writer.close(SECONDS)
    assert writer.dropped == 11


def test_a_line_that_was_cut_off_is_ended(tmp_path: Path) -> None:
    """After a write that failed half-way the next line begins on a line of its own."""
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    code = (
        "import os, resource, signal, sys\n"
        "from hardening.logs.writer import Writer\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (25, hard))\n"
        "writer = Writer(int(sys.argv[1]), lambda count: b'lost %d' % count)\n"
        "[writer.put(b'line %d----' % number) for number in range(3)]\n"
        "assert writer.flush(20)\n"
        "assert writer.dropped == 1, writer.dropped\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\n"
        "writer.put(b'after')\n"
        "assert writer.close(20)\n"
    )
    command = [sys.executable, "-c", "import alias; alias.install()\n" + code, str(descriptor)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, pass_fds=[descriptor], env=environment, check=True, timeout=SECONDS)
    os.close(descriptor)
    text = (tmp_path / "log").read_bytes()
    assert text == b"line 0----\nline 1----\nlin\nlost 1\nafter\n"


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    """Somebody who made standard error non-blocking does not lose lines by it."""
    read, write = pipe
    fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
    writer = Writer(write, lost)
    os.close(write)
    for _ in range(MOST_LINES // 2):
        writer.put(b"y" * 200)
    reader = Reader(read)
    assert writer.close(SECONDS)
    assert reader.lines() == [b"y" * 200] * (MOST_LINES // 2)
    assert writer.dropped == 0


def test_closing_has_a_deadline(pipe: tuple[int, int]) -> None:
    """A reader that sleeps does not keep the process from ending."""
    _, write = pipe
    writer = Writer(write, lost)
    for _ in range(MOST_LINES):
        writer.put(b"x" * 400)
    before = time.monotonic()
    assert not writer.close(0.1)
    assert time.monotonic() - before < 5
    writer.put(b"too late")
    assert writer.dropped >= 1


def test_a_line_is_bounded(tmp_path: Path) -> None:
    """A line longer than the bound is dropped and counted."""
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = Writer(descriptor, lost)
    os.close(descriptor)
    writer.put(b"x" * (LONGEST_LINE + 1))
    writer.put(b"short")
    assert writer.close(SECONDS)
    assert (tmp_path / "log").read_bytes() == b"lost 1\nshort\n"


def test_last_words_do_not_wait(pipe: tuple[int, int]) -> None:
    """A process that ends at once writes its last line, or leaves it when nobody reads."""
    read, write = pipe
    writer = Writer(write, lost)
    writer.write_now(b"last words")
    assert os.read(read, 100) == b"\nlast words\n"
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write, b"z" * 4096):
            pass
    os.set_blocking(write, True)
    before = time.monotonic()
    writer.write_now(b"nobody reads")
    assert time.monotonic() - before < 5
    assert writer.close(SECONDS)


def test_a_standard_error_that_was_closed_at_start_is_not_given_to_a_socket() -> None:
    """Started without standard descriptors, the process reserves them, so that no connection is written to."""
    code = (
        "import alias; alias.install()\n"
        "import os, socket\n"
        "from hardening.logs.writer import Writer\n"
        "writer = Writer(2, lambda count: b'lost')\n"
        "number = socket.socket().fileno()\n"
        "writer.put(b'line')\n"
        "assert writer.flush(20)\n"
        "os._exit(0 if number > 2 and writer.dropped == 1 else 1)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" 0<&- 1>&- 2>&-', sys.executable, code]
    assert subprocess.run(command, env=environment, check=False, timeout=SECONDS).returncode == 0


def test_a_finalizer_may_log_in_the_middle_of_a_line(tmp_path: Path) -> None:
    """Code that runs between any two steps of `put`, in the same thread, can put a line of its own."""
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = Writer(descriptor, lost)
    os.close(descriptor)
    inside = False

    def between(*_: Any) -> Any:
        nonlocal inside
        if not inside:
            inside = True
            writer.put(b"inner")
            writer.put(b"x" * (LONGEST_LINE + 1))
            inside = False
        return between

    before = sys.gettrace()
    sys.settrace(between)
    try:
        writer.put(b"outer")
        writer.put(b"x" * (LONGEST_LINE + 1))
    finally:
        sys.settrace(before)
    assert writer.close(SECONDS)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert lines.count(b"outer") == 1
    assert b"inner" in lines
