"""Strict validation of a tool's arguments by its advertised schema (kind `invalid_input`).

What the schema refuses the validator refuses, and the reverse.
Nothing is converted, nothing that the schema does not know gets in, and a failure names the rule, never the value.
Only `format` is looser than in the schema: dates and times are read as Pydantic reads them.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NotRequired, cast, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypedDict

from .declaration import InvalidDeclarationError
from .failures import invalid_arguments
from .json_schema import PlainSchema, portable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# JSON has neither NaN nor infinity (RFC 8259, section 6).
CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


class Arguments:
    """The parameters of one tool.

    Attributes:
        schema: As `tools/list` shows it; JSON Schema 2020-12.
        names: Every property name in it, at any depth; only these may appear in a failure.
    """

    def __init__(self, tool: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> None:
        for name, parameter in parameters.items():
            if name not in hints:
                raise InvalidDeclarationError(f"{tool}: give every parameter a type")
            refuse_parameter(tool, parameter, hints[name])
        optional = {name for name, one in parameters.items() if one.default is not inspect.Parameter.empty}
        fields = {name: NotRequired[hints[name]] if name in optional else hints[name] for name in parameters}
        model: Any = TypedDict(tool, fields)  # type: ignore[misc] - the fields are known at start only
        model.__pydantic_config__ = CLOSED
        self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(model)
        self.schema = portable(self._adapter.json_schema(schema_generator=PlainSchema))
        self.schema.pop("title", None)
        if self.schema.get("type") != "object":
            raise InvalidDeclarationError(f"{tool}: name the type of a parameter in place of Self")
        for name in optional:
            shown = self.schema["properties"].get(name, {})
            shown.setdefault("default", _default(tool, name, parameters[name].default, hints[name]))
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


def refuse_parameter(owner: str, parameter: inspect.Parameter, hint: Any) -> None:
    """Refuse a parameter that nobody can give by its name, or of which `Field(…)` says what would not count.

    Raises:
        InvalidDeclarationError: It has no name on the wire, or may be left out without a default; or `Field(…)` is the
            default, or holds one or another name.
    """
    name = parameter.name
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY} or name.startswith("_"):
        raise InvalidDeclarationError(f"{owner}: {name} must be a parameter that can be given by name")
    if get_origin(hint) is NotRequired:
        raise InvalidDeclarationError(f"{owner}: give {name} a default after =, in place of NotRequired[…]")
    if isinstance(parameter.default, FieldInfo):
        # As a default it would bound nothing.
        raise InvalidDeclarationError(f"{owner}: write {name}: Annotated[…, Field(…)] in place of = Field(…)")
    for one in getattr(hint, "__metadata__", ()):
        if isinstance(one, FieldInfo) and not one.is_required():
            raise InvalidDeclarationError(f"{owner}: write the default of {name} after =, not in Field(…)")
        if isinstance(one, FieldInfo) and (one.alias or one.validation_alias):
            raise InvalidDeclarationError(f"{owner}: give {name} its name on the wire, without an alias in Field(…)")


def _default(tool: str, name: str, default: Any, hint: Any) -> Any:
    """Return a default as the schema shows it: a model may send it back, so it has to be good."""
    wrong = f"{tool}: the default of {name} is none that its type allows; change one of them, e.g. int | None = None"
    try:
        written = to_json(default, inf_nan_mode="constants")
        value = from_json(written, allow_inf_nan=False)
        TypeAdapter(hint).validate_json(written, strict=True)
    except (ValueError, PydanticSerializationError):
        raise InvalidDeclarationError(wrong) from None
    return value


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
