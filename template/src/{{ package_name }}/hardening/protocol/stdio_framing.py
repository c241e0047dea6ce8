"""Newline framing of standard input and output: lines are read in a thread, one ahead, and written whole.

A line is bounded (`MCP_MAX_BODY_BYTES`); what is longer is dropped while it is read.
Source: 2026-07-28 and 2025-11-25, Transports: stdio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

CHUNK_BYTES = 65_536


class LineReader:
    """Reads lines of a descriptor in a thread of its own; a longer one than allowed comes as None."""

    def __init__(self, descriptor: int, most: int) -> None:
        self._descriptor = descriptor
        self._most = most
        self._loop = asyncio.get_running_loop()
        # One line ahead, and no more: who sends faster waits.
        self._queue: asyncio.Queue[tuple[bytes | None, bool]] = asyncio.Queue(1)
        threading.Thread(target=self._read, daemon=True, name="standard input").start()

    async def next(self) -> tuple[bytes | None, bool]:
        """Return a line, and whether it is the last."""
        return await self._queue.get()

    def _read(self) -> None:
        # Only what is new is searched and copied: a line that comes byte by byte costs what one costs that comes whole.
        line, too_long = bytearray(), False
        with contextlib.suppress(OSError, RuntimeError):
            while chunk := os.read(self._descriptor, CHUNK_BYTES):
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    line += end
                    self._put(None if too_long or len(line) > self._most else bytes(line))
                    line, too_long = bytearray(), False
                line += rest
                if len(line) > self._most:
                    line, too_long = bytearray(), True
            if line and not too_long:
                self._put(bytes(line))
        with contextlib.suppress(RuntimeError):
            self._put(b"", last=True)

    def _put(self, line: bytes | None, *, last: bool = False) -> None:
        asyncio.run_coroutine_threadsafe(self._queue.put((line, last)), self._loop).result()


def write_line(descriptor: int, message: bytes) -> None:
    """Write a message and its newline; waits while the client reads none.

    Raises:
        OSError: The client has gone.
    """
    view = memoryview(message + b"\n")
    while view:
        view = view[os.write(descriptor, view) :]
