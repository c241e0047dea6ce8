"""Reads a result back as it is written: its types without the author's validators and serializers.

The author's functions have run when the value was made; run again on what they have made, they might refuse it.
What is left is what the schema says, and nothing that breaks its schema leaves.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import SchemaValidator

if TYPE_CHECKING:
    from collections.abc import Iterable

SCALAR = str | int | float | None
AROUND = frozenset({"function-before", "function-after", "function-wrap"})
OF_LIBRARIES = ("pydantic", "annotated_types")
# Code that runs when a model or a dataclass is made, and what is no schema.
LEFT_OUT = frozenset({"post_init", "custom_init", "metadata", "serialization"})
AS_THEY_ARE = frozenset({"cls", "config", "default", "expected", "members", "missing"})
NAMED = frozenset({"fields", "choices"})
CHANGED = ("strip_whitespace", "to_lower", "to_upper")
# Keys of a mapping that JSON reads back as what they were. All others are texts there, e.g. a pair is "1,2".
READ_KEYS = frozenset(
    {"str", "literal", "enum", "int", "float", "bool", "decimal", "uuid", "url", "bytes", "any", "definition-ref"}
    | {"date", "datetime", "time", "timedelta"}
)


def reader(schema: Any) -> SchemaValidator:
    """Return what reads JSON that was written by this schema of Pydantic's."""
    return SchemaValidator(_plain(schema))


def converts(schema: Any) -> bool:
    """Return whether the author's functions change what a tool returns; those of a model have run before."""
    if isinstance(schema, list | tuple):
        return any(converts(one) for one in cast("list[Any]", schema))
    if not isinstance(schema, dict):
        return False
    here = cast("dict[str, Any]", schema)
    kind = here.get("type")
    if kind in {"model", "dataclass", "generator"}:
        return False
    if kind in AROUND and not _is_of_library(here["function"]["function"]):
        return here["schema"]["type"] not in {"model", "dataclass", "definition-ref", *AROUND}
    if kind == "str" and any(here.get(word) for word in CHANGED):
        return True
    return any(converts(one) for word in here for one in _parts(word, here[word]))


def _plain(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return [_plain(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    here = cast("dict[str, Any]", schema)
    inside = _inside(here)
    if inside is not None:
        return {**_plain(inside), **({"ref": here["ref"]} if "ref" in here else {})}
    values = _values(here)
    if not all(isinstance(one, SCALAR) for one in values):
        return {"type": "any", **({"ref": here["ref"]} if "ref" in here else {})}
    plain = {word: _part(word, part) for word, part in here.items() if word not in LEFT_OUT}
    if here.get("type") == "literal":
        plain["expected"] = values
    elif here.get("type") in {"set", "frozenset"}:
        # What is read of a model is a mapping, which no set can hold.
        plain["type"] = "list"
    if "keys_schema" in plain and not _is_key(plain["keys_schema"]):
        plain["keys_schema"] = {"type": "str"}
    return plain


def _values(here: dict[str, Any]) -> list[Any]:
    """Return what an enum or a literal may be."""
    if here.get("type") not in {"enum", "literal"}:
        return []
    return [one.value if isinstance(one, Enum) else one for one in here.get("expected", here.get("members", ()))]


def _is_key(key: dict[str, Any]) -> bool:
    return key.get("type") in READ_KEYS and all(isinstance(one, str) for one in _values(key))


def _part(word: str, part: Any) -> Any:
    if word in NAMED and isinstance(part, dict):
        return {name: _plain(one) for name, one in cast("dict[str, Any]", part).items()}
    return part if word in AS_THEY_ARE else _plain(part)


def _parts(word: str, part: Any) -> Iterable[Any]:
    """Return the schemas in a part of one; fields and choices have names of their own."""
    if word in LEFT_OUT | AS_THEY_ARE:
        return ()
    return cast("dict[str, Any]", part).values() if word in NAMED and isinstance(part, dict) else (part,)


def _inside(here: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is written in place of a part that runs code of the author's, or makes an object; None for others."""
    kind, written = here.get("type"), cast("dict[str, Any]", here.get("serialization") or {})
    if "return_schema" in written and not _is_of_library(written["function"]):
        inner = written["return_schema"]
        return {"type": "nullable", "schema": inner} if str(written.get("when_used")).endswith("none") else inner
    if kind in AROUND and not _is_of_library(here["function"]["function"]):
        return here["schema"]
    if kind == "function-plain" and not _is_of_library(here["function"]["function"]):
        return {"type": "any"}
    if kind in {"model", "dataclass"}:
        # Of the class itself Pydantic would take the validator that it has made before.
        extra = here.get("config", {}).get("extra_fields_behavior")
        return here["schema"] | ({"extra_behavior": extra} if extra and not here.get("root_model") else {})
    return None


def _is_of_library(function: Any) -> bool:
    """Return whether a function is Pydantic's: a part of a type, no rule of the author's."""
    function = getattr(function, "func", function)
    return str(getattr(function, "__module__", "")).startswith(OF_LIBRARIES)
