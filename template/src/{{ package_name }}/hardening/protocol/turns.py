"""Fair scheduling of large messages: one begins in each round of the event loop, and callers take turns.

However many large messages come at once, and from whom, everybody else waits for one of them at a time.
A wait ends because the number of messages in flight is bounded, and so is the work on each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..exchange import Exchange

# A smaller body is parsed in less time than waiting for a turn takes.
SMALL_BODY_BYTES = 8192


class Turns:
    """Gives out turns."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def wait(self, exchange: Exchange) -> None:
        """Return at once for a small message, and for a large one when it is its turn."""
        if exchange.body is None or len(exchange.body) < SMALL_BODY_BYTES:
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._next)
        turn: asyncio.Future[None] = loop.create_future()
        caller = exchange.principal.id if exchange.principal else ""
        self._waiting.setdefault(caller, deque()).append(turn)
        await turn

    def _next(self) -> None:
        """Give one turn to the caller whose last turn is longest ago."""
        given = False
        while self._waiting and not given:
            caller, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[caller] = turns
            # The one who waited may have been cancelled.
            if given := not turn.done():
                turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
