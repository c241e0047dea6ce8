"""One declaration of a tool makes its schema, its validation, its types and its limits.

A tool is a typed `async` function with a docstring.
Arguments are strict: what the advertised schema refuses, the validator refuses, and the reverse.
Results are checked against the advertised output schema before they leave.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, TypeVar, get_origin, get_type_hints

from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from mcp.types import Tool as WireTool
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json, to_json

from .call import Context

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])

# Strict in both directions, and JSON has neither NaN nor infinity (RFC 8259, section 6).
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
LARGEST_EXACT_FLOAT = 2**53


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
) -> Callable[[Function], Function]:
    """Declare a tool; the function itself stays as it is and can be called in tests.

    Args:
        read_only: It changes nothing. Its database transactions are read-only.
        destructive: It may delete or overwrite.
        idempotent: Calling it twice with the same arguments is the same as calling it once.
        open_world: It talks to systems outside this server.
        title: Name for people; default: the function's name.
        timeout_seconds: Deadline of one call; default: `MCP_TOOL_TIMEOUT_SECONDS`.
        rate_per_minute: Calls by one caller; default: `MCP_RATE_TOOL_PER_MINUTE`.
        cost: Units that a call takes from its caller's budget (`MCP_BUDGET_UNITS`).
        scopes: Scopes that a token needs for it.
        streams: It reports progress.
    """
    declaration = Declaration(
        title, read_only, destructive, idempotent, open_world, timeout_seconds, rate_per_minute, cost, scopes, streams
    )

    def declare(function: Function) -> Function:
        function.__tool__ = declaration  # type: ignore[attr-defined]
        return function

    return declare


class InvalidDeclarationError(Exception):
    """A function in `TOOLS` cannot be served; the message says what to change."""


class Tool:
    """A tool ready to be listed and called."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.name: str = getattr(function, "__name__", "?")
        declaration = getattr(function, "__tool__", None)
        if not isinstance(declaration, Declaration):
            raise InvalidDeclarationError(f"{self.name}: add @tool(read_only=…) above the function")
        if not inspect.iscoroutinefunction(function):
            # A thread cannot be cancelled: a blocking tool would outlive its deadline.
            raise InvalidDeclarationError(f"{self.name}: write it as `async def`, so that its deadline can end it")
        self.function = function
        self.declaration = declaration
        hints = get_type_hints(function, include_extras=True)
        returned = hints.pop("return", None)
        if returned is None:
            raise InvalidDeclarationError(f"{self.name}: say what it returns, so that clients get an output schema")
        self.context_name = next((name for name, hint in hints.items() if _is_context(hint)), None)
        parameters = inspect.signature(function).parameters
        fields: dict[str, Any] = {}
        for name, hint in hints.items():
            if name != self.context_name:
                fields[name] = hint if parameters[name].default is inspect.Parameter.empty else NotRequired[hint]
        model: Any = TypedDict(self.name, fields)  # type: ignore[misc] - the fields are known at start only
        model.__pydantic_config__ = STRICT
        self.arguments: TypeAdapter[dict[str, Any]] = TypeAdapter(model)
        self.input_schema = self.arguments.json_schema(schema_generator=_Schema)
        self.input_schema.pop("title", None)
        for name in fields:
            default = parameters[name].default
            if default is not inspect.Parameter.empty:
                self.input_schema["properties"][name].setdefault("default", from_json(to_json(default)))
        # A tool of a multi-round trip, or one that builds its content itself, has no schema.
        self.raw = _is_raw(returned)
        self.result: TypeAdapter[Any] | None = None if self.raw else TypeAdapter(returned)
        self.wrapped = False
        self.output_schema: dict[str, Any] | None = None
        if self.result is not None:
            schema = self.result.json_schema(mode="serialization", schema_generator=_Schema)
            # Clients before 2026-07-28 accept objects only.
            self.wrapped = schema.get("type") != "object"
            if self.wrapped:
                definitions = schema.pop("$defs", None)
                schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
                if definitions:
                    schema["$defs"] = definitions
            self.output_schema = schema

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            pydantic.ValidationError: They do not fit the schema.
        """
        return self.arguments.validate_json(to_json(_whole(dict(arguments))))

    def wire(self) -> WireTool:
        """Return the tool as `tools/list` shows it."""
        declared = self.declaration
        return WireTool(
            name=self.name,
            title=declared.title or self.name.replace("_", " ").capitalize(),
            description=inspect.cleandoc(self.function.__doc__ or ""),
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            annotations=ToolAnnotations(
                read_only_hint=declared.read_only,
                destructive_hint=declared.destructive,
                idempotent_hint=declared.idempotent or declared.read_only,
                open_world_hint=declared.open_world,
            ),
        )


class _Schema(GenerateJsonSchema):
    """The dialect clients handle: no titles made up from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False


def _is_context(hint: object) -> bool:
    return hint is Context or get_origin(hint) is Context


def _is_raw(returned: object) -> bool:
    options = getattr(returned, "__args__", (returned,))
    return any(option in {CallToolResult, InputRequiredResult} for option in options)


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Write 5.0 as 5: JSON Schema counts it as an integer (2020-12, section 4.2.3)."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT_FLOAT else value
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value
