"""Work after the answer (`ctx.background`): bounded in number and time, waited for by the drain.

A task has a deadline and a database connection of its own, and its log lines carry the reference of its call
and are scrubbed with the call's arguments. A failure is counted and logged once; nobody else would hear of it.
At most `MCP_MAX_BACKGROUND_TASKS` at once, of one caller `MCP_MAX_BACKGROUND_TASKS_PER_PRINCIPAL`;
each ends after `MCP_BACKGROUND_TIMEOUT_SECONDS` (default: that of tools). One that ignores its end keeps its share.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from .. import errors
from ..exchange import current
from .context import JOB
from .deadline import RESTARTING, Deadlines
from .failures import failure_of
from .shares import Shares

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..settings import HardeningSettings
    from .context import Context

log = structlog.get_logger()

# What tasks that were cut short may take to end.
CLOSE_SECONDS = 1.0


class Background:
    """The tasks that run after the answers of their calls.

    Attributes:
        failures: How many have failed since the start.
    """

    def __init__(self, settings: HardeningSettings) -> None:
        self.seconds = settings.background_timeout_seconds or settings.tool_timeout_seconds
        self.shares = Shares(settings.max_background_tasks, settings.max_background_tasks_per_principal)
        self.failures = 0
        self._deadlines = Deadlines()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, object], ctx: Context[Any, Any]) -> None:
        """Run `work` for `ctx`, and return at once.

        Raises:
            TypeError: It is no coroutine.
            Busy: Too many run, in total or for this caller.
            UpstreamUnavailable: The server is ending.
        """
        if not asyncio.iscoroutine(work):
            raise TypeError("ctx.background takes a coroutine: ctx.background(send(…)), without await")
        caller = ctx.principal.id
        if self._deadlines.stopping or not self.shares.take(caller):
            work.close()
            raise errors.UpstreamUnavailable(RESTARTING) if self._deadlines.stopping else errors.Busy()
        counted = self._counted(work, caller)
        task = asyncio.create_task(self._run(counted, work.__name__, ctx))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def ended(_: object) -> None:
            if inspect.getcoroutinestate(counted) == inspect.CORO_CREATED:
                counted.close()
                work.close()
                self.shares.give_back(caller)

        task.add_done_callback(ended)

    async def _counted(self, work: Coroutine[Any, Any, object], caller: str) -> None:
        """Run it, and give its share back when its code has ended, which may be after its deadline."""
        try:
            await work
        finally:
            self.shares.give_back(caller)

    async def _run(self, work: Coroutine[Any, Any, object], function: str, ctx: Context[Any, Any]) -> None:
        exchange = current.get()
        name = (exchange and exchange.tool_name) or function
        own = replace(ctx, deadline=time.monotonic() + self.seconds)
        JOB.set((ctx, own))
        try:
            await self._deadlines.run(name, self.seconds, work)
            if not own.end():
                log.error("background task kept its connection", tool_name=name)
        except Exception as error:  # noqa: BLE001 - whatever it is, one log line reports it
            self._failed(name, error)
        finally:
            own.end()

    def _failed(self, name: str, error: Exception) -> None:
        self.failures += 1
        failure = failure_of(error)
        # The traceback of a failure that was foreseen would say nothing more.
        trace = None if failure else error
        kind = failure.kind if failure else "internal"
        log.error("background task failed", tool_name=name, error_code=kind, exc_info=trace)

    def count(self) -> int:
        """Return how many run, those included that ignore their end."""
        return self.shares.total

    async def idle(self) -> None:
        """Wait until none runs; tests await it before they look at what a task has done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cut_short(self) -> list[str]:
        """End every task that still runs, start no other, and return their names."""
        return self._deadlines.cut_short()

    async def close(self) -> None:
        """End what still runs."""
        self.cut_short()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
