"""Threads for libraries that block (`await ctx.thread(function, *args)`): a bounded pool with a share for each caller.

A deadline that passes gives the caller an answer and keeps the slot until the function returns,
since a thread cannot be ended. At most `MCP_MAX_THREADS`, for one caller `MCP_MAX_THREADS_PER_PRINCIPAL`;
who gets none within `MCP_THREAD_ACQUIRE_TIMEOUT_SECONDS` is told `busy`.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from .shares import Shares

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MOST_WAITING = 1000


class EndedByThreadError(Exception):
    """The function raised what a future cannot carry: `StopIteration`."""


class Threads:
    """Worker threads, started when needed and kept.

    Args:
        shares: How many, in all and for one caller.
        wait_seconds: How long to wait for one.
        clock: Seconds, monotonic; for the age of what runs.
        name: What each thread is called.
    """

    def __init__(
        self, shares: Shares, wait_seconds: float, clock: Callable[[], float] = time.monotonic, *, name: str = "author"
    ) -> None:
        self._name = name
        self.shares = shares
        self.wait_seconds = wait_seconds
        self._clock = clock
        self._idle: list[SimpleQueue[Callable[[], None] | None]] = []
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._began: dict[object, float] = {}
        self._closed = False

    @property
    def busy(self) -> int:
        """Threads that run a function, or are promised to one."""
        return self.shares.total

    def oldest_seconds(self) -> float:
        """Return how long the oldest function has been running, 0 when none runs."""
        began = next(iter(self._began.values()), None)
        return 0.0 if began is None else self._clock() - began

    async def run(
        self, caller: str, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return what the function returns, or raise what it raises.

        Raises:
            Busy: No thread was free in time, or can be started, or the share of this caller is in use.
        """
        await self._take(caller)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        began = object()
        context = contextvars.copy_context()
        try:
            worker = self._idle.pop() if self._idle else _start(self._name)
        except RuntimeError:
            # The container has no thread left.
            self._give_back(caller)
            raise Busy from None

        def ended(result: Any, error: BaseException | None) -> None:
            del self._began[began]
            self._give_back(caller)
            if self._closed:
                worker.put(None)
            else:
                self._idle.append(worker)
            # The caller may have been answered long ago.
            if not done.done():
                done.set_result(result) if error is None else done.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(function, *args, **kwargs)
            except StopIteration as stop:
                error = EndedByThreadError()
                error.__cause__ = stop
            except BaseException as raised:  # noqa: BLE001 - it is raised again where the call waits
                error = raised
            # The loop may be gone.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ended, result, error)

        self._began[began] = self._clock()
        worker.put(work)
        return await done

    async def _take(self, caller: str) -> None:
        if not self._waits_before(caller) and self.shares.take(caller):
            return
        if len(self._waiting) >= MOST_WAITING:
            raise Busy
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = caller
        try:
            async with asyncio.timeout(self.wait_seconds):
                await turn
        except BaseException as error:
            # Its turn may have come in the same moment.
            if turn.done() and not turn.cancelled():
                self._give_back(caller)
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise
        finally:
            self._waiting.pop(turn, None)

    def _waits_before(self, caller: str) -> bool:
        return caller in self._waiting.values()

    def _give_back(self, caller: str) -> None:
        self.shares.give_back(caller)
        for turn, waiting in list(self._waiting.items()):
            if not turn.done() and self.shares.take(waiting):
                del self._waiting[turn]
                turn.set_result(None)
                return

    def close(self) -> None:
        """End the threads that are idle; the others end with what they run."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)


def _start(name: str) -> SimpleQueue[Callable[[], None] | None]:
    """Start a thread that runs what is put into the queue, until None comes."""
    queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def loop() -> None:
        while (work := queue.get()) is not None:
            work()
            # What it held is released before the next one comes.
            del work

    # A function that never returns must not keep the process.
    Thread(target=loop, daemon=True, name=name).start()
    return queue
