"""Event loop lag: how late the loop answers, because something in an `async` function computes or waits.

The loop is asked twice a second, and its worst answer stands for 15 to 30 seconds: longer than the usual
time between two scrapes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_SECONDS = 0.5
WINDOW_SECONDS = 15.0


class EventLoopLag:
    """The longest delay of the event loop lately.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = self._before = 0.0
        self._since = clock()

    @property
    def seconds(self) -> float:
        """Longest delay in the last 15 to 30 seconds."""
        return max(self._now, self._before)

    async def watch(self) -> None:
        """Measure, until cancelled."""
        while True:
            asked = self._clock()
            await asyncio.sleep(INTERVAL_SECONDS)
            now = self._clock()
            if now - self._since >= WINDOW_SECONDS:
                self._before, self._now, self._since = self._now, 0.0, now
            self._now = max(self._now, now - asked - INTERVAL_SECONDS)
