"""Schemas, changed schemas and values that fit them more often than not, all from one source of chance.

The names, letters and numbers are few, so that two schemas and a value have something in common.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Schema = Any  # a dictionary, or true or false
HALF = 0.5
RARE = 0.04
NAMES = ["a", "b", "title"]
# Each pattern with names that match it.
PATTERNS = {"^a": ["a", "aa"], "b$": ["b", "zb"], "^a+$": ["a", "aa"]}
REFERENCES = ["#/$defs/P", "#/$defs/Q"]
TEXTS = ["", "a", "b", "ab", "aab"]
NUMBERS = [-1, 0, 1, 2, 3, 6, 1.0, 0.5, 1.5]
SCALARS: list[Any] = [*TEXTS, *NUMBERS, True, False, None]
TYPES = ["string", "integer", "number", "object", "array", "null", "boolean"]
COMBINED = ["anyOf", "oneOf", "allOf"]


def random_schema(chance: Random) -> dict[str, Any]:
    """Return a schema with two definitions, one of them recursive."""
    schema = _schema(chance, 3)
    again = {"anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]}
    recursive = {"type": "object", "properties": {"a": _schema(chance, 1), "b": again}}
    whole: dict[str, Any] = {"allOf": [schema]} if isinstance(schema, bool) else schema
    return {**whole, "$defs": {"P": recursive, "Q": _schema(chance, 2)}}


def _schema(chance: Random, depth: int) -> Schema:
    if depth <= 0:
        return _scalar(chance)
    # Each option is built only when it is chosen.
    options: list[Callable[[], Schema]] = [
        lambda: _scalar(chance),
        lambda: _with(chance, {"type": "object", "properties": _properties(chance, depth)}, depth - 1),
        lambda: _with(chance, {"type": "array", "items": _schema(chance, depth - 1)}, depth - 1),
        lambda: {"anyOf": [_schema(chance, depth - 1), {"type": "null"}]},
        lambda: {chance.choice(COMBINED): [_schema(chance, depth - 1) for _ in range(chance.randint(1, 3))]},
        lambda: {"oneOf": [_tagged(chance, tag, depth) for tag in chance.sample(["a", "b", 1], chance.randint(1, 3))]},
        lambda: {"$ref": chance.choice(REFERENCES)},
        lambda: _with(chance, {}, depth - 1),
        lambda: chance.random() < HALF,
    ]
    return chance.choices(options, [8, 4, 2, 2, 2, 2, 2, 1, 1])[0]()


def _properties(chance: Random, depth: int) -> dict[str, Schema]:
    return {name: _schema(chance, depth - 1) for name in chance.sample(NAMES, chance.randint(0, 3))}


def _tagged(chance: Random, tag: object, depth: int) -> dict[str, Any]:
    properties = {"a": {"const": tag}, "b": _schema(chance, depth - 1)}
    return {"type": "object", "properties": properties, "required": ["a"]}


def _scalar(chance: Random) -> Schema:
    listed: list[Schema] = [{"enum": chance.sample(SCALARS, chance.randint(1, 4))}, {"const": chance.choice(SCALARS)}]
    plain = {"type": chance.choice(["null", "boolean"])}
    bounded = _with(chance, {"type": chance.choice(["string", "integer", "number"])}, 0)
    return chance.choice([*listed, plain, bounded, bounded, bounded])


def _with(chance: Random, schema: dict[str, Any], depth: int) -> Schema:
    for _ in range(chance.randint(0, 2)):
        schema |= _keyword(chance, schema.get("type"), depth)
    return schema


def _keyword(chance: Random, of: object, depth: int) -> dict[str, Any]:
    """Return a keyword that says something about values of a type, or about any."""
    part, other = (_schema(chance, depth) if depth > 0 else {"type": chance.choice(TYPES)} for _ in range(2))
    name = chance.choice(NAMES)
    count, number, pattern = chance.randint(0, 3), chance.choice(NUMBERS), chance.choice([*PATTERNS])
    about: dict[object, list[dict[str, Any]]] = {
        "string": [
            {chance.choice(["minLength", "maxLength"]): count},
            {chance.choice(["minLength", "maxLength"]): count},
            {"pattern": pattern},
            {"format": "date"},
            {"enum": chance.sample(TEXTS, 2)},
        ],
        "number": [
            {"minimum": number},
            {"maximum": number},
            {"exclusiveMinimum": number},
            {"exclusiveMaximum": number},
            {"multipleOf": chance.choice([1, 2, 3, 6, 0.5, 0.1, 2.0])},
            {"enum": chance.sample(NUMBERS, 3)},
        ],
        "array": [
            {chance.choice(["minItems", "maxItems"]): count},
            {"uniqueItems": True},
            {"items": part},
            {"prefixItems": [part]},
            {"prefixItems": [part, other]},
            {"contains": part, "minContains": count},
        ],
        "object": [
            {"properties": {name: part}},
            {"required": [name]},
            {"required": chance.sample(NAMES, 2)},
            {"additionalProperties": False},
            {"additionalProperties": part},
            {"patternProperties": {pattern: part}},
            {"propertyNames": chance.choice([{"maxLength": 1}, {"enum": ["a", "b"]}, {"pattern": "^a"}])},
            {chance.choice(["minProperties", "maxProperties"]): count},
            {"dependentRequired": {name: [chance.choice(NAMES)]}},
            {"unevaluatedProperties": False},
        ],
    }
    any_type: list[dict[str, Any]] = [
        {"type": chance.choice(TYPES)},
        {"type": chance.sample(TYPES, 2)},
        {"not": part},
        {"if": part, "then": other},
        {"enum": chance.sample(SCALARS, 3)},
        {"minimum": 1},
        {"maxLength": 1},
        {"x-mcp-header": "A"},
        {"title": "T"},
        {"default": None},
        {"$ref": chance.choice(REFERENCES)},
        {"allOf": [part, other]},
    ]
    of = "number" if of == "integer" else of
    return chance.choice(about[of] if isinstance(of, str) and of in about else any_type)


def accepts(validator: Any, value: object) -> bool:
    """Whether a validator of the reference implementation accepts a value."""
    return validator.is_valid(value)


def mutated(chance: Random, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that was changed in one to three places."""
    changed = copy.deepcopy(schema)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        _change(chance, chance.choice([*_parts(changed)]))
    return changed


