"""The longest step of a server's event loop, in processor time of its thread: a busy machine decides nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardening.lifecycle.startup import tidy

if TYPE_CHECKING:
    from collections.abc import Generator

    from live import Live


@dataclass
class Longest:
    """What was seen so far; the number is complete when the block has been left."""

    seconds: float = 0.0


@contextmanager
def longest_hold(server: Live) -> Generator[Longest]:
    """Measure each step of the loop of `server`, with its collector of garbage as `serve` sets it."""
    longest, measuring, last = Longest(), True, 0.0

    def tick() -> None:
        nonlocal last
        now = time.thread_time()
        longest.seconds, last = max(longest.seconds, now - last), now
        if measuring:
            asyncio.get_running_loop().call_soon(tick)

    def start() -> None:
        nonlocal last
        tidy()
        last = time.thread_time()
        tick()

    thresholds = gc.get_threshold()
    server.do(start)
    try:
        yield longest
    finally:
        measuring = False
        gc.set_threshold(*thresholds)
        gc.unfreeze()
