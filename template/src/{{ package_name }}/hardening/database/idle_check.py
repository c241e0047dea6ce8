"""Check of a connection that was idle, before a call gets it: a firewall may have forgotten it without a word.

A call never gets a connection that was idle for more than 10 s and does not answer within 1 s.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .failures import FAULTS, lost

if TYPE_CHECKING:
    from .pool import DatabaseConnection

PING_SECONDS = 1.0
CHECK_AFTER_SECONDS = 10.0


class IdleCheck:
    """When each connection was used last.

    Args:
        most: Connections remembered; past that all are forgotten, and count as just opened.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: dict[int, float] = {}

    def given_back(self, connection: DatabaseConnection) -> None:
        """Remember that a connection was in use until now."""
        if len(self._used) > self._most:
            self._used.clear()
        if not lost(connection):
            self._used[connection.get_server_pid()] = time.monotonic()

    async def answers(self, connection: DatabaseConnection) -> bool:
        """Return whether a connection can be used; only one that was idle for a while is asked."""
        pid = connection.get_server_pid()
        if pid not in self._used or time.monotonic() - self._used[pid] < CHECK_AFTER_SECONDS:
            return True
        try:
            async with asyncio.timeout(PING_SECONDS):
                await connection.execute("SELECT 1")
        except FAULTS:
            return False
        return True