def _parts(schema: Schema) -> list[dict[str, Any]]:
    """Return all schemas inside a schema; definitions only where something may refer to them."""
    if isinstance(schema, bool):
        return []
    found: list[dict[str, Any]] = [schema]
    for keyword in schema:
        value: Any = schema[keyword]
        if keyword in {"properties", "patternProperties"} or (keyword == "$defs" and "#/$defs" in str(found[1:])):
            found += [part for name in value for part in _parts(value[name])]
        elif keyword in {*COMBINED, "prefixItems"}:
            found += [part for each in value for part in _parts(each)]
        elif keyword in {"items", "additionalProperties", "propertyNames", "contains", "not", "if", "then"}:
            found += _parts(value)
    return found


def _change(chance: Random, part: dict[str, Any]) -> None:
    definitions = {"$defs": part.pop("$defs")} if "$defs" in part else {}
    kind = chance.randrange(9)
    combined = next((name for name in COMBINED if part.get(name)), None)
    if kind <= 1 and part:
        part.pop(chance.choice([*part]))
    elif kind <= 4:
        part |= _keyword(chance, chance.choice([part.get("type"), *TYPES]), 1)
    elif kind == 5:
        before = dict(part)
        part.clear()
        part[chance.choice(["anyOf", "oneOf"])] = [before, chance.choice([{"type": "null"}, _schema(chance, 1)])]
    elif kind == 6 and combined:
        parts = part.pop(combined)
        parts = [*parts, _schema(chance, 1)] if chance.random() < HALF else chance.sample(parts, len(parts))
        part[chance.choice([combined, *COMBINED])] = parts[: chance.randint(1, len(parts))]
    elif kind == 7 and part.get("properties"):
        part["properties"].pop(chance.choice([*part["properties"]]))
    elif "enum" in part:
        part["enum"] = [*part["enum"][1:], chance.choice(SCALARS)]
    else:
        part |= {"type": chance.choice(TYPES)}
    part |= definitions


