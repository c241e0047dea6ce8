"""`@tool`: the declaration of a tool: effects, deadline, rate, cost, scopes."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..settings.environment import refuse

Settings = TypeVar("Settings")
Server = TypeVar("Server")
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
Decorator = TypeVar("Decorator", bound=Callable[..., Any])


class InvalidDeclarationError(Exception):
    """Declarations that cannot be served; each of `problems` names one and says what to change."""

    @property
    def problems(self) -> list[str]:
        """One sentence each."""
        return str(self).split("\n")


# What is wrong with the server that is being built; None where nobody asks for all of it.
_found: ContextVar[list[str] | None] = ContextVar("found", default=None)


def refuse_declaration(problem: InvalidDeclarationError | str) -> None:
    """Raise it, or keep it for the list while `build_whole` runs; the caller goes on without what is refused.

    Raises:
        InvalidDeclarationError: Nobody makes a list.
    """
    refused = problem if isinstance(problem, InvalidDeclarationError) else InvalidDeclarationError(problem)
    found = _found.get()
    if found is None:
        raise refused
    found += refused.problems


def build_whole(build: Callable[[Settings], Server], settings: Settings) -> Server:
    """Return what `build` makes of the settings.

    Raises:
        InvalidDeclarationError: Tools, prompts, resources or others cannot be served; all are named.
    """
    found: list[str] = []
    token = _found.set(found)
    try:
        server = build(settings)
        if not found:
            return server
    except InvalidDeclarationError as last:
        found += last.problems
    except Exception:
        # It may well come of what was left out.
        if not found:
            raise
    finally:
        _found.reset(token)
    raise InvalidDeclarationError("\n".join(dict.fromkeys(found)))


def built_or_exit(build: Callable[[Settings], Server], settings: Settings) -> Server:
    """Return what `build_whole` does, or list every problem on standard error and exit with 78."""
    try:
        return build_whole(build, settings)
    except InvalidDeclarationError as invalid:
        refuse("tools", invalid.problems)


def hints_of(owner: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's parameters and of its result.

    Raises:
        InvalidDeclarationError: One of them cannot be found.
    """
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as missing:
        cure = f"import {missing.name} outside TYPE_CHECKING, or make it at the top of the file"
    except (AttributeError, SyntaxError, TypeError) as unreadable:
        cure = f"a type cannot be read, mend it: {str(unreadable).partition(chr(10))[0]}"
    raise InvalidDeclarationError(f"{owner}: {cure}")


def kinds(hint: Any) -> tuple[Any, ...]:
    """Return what a parameter may be: the parts of a union, without what stands beside them."""
    if get_origin(hint) is Annotated:
        return kinds(get_args(hint)[0])
    if get_origin(hint) in {Union, UnionType}:
        return tuple(kind for one in get_args(hint) for kind in kinds(one))
    return (hint,)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the author says about a tool, beside it."""

    title: str | None
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    timeout_seconds: float | None
    rate_per_minute: int | None
    cost: int
    scopes: tuple[str, ...]
    streams: bool
    confirm: bool | None = None


# What the SDK's decorator takes, and where it is said here.
ELSEWHERE = {
    "name": "the name of the function is the tool's",
    "description": "the docstring of the function is the tool's description",
    "annotations": "say read_only, destructive, idempotent and open_world, and title",
    "structured_output": "the type of the result says it: content types become blocks, all others have a schema",
    "meta": "only a tool of an extension has meta, harden(…, extensions=…)",
}


def _explained(declare: Decorator) -> Decorator:
    """Let what the SDK's decorator takes be refused with all else that is wrong, where tools are read."""
    known = inspect.signature(declare).parameters

    @functools.wraps(declare)
    def explaining(*unnamed: Any, **said: Any) -> Any:
        if unnamed and callable(unnamed[0]):
            # Without brackets: nothing is declared.
            return unnamed[0]
        said = ({"name": unnamed[0]} if unnamed else {}) | said
        refused = [
            f"@tool({word}=…): {ELSEWHERE.get(word, 'there is no such word; see docs/tools.md')}"
            for word in said.keys() - known.keys()
        ]
        refused += [] if "read_only" in said else ["say whether it changes anything, @tool(read_only=…)"]
        declared = declare(**{"read_only": False} | {word: said[word] for word in said if word in known})

        def refusing(function: Any) -> Any:
            function = declared(function)
            with contextlib.suppress(AttributeError):
                function.__refused__ = tuple(sorted(refused))
            return function

        return refusing if refused else declared

    return cast("Decorator", explaining)


@_explained
def tool(  # noqa: PLR0913 - one keyword per promise
    *,
    read_only: bool,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
    title: str | None = None,
    timeout_seconds: float | None = None,
    rate_per_minute: int | None = None,
    cost: int = 0,
    scopes: tuple[str, ...] = (),
    streams: bool = False,
    confirm: bool | None = None,
) -> Callable[[Function], Function]:
    """Declare a tool; the function itself stays as it is and can be called in tests.

    Args:
        read_only: It changes nothing. Its database transactions are read-only.
        destructive: It may delete or overwrite.
        idempotent: Calling it twice with the same arguments is the same as calling it once.
        open_world: It talks to systems outside this server.
        title: Name for people; default: the function's name.
        timeout_seconds: Deadline of one call; default: `MCP_TOOL_TIMEOUT_SECONDS`. Below `MCP_DRAIN_TIMEOUT_SECONDS`.
        rate_per_minute: Calls by one caller; default: `MCP_RATE_TOOL_PER_MINUTE`.
        cost: Units that a call takes from its caller's budget (`MCP_BUDGET_UNITS`), with invalid arguments too;
            a cancelled one gives them back.
        scopes: Scopes that a token needs for it.
        streams: It reports progress.
        confirm: The person who uses the client is asked before each call; without a yes it does not run.
            Say False when a destructive tool may run unasked.
    """
    declaration = Declaration(
        title,
        read_only,
        destructive,
        idempotent,
        open_world,
        timeout_seconds,
        rate_per_minute,
        cost,
        scopes,
        streams,
        confirm,
    )

    def declare(function: Function) -> Function:
        try:
            function.__tool__ = declaration  # type: ignore[attr-defined]
        except AttributeError:
            # A method of an object: whatever is read of it is read of its function.
            if inspect.ismethod(function):
                return declare(cast("Function", _called(function)))
        return function

    return declare


def _called(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a function that calls a method of an object."""

    @functools.wraps(method)
    async def call(*arguments: Any, **named: Any) -> Any:
        return await method(*arguments, **named)

    return call
