"""Call deadlines: runs the author's code in a task of its own and cancels it (kind `timeout`).

Every call ends: at its deadline, when its caller goes away, or with the process.
The author's code runs in a task of its own, so that what it raises is never mistaken for what ends it,
and a call whose code ignores its end is answered all the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import structlog

from .. import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = structlog.get_logger()
Result = TypeVar("Result")

# What a call that was ended may take to give back what it holds, before it is answered regardless:
# at the deadline the caller waits for the answer, after a disconnect it does not.
LATE_SECONDS = 0.5
GONE_SECONDS = 3.0
RESTARTING = "The server is restarting. Call again; check first whether the call had an effect."


class EscapedError(Exception):
    """The author's code raised what ends tasks or processes: a cancellation of its own, or `SystemExit`."""


class Deadlines:
    """The calls that run, each with the moment that ends it.

    Args:
        clock: Seconds, monotonic; for the age of calls.

    Attributes:
        running: What runs, by its deadline; the values are names of tools.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.running: dict[asyncio.Timeout, str] = {}
        self.stopping = False
        self._clock = clock
        self._began: dict[asyncio.Task[Any], float] = {}

    async def run(self, name: str, seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` returns, or raise what it raises.

        Raises:
            Timeout: It took longer than `seconds`.
            UpstreamUnavailable: The process ends before the call did.
            EscapedError: It raised something that is not an `Exception`.
            asyncio.CancelledError: The caller went away; never because the work raised it.
        """
        task = asyncio.create_task(_outcome(work), name=name)
        self._began[task] = self._clock()
        task.add_done_callback(self._began.pop)
        over = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: None if over.done() else over.set_result(None))
        deadline = asyncio.timeout(seconds)
        self.running[deadline] = name
        patience = GONE_SECONDS
        try:
            async with deadline:
                await over
        except TimeoutError:
            patience = LATE_SECONDS
            raise (errors.UpstreamUnavailable(RESTARTING) if self.stopping else errors.Timeout()) from None
        finally:
            del self.running[deadline]
            await _end(task, patience)
        # Cancelled only by its own code, in its last step; what ends it for us has raised above.
        returned, error = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        try:
            if isinstance(error, Exception):
                raise error
            if error is not None:
                raise EscapedError from error
        finally:
            # The exception knows this frame: without this the call's arguments would wait for the garbage collector.
            del task, error
        # Without an error there is a result, which may be None.
        return returned  # type: ignore[return-value]

    def oldest_seconds(self) -> float:
        """Return how long the oldest call has been running, 0 when none runs.

        One that ignores its end is still there when its caller has long been answered.
        """
        began = next(iter(self._began.values()), None)
        return 0.0 if began is None else self._clock() - began

    def cut_short(self) -> list[str]:
        """End every call that still runs, with a failure that tells the caller to try again."""
        self.stopping = True
        now = asyncio.get_running_loop().time()
        for deadline in self.running:
            deadline.reschedule(now)
        return self.names()

    def names(self) -> list[str]:
        """Return the names of the tools whose calls run."""
        return sorted(self.running.values())


async def _outcome(work: Coroutine[Any, Any, Result]) -> tuple[Result | None, BaseException | None]:
    """Catch everything: what a task raises beyond `Exception` would end the event loop."""
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - it is raised again where the call is awaited
        return None, error


async def _end(task: asyncio.Task[Any], patience: float) -> None:
    if task.done():
        return
    task.cancel()
    # Shielded, because what has cancelled this call cancels every further wait in it too.
    with anyio.CancelScope(shield=True):
        await asyncio.wait({task}, timeout=patience)
    if not task.done():
        log.error("call did not stop when cancelled", tool_name=task.get_name())
