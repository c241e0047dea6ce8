"""One declaration of a tool makes its schema, its validation, its types and its limits.

A tool is a typed `async` function with a docstring.
Arguments are strict: what the advertised schema refuses, the validator refuses, and the reverse.
Results are checked against the advertised output schema before they leave.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NotRequired, cast, get_origin, get_type_hints

from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from mcp.types import Tool as WireTool
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from .call import Context
from .declaration import Declaration
from .errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

# Strict in both directions, and JSON has neither NaN nor infinity (RFC 8259, section 6).
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
LARGEST_EXACT_FLOAT = 2**53


class InvalidDeclarationError(Exception):
    """A function in `TOOLS` cannot be served; the message says what to change."""


class Tool:
    """A tool ready to be listed and called."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.name: str = getattr(function, "__name__", "?")
        self.function = function
        self.declaration = self._declared()
        hints = get_type_hints(function, include_extras=True)
        if "return" not in hints:
            raise InvalidDeclarationError(f"{self.name}: say what it returns, so that clients get an output schema")
        returned = hints.pop("return")
        self.context_name = next((name for name, hint in hints.items() if _is_context(hint)), None)
        hints.pop(self.context_name or "", None)
        self.arguments, self.input_schema = self._read_arguments(hints)
        # A tool of a multi-round trip, or one that builds its content itself, has no output schema.
        self.result: TypeAdapter[Any] | None = None if _is_raw(returned) else TypeAdapter(returned)
        self.output_schema, self.wrapped = self._read_result()

    def _declared(self) -> Declaration:
        declaration = getattr(self.function, "__tool__", None)
        if not isinstance(declaration, Declaration):
            raise InvalidDeclarationError(f"{self.name}: add @tool(read_only=…) above the function")
        if not inspect.iscoroutinefunction(self.function):
            # A thread cannot be cancelled: a blocking tool would outlive its deadline.
            raise InvalidDeclarationError(f"{self.name}: write it as `async def`, so that its deadline can end it")
        return declaration

    def _read_arguments(self, hints: dict[str, Any]) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
        parameters = inspect.signature(self.function).parameters
        if len(parameters) > len(hints) + (self.context_name is not None):
            raise InvalidDeclarationError(f"{self.name}: give every parameter a type")
        defaults = {name: parameters[name].default for name in hints}
        optional = {name for name, default in defaults.items() if default is not inspect.Parameter.empty}
        fields = {name: NotRequired[hint] if name in optional else hint for name, hint in hints.items()}
        model: Any = TypedDict(self.name, fields)  # type: ignore[misc] - the fields are known at start only
        model.__pydantic_config__ = STRICT
        arguments: TypeAdapter[dict[str, Any]] = TypeAdapter(model)
        schema = arguments.json_schema(schema_generator=_Schema)
        schema.pop("title", None)
        for name in optional:
            schema["properties"][name].setdefault("default", from_json(to_json(defaults[name])))
        return arguments, schema

    def _read_result(self) -> tuple[dict[str, Any] | None, bool]:
        if self.result is None:
            return None, False
        schema = self.result.json_schema(mode="serialization", schema_generator=_Schema)
        if schema.get("type") == "object":
            return schema, False
        # Clients before 2026-07-28 accept objects only.
        definitions = schema.pop("$defs", None)
        wrapped: dict[str, Any] = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
        return wrapped | ({"$defs": definitions} if definitions else {}), True

    def words(self) -> list[str]:
        """Return the names it makes known: its own and those of its arguments."""
        return [self.name, *self.input_schema.get("properties", {})]

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            pydantic.ValidationError: They do not fit the schema.
        """
        return self.arguments.validate_json(to_json(_whole(dict(arguments))))

    def finish(self, returned: Any, max_bytes: int) -> Any:
        """Return the result as it goes out; it fits the output schema and the size.

        Raises:
            InvalidInput: It is larger than `max_bytes`.
            ValueError: It does not fit the schema, which is a fault of the tool.
        """
        if self.result is None:
            return returned
        dumped = self.result.dump_json(returned, warnings="error")
        if len(dumped) > max_bytes:
            raise InvalidInput("The result would be too large. Ask for less.")
        self.result.validate_json(dumped, strict=True)
        content = from_json(dumped)
        return CallToolResult(
            content=[TextContent(type="text", text=dumped.decode())],
            structured_content={"result": content} if self.wrapped else content,
        )

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

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def _is_context(hint: object) -> bool:
    return hint is Context or get_origin(hint) is Context


def _is_raw(returned: object) -> bool:
    options = getattr(returned, "__args__", (returned,))
    return any(option in {CallToolResult, InputRequiredResult} for option in options)


def _whole(value: Any) -> Any:
    """Write 5.0 as 5: JSON Schema counts it as an integer (2020-12, section 4.2.3)."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT_FLOAT else value
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[Any]", value)]
    return value
