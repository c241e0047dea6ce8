"""Reads one declared function into a tool: schema, validation, limits.

The function's signature is the only source of all of them.
A tool is a typed `async` function with a docstring.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args, get_origin

from mcp.server.mcpserver import Context as SdkContext
from mcp.types import InputRequiredResult, ToolAnnotations
from mcp.types import Tool as WireTool
from pydantic import PydanticUserError
from pydantic_core import SchemaError

from ..exchange import current
from .arguments import Arguments
from .context import Context
from .declaration import Declaration, InvalidDeclarationError, hints_of, kinds
from .json_schema import why_none
from .resolvers import Resolvers
from .results import InvalidResultTypeError, ResultSchema
from .sdk_words import refuse_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from mcp.server.extension import ToolBinding
    from mcp.types import CallToolResult


class KeptConnectionError(RuntimeError):
    """A tool has returned without leaving `async with connection(ctx)`; what it wrote is rolled back."""


class Tool:
    """A tool ready to be listed and called."""

    def __init__(self, function: Callable[..., Awaitable[Any]], meta: Mapping[str, Any] | None = None) -> None:
        self.name: str = getattr(function, "__name__", "?")
        self.function = function
        self.meta = dict(meta) if meta else None
        self.declaration = self._declared()
        hints = hints_of(self.name, function)
        if "return" not in hints:
            raise InvalidDeclarationError(f"{self.name}: say what it returns, so that clients get an output schema")
        parameters = dict(inspect.signature(function).parameters)
        self.context_name, self.context_types = context_parameter(self.name, parameters, hints)
        refuse_words(self.name, function, self.context_name)
        parameters.pop(self.context_name or "", None)
        self.resolvers = Resolvers(self.name, function, parameters, hints)
        for resolved in self.resolvers.names:
            del parameters[resolved]
        try:
            self.arguments = Arguments(self.name, parameters, hints)
            self.results = ResultSchema(hints["return"])
        except InvalidResultTypeError as wrong:
            raise InvalidDeclarationError(f"{self.name}: {wrong}") from None
        except (PydanticUserError, SchemaError, TypeError) as unknown:
            raise InvalidDeclarationError(f"{self.name}: a type has no JSON Schema: {why_none(unknown)}") from None
        self.input_schema = self.arguments.schema

    def _declared(self) -> Declaration:
        declaration = getattr(self.function, "__tool__", None)
        if not isinstance(declaration, Declaration):
            raise InvalidDeclarationError(f"{self.name}: add @tool(read_only=…) above the function")
        if not (inspect.isfunction(self.function) or inspect.ismethod(self.function)):
            raise InvalidDeclarationError(f"{self.name}: put @tool(read_only=…) above a function or a method")
        if refused := getattr(self.function, "__refused__", ()):
            raise InvalidDeclarationError("\n".join(f"{self.name}: {one}" for one in refused))
        if inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function):
            cure = "return the whole result in place of yield; ctx.report_progress says how far it is"
            raise InvalidDeclarationError(f"{self.name}: {cure}")
        if not inspect.iscoroutinefunction(self.function):
            # A thread cannot be cancelled: a blocking tool would outlive its deadline.
            raise InvalidDeclarationError(f"{self.name}: write it as `async def`, so that its deadline can end it")
        return declaration

    def words(self) -> list[str]:
        """Return the names it makes known: its own and those of its arguments."""
        return [self.name, *self.input_schema.get("properties", {})]

    async def call(
        self, arguments: Mapping[str, Any], context: Context[Any, Any], max_bytes: int
    ) -> CallToolResult | InputRequiredResult:
        """Return the result as it goes out.

        Raises:
            InvalidArguments: The arguments do not fit the schema.
            TooLarge: The result is larger than `max_bytes`.
            KeptConnectionError: The tool returned before it gave its connection back.
            ValueError: The result does not fit the schema.
        """
        values = self.arguments.validate(arguments)
        resolved = await self.resolvers.fill(values, context)
        if isinstance(resolved, InputRequiredResult):
            return resolved
        values |= resolved
        if self.context_name is not None:
            values[self.context_name] = context
        returned = await self.function(**values)
        if not context.end():
            raise KeptConnectionError(self.name)
        finished = self.results.finish(returned, max_bytes)
        if (exchange := current.get()) is not None:
            exchange.result = finished
        return finished

    def wire(self) -> WireTool:
        """Return the tool as `tools/list` shows it."""
        declared = self.declaration
        return WireTool(
            name=self.name,
            title=declared.title or self.name.replace("_", " ").capitalize(),
            description=inspect.cleandoc(self.function.__doc__ or ""),
            input_schema=self.input_schema,
            output_schema=self.results.schema,
            _meta=self.meta,
            annotations=ToolAnnotations(
                read_only_hint=declared.read_only,
                destructive_hint=declared.destructive,
                idempotent_hint=declared.idempotent or declared.read_only,
                open_world_hint=declared.open_world,
            ),
        )


def read_tools(functions: Iterable[Callable[..., Awaitable[Any]]]) -> dict[str, Tool]:
    """Return the tools by name, sorted.

    Raises:
        InvalidDeclarationError: Some cannot be served, or two have one name; all are named.
    """
    tools, problems = try_tools(functions)
    if problems:
        raise InvalidDeclarationError("\n".join(problems))
    return tools


def try_tools(
    functions: Iterable[Callable[..., Awaitable[Any]]], contributed: Iterable[ToolBinding] = ()
) -> tuple[dict[str, Tool], list[str]]:
    """Return the tools that can be read, by name, sorted, and one sentence for each of the others.

    Args:
        functions: The author's.
        contributed: Those of extensions.
    """
    tools: dict[str, Tool] = {}
    problems: list[str] = []
    declared = [(function, None) for function in functions]
    for function, meta in (*declared, *((binding.fn, binding.meta) for binding in contributed)):
        try:
            tool = Tool(function, meta)
        except InvalidDeclarationError as problem:
            problems.append(str(problem))
            continue
        if tool.name in tools:
            problems.append(f"{tool.name}: there are two tools of this name")
        tools[tool.name] = tool
    return dict(sorted(tools.items())), problems


def context_parameter(
    owner: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> tuple[str | None, tuple[Any, ...]]:
    """Return which parameter takes `Context`, bare, in `Annotated` or optional, and what stands in its brackets.

    Raises:
        InvalidDeclarationError: There are two, or one is of the SDK's class of this name.
    """
    found: list[tuple[str, Any]] = []
    for name in parameters:
        for kind in kinds(hints.get(name)):
            origin = get_origin(kind) or kind
            if isinstance(origin, type) and issubclass(origin, SdkContext):
                cure = "take hardening's Context in place of the SDK's: from ..hardening import Context"
                raise InvalidDeclarationError(f"{owner}: {name}: {cure}; ctx.sdk is the SDK's own")
            if origin is Context:
                found.append((name, kind))
    if len(found) > 1:
        raise InvalidDeclarationError(f"{owner}: take one Context, not {len(found)}")
    return (found[0][0], get_args(found[0][1])) if found else (None, ())
