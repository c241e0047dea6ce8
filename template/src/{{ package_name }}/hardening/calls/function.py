"""One function behind a prompt, a resource or completion: given its context, its arguments read, its connection ended.

Arguments come as text, from a person's form or an address: they are read as the SDK reads them, and as JSON where the
text does not fit; a failure names the rule (-32602), never the value.
Source: 2026-07-28 and 2025-11-25, Prompts and Resources.
"""

from __future__ import annotations

import inspect
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NotRequired

from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import UnexpectedResourceError
from mcp.types import INVALID_PARAMS
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError
from typing_extensions import TypedDict

from .. import errors
from .arguments import CLOSED, refuse_parameter
from .declaration import InvalidDeclarationError, hints_of, kinds
from .failures import invalid_arguments
from .json_schema import CheckedSchema, why_none
from .resolvers import resolves
from .sdk_words import refuse_words
from .tool import KeptConnectionError, context_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from .context import Context

# The SDK's context of what runs; set where the protocol enters, because the SDK hands it to some functions only.
request: ContextVar[SdkContext[Any, Any]] = ContextVar("request")
# Whether a function of the author's runs; what it reads itself stands inside of the boundary already.
in_call: ContextVar[bool] = ContextVar("in_call", default=False)

ASKING = (
    "Resolve(…) fills parameters of tools alone; return InputRequiredResult to ask the person, and look at"
    " ctx.sdk.input_responses when the answer is there"
)
PLACES = "take ref, argument and context, in this order, and a Context if you need one"


class AuthorFunction:
    """A function of the author's, with `Context` of this package, or the SDK's, as a parameter of any name.

    Args:
        owner: What the function makes, by name; stands in every sentence about it.
        function: The function; one that is no coroutine runs in a thread.
        context: Makes the context of a call.
        positional: Parameters that are given as they come, unread.

    Raises:
        InvalidDeclarationError: It cannot be called.
    """

    def __init__(
        self,
        owner: str,
        function: Callable[..., Any],
        context: Callable[[SdkContext[Any, Any]], Context[Any, Any]],
        *,
        positional: int = 0,
    ) -> None:
        self.owner = self.name = owner
        self.function = function
        self._context = context
        if not (inspect.isfunction(function) or inspect.ismethod(function)) or inspect.isasyncgenfunction(function):
            cure = "decorate a function or a method that returns its whole result"
            raise InvalidDeclarationError(f"{owner}: {cure}")
        self.hints = hints_of(owner, function)
        parameters = dict(inspect.signature(function).parameters)
        sdk = [name for name in parameters if _is_sdk_context(self.hints.get(name))]
        if len(sdk) > 1:
            raise InvalidDeclarationError(f"{owner}: take one Context, not {len(sdk)}")
        self._sdk_name = sdk[0] if sdk else None
        ours = {name: one for name, one in parameters.items() if name not in sdk}
        self._context_name, self.context_types = context_parameter(owner, ours, self.hints)
        given = {name: one for name, one in ours.items() if name != self._context_name}
        for name in given:
            if resolves(self.hints.get(name)):
                raise InvalidDeclarationError(f"{owner}: {name}: {ASKING}")
        self._places = _places(owner, list(given.values()), positional)
        self.parameters = dict(list(given.items())[positional:])
        self.required = [name for name, one in self.parameters.items() if one.default is inspect.Parameter.empty]
        for name, one in self.parameters.items():
            refuse_parameter(owner, one, self.hints.get(name))
        refuse_words(owner, function, self._context_name)
        self._adapter, self.schema = self._read_types()

    def _read_types(self) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
        fields = {
            name: self.hints.get(name, str) if name in self.required else NotRequired[self.hints.get(name, str)]
            for name in self.parameters
        }
        model: Any = TypedDict("Arguments", fields)  # type: ignore[misc] - the fields are known at start only
        model.__pydantic_config__ = CLOSED
        try:
            adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(model)
            # What has no schema cannot be given by anybody.
            return adapter, adapter.json_schema(schema_generator=CheckedSchema)
        except (PydanticUserError, SchemaError, TypeError) as unknown:
            raise InvalidDeclarationError(f"{self.owner}: an argument cannot be read: {why_none(unknown)}") from None

    def read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            MCPError: -32602 that names the argument and the rule.
        """
        try:
            return self._adapter.validate_python(dict(arguments))
        except ValidationError as invalid:
            failed = {name for error in invalid.errors(include_url=False) for name in error["loc"][:1]}
        try:
            return self._adapter.validate_python(
                {name: _from_text(text) if name in failed else text for name, text in arguments.items()}
            )
        except ValidationError as invalid:
            raise MCPError(INVALID_PARAMS, invalid_arguments(invalid, self.parameters.keys()).advice) from None

    async def __call__(self, /, *given: Any, **arguments: Any) -> Any:
        """Call it.

        Raises:
            KeptConnectionError: It returned before it gave its connection back.
        """
        if self._places:
            given, arguments = (), {**dict(zip(self._places, given, strict=True)), **arguments}
        sdk = request.get()
        if self._sdk_name is not None:
            arguments[self._sdk_name] = sdk
        context = self._context(sdk) if self._context_name is not None else None
        if self._context_name is not None:
            arguments[self._context_name] = context
        try:
            if inspect.iscoroutinefunction(self.function):
                returned = await self.function(*given, **arguments)
            else:
                # In the pool of `ctx.thread`, of which each caller has a share.
                context = context or self._context(sdk)
                returned = await context.thread(self.function, *given, **arguments)
            if inspect.iscoroutine(returned):
                # Of a decorator around a coroutine function.
                returned = await returned
        except BaseException:
            if context is not None:
                context.end()
            raise
        if context is not None and not context.end():
            raise KeptConnectionError(self.owner)
        return returned


def _from_text(value: Any) -> Any:
    """Read JSON in the text of an argument that is no text, e.g. a list; as the SDK does for tools."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
    return value if isinstance(read, str | int | float) else read


def _is_sdk_context(hint: Any) -> bool:
    return any(inspect.isclass(one) and issubclass(one, SdkContext) for one in kinds(hint))


def _places(owner: str, parameters: list[inspect.Parameter], positional: int) -> list[str]:
    """Return the names of what is given by place; none where only the place counts."""
    try:
        inspect.Signature(parameters).bind(*range(positional))
    except TypeError:
        if positional:
            raise InvalidDeclarationError(f"{owner}: {PLACES}") from None
    placed = parameters[:positional]
    return [one.name for one in placed] if all(one.kind is one.POSITIONAL_OR_KEYWORD for one in placed) else []


def enter(sdk: SdkContext[Any, Any]) -> None:
    """Note what the function that runs next is called for."""
    request.set(sdk)
    in_call.set(True)


async def inside(sdk: SdkContext[Any, Any], reading: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call reads itself, with a context of its own; a failure of `errors` is raised as it is.

    Raises:
        ResourceError: As the SDK says it, so that the author can expect it.
        ToolFailure: The author's function behind the resource has raised it.
    """
    outer = request.set(sdk)
    try:
        return await reading
    except UnexpectedResourceError as error:
        if isinstance(error.__cause__, errors.ToolFailure):
            raise error.__cause__ from None
        raise
    finally:
        request.reset(outer)
