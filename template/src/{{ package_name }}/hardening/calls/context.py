"""`Context`: what a tool is given of its call: principal, settings, deadline, progress."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from ..exchange import Principal, current
from ..settings import HardeningSettings

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context as SdkContext

    from ..database.pool import Database, DatabaseConnection

SettingsT = TypeVar("SettingsT", bound=HardeningSettings, default=HardeningSettings)
StateT = TypeVar("StateT", default=None)

# Faster progress than a person or a model can use only costs: one event in 50 ms, the last one always.
PROGRESS_INTERVAL_SECONDS = 0.05


@dataclass(slots=True)
class Context(Generic[SettingsT, StateT]):
    """One call of one tool. Take it as a parameter of any name, annotated `Context[Settings]`.

    With a lifespan it is `Context[Settings, State]`, and `ctx.state` is what the lifespan yields.

    Attributes:
        settings: Your settings.
        state: What the lifespan of `harden()` yields; None without one.
        principal: Who is calling; the credential itself never gets here.
        request_id: The reference that log lines and error results of this call carry.
        deadline: End of the call on `time.monotonic()`.
        read_only: Whether the tool is declared so.
        database: Where connections come from; use `connection(ctx)`.
        sdk: The SDK's own context, for elicitation and notifications.
        connected: Whether `connection(ctx)` is open, or being waited for.
        held: The connection that is open.
        over: Whether the call has ended; code that it has left behind gets nothing any more.
    """

    settings: SettingsT
    state: StateT
    principal: Principal
    request_id: str
    deadline: float
    read_only: bool
    database: Database | None
    sdk: SdkContext[Any, Any]
    connected: bool = field(default=False, init=False)
    held: DatabaseConnection | None = field(default=None, init=False)
    over: bool = field(default=False, init=False)
    _progress: float = field(default=float("-inf"), init=False)
    _reported: float = field(default=float("-inf"), init=False)

    def remaining_seconds(self) -> float:
        """Return how long this call may still take; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the caller how far the call is; dropped when it did not ask.

        Values that do not increase are dropped (2026-07-28, Progress), and so are more than 20 a second
        and those after the end of the call.

        Args:
            progress: How far; must increase.
            total: What `progress` will be at the end, if known.
            message: One short sentence for a person.
        """
        now = time.monotonic()
        last = total is not None and progress >= total
        # Asked this way round, so that a value which is not a number is dropped too.
        if self.over or not progress > self._progress:
            return
        if now - self._reported < PROGRESS_INTERVAL_SECONDS and not last:
            return
        self._progress, self._reported = progress, now
        exchange = current.get()
        if exchange is None or exchange.meta.get("progressToken") is None:
            return
        await self.sdk.report_progress(progress, total, message)
        exchange.notifications_sent += 1

    def end(self) -> bool:
        """End the call; return whether it has given back what it took.

        A connection that it still holds is cut, which rolls its transaction back.
        """
        self.over = True
        if self.held is None or self.database is None:
            return True
        self.database.cut(self.held)
        return False
