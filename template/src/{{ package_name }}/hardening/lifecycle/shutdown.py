"""Graceful shutdown: SIGTERM to exit 0 without losing a call.

Unready, delay, refuse new work, end streams, let calls finish, cut the rest short, close: in this order,
each step one log line, all of it within `MCP_READINESS_DELAY_SECONDS` + `MCP_DRAIN_TIMEOUT_SECONDS` + 5 s.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import TYPE_CHECKING

import structlog
import uvicorn
from sse_starlette.sse import AppStatus

from ..logs.setup import write_final_line
from ..settings.environment import AWAY
from .signals import FirstSignal

if TYPE_CHECKING:
    from collections.abc import Generator
    from socket import socket
    from types import FrameType

    from ..app import App

log = structlog.get_logger()

# From closing the port to closing idle connections. A proxy that does not ask for readiness goes on sending over
# connections that it keeps: each of them ends with a refusal, and no new one is made. One that is closed while a
# request is on its way to it loses that request.
IDLE_SECONDS = 1.0
# What closing connections, telemetry and the pool may take after the drain.
CLOSING_SECONDS = 5.0
# Exit code of a process that did not end by itself.
STUCK = 70


class DrainingServer(uvicorn.Server):
    """Uvicorn with a drain in place of its own shutdown."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.settings = app.settings
        self.drain = app.drain
        self.app = app
        self.exit_code = 0
        self.finished = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None
        self._signal = FirstSignal()
        # The SSE library cuts every stream half a second after SIGTERM unless told not to.
        AppStatus.disable_automatic_graceful_drain()

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Answer requests until a signal comes and the drain is over."""
        await super().serve(sockets)
        if self._draining is not None:
            await self._draining

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Close the port, idle connections a second later, and the others with their answers."""
        for server in self.servers:
            server.close()
        for _ in range(10):
            if self.server_state.connections:
                await asyncio.sleep(IDLE_SECONDS / 10)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the handlers alone that were installed before the port was open."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module's form
        """Begin the drain; a second signal, a second later, ends the process at once."""
        if self._signal.is_first():
            self._leave()

    def state_lost(self) -> None:
        """Begin the drain because the author's state has failed; a supervisor tries again (exit 75)."""
        if not self.drain.unready:
            self.exit_code = AWAY
            self._leave()

    def _leave(self) -> None:
        if self.drain.unready:
            return
        self.drain.unready = True
        # A thread, so that the deadline holds even when the event loop does not run; the drain does without where the
        # container has no thread left.
        with suppress(RuntimeError):
            threading.Thread(target=self._watch, daemon=True, name="exit deadline").start()
        # The handler runs in the context of the call that it interrupts, and is no part of it.
        self._loop.call_soon_threadsafe(self._begin, context=Context())

    def _begin(self) -> None:
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        delay, grace = self.settings.readiness_delay_seconds, self.settings.drain_timeout_seconds
        app = self.app
        log.info("drain: unready", in_flight=app.pipeline.in_flight(), seconds=delay)
        await asyncio.sleep(delay)
        self.drain.refusing = True
        self.should_exit = True
        # Answers come in requests of their own, and those are refused from now on.
        app.server.questions.leaving.set()
        app.streams.end()
        if app.listening is not None:
            app.listening.end()
        log.info("drain: refusing new work", in_flight=app.pipeline.in_flight(), seconds=grace)
        try:
            async with asyncio.timeout(grace):
                await app.pipeline.idle()
                # Only calls begin such tasks, and none runs any more.
                await app.server.background.idle()
        except TimeoutError:
            for name in app.server.background.cut_short():
                log.warning("drain: background task cut short", tool_name=name)
            for name in app.server.deadlines.cut_short():
                log.warning("drain: call cut short", tool_name=name)
        log.info("drain: complete", in_flight=app.pipeline.in_flight())

    def _watch(self) -> None:
        chain = self.settings.readiness_delay_seconds + self.settings.drain_timeout_seconds + CLOSING_SECONDS
        if not self.finished.wait(chain):
            calls = self.app.server.deadlines.names()
            write_final_line("drain: deadline passed, exiting", calls=calls)
            os._exit(STUCK)
