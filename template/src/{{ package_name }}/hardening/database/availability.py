"""Whether the database answers, as it was seen last; each change is one log line with the class of the failure.

So the log says why calls come to `upstream_unavailable`: a password that was rotated looks like a server that is away,
and so does a disk that is full.
"""

from __future__ import annotations

import time

import structlog

from ..logs.origin import type_name
from .failures import IMPAIRED

log = structlog.get_logger()

# A database that is impaired may still take one change and refuse the next.
WELL_AFTER_SECONDS = 5.0
RENEW_SECONDS = 1.0


class Availability:
    """What the last look has seen; there is no pool without a first connection."""

    def __init__(self) -> None:
        self.up = False
        self._lost = False
        # When a statement was refused last because of the database's own state.
        self._impaired: float | None = None
        self._renewed = float("-inf")

    def answered(self) -> None:
        """Remember that the database has answered."""
        self.up = True
        if self._lost:
            self._lost = False
            log.info("database available", backend="postgres")

    def failed(self, error: BaseException, *, counts: bool) -> None:
        """Remember what was raised instead of an answer.

        Args:
            error: What was raised.
            counts: Whether it says something of the database, and not of the pool.
        """
        if counts:
            if self.up:
                self._lost = True
                log.warning("database unavailable", backend="postgres", error_type=type_name(error))
            self.up = False

    def impaired(self, error: BaseException) -> None:
        """Remember that a statement was refused because of the database's own state, such as a disk that is full."""
        if isinstance(error, IMPAIRED):
            if self._impaired is None:
                log.warning("database impaired", backend="postgres", error_type=type_name(error))
            self._impaired = time.monotonic()

    def worked(self) -> None:
        """Remember that a transaction that may write was committed."""
        if self._impaired is not None and time.monotonic() - self._impaired >= WELL_AFTER_SECONDS:
            self._impaired = None
            log.info("database available", backend="postgres")

    def may_renew(self) -> bool:
        """Return whether connections may be replaced: once a second, however many calls find a reason to."""
        now = time.monotonic()
        if now - self._renewed < RENEW_SECONDS:
            return False
        self._renewed = now
        return True
