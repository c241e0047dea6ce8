"""`Annotated[T, Resolve(ask)]` parameters: filled by the SDK's resolvers, never by arguments, in both eras.

They are not in the input schema and arguments of their name are refused as unknown.
Resolvers may take other resolvers, arguments of the tool by name, and `Context` (ours or the SDK's).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Elicit, ListRoots, Sample
from mcp.server.mcpserver.exceptions import InvalidSignature, ToolError
from mcp.server.mcpserver.resolve import Resolve as Marker
from mcp.server.mcpserver.resolve import (
    build_resolver_plans,
    find_resolved_parameters,
    resolve_arguments,
    returns_input_required,
)
from pydantic import BaseModel

from ..errors import CannotAsk
from .answers import UnfitAnswer
from .context import Context
from .declaration import InvalidDeclarationError, hints_of, kinds
from .sdk_words import refuse_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mcp.types import InputRequiredResult


DIRECTLY = "a caller could give it: write Annotated[T, Resolve(…)] beside the parameter, in no other type and no alias"

PLAIN = "a form has plain fields only (text, numbers, bool, dates, a Literal of words for an Enum)"


class Resolvers:
    """What fills parameters of one tool without its caller.

    Attributes:
        names: Of the parameters.
        asks: Whether the person may be asked, by one of them or by the tool itself.
    """

    def __init__(
        self,
        tool: str,
        function: Callable[..., Any],
        arguments: Mapping[str, inspect.Parameter],
        hints: Mapping[str, Any],
    ) -> None:
        try:
            self._resolved = find_resolved_parameters(function)
            asking = [marker.fn for marker, _ in self._resolved.values()]
            self._contexts = frozenset(name for one in _all(tool, asking) for name in _contexts_of(tool, one))
            given = set(arguments) - self._resolved.keys()
            self._plans = build_resolver_plans(self._resolved, given | self._contexts)
        except InvalidSignature as problem:
            raise InvalidDeclarationError(f"{tool}: {problem}") from None
        if taken := self._contexts & given:
            raise InvalidDeclarationError(f"{tool}: rename {min(taken)}: a resolver calls its Context so")
        self.names = frozenset(self._resolved)
        for name in arguments:
            if name not in self.names and resolves(hints.get(name)):
                raise InvalidDeclarationError(f"{tool}: {name}: {DIRECTLY}")
        if self.names and returns_input_required(function):
            raise InvalidDeclarationError(f"{tool}: ask by Resolve(…) or by returning InputRequiredResult, not by both")
        # The SDK gives a resolver what the caller has left out too.
        self._defaults = {
            name: one.default for name, one in arguments.items() if one.default is not inspect.Parameter.empty
        }
        self.asks = False
        for one in _all(tool, asking):
            _refuse_places(tool, one)
            for context in _contexts_of(tool, one):
                refuse_words(tool, one, context)
            self.asks = _asks(tool, one) or self.asks
        self.asks = self.asks or returns_input_required(function)

    async def fill(
        self, arguments: Mapping[str, Any], context: Context[Any, Any]
    ) -> dict[str, Any] | InputRequiredResult:
        """Return the values of the parameters, or what has to be asked first (modern).

        Raises:
            CannotAsk: The call has no caller.
            UnfitAnswer: The author's own rules refuse what was answered.
        """
        if not self.names:
            return {}
        if self.asks and not _has_caller(context):
            raise CannotAsk
        known = {**self._defaults, **arguments, **dict.fromkeys(self._contexts, context)}
        try:
            return await resolve_arguments(self._resolved, self._plans, known, context.sdk)
        except ToolError as refused:
            # The SDK's own sentence has names of the author's modules.
            if isinstance(refused.__cause__, ValueError) and str(refused).startswith("Resolver "):
                raise UnfitAnswer from None
            raise


def resolves(hint: Any) -> bool:
    """Return whether a type holds `Resolve(…)` at any depth: in a list, an alias, a field of a model."""
    found: list[Any] = [hint]
    for one in found:
        parts = [*get_args(one), _aliased(one)]
        if isinstance(one, type) and issubclass(one, BaseModel):
            parts += [part for field in one.model_fields.values() for part in (field.annotation, *field.metadata)]
        # Each once, so that types which hold themselves and each other have an end.
        found += [part for part in parts if not any(part is other for other in found)]
    return any(isinstance(one, Marker) for one in found)


def _aliased(hint: Any) -> Any:
    try:
        return getattr(hint, "__value__", None)
    except NameError:
        # Of what is imported for type checkers alone; Pydantic refuses it.
        return None


def _has_caller(context: Context[Any, Any]) -> bool:
    """Return whether a request stands behind the call; a call of a test, in the process, has none."""
    try:
        _ = context.sdk.request_context
    except ValueError:
        return False
    return True


def _all(tool: str, asking: list[Callable[..., Any]]) -> Iterator[Callable[..., Any]]:
    """Walk resolvers and those that they take themselves."""
    seen: set[int] = set()
    pending = list(asking)
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [marker.fn for marker in map(_marker, _hints(tool, one).values()) if marker is not None]


def _hints(tool: str, function: Callable[..., Any]) -> dict[str, Any]:
    return hints_of(f"{tool}: a resolver", function if inspect.isroutine(function) else type(function).__call__)


def _marker(hint: object) -> Marker | None:
    found = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((one for one in found if isinstance(one, Marker)), None)


def _contexts_of(tool: str, function: Callable[..., Any]) -> list[str]:
    hints = _hints(tool, function)
    names = inspect.signature(function).parameters
    return [name for name in names if any((get_origin(one) or one) is Context for one in kinds(hints.get(name)))]


def _refuse_places(tool: str, function: Callable[..., Any]) -> None:
    for one in inspect.signature(function).parameters.values():
        if one.kind not in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}:
            raise InvalidDeclarationError(f"{tool}: a resolver takes {one.name} by its name, without * or /")


def _asks(tool: str, function: Callable[..., Any]) -> bool:
    """Return whether a resolver may ask; refuse a question that no client can show, before anybody is asked it."""
    returned = _hints(tool, function).get("return", Elicit)
    arms = (returned, *get_args(returned))
    for arm in arms:
        if get_origin(arm) is Elicit:
            try:
                render_elicitation_schema(get_args(arm)[0])
            except TypeError as problem:
                raise InvalidDeclarationError(f"{tool}: {PLAIN}: {problem}") from None
    return any((get_origin(arm) or arm) in {Elicit, Sample, ListRoots} for arm in arms)
