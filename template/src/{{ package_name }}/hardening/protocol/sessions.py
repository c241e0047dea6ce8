"""Session limits (`MCP_LEGACY=stateful`): a cap for each caller, and one request at a time for each JSON-RPC id (503).

The SDK binds a session to the credential that opened it and caps them in all; what it lacks is here.
Some clients give every request the same id, and two of these at once would get each other's answers (SDK issue 3060).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..response import Response
from ..routes import INITIALIZE, SESSION_HEADER
from .session_memory import refuse_opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Message

    from ..exchange import Exchange
    from ..settings import HardeningSettings

FULL = Response(503, "sessions", "You have too many open sessions; end one, or wait.", retry_after=30)
DUPLICATE = Response(503, "duplicate_id", "A request with the same id is being answered.", retry_after=1)


@dataclass(slots=True)
class _Session:
    principal: str
    began: float
    used: float
    version: str = ""
    busy: int = 0
    # By the text of the id, as the SDK does it: to it, 1 and "1" are the same.
    # Kept while somebody has or waits for the turn.
    turns: dict[str, _Turn] = field(default_factory=dict[str, "_Turn"])


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Sessions:
    """The guard of stateful sessions; passes everything on in the other modes.

    Args:
        settings: The mode, the caps and the idle time.
        clock: Seconds, monotonic.
        on_end: Called with the duration and the protocol version of each session that has ended.
    """

    def __init__(
        self,
        settings: HardeningSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_end: Iterable[Callable[[float, str], object]] = (),
    ) -> None:
        self.on = settings.legacy == "stateful"
        self.most_per_principal = settings.max_sessions_per_principal
        self.idle_seconds = settings.session_idle_seconds
        self.wait_seconds = settings.tool_timeout_seconds
        self.clock = clock
        self.on_end = on_end
        self.open: dict[str, _Session] = {}

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Refuse a session too many; make requests with one id take turns."""
        if not self.on or exchange.era != "legacy":
            return None
        if exchange.rpc_method == INITIALIZE and (too_much := refuse_opening(exchange.params)):
            return too_much
        self._forget_idle()
        exchange.on_response_start.append(self._on_response_start)
        name = exchange.header(SESSION_HEADER)
        principal = exchange.principal.id if exchange.principal else ""
        if not name:
            held = sum(session.principal == principal for session in self.open.values())
            return FULL if exchange.rpc_method == INITIALIZE and held >= self.most_per_principal else None
        session = self.open.get(name)
        # Of a session that is unknown, or somebody else's, nothing is kept; the SDK answers both alike.
        if session is None or session.principal != principal:
            return None
        exchange.session_id = name
        session.version = exchange.protocol_version
        session.used = self.clock()
        session.busy += 1
        # Not with the last byte: what the SDK tidies up after it, it finds by the id of the request.
        exchange.on_done.append(lambda: self._end(session))
        return await self._take_turn(session, exchange)

    async def _take_turn(self, session: _Session, exchange: Exchange) -> Response | None:
        if exchange.rpc_id is None:
            return None
        rpc_id = str(exchange.rpc_id)
        turn = session.turns.setdefault(rpc_id, _Turn())
        turn.users += 1
        held = False
        try:
            async with asyncio.timeout(self.wait_seconds):
                held = await turn.lock.acquire()
        except TimeoutError:
            return DUPLICATE
        finally:
            if not held:
                _leave(session, rpc_id, turn)

        def end() -> None:
            turn.lock.release()
            _leave(session, rpc_id, turn)

        exchange.on_done.append(end)
        return None

    def _on_response_start(self, exchange: Exchange, message: Message) -> None:
        if exchange.method == "DELETE" or exchange.status == HTTPStatus.NOT_FOUND:
            self.ended(exchange)
        for header, value in message.get("headers", ()):
            if header.lower() == SESSION_HEADER and exchange.rpc_method == INITIALIZE:
                self.opened(exchange, value.decode("latin-1"))

    def opened(self, exchange: Exchange, name: str) -> None:
        """Note a session that the SDK has opened in this exchange."""
        principal = exchange.principal.id if exchange.principal else ""
        now = self.clock()
        self.open[name] = _Session(principal, now, now)
        exchange.session_id = name

    def ended(self, exchange: Exchange) -> None:
        """Forget a session that its own caller has ended, or is told does not exist any more.

        To anybody else, and in the other era, the same answer says nothing about it.
        """
        if exchange.session_id and exchange.era == "legacy":
            self._forget(exchange.session_id, self.clock())

    def close(self) -> None:
        """End what is open, at the end of the process."""
        for name in list(self.open):
            self._forget(name, self.clock())

    def _forget(self, name: str, at: float) -> None:
        session = self.open.pop(name, None)
        if session is not None:
            for act in self.on_end:
                act(at - session.began, session.version)

    def _end(self, session: _Session) -> None:
        session.used = self.clock()
        session.busy -= 1

    def _forget_idle(self) -> None:
        oldest = self.clock() - self.idle_seconds
        for name, session in list(self.open.items()):
            if not session.busy and session.used < oldest:
                self._forget(name, session.used + self.idle_seconds)


def _leave(session: _Session, rpc_id: str, turn: _Turn) -> None:
    turn.users -= 1
    if not turn.users:
        session.turns.pop(rpc_id, None)
