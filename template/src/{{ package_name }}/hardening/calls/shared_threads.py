"""Default executor of the event loop (`asyncio.to_thread`): counts what is on its threads, which all callers share.

A function that never returns there takes a thread from everybody until the process ends, and when all are taken no
other function gets one. So `mcp_oldest_thread_seconds` and its alert cover them as those of `ctx.thread`.
There are as many as asyncio has: processors and four more, at most 32. Each job knows the call that it works for.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SharedThreads(ThreadPoolExecutor):
    """The default executor of the event loop.

    Args:
        clock: Seconds, monotonic; for the age of what runs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self._clock = clock
        self._began: dict[Future[Any], float] = {}

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Run a function when a thread is free; log lines it writes carry the request id of the caller."""
        future = super().submit(copy_context().run, fn, *args, **kwargs)
        self._began[future] = self._clock()
        # At once when it has ended meanwhile.
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Any]) -> None:
        self._began.pop(future, None)

    def busy(self) -> int:
        """Return how many functions run or wait for a thread."""
        return len(self._began)

    def oldest_seconds(self) -> float:
        """Return how long the oldest function has been there, 0 when there is none."""
        began = list(self._began.values())
        return self._clock() - min(began) if began else 0.0