def any_value(chance: Random, depth: int = 2) -> Any:
    """Return any JSON value."""
    kind = chance.randrange(6)
    if depth <= 0 or kind <= 2:
        text = "".join(chance.choice("ab") for _ in range(chance.randint(0, 4)))
        return chance.choice([*SCALARS, text, chance.randint(-6, 12) / 2, 0.3, 1e300, 10**20])
    if kind <= 4:
        return {
            name: any_value(chance, depth - 1) for name in chance.sample([*NAMES, "aa", "zb"], chance.randint(0, 4))
        }
    return [any_value(chance, depth - 1) for _ in range(chance.randint(0, 3))]


def value_of(chance: Random, schema: Schema, definitions: dict[str, Any], depth: int = 5) -> Any:
    """Return a value that the schema often accepts, close to its bounds."""
    if depth <= 0 or isinstance(schema, bool) or chance.random() < RARE:
        return any_value(chance, 1)
    if "$ref" in schema:
        return value_of(chance, definitions[schema["$ref"].rpartition("/")[2]], definitions, depth - 1)
    if combined := [name for name in COMBINED if schema.get(name)]:
        found: Any = value_of(chance, chance.choice(schema[chance.choice(combined)]), definitions, depth - 1)
        rest = {keyword: schema[keyword] for keyword in schema if keyword not in COMBINED}
        beside: Any = value_of(chance, rest, definitions, depth - 1) if "properties" in rest else None
        return dict(beside, **found) if type(found) is type(beside) is dict else found
    if listed := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return chance.choice(listed)
    return _typed(chance, schema, definitions, depth - 1)


def _typed(chance: Random, schema: Schema, definitions: dict[str, Any], depth: int) -> Any:
    named = schema.get("type", TYPES)
    of = named if isinstance(named, str) else chance.choice(named)
    if of == "array":
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        count = chance.choice([schema.get("minItems", 0), min(schema.get("maxItems", 3), 4), chance.randint(0, 3)])
        parts = [first[index] if index < len(first) else rest for index in range(count)]
        return [value_of(chance, part, definitions, depth) for part in parts]
    if of == "object":
        return _object(chance, schema, definitions, depth)
    values: dict[str, Any] = {
        "string": _text(chance, schema),
        "integer": int(_number(chance, schema)),
        "number": _number(chance, schema),
        "boolean": chance.random() < HALF,
    }
    return values.get(of)


def _text(chance: Random, schema: Schema) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 4)
    text = "".join(chance.choice("ab") for _ in range(chance.choice([least, most, 2])))
    return {"^a": f"a{text[1:]}", "b$": f"{text[:-1]}b", "^a+$": "a" * len(text)}.get(schema.get("pattern"), text)


def _number(chance: Random, schema: Schema) -> float:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    edges = [schema[name] for name in names if name in schema]
    value = chance.choice([*edges, *edges, chance.randint(-3, 8)]) + chance.choice([0, 0, 1, -1, 0.5, -0.5, 0.25])
    if step := schema.get("multipleOf"):
        value = round(value / step) * step
    return value


def _object(chance: Random, schema: Schema, definitions: dict[str, Any], depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    others = schema.get("additionalProperties", True)
    names = [name for name in properties if name in required or chance.random() < HALF] + required
    parts = {name: properties.get(name, others) for name in names}
    if others is not False and chance.random() < HALF:
        parts.setdefault(chance.choice([*NAMES, "aa", "zb"]), others)
    for pattern, part in schema.get("patternProperties", {}).items():
        parts[chance.choice(PATTERNS[pattern])] = part
    return {name: value_of(chance, part, definitions, depth) for name, part in parts.items()}
