"""Strict validation of a tool's arguments by its advertised schema.

What the schema refuses the validator refuses, and the reverse.
Nothing is converted, nothing that the schema does not know gets in, and a failure names the rule, never the value.
Only `format` is looser than in the schema: dates and times are read as Pydantic reads them.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NotRequired, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from .declaration import InvalidDeclarationError
from .failures import invalid_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# JSON has neither NaN nor infinity (RFC 8259, section 6).
CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


class PlainSchema(GenerateJsonSchema):
    """The dialect clients handle: no titles made up from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Leave titles to those who write them."""
        return False

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """Refuse what has no exact description: which texts a Decimal accepts cannot be told."""
        if self.mode == "validation":
            raise PydanticInvalidForJsonSchema("take a float, or an int of the smallest unit, for a Decimal")
        return super().decimal_schema(schema)


class Arguments:
    """The parameters of one tool.

    Attributes:
        schema: As `tools/list` shows it; JSON Schema 2020-12.
        names: Every property name in it, at any depth; only these may appear in a failure.
    """

    def __init__(self, tool: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> None:
        for name, parameter in parameters.items():
            _check(tool, name, parameter, typed=name in hints)
        optional = {name for name, one in parameters.items() if one.default is not inspect.Parameter.empty}
        fields = {name: NotRequired[hints[name]] if name in optional else hints[name] for name in parameters}
        model: Any = TypedDict(tool, fields)  # type: ignore[misc] - the fields are known at start only
        model.__pydantic_config__ = CLOSED
        self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(model)
        self.schema = self._adapter.json_schema(schema_generator=PlainSchema)
        self.schema.pop("title", None)
        for name in optional:
            shown = self.schema["properties"].get(name, {})
            shown.setdefault("default", from_json(to_json(parameters[name].default)))
        self.names = frozenset(_property_names(self.schema))

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            InvalidArguments: They do not fit the schema.
        """
        try:
            # Strict here, and not in the settings, because a model inside the arguments has settings of its own.
            return self._adapter.validate_json(to_json(_whole(dict(arguments))), strict=True)
        except ValidationError as invalid:
            raise invalid_arguments(invalid, self.names) from None


def _check(tool: str, name: str, parameter: inspect.Parameter, *, typed: bool) -> None:
    if not typed:
        raise InvalidDeclarationError(f"{tool}: give every parameter a type")
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise InvalidDeclarationError(f"{tool}: {name} must be a parameter that can be given by name")
    if isinstance(parameter.default, FieldInfo):
        # As a default it would bound nothing.
        raise InvalidDeclarationError(f"{tool}: write {name}: Annotated[…, Field(…)] in place of = Field(…)")


def _whole(value: Any) -> Any:
    """Write 5.0 as 5: JSON Schema counts it as an integer (2020-12, section 4.2.3)."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[Any]", value)]
    return value


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        here = cast("dict[str, Any]", schema)
        yield from here.get("properties", {})
        for inner in here.values():
            yield from _property_names(inner)
    elif isinstance(schema, list):
        for inner in cast("list[Any]", schema):
            yield from _property_names(inner)
