"""Whether the database answers, as it was seen last; each change is one log line with the class of the failure.

So the log says why calls come to `upstream_unavailable`: a password that was rotated looks like a server that is away.
"""

from __future__ import annotations

import structlog

from ..logs.origin import type_name

log = structlog.get_logger()


class Availability:
    """What the last look has seen; there is no pool without a first connection."""

    def __init__(self) -> None:
        self.up = False
        self._lost = False

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
