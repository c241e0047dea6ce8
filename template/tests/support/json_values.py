"""JSON values that nearly fit a schema: most do, and the others miss it by little."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError

# Beyond these a number is no float any more; within them JSON Schema and Python agree what a number is.
LARGEST = 10**300

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-LARGEST, LARGEST),
    st.integers(-5, 5).map(float),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
    st.text(max_size=6),
    st.sampled_from(["1", "1.0", "true", "null", "", "[]", "{}", "NaN"]),
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def near(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that fit `schema`, nearly fit it, and now and then anything."""
    return st.one_of(_aimed(schema, root), _aimed(schema, root), _aimed(schema, root), ANYTHING)


def _aimed(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _referenced(schema["$ref"].rpartition("/")[2], json.dumps(root))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return st.one_of([near(inner, root) for inner in schema[keyword]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kinds = {
        "integer": _number,
        "number": _number,
        "string": _string,
        "array": _array,
        "object": _object,
        "boolean": lambda *_: st.booleans(),
        "null": lambda *_: st.none(),
    }
    return kinds[schema["type"]](schema, root) if "type" in schema else ANYTHING


@lru_cache(maxsize=256)
def _referenced(name: str, document: str) -> st.SearchStrategy[Any]:
    # One for each name: a schema that names itself would be another one at each step, without an end.
    root = json.loads(document)
    return st.deferred(lambda: near(root["$defs"][name], root))


def _number(schema: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[Any]:
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    low, high = schema.get("minimum", -9), schema.get("maximum", 9)
    edges = [schema[name] + step for name in bounds if name in schema for step in (-1, 0, 1)] or [0]
    within = st.integers(int(low), int(high)) if low <= high else st.just(low)
    return st.one_of(st.sampled_from(edges), within, within.map(float), st.floats(low, high), st.just(10**40))


def _string(schema: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[Any]:
    formats: dict[str, st.SearchStrategy[str]] = {
        "date": st.dates().map(str),
        "uuid": st.uuids().map(str),
        "ipv4": st.ip_addresses(v=4).map(str),
    }
    if schema.get("format") in formats:
        return formats[schema["format"]] | st.text(max_size=12)
    if "pattern" in schema:
        return st.from_regex(re.compile(schema["pattern"])) | st.text(max_size=6)
    least, most = schema.get("minLength", 0), schema.get("maxLength", 8)
    return st.text(min_size=max(0, least - 1), max_size=min(most + 1, 40))


def _array(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "prefixItems" in schema:
        exact = st.tuples(*(near(inner, root) for inner in schema["prefixItems"])).map(list)
        return exact | exact.map(lambda items: items[:-1]) | exact.map(lambda items: [*items, None])
    least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
    return st.lists(near(schema.get("items", {}), root), min_size=max(0, least - 1), max_size=min(most + 1, 5))


def _object(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    properties = {name: near(inner, root) for name, inner in schema.get("properties", {}).items()}
    required = {name: properties[name] for name in schema.get("required", ())}
    fits = st.fixed_dictionaries(required, optional={name: properties[name] for name in properties.keys() - required})
    further = schema.get("additionalProperties")
    values = near(further, root) if isinstance(further, dict) else ANYTHING
    extra = st.dictionaries(st.text(max_size=3), values, max_size=min(schema.get("maxProperties", 2) + 1, 4))
    torn = st.fixed_dictionaries({}, optional=properties)
    whole = st.tuples(fits, extra).map(lambda both: {**both[1], **both[0]})
    return (whole if isinstance(further, dict) else fits | fits | whole) | torn


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Any:
    """Read `$` as JSON Schema does: the very end, not before a last line break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError("does not match")


Reference = validators.extend(Draft202012Validator, {"pattern": _pattern})


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Return what JSON Schema 2020-12 says, with the formats that it can check."""
    return Reference(schema, format_checker=FormatChecker()).is_valid(value)
