"""The author's shared state: opened once by `harden(lifespan=…)`, after the database and before the port (exit 75, 78).

A call never sees state that is not open, and what was opened is closed after the last call, whatever else failed.
Opening ends after `MCP_STATE_START_TIMEOUT_SECONDS`, closing after two seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self, get_args, get_type_hints

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
# `sys.exit` in a lifespan is a failure too: it would end the process without a line, as if it had served.
_FAILED = (Exception, SystemExit, KeyboardInterrupt)


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
    """

    def __init__(self, lifespan: Lifespan | None, settings: HardeningSettings) -> None:
        self._lifespan = lifespan
        self._settings = settings
        self._name = getattr(lifespan, "__name__", "lifespan")
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self._value: Any = None

    @property
    def value(self) -> Any:
        """What the lifespan has yielded; None without one.

        Raises:
            StateNotOpenError: It is not open.
        """
        if self._lifespan is not None and self._manager is None:
            raise StateNotOpenError("the state is not open: in tests, use the fixture `server`")
        return self._value

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            StateUnavailableError: It raised, or took too long.
        """
        if self._lifespan is None:
            return self
        seconds = self._settings.state_start_timeout_seconds
        wait = asyncio.timeout(seconds)
        try:
            async with wait:
                manager = self._lifespan(self._settings)
                self._value = await manager.__aenter__()
        except _FAILED as error:
            if wait.expired():
                raise StateUnavailableError(f"{self._name}: not open within {seconds:g} s", away=True) from None
            raise StateUnavailableError(f"{self._name}: {self._place(error)}", away=_away(error)) from error
        self._manager = manager
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it; a failure is a log line, because nobody can mend it any more."""
        manager, self._manager, self._value = self._manager, None, None
        if manager is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await manager.__aexit__(None, None, None)
        except _FAILED:
            # The other parts are closed all the same.
            log.exception("state did not close")

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
