"""JSON Schema as clients read it: no titles made up from names, arrays with `items`, formats that hold.

What a client cannot read loses the tool, and a result that breaks its own schema is lost at the client:
so a format stands in the schema of a result only where every value of the type has it.
"""

from __future__ import annotations

from enum import Flag
from typing import TYPE_CHECKING, Any, cast

from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of these, every value that Pydantic writes is one by the rules of RFC 3339, RFC 4122 and RFC 2673.
# Not so, by the checks of clients: a time without its zone, a duration with parts of a second, an address in UTF-8.
KEPT_IN_RESULTS = frozenset({"date", "uuid", "ipv4", "binary"})
AWARE = "x-aware"
# Pydantic's function behind an `ImportString`.
LOADS = "import_string"
NO_KEYS = frozenset({"tuple", "call", "model", "dataclass", "set", "frozenset", "list", "dict", "none"})


def why_none(unknown: Exception) -> str:
    """Return why a type has no schema, without advice that is for authors of libraries."""
    reason = str(unknown).partition("\n")[0].partition(". Set ")[0]
    return f"{reason}; take a model, a dataclass or a plain type" if reason.startswith("Unable") else reason


def _loads_modules(schema: Any) -> bool:
    # What a length is written around describes itself, and not what it holds.
    while isinstance(schema, dict):
        node = cast("dict[str, Any]", schema)
        function = node.get("function")
        if isinstance(function, dict) and getattr(cast("Any", function).get("function"), "__name__", "") == LOADS:
            return True
        schema = node.get("schema")
    return False


class CheckedSchema(GenerateJsonSchema):
    """Schemas of what is checked whole before the author's function runs."""

    def generate_inner(self, schema: Any) -> dict[str, Any]:
        """Refuse `ImportString`: reading one loads whatever module a caller names."""
        if self.mode == "validation" and _loads_modules(schema):
            raise PydanticUserError("take a Literal of names for an ImportString, which loads any module", code=None)
        return super().generate_inner(schema)

    def generator_schema(self, schema: Any) -> dict[str, Any]:
        """Refuse what Pydantic checks only while it is read: neither its length nor its items would be bounded."""
        if self.mode == "validation":
            # Of a union too: what is only invalid for JSON Schema is left out of one.
            raise PydanticUserError("take a list for an Iterable or a Generator, which is not checked", code=None)
        return super().generator_schema(schema)


class PlainSchema(CheckedSchema):
    """The dialect clients handle: no titles made up from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Leave titles to those who write them."""
        return False

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """Refuse what has no exact description: which texts a Decimal accepts cannot be told."""
        if self.mode == "validation":
            raise PydanticInvalidForJsonSchema("take a float, or an int of the smallest unit, for a Decimal")
        return super().decimal_schema(schema)

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        """Refuse keys that no name in JSON can be: each call would fail, but for an empty mapping."""
        keys = schema.get("keys_schema", {})
        words = all(isinstance(getattr(one, "value", one), str) for one in keys.get("expected", ()))
        if self.mode == "validation" and (keys.get("type") in NO_KEYS or not words):
            raise PydanticUserError("take text for the keys of a mapping, e.g. dict[str, int]", code=None)
        return super().dict_schema(schema)

    def enum_schema(self, schema: Any) -> dict[str, Any]:
        """Describe the values of a Flag, which are more than its members."""
        described = super().enum_schema(schema)
        if not issubclass(schema["cls"], Flag):
            return described
        if self.mode == "validation":
            raise PydanticUserError("take a list of words for a Flag, whose members can be joined", code=None)
        return {key: value for key, value in described.items() if key not in {"enum", "const"}} | {"type": "integer"}

    def datetime_schema(self, schema: Any) -> dict[str, Any]:
        """Mark an `AwareDatetime`, whose every value says its zone."""
        described = super().datetime_schema(schema)
        return described | ({AWARE: True} if schema.get("tz_constraint") is not None else {})


def portable(schema: dict[str, Any], *, result: bool = False) -> dict[str, Any]:
    """Return a schema in the form that common clients take.

    A fixed array gets `items` beside its `prefixItems`, which change nothing: there are editors that drop
    a tool without.

    Args:
        schema: As Pydantic makes it; changed in place.
        result: Whether it describes results, whose formats clients check.
    """
    for node in _nodes(schema):
        prefix = node.get("prefixItems")
        if prefix and "items" not in node:
            kinds = [item for at, item in enumerate(prefix) if item not in prefix[:at]]
            node["items"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            if len(kinds) == 1 and node.get("minItems") == node.get("maxItems") == len(prefix):
                del node["prefixItems"]
        aware = node.pop(AWARE, False)
        if result and not aware and node.get("format") not in KEPT_IN_RESULTS:
            node.pop("format", None)
        if not are_texts(node.get("propertyNames", {}), schema):
            del node["propertyNames"]
    return schema


def are_texts(names: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return whether the names of a mapping are described as texts, which all names are in JSON."""
    meant = schema.get("$defs", {}).get(str(names.get("$ref", "")).removeprefix("#/$defs/"), names)
    return meant.get("type", "string") == "string" and all(isinstance(one, str) for one in meant.get("enum", ()))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Walk the schema and all schemas inside it, but not the values in it."""
    if isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _nodes(inner)
    elif isinstance(value, dict):
        here = cast("dict[str, Any]", value)
        yield here
        for keyword, inner in list(here.items()):
            if keyword in {"properties", "patternProperties", "$defs", "dependentSchemas"}:
                for one in list(inner.values()):
                    yield from _nodes(one)
            elif keyword not in {"default", "examples", "enum", "const"}:
                yield from _nodes(inner)
