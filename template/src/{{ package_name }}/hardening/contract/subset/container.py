"""Subset rules for arrays and objects: counts, presence, and which parts have to be compared.

A name may be listed, match a pattern, or be any other.
Patterns are never run: where one may match, what stands behind it counts for both cases.
Source: JSON Schema 2020-12, Core 10.3 and Validation 6.4-6.5.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING

from .leaf import Finding, counted, number, show_all
from .node import Node, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = tuple[str, object, object]


def array_findings(a: Node, b: Node) -> Iterator[Finding]:
    """Yield what B demands of an array and A does not promise."""
    yield from counted(a.schema, b.schema, "Items")
    repeats = number(a.schema.get("maxItems", math.inf)) > 1 and not a.schema.get("uniqueItems")
    if b.schema.get("uniqueItems") and repeats:
        yield "", "uniqueItems", "none", "true"


def array_parts(a: Node, b: Node) -> Iterator[Part]:
    """Yield step and both schemas of each place in an array."""
    most = number(a.schema.get("maxItems", math.inf))
    rest, allowed = (node.schema.get("items", True) for node in (a, b))
    missing = object()
    firsts = [node.schema.get("prefixItems", []) for node in (a, b)]
    for index, (part, demand) in enumerate(zip_longest(*firsts, fillvalue=missing)):
        if index < most:
            yield f"[{index}]", rest if part is missing else part, allowed if demand is missing else demand
    if max(map(len, firsts)) < most:
        yield "[]", rest, allowed


def object_findings(a: Node, b: Node) -> Iterator[Finding]:
    """Yield what B demands of an object and A does not promise."""
    mine, theirs = a.mapping("properties"), b.mapping("properties")
    closed = _closed(a)
    most = len(mine) if closed else None
    yield from counted(a.schema, b.schema, "Properties", len(a.required()), most)
    for name in sorted(b.required() - a.required()):
        yield f".{name}", "", "unknown" if closed and name not in mine else "optional", "required"
    for name in sorted((mine.keys() & theirs.keys()) - a.required() - b.required()):
        # What an argument means when it is left out is part of the contract.
        before, after = (_default(node.to(node.mapping("properties")[name])) for node in (a, b))
        if list(map(canonical, before)) != list(map(canonical, after)):
            yield f".{name}", "default", show_all(before), show_all(after)


def object_parts(a: Node, b: Node) -> Iterator[Part]:
    """Yield step and both schemas of each kind of name in an object."""
    mine, theirs = a.mapping("properties"), b.mapping("properties")
    patterns, demanded = a.mapping("patternProperties"), b.mapping("patternProperties")
    others, allowed = (node.schema.get("additionalProperties", True) for node in (a, b))
    for name in mine | theirs:
        for part in [mine[name]] if name in mine else [*patterns.values(), others]:
            yield f".{name}", part, theirs.get(name, allowed)
    for pattern, demand in demanded.items():
        for part in [patterns[pattern]] if pattern in patterns else [*mine.values(), *patterns.values(), others]:
            yield f".{{{pattern}}}", part, demand
    for pattern in patterns.keys() - demanded.keys():
        yield f".{{{pattern}}}", patterns[pattern], allowed
    yield ".*", others, allowed
    if "propertyNames" in b.schema:
        names = {"enum": [*mine]} if _closed(a) else {"type": "string"}
        yield ".*", a.schema.get("propertyNames", names), b.schema["propertyNames"]


def _closed(node: Node) -> bool:
    return node.schema.get("additionalProperties") is False and not node.mapping("patternProperties")


def _default(node: Node) -> list[object]:
    """Return the default in a list, since `null` is one too."""
    found = node if "default" in node.schema else node.resolved()
    return [found.schema["default"]] if "default" in found.schema else []
