"""SIGTERM to exit 0 without losing a call.

Unready, delay, refuse new work, end streams, let calls finish, cut the rest short, close: in this order,
each step one log line, all of it within `MCP_READINESS_DELAY_SECONDS` + `MCP_DRAIN_TIMEOUT_SECONDS` + 5 s.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Protocol

import structlog
import uvicorn
from sse_starlette.sse import AppStatus

from .context import MCP_PATH
from .errors import Answer
from .logs import last_words

if TYPE_CHECKING:
    from socket import socket
    from types import FrameType

    from .context import Exchange
    from .settings import HardeningSettings

log = structlog.get_logger()

# What closing connections, telemetry and the pool may take after the drain.
CLOSING_SECONDS = 5.0
# Exit codes: a second signal, and a process that did not end by itself.
SECOND_SIGNAL = 130
STUCK = 70

REFUSED = Answer(
    503,
    "draining",
    "This replica is shutting down; another one answers.",
    retry_after=1.0,
    headers=((b"connection", b"close"),),
)


class Drain:
    """How far the shutdown is; also the guard that refuses new work during it."""

    def __init__(self) -> None:
        self.unready = False
        self.refusing = False

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Refuse protocol requests once the readiness delay is over."""
        return REFUSED if self.refusing and exchange.path == MCP_PATH else None


class Work(Protocol):
    """What is being answered, as the drain needs to know it."""

    def in_flight(self) -> int:
        """Return how many protocol requests are being answered."""
        ...

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        ...

    def end_streams(self) -> None:
        """End the streams that would never end by themselves."""
        ...

    def calls(self) -> list[str]:
        """Return the names of the calls that run."""
        ...

    def cut_short(self) -> list[str]:
        """End the calls that run with a failure that says to try again; return their names."""
        ...


class Server(uvicorn.Server):
    """Uvicorn with a shutdown that the balancer hears of first."""

    def __init__(self, config: uvicorn.Config, settings: HardeningSettings, drain: Drain, work: Work) -> None:
        super().__init__(config)
        self.settings = settings
        self.drain = drain
        self.work = work
        self.finished = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        # The SSE library cuts every stream half a second after SIGTERM unless told not to.
        AppStatus.disable_automatic_graceful_drain()

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Answer requests until a signal comes and the drain is over."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)
        if self._draining is not None:
            await self._draining

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's form
        """Begin the drain; a second signal ends the process at once."""
        if self.drain.unready:
            last_words("second signal, exiting at once")
            os._exit(SECOND_SIGNAL)
        self.drain.unready = True
        # A thread, so that the deadline holds even when the event loop does not run.
        threading.Thread(target=self._watch, daemon=True, name="exit deadline").start()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        delay, grace = self.settings.readiness_delay_seconds, self.settings.drain_timeout_seconds
        log.info("drain: unready", in_flight=self.work.in_flight(), seconds=delay)
        await asyncio.sleep(delay)
        self.drain.refusing = True
        self.should_exit = True
        self.work.end_streams()
        log.info("drain: refusing new work", in_flight=self.work.in_flight(), seconds=grace)
        try:
            await asyncio.wait_for(self.work.idle(), grace)
        except TimeoutError:
            for name in self.work.cut_short():
                log.warning("drain: call cut short", tool_name=name)
        log.info("drain: over", in_flight=self.work.in_flight())

    def _watch(self) -> None:
        chain = self.settings.readiness_delay_seconds + self.settings.drain_timeout_seconds + CLOSING_SECONDS
        if not self.finished.wait(chain):
            last_words("drain: deadline passed, exiting", calls=self.work.calls())
            os._exit(STUCK)
