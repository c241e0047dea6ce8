"""Bounds repeated log lines: at most five a second for one key; further ones are counted.

A log cannot be filled from outside, before or after authentication.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINES_PER_SECOND = 5
LOGGED_BY_US = "Invalid HTTP request received."


class Throttle:
    """Says whether a line with this key may be written now.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._second = 0
        self._written: Counter[str] = Counter()

    def __call__(self, key: str) -> bool:
        """Count one line; False for the sixth and later ones of a second."""
        now = int(self.clock())
        if now != self._second:
            self._second = now
            self._written.clear()
        self._written[key] += 1
        return self._written[key] <= LINES_PER_SECOND


class RateLimitedFilter(logging.Filter):
    """Logging filter: at most five warnings a second with the same message, and none that the access log has.

    Uvicorn warns about each request that is not HTTP, before any limit here; the access log has a line for it.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._admit = Throttle(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written; errors always are."""
        text = str(record.msg)
        return record.levelno >= logging.ERROR or (text != LOGGED_BY_US and self._admit(text))


RATE_LIMITED = RateLimitedFilter()
