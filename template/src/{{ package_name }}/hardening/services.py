"""What calls use of their server: database, state, background tasks, threads; opened in order, closed in reverse.

No call begins before all of it is open, and none of it is closed while a call or a task runs.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from .calls.background import Background
from .calls.context import Context
from .calls.state import State
from .calls.threads import Threads
from .database import pool_of
from .exchange import Exchange, Principal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.mcpserver import Context as SdkContext

    from .calls.state import Lifespan
    from .settings import HardeningSettings

IN_PROCESS = Principal("none", "in process")


class Services:
    """What the calls of one server share.

    Args:
        settings: Those of the server.
        lifespan: Opens the author's state.
        on_acquired: Called with the seconds that a call has waited for its connection.
    """

    def __init__(
        self, settings: HardeningSettings, lifespan: Lifespan | None, on_acquired: Callable[[float], object]
    ) -> None:
        self.settings = settings
        self.database = pool_of(settings, on_acquired=on_acquired)
        self.state = State(lifespan, settings)
        self.background = Background(settings)
        self.threads = Threads(settings)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Open everything.

        Raises:
            DatabaseUnavailableError: The database did not answer in time.
            StateUnavailableError: The state did not open.
        """
        async with AsyncExitStack() as stack:
            if self.database is not None:
                stack.push_async_callback(self.database.close)
                await self.database.open()
            await stack.enter_async_context(self.state)
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
        )
