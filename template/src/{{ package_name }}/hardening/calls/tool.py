"""Reads one declared function into a tool: schema, validation, limits.

The function's signature is the only source of all of them.
A tool is a typed `async` function with a docstring.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from mcp.types import InputRequiredResult, ToolAnnotations
from mcp.types import Tool as WireTool
from pydantic import PydanticUserError

from ..exchange import current
from .arguments import Arguments
from .context import Context
from .declaration import Declaration, InvalidDeclarationError
from .resolvers import Resolvers
from .results import ResultSchema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from mcp.types import CallToolResult


class KeptConnectionError(RuntimeError):
    """A tool has returned without leaving `async with connection(ctx)`; what it wrote is rolled back."""


class Tool:
    """A tool ready to be listed and called."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.name: str = getattr(function, "__name__", "?")
        self.function = function
        self.declaration = self._declared()
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as missing:
            raise InvalidDeclarationError(f"{self.name}: import {missing.name} outside TYPE_CHECKING") from None
        if "return" not in hints:
            raise InvalidDeclarationError(f"{self.name}: say what it returns, so that clients get an output schema")
        parameters = dict(inspect.signature(function).parameters)
        self.context_name = next((name for name in parameters if _is_context(hints.get(name))), None)
        parameters.pop(self.context_name or "", None)
        self.context_types = get_args(hints.get(self.context_name or ""))
        self.resolvers = Resolvers(self.name, function, parameters)
        for resolved in self.resolvers.names:
            del parameters[resolved]
        try:
            self.arguments = Arguments(self.name, parameters, hints)
            self.results = ResultSchema(hints["return"])
        except PydanticUserError as unknown:
            reason = str(unknown).partition("\n")[0]
            raise InvalidDeclarationError(f"{self.name}: a type has no JSON Schema: {reason}") from None
        self.input_schema = self.arguments.schema

    def _declared(self) -> Declaration:
        declaration = getattr(self.function, "__tool__", None)
        if not isinstance(declaration, Declaration):
            raise InvalidDeclarationError(f"{self.name}: add @tool(read_only=…) above the function")
        if not inspect.iscoroutinefunction(self.function):
            # A thread cannot be cancelled: a blocking tool would outlive its deadline.
            raise InvalidDeclarationError(f"{self.name}: write it as `async def`, so that its deadline can end it")
        return declaration

    def words(self) -> list[str]:
        """Return the names it makes known: its own and those of its arguments."""
        return [self.name, *self.input_schema.get("properties", {})]

    async def call(
        self, arguments: Mapping[str, Any], context: Context[Any], max_bytes: int
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
    tools: dict[str, Tool] = {}
    problems: list[str] = []
    for function in functions:
        try:
            tool = Tool(function)
        except InvalidDeclarationError as problem:
            problems.append(str(problem))
            continue
        if tool.name in tools:
            problems.append(f"{tool.name}: there are two tools of this name")
        tools[tool.name] = tool
    if problems:
        raise InvalidDeclarationError("\n".join(problems))
    return dict(sorted(tools.items()))


def _is_context(hint: object) -> bool:
    return hint is Context or get_origin(hint) is Context
