"""`Context`: what a tool is given of its call: principal, settings, deadline, progress."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from typing_extensions import TypeVar as DefaultTypeVar

from ..exchange import Principal, current
from ..settings import HardeningSettings
from . import event_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine

    import httpx2
    from mcp.server.mcpserver import Context as SdkContext

    from ..database.pool import Database, DatabaseConnection
    from .background import Background
    from .threads import Threads

SettingsT = DefaultTypeVar("SettingsT", bound=HardeningSettings, default=HardeningSettings)
StateT = DefaultTypeVar("StateT", default=None)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Part = TypeVar("Part")

# Faster progress than a person or a model can use only costs: one event in 50 ms, the last one always.
PROGRESS_INTERVAL_SECONDS = 0.05

# Inside a background task: the context of its call, and the one that the task has in its place.
JOB: ContextVar[tuple[Context[Any, Any], Context[Any, Any]] | None] = ContextVar("job", default=None)


class Held(Protocol):
    """What a call has open, and gives back at its end."""

    def close_soon(self) -> None:
        """Begin to close it."""
        ...


class CallOverError(RuntimeError):
    """Code that a call left behind asked for something after the call was answered."""


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
        jobs: Where background tasks run; use `background()`.
        pool: Where threads run; use `thread()`.
        client: Makes HTTP clients; use `http`.
        connected: Whether `connection(ctx)` is open, or being waited for.
        held: The connection that is open.
        answers: HTTP answers that are open; closed at the end.
        loop: The event loop of the call; nothing of it works in another one.
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
    jobs: Background | None = None
    pool: Threads | None = None
    client: Callable[[Context[Any, Any]], httpx2.AsyncClient] | None = None
    loop: AbstractEventLoop | None = None
    connected: bool = field(default=False, init=False)
    held: DatabaseConnection | None = field(default=None, init=False)
    answers: set[Held] = field(default_factory=set[Held], init=False)
    over: bool = field(default=False, init=False)
    _progress: float = field(default=float("-inf"), init=False)
    _reported: float = field(default=float("-inf"), init=False)

    def remaining_seconds(self) -> float:
        """Return how long this call may still take; never negative."""
        return max(0.0, self.here().deadline - time.monotonic())

    def here(self) -> Context[SettingsT, StateT]:
        """Return what holds for the code that asks: this, or that of the background task which it runs in."""
        job = JOB.get()
        return job[1] if job is not None and job[0] is self else self

    def background(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine after the answer, e.g. `ctx.background(send(ctx, url))`; returns at once.

        It has a deadline of its own (`MCP_BACKGROUND_TIMEOUT_SECONDS`), and `connection(ctx)` in it opens
        a connection of its own. A drain waits for it. When it fails one log line says so, and nobody else hears of it.

        Raises:
            Busy: Too many run already, in total or for this caller.
            UpstreamUnavailable: The server is ending.
        """
        self._usable(self.jobs).start(work, self)

    async def thread(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Run a function that blocks in a thread, and return what it returns.

        At the deadline the caller is answered; the function runs on, and keeps its thread until it returns.

        Raises:
            Busy: No thread was free in time, or this caller uses its share.
        """
        return await self._usable(self.pool).run(self.principal.id, function, *args, **kwargs)

    @property
    def http(self) -> httpx2.AsyncClient:
        """An HTTP client for this call: `await ctx.http.get(url)`; keep it for the call if it shall keep cookies.

        It never reaches the inside (`MCP_HTTP_ALLOW` opens names and networks), never outlives the deadline,
        and takes answers up to `MCP_HTTP_MAX_RESPONSE_BYTES`. What it raises is a failure that the caller is told.
        """
        return self._usable(self.client)(self)

    def open_answers(self) -> set[Held]:
        """Return the HTTP answers that are closed at the end of what runs here.

        Raises:
            CallOverError: The call has been answered.
            OtherLoopError: It runs in a thread, or in an event loop of its own.
        """
        self.check()
        return self.here().answers

    def check(self) -> None:
        """Let pass what runs in the call.

        Raises:
            CallOverError: The call has been answered.
            OtherLoopError: It runs in a thread, or in an event loop of its own.
        """
        if self.here().over:
            raise CallOverError("the call has been answered: await everything that it starts")
        event_loop.check(self.loop)

    def _usable(self, part: Part | None) -> Part:
        self.check()
        if part is None:
            raise CallOverError("there is no call: in tests, use the fixture `call_tool`")
        return part

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the caller how far the call is; dropped when it did not ask.

        Values that do not increase or have no end are dropped (2026-07-28, Progress), and so are more than
        20 a second and those after the end of the call.

        Args:
            progress: How far; must increase.
            total: What `progress` will be at the end, if known.
            message: One short sentence for a person.

        Raises:
            OtherLoopError: It runs in a thread, or in an event loop of its own.
        """
        event_loop.check(self.loop)
        now = time.monotonic()
        if total is not None and not math.isfinite(total):
            total = None
        last = total is not None and progress >= total
        # Asked this way round, so that a value which is not a number is dropped too.
        if self.over or not self._progress < progress < math.inf:
            return
        if now - self._reported < PROGRESS_INTERVAL_SECONDS and not last:
            return
        self._progress, self._reported = progress, now
        exchange = current.get()
        if exchange is None or exchange.meta.get("progressToken") is None:
            return
        if message is not None:
            # Half a character, as in names of files that are no UTF-8, cannot be sent.
            message = message.encode(errors="replace").decode()
        await self.sdk.report_progress(progress, total, message)
        exchange.notifications_sent += 1

    def end(self) -> bool:
        """End the call; return whether it has given back what it took.

        A connection that it still holds is cut, which rolls its transaction back; open HTTP answers are closed.
        """
        self.over = True
        for answer in tuple(self.answers):
            answer.close_soon()
        if self.held is None or self.database is None:
            return True
        self.database.cut(self.held)
        return False
