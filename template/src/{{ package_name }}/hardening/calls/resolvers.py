"""`Annotated[T, Resolve(ask)]` parameters: filled by the SDK's resolvers, never by arguments, in both eras.

They are not in the input schema and arguments of their name are refused as unknown.
Resolvers may take other resolvers, arguments of the tool by name, and `Context` (ours or the SDK's).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Elicit, ListRoots, Sample
from mcp.server.mcpserver.exceptions import InvalidSignature
from mcp.server.mcpserver.resolve import Resolve as Marker
from mcp.server.mcpserver.resolve import (
    build_resolver_plans,
    find_resolved_parameters,
    resolve_arguments,
    returns_input_required,
)

from ..errors import CannotAsk
from .context import Context
from .declaration import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from mcp.types import InputRequiredResult


class Resolvers:
    """What fills parameters of one tool without its caller.

    Attributes:
        names: Of the parameters.
        asks: Whether the person may be asked, by one of them or by the tool itself.
    """

    def __init__(self, tool: str, function: Callable[..., Any], arguments: Collection[str]) -> None:
        try:
            self._resolved = find_resolved_parameters(function)
            asking = [marker.fn for marker, _ in self._resolved.values()]
            self._contexts = frozenset(name for one in _all(asking) for name in _contexts_of(one))
            given = set(arguments) - self._resolved.keys()
            self._plans = build_resolver_plans(self._resolved, given | self._contexts)
        except InvalidSignature as problem:
            raise InvalidDeclarationError(f"{tool}: {problem}") from None
        if taken := self._contexts & given:
            raise InvalidDeclarationError(f"{tool}: rename {min(taken)}: a resolver calls its Context so")
        self.names = frozenset(self._resolved)
        if self.names and returns_input_required(function):
            raise InvalidDeclarationError(f"{tool}: ask by Resolve(…) or by returning InputRequiredResult, not by both")
        self.asks = False
        for one in _all(asking):
            self.asks = _asks(tool, one) or self.asks
        self.asks = self.asks or returns_input_required(function)

    async def fill(
        self, arguments: Mapping[str, Any], context: Context[Any, Any]
    ) -> dict[str, Any] | InputRequiredResult:
        """Return the values of the parameters, or what has to be asked first (modern).

        Raises:
            CannotAsk: The call has no caller.
        """
        if not self.names:
            return {}
        if self.asks and not _has_caller(context):
            raise CannotAsk
        known = {**arguments, **dict.fromkeys(self._contexts, context)}
        return await resolve_arguments(self._resolved, self._plans, known, context.sdk)


def _has_caller(context: Context[Any, Any]) -> bool:
    """Return whether a request stands behind the call; a call of a test, in the process, has none."""
    try:
        _ = context.sdk.request_context
    except ValueError:
        return False
    return True


def _all(asking: list[Callable[..., Any]]) -> Iterator[Callable[..., Any]]:
    """Walk resolvers and those that they take themselves."""
    seen: set[int] = set()
    pending = list(asking)
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [marker.fn for marker in map(_marker, _hints(one).values()) if marker is not None]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except NameError as missing:
        raise InvalidSignature(f"import {missing.name} outside TYPE_CHECKING, a resolver needs it") from None


def _marker(hint: object) -> Marker | None:
    found = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((one for one in found if isinstance(one, Marker)), None)


def _contexts_of(function: Callable[..., Any]) -> list[str]:
    hints = _hints(function)
    names = inspect.signature(function).parameters
    return [name for name in names if hints.get(name) is Context or get_origin(hints.get(name)) is Context]


def _asks(tool: str, function: Callable[..., Any]) -> bool:
    """Return whether a resolver may ask; refuse a question that no client can show, before anybody is asked it."""
    returned = _hints(function).get("return", Elicit)
    arms = (returned, *get_args(returned))
    for arm in arms:
        if get_origin(arm) is Elicit:
            try:
                render_elicitation_schema(get_args(arm)[0])
            except TypeError as problem:
                raise InvalidDeclarationError(f"{tool}: a form has plain fields only: {problem}") from None
    return any((get_origin(arm) or arm) in {Elicit, Sample, ListRoots} for arm in arms)
