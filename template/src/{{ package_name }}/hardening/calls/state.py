"""The author's shared state: opened once by `harden(lifespan=…)`, after the database and before the port (exit 75, 78).

A call never sees state that is not open, and what was opened is closed after the last call, whatever else failed.
Opening ends after `MCP_STATE_START_TIMEOUT_SECONDS`, closing after two seconds. The lifespan runs in a task of its own:
what a task group or a timeout around its `yield` cancels is that task, and the server drains (exit 75).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import copy_context
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self, get_args, get_type_hints

import anyio
import structlog

from .failures import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from ..settings import HardeningSettings
    from .function import AuthorFunction
    from .tool import Tool

    Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

log = structlog.get_logger()

# Part of what `lifecycle.shutdown` leaves for closing.
CLOSE_SECONDS = 2.0
# What a lifespan may take to end once it has been cancelled.
CANCEL_SECONDS = 0.5


class StateUnavailableError(Exception):
    """The state cannot be opened; the message says where, without the text of an exception.

    Attributes:
        away: Whether a system that it needs does not answer, so that a later start can succeed.
    """

    def __init__(self, sentence: str, *, away: bool) -> None:
        super().__init__(sentence)
        self.away = away


class StateNotOpenError(RuntimeError):
    """A call ran on a server whose state nobody has opened; tests use the fixture `server`."""


class State:
    """What the lifespan yields, while it is open.

    Args:
        lifespan: An async context manager of the settings; None: there is no state.
        settings: What it is called with.

    Attributes:
        lost: Whether the lifespan was cancelled before it was closed, as by a task group around its `yield`.
    """

    def __init__(self, lifespan: Lifespan | None, settings: HardeningSettings) -> None:
        self.lost = False
        self._lifespan = lifespan
        self._settings = settings
        self._name = getattr(lifespan, "__name__", "lifespan")
        self._holder: asyncio.Task[BaseException | None] | None = None
        self._close = asyncio.Event()
        self._value: Any = None
        self._on_lost: Callable[[], object] | None = None

    @property
    def value(self) -> Any:
        """What the lifespan has yielded; None without one.

        Raises:
            StateNotOpenError: It is not open.
        """
        if self._lifespan is not None and self._holder is None:
            raise StateNotOpenError("the state is not open: in tests, use the fixture `server`")
        return self._value

    def when_lost(self, act: Callable[[], object]) -> None:
        """Call `act` when the lifespan is cancelled before it is closed; at once if it has been."""
        self._on_lost = act
        if self.lost:
            act()

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            StateUnavailableError: It raised, or took too long.
        """
        if self._lifespan is None:
            return self
        seconds = self._settings.state_start_timeout_seconds
        self._close = asyncio.Event()
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        before = copy_context()
        own = before.copy()
        holder = asyncio.create_task(self._hold(self._lifespan, opened), name="state", context=own)
        try:
            await asyncio.wait({holder, opened}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not opened.done():
                holder.cancel()
        if not opened.done():
            self._close.set()
            await asyncio.wait({holder}, timeout=CANCEL_SECONDS)
            error = holder.result() if holder.done() else None
            if error is None or isinstance(error, asyncio.CancelledError):
                raise StateUnavailableError(f"{self._name}: not open within {seconds:g} s", away=True)
            raise StateUnavailableError(f"{self._name}: {self._place(error)}", away=_away(error)) from error
        # Context variables that the lifespan has set hold for every call, as if it had run here.
        for variable, value in own.items():
            if variable not in before or before[variable] is not value:
                variable.set(value)
        self._holder, self._value = holder, opened.result()
        return self

    async def _hold(self, lifespan: Lifespan, opened: asyncio.Future[Any]) -> BaseException | None:
        """Enter and leave the lifespan; return what it raised.

        `sys.exit` in it is a failure too: it would end the process without a line, as if it had served.
        """
        try:
            async with lifespan(self._settings) as value:
                opened.set_result(value)
                await self._closed()
        except BaseException as error:  # noqa: BLE001 - whoever opens or closes it says so
            return error
        return None

    async def _closed(self) -> None:
        """Wait until the state is closed, also when the lifespan is cancelled before: calls in flight still use it."""
        try:
            await self._close.wait()
        except asyncio.CancelledError:
            self.lost = True
            log.error("state lost, a task of it has failed")  # noqa: TRY400 - which one is known when it is closed
            if self._on_lost is not None:
                self._on_lost()
            # The scopes of `anyio` cancel again and again what waits in them.
            seconds = self._settings.readiness_delay_seconds + self._settings.drain_timeout_seconds + CLOSE_SECONDS
            with anyio.move_on_after(seconds, shield=True):
                await self._close.wait()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Close it; a failure is a log line, because nobody can mend it any more."""
        holder, self._holder, self._value = self._holder, None, None
        if holder is None:
            return
        self._close.set()
        await asyncio.wait({holder}, timeout=CLOSE_SECONDS)
        late = None if holder.done() else TimeoutError()
        if late is not None:
            holder.cancel()
            await asyncio.wait({holder}, timeout=CANCEL_SECONDS)
            late.__cause__ = holder.result() if holder.done() else None
        if (error := late or holder.result()) is not None:
            # The other parts are closed all the same.
            log.error("state did not close", exc_info=error)

    def _place(self, error: BaseException) -> str:
        """Return the type of an exception and the line of the lifespan that it came from."""
        file = inspect.getsourcefile(inspect.unwrap(self._lifespan)) if callable(self._lifespan) else None
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f" in {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return f"cannot open ({type(error).__name__}{where})"


def _away(error: BaseException) -> bool:
    """Return whether the fault is another system's: a later start may succeed."""
    failure = failure_of(error)
    return isinstance(error, socket.gaierror) or (failure is not None and failure.retryable)


def problems(
    tools: Iterable[Tool | AuthorFunction], settings: HardeningSettings, lifespan: Lifespan | None
) -> list[str]:
    """Return one sentence for each tool, prompt or resource whose `Context[…]` is not what it will be given."""
    found: list[str] = []
    yields = _yielded(lifespan)
    for tool in tools:
        wanted = (*tool.context_types, None, None)[:2]
        if inspect.isclass(wanted[0]) and not isinstance(settings, wanted[0]):
            given = type(settings).__name__
            found.append(f"{tool.name}: takes Context[{wanted[0].__name__}], and the settings are {given}; write that")
        state = wanted[1]
        if not inspect.isclass(state) or state is type(None):
            continue
        if lifespan is None:
            found.append(f"{tool.name}: takes a state of {state.__name__}; add harden(…, lifespan=…), which opens it")
        elif inspect.isclass(yields) and not issubclass(yields, state):
            found.append(f"{tool.name}: takes a state of {state.__name__}, and the lifespan yields {yields.__name__}")
    return found


def _yielded(lifespan: Lifespan | None) -> object:
    """Return the type that the annotation of a lifespan promises, None where it cannot be told."""
    if lifespan is None:
        return None
    # What an author imports for type checkers only.
    usual = {"AsyncGenerator": AsyncGenerator, "AsyncIterator": AsyncIterator}
    try:
        return next(iter(get_args(get_type_hints(inspect.unwrap(lifespan), localns=usual)["return"])), None)
    except (KeyError, NameError, TypeError):
        return None
