"""`@tool`: the declaration of a tool: effects, deadline, rate, cost, scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


class InvalidDeclarationError(Exception):
    """Declarations that cannot be served; each of `problems` names one and says what to change."""

    @property
    def problems(self) -> list[str]:
        """One sentence each."""
        return str(self).split("\n")


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
        function.__tool__ = declaration  # type: ignore[attr-defined]
        return function

    return declare
