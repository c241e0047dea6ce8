"""What calls use of their server: database, state, HTTP, threads, background tasks; opened in order, closed in reverse.

No call begins before all of it is open, and none of it is closed while a call or a task runs.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from .calls.background import Background
from .calls.context import Context
from .calls.event_loop import running
from .calls.shared_threads import SharedThreads
from .calls.shares import Shares
from .calls.state import State
from .calls.threads import Threads
from .database import pool_of
from .exchange import Exchange, Principal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx2
    from mcp.server.mcpserver import Context as SdkContext

    from .calls.state import Lifespan
    from .database import OnConnection
    from .outbound.client import OnAnswer, Outbound
    from .settings import HardeningSettings

IN_PROCESS = Principal("none", "in process")


class Services:
    """What the calls of one server share.

    Args:
        settings: Those of the server.
        lifespan: Opens the author's state.
        on_acquired: Called with the seconds that a call has waited for its connection.
        on_connection: Awaited with each new connection to the database.
        on_answer: Called after each HTTP request of a call, see `Outbound`.
    """

    def __init__(
        self,
        settings: HardeningSettings,
        lifespan: Lifespan | None,
        on_acquired: Callable[[float], object],
        on_answer: OnAnswer,
        on_connection: OnConnection | None = None,
    ) -> None:
        self.settings = settings
        self.database = pool_of(settings, on_acquired=on_acquired, on_connection=on_connection)
        self.lifespan, self.state = lifespan, State(lifespan, settings)
        self.background = Background(settings)
        shares = Shares(settings.max_threads, settings.max_threads_per_principal)
        self.threads = Threads(shares, settings.thread_acquire_timeout_seconds)
        self.shared_threads = SharedThreads()
        self._on_answer = on_answer
        self._outbound: Outbound | None = None

    def oldest_thread_seconds(self) -> float:
        """Return how long the oldest function has been running in a thread, whoever started it."""
        threads = [self.threads, self.shared_threads]
        if self._outbound is not None:
            threads.append(self._outbound.guard.lookups)
        return max(one.oldest_seconds() for one in threads)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Open everything.

        Raises:
            DatabaseUnavailableError: The database did not answer in time.
            StateUnavailableError: The state did not open.
        """
        asyncio.get_running_loop().set_default_executor(self.shared_threads)
        async with AsyncExitStack() as stack:
            if self.database is not None:
                stack.push_async_callback(self.database.close)
                await self.database.open()
            await stack.enter_async_context(self.state)
            stack.push_async_callback(self._close_outbound)
            stack.callback(self.threads.close)
            stack.push_async_callback(self.background.close)
            yield

    def context(
        self, seconds: float, sdk: SdkContext[Any, Any], exchange: Exchange | None, *, read_only: bool
    ) -> Context[Any, Any]:
        """Return what the author's function is given; `end()` it when the function has returned."""
        return Context(
            settings=self.settings,
            state=self.state.value,
            principal=(exchange and exchange.principal) or IN_PROCESS,
            request_id=exchange.request_id if exchange else "",
            deadline=time.monotonic() + seconds,
            read_only=read_only,
            database=self.database,
            sdk=sdk,
            jobs=self.background,
            pool=self.threads,
            client=self._client,
            loop=running(),
        )

    def _client(self, call: Context[Any, Any]) -> httpx2.AsyncClient:
        if self._outbound is None:
            # Only now: servers whose tools make no requests start faster without it.
            from .outbound.client import Outbound

            self._outbound = Outbound(self.settings, self._on_answer)
        return self._outbound.client(call, call.open_answers)

    async def _close_outbound(self) -> None:
        if self._outbound is not None:
            await self._outbound.aclose()
