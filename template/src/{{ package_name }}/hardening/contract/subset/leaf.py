"""Subset rules for single values: types, enumerations, numbers and strings.

Each rule asks whether what A says about its values implies what B demands of them.
Listed values speak for themselves: from `enum: [3, 5]` follow the type and both bounds.
Source: JSON Schema 2020-12, Validation 6.1-6.3.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, cast

from .node import Schema, Unprovable, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# "fraction": a number that is not an integer. 1.0 is an integer (Core 4.2.3).
NUMBER = frozenset({"integer", "fraction"})
TYPES = frozenset({"null", "boolean", "string", "array", "object"}) | NUMBER
LEAF = (
    *("type", "enum", "const", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
)
EXACT = ("pattern", "format", "contentEncoding", "contentMediaType")
SHOWN_CHARACTERS = 60

# Step to the place, keyword, A's side, B's side.
Finding = tuple[str, str, str, str]


def types(schema: Schema) -> frozenset[str]:
    """Return the types that a value can have."""
    named = schema.get("type", list(TYPES - {"fraction"} | {"number"}))
    found: set[str] = set()
    for name in [named] if isinstance(named, str) else cast("list[str]", named):
        found |= NUMBER if name == "number" else {name}
    if not found or found - TYPES:
        raise Unprovable("unknown type")
    listed = values(schema)
    return frozenset(found if listed is None else found & {type_of(value) for value in listed})


def type_of(value: object) -> str:
    """Return the type of a JSON value."""
    if isinstance(value, float):
        return "integer" if value.is_integer() else "fraction"
    names: dict[type, str] = {type(None): "null", bool: "boolean", int: "integer", str: "string", list: "array"}
    return names.get(type(value), "object")


def split(schema: Schema) -> list[Schema]:
    """Return the schema as alternatives of one value or one type each."""
    possible, listed = types(schema), values(schema)
    if listed is not None:
        rest = {name: part for name, part in schema.items() if name not in ("enum", "const")}
        return [{**rest, "const": value} for value in listed if type_of(value) in possible]
    groups = [["number" if "fraction" in possible else "integer"]] if possible & NUMBER else []
    groups += [[name] for name in sorted(possible - NUMBER)]
    return [schema] if len(groups) == 1 else [{**schema, "type": group} for group in groups]


def values(schema: Schema) -> list[Any] | None:
    """Return the listed values, or nothing where any value of the type will do."""
    if "const" in schema:
        return [schema["const"]]
    listed = schema.get("enum")
    if listed is not None and not isinstance(listed, list):
        raise Unprovable("enum is not a list")
    return cast("list[Any] | None", listed)


def findings(a: Schema, b: Schema) -> Iterator[Finding]:
    """Yield what B demands and A does not promise: keyword, A's side, B's side."""
    possible = types(a)
    if possible - types({key: value for key, value in b.items() if key == "type"}):
        yield "", "type", name_types(possible), name_types(types(b))
        possible &= types(b)
    yield from _listed(a, b)
    if possible & NUMBER:
        whole = not possible & {"fraction"}
        yield from _bounds(a, b, "minimum", 1, whole=whole)
        yield from _bounds(a, b, "maximum", -1, whole=whole)
        yield from _multiple(a, b, whole=whole)
    if "string" in possible:
        yield from _length(a, b)
        for keyword in EXACT:
            if keyword in b and a.get(keyword) != b[keyword]:
                yield "", keyword, stated(a, keyword), stated(b, keyword)


def _listed(a: Schema, b: Schema) -> Iterator[Finding]:
    mine = values(a)
    for keyword in ("const", "enum"):
        if keyword not in b:
            continue
        theirs = cast("list[Any]", [b["const"]] if keyword == "const" else b["enum"])
        known = {canonical(value) for value in theirs}
        if mine is None:
            yield "", "values", "any", show_all(theirs)
        elif lost := [value for value in mine if canonical(value) not in known]:
            yield "", f"value {show_all(lost)}", "accepted", "refused"


def _bounds(a: Schema, b: Schema, keyword: str, sign: int, *, whole: bool) -> Iterator[Finding]:
    """Compare one end; the upper end is the lower end of the negated values."""
    mine, theirs = _bound(a, keyword, sign, whole=whole), _bound(b, keyword, sign, whole=whole)
    listed = [value * sign for value in values(a) or () if type_of(value) in NUMBER]
    if listed:
        mine = max(mine, (min(listed), 0))
    if mine < theirs:
        yield "", keyword, _show_bound(a, keyword), _show_bound(b, keyword)


def _bound(schema: Schema, keyword: str, sign: int, *, whole: bool) -> tuple[float, int]:
    """Return the strictest lower bound as (number, 1 if the number itself is excluded)."""
    found: tuple[float, int] = (-math.inf, 0)
    for name, excluded in ((keyword, 0), (f"exclusive{keyword.capitalize()}", 1)):
        if name in schema:
            value = number(schema[name]) * sign
            if whole:
                value = math.floor(value) + 1 if excluded else math.ceil(value)
            found = max(found, (value, excluded and not whole))
    return found


def _multiple(a: Schema, b: Schema, *, whole: bool) -> Iterator[Finding]:
    theirs = b.get("multipleOf")
    if theirs is None:
        return
    if "multipleOf" in a and canonical(a["multipleOf"]) == canonical(theirs):
        return
    steps: list[object] = [value for value in values(a) or () if type_of(value) in NUMBER]
    steps = steps or [a.get("multipleOf", 1 if whole else None)]
    # Validators divide floating-point numbers inexactly: only whole steps prove anything.
    if type(theirs) is not int or any(type(step) is not int or step % theirs for step in steps):
        yield "", "multipleOf", stated(a, "multipleOf"), stated(b, "multipleOf")


def _length(a: Schema, b: Schema) -> Iterator[Finding]:
    lengths = [len(value) for value in values(a) or () if isinstance(value, str)]
    yield from counted(a, b, "Length", min(lengths, default=0), max(lengths, default=None))


def counted(a: Schema, b: Schema, unit: str, low: int = 0, high: int | None = None) -> Iterator[Finding]:
    """Compare two counts of a unit; `low` and `high` are what else is known of A."""
    least, most = f"min{unit}", f"max{unit}"
    if max(low, number(a.get(least, 0))) < number(b.get(least, 0)):
        yield "", least, stated(a, least), stated(b, least)
    mine = min(math.inf if high is None else high, number(a.get(most, math.inf)))
    if mine > number(b.get(most, math.inf)):
        yield "", most, stated(a, most), stated(b, most)


def number(value: object) -> float:
    """Return a number.

    Raises:
        Unprovable: It is something else; `true` is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unprovable("a bound that is no number")
    return value


def show(value: object) -> str:
    """Return a value as a reader sees it in JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def stated(schema: Schema, keyword: str) -> str:
    """Return what a schema says under a keyword."""
    return show(schema[keyword]) if keyword in schema else "none"


def show_all(items: Iterable[object]) -> str:
    """Return values in one line; `none` if there are none."""
    return ", ".join(map(show, items)) or "none"


def name_types(found: frozenset[str]) -> str:
    """Return types as one writes them."""
    numbers = {"number"} if "fraction" in found else found & NUMBER
    return "any" if found == TYPES else " or ".join(sorted(found - NUMBER | numbers)) or "nothing"


def _show_bound(schema: Schema, keyword: str) -> str:
    shown = [stated(schema, keyword)] if keyword in schema else []
    exclusive = f"exclusive{keyword.capitalize()}"
    if exclusive in schema:
        shown.append(f"{'above' if keyword == 'minimum' else 'below'} {stated(schema, exclusive)}")
    return " and ".join(shown) or "none"
