"""Walks the parts of a JSON Schema along its keywords.

A property may be called `title`; only a walk along the keywords knows which `title` is a text.
References resolve within their document, never over a network.
Source: JSON Schema 2020-12, Core 8.2 and 10; the protocol forbids remote references.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXTS = ("title", "description", "$comment", "examples", "deprecated", "readOnly", "writeOnly")
COMBINED = ("allOf", "anyOf", "oneOf")
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTED = (*COMBINED, "prefixItems")
SINGLE = ("items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else", "contentSchema")
# They change what a reference or another keyword means, or look into the combinations beside them.
FOREIGN = {
    *("$schema", "$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary"),
    *("unevaluatedItems", "unevaluatedProperties"),
}
# They look at their neighbours, and beside a reference they would see others.
NEIGHBOURLY = frozenset({*NAMED, *SINGLE, "prefixItems", "minContains", "maxContains", "$ref"})
# They demand nothing of a value. (The `discriminator` repeats what the `oneOf` beside it says.)
SILENT = frozenset({"default", "$defs", "definitions", "discriminator"})
MOST_REFERENCES = 32


class Unprovable(Exception):  # noqa: N818 - an outcome, not a fault
    """Nothing can be said about this schema; the text says why."""


class Node(NamedTuple):
    """A schema as a dictionary, and the document that its references point into."""

    schema: Schema
    root: Schema

    def to(self, schema: object) -> Node:
        """Return another schema of the same document.

        Raises:
            Unprovable: It is no schema.
        """
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        if not isinstance(schema, dict):
            raise Unprovable("a part is no schema")
        return Node(cast("Schema", schema), self.root)

    def resolved(self) -> Node:
        """Follow `$ref`; what stands beside it applies as well.

        Raises:
            Unprovable: It leaves the document, leads nowhere or round in a circle.
        """
        node = self
        for _ in range(MOST_REFERENCES):
            if "$ref" not in node.schema:
                return node
            target = node.target(node.schema["$ref"]).schema
            beside = {key: value for key, value in node.schema.items() if key not in ("$ref", "$defs")}
            if beside.keys() & (target.keys() | NEIGHBOURLY):
                return node.to({"allOf": [target, beside]})
            node = node.to({**target, **beside})
        raise Unprovable("references without end")

    def target(self, reference: object) -> Node:
        """Return what a reference names: `#`, `#/$defs/<name>` or `#/definitions/<name>`.

        Raises:
            Unprovable: It is of another form, or leads nowhere.
        """
        if reference == "#":
            return self.to(self.root)
        start, _, name = str(reference).rpartition("/")
        definitions = self.root.get(start.removeprefix("#/"))
        name = name.replace("~1", "/").replace("~0", "~")
        if start not in ("#/$defs", "#/definitions") or "%" in name or not isinstance(definitions, dict):
            raise Unprovable(f"reference {reference}")
        return self.to(cast("Schema", definitions).get(name))

    @property
    def always(self) -> bool:
        """Whether it accepts every value."""
        return not self.schema.keys() - SILENT

    @property
    def never(self) -> bool:
        """Whether it is `false`."""
        return self.schema == {"not": {}}

    def clauses(self) -> list[Node]:
        """Return what has to hold together, at most one combination in each."""
        plain = self.to({name: value for name, value in self.schema.items() if name not in COMBINED})
        found = [self.to({name: self.schema[name]}) for name in COMBINED[1:] if name in self.schema]
        found += [self.to(part) for part in self._combined("allOf")]
        return found if found and plain.always else [plain, *found]

    def branches(self) -> list[Node]:
        """Return the alternatives; none if it is not a choice."""
        return [self.to(part) for name in COMBINED[1:] for part in self._combined(name)]

    def _combined(self, name: str) -> list[object]:
        found = self.schema.get(name)
        if name in self.schema and (not isinstance(found, list) or not found):
            raise Unprovable(f"{name} is not a list of schemas")
        return cast("list[object]", found or [])

    def mapping(self, keyword: str) -> Schema:
        """Return named parts: properties or patternProperties."""
        return self.schema.get(keyword, {})

    def required(self) -> set[str]:
        """Return the names that have to be present."""
        return set(self.schema.get("required", ()))

    def signature(self) -> str:
        """Return text that is equal only for schemas that mean the same.

        Raises:
            Unprovable: Something in it has a meaning that the rules do not follow.
        """
        found: dict[str, object] = {"": self.schema}
        waiting: list[object] = [self.schema]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                part = cast("Schema", part)
                if strange := part.keys() & FOREIGN:
                    raise Unprovable(", ".join(sorted(strange)))
                reference = part.get("$ref")
                if isinstance(reference, str) and reference not in found:
                    found[reference] = self.target(reference).schema
                    waiting.append(found[reference])
                waiting += part.values()
            elif isinstance(part, list):
                waiting += cast("list[object]", part)
        return canonical(found)


def texts(schema: object, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield path, keyword and value of every text in the schema."""
    if not isinstance(schema, dict):
        return
    for keyword, value in cast("Schema", schema).items():
        if keyword in TEXTS:
            yield path, keyword, value
        elif keyword in NAMED and isinstance(value, dict):
            for name, part in cast("Schema", value).items():
                yield from texts(part, f"{path}.{name}" if keyword == "properties" else f"{path}.{keyword}.{name}")
        elif keyword in LISTED and isinstance(value, list):
            for index, part in enumerate(cast("list[object]", value)):
                yield from texts(part, f"{path}.{keyword}[{index}]")
        elif keyword in SINGLE:
            yield from texts(value, f"{path}[]" if keyword == "items" else f"{path}.{keyword}")


def bare(schema: Any) -> Any:
    """Return a copy without texts, and without a mention of the dialect that is meant anyway."""
    if not isinstance(schema, dict):
        return schema
    copy: Schema = {}
    for keyword, value in cast("Schema", schema).items():
        if keyword in NAMED and isinstance(value, dict):
            copy[keyword] = {name: bare(part) for name, part in cast("Schema", value).items()}
        elif keyword in LISTED and isinstance(value, list):
            copy[keyword] = [bare(part) for part in cast("list[object]", value)]
        elif keyword not in TEXTS and (keyword, value) != ("$schema", DIALECT):
            copy[keyword] = bare(value) if keyword in SINGLE else value
    return copy


def canonical(value: object) -> str:
    """Return text that is equal exactly for equal JSON values: 1 equals 1.0, but not true."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in cast("dict[str, object]", value).items()}
    return value
