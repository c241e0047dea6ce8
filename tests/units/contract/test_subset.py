"""The proof that one schema accepts all that another one accepts: never wrong, and rarely silent."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from support.schemas import accepts, mutated, random_schema, value_of

from hardening.contract.subset import differences, texts

Schema = dict[str, Any]


def within(a: Schema, b: Schema) -> bool:
    """Whether it is proven that B accepts all that A accepts."""
    return not differences(a, b)


def valued(schema: Schema, value: object) -> bool:
    """Whether the reference implementation accepts the value."""
    return accepts(Draft202012Validator(schema), value)


def an_object(required: tuple[str, ...] = (), *, open_: bool = False, **properties: Any) -> Schema:
    """Return an object schema as this project's tools have them."""
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": open_}


STRING, INTEGER, NUMBER, NULL = ({"type": name} for name in ("string", "integer", "number", "null"))
CAT = an_object(("kind",), kind={"const": "cat"}, lives=INTEGER)
DOG = an_object(("kind",), kind={"const": "dog"}, tail=STRING)
TREE = {
    "$ref": "#/$defs/Tree",
    "$defs": {"Tree": an_object(("leaf",), leaf=INTEGER, next={"anyOf": [{"$ref": "#/$defs/Tree"}, NULL]})},
}
WIDER_TREE = json.loads(json.dumps(TREE).replace('"integer"', '"number"'))

SMALL, LARGE = {"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 3}
# Told apart by a name that only objects have.
TAGGED = [{"type": ["object", "string"], "properties": {"k": {"const": n}}, "required": ["k"]} for n in (1, 2)]
PLAIN, LABEL = {"type": "object"}, an_object(("label",), label=STRING)


def labelled(child: Schema) -> Schema:
    """Return a choice that is clear at its root; whether it is clear in the child depends on the child."""
    part = {"type": "object", "properties": {"child": child}}
    return {"oneOf": [{"$ref": "#/$defs/X"}, LABEL], "$defs": {"X": part}}


# Pairs: all of the first is in the second, and not the other way round. With each, a value that tells.
NARROW_AND_WIDE: list[tuple[Schema, Schema, object]] = [
    (INTEGER, NUMBER, 0.5),
    (STRING, {"type": ["string", "null"]}, None),
    (STRING, {"anyOf": [STRING, NULL]}, None),
    ({"anyOf": [STRING, NULL]}, {"anyOf": [STRING, NULL, INTEGER]}, 1),
    ({"type": ["string", "null"]}, {"anyOf": [NULL, STRING, {"type": "boolean"}]}, True),
    (INTEGER, {}, "a"),
    ({"not": {}}, STRING, "a"),
    # Listed values.
    ({"enum": ["a", "b"]}, {"enum": ["b", "a", "c"]}, "c"),
    ({"const": "a"}, {"enum": ["a", "c"]}, "c"),
    ({"enum": ["a", "b"]}, STRING, "c"),
    ({"enum": ["a", "bb"]}, {"type": "string", "minLength": 1, "maxLength": 2}, "cc"),
    ({"enum": [1, 2.0]}, INTEGER, 3),
    ({"enum": [2, 4]}, {"type": "integer", "minimum": 2, "maximum": 6, "multipleOf": 2}, 6),
    ({"enum": ["a", None]}, {"anyOf": [STRING, NULL]}, "b"),
    ({"enum": ["a", "b"]}, {"anyOf": [{"const": "a"}, {"const": "b"}, {"const": "c"}]}, "c"),
    # Bounds.
    ({"type": "integer", "minimum": 2}, {"type": "integer", "minimum": 1}, 1),
    ({"type": "number", "maximum": 2}, {"type": "number", "maximum": 2.5}, 2.5),
    ({"type": "number", "exclusiveMinimum": 1}, {"type": "number", "minimum": 1}, 1),
    ({"type": "number", "exclusiveMaximum": 1}, {"type": "number", "maximum": 1}, 1),
    ({"type": "integer", "minimum": 2}, {"type": "integer", "exclusiveMinimum": 0.5}, 1),
    ({"type": "integer", "minimum": 2, "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}, 1),
    ({"type": "integer", "multipleOf": 6}, {"type": "integer", "multipleOf": 3}, 3),
    ({"type": "number", "multipleOf": 1}, NUMBER, 0.5),
    ({"type": "string", "minLength": 1}, {"type": "string"}, ""),
    ({"type": "string", "maxLength": 1}, {"type": "string", "maxLength": 2}, "ab"),
    ({"type": "string", "pattern": "^a"}, STRING, "b"),
    # Arrays.
    ({"type": "array", "items": INTEGER}, {"type": "array", "items": NUMBER}, [0.5]),
    ({"type": "array", "minItems": 1}, {"type": "array"}, []),
    ({"type": "array", "maxItems": 1}, {"type": "array", "maxItems": 2}, [1, 1]),
    ({"type": "array", "uniqueItems": True}, {"type": "array"}, [1, 1]),
    ({"type": "array", "maxItems": 1}, {"type": "array", "uniqueItems": True}, [1, 2]),
    ({"type": "array", "prefixItems": [INTEGER], "items": STRING}, {"type": "array", "prefixItems": [NUMBER]}, [0.5]),
    ({"type": "array", "prefixItems": [INTEGER], "items": False}, {"type": "array", "items": INTEGER}, [1, 1]),
    ({"type": "array", "items": INTEGER}, {"type": "array", "prefixItems": [NUMBER], "items": INTEGER}, [0.5]),
    # Objects.
    (an_object(("a",), a=STRING), an_object(a=STRING), {}),
    (an_object(a=STRING), an_object(a=STRING, b=STRING), {"b": ""}),
    (an_object(a=STRING), an_object(a=STRING, open_=True), {"b": 1}),
    (an_object(a=INTEGER), an_object(a={"anyOf": [INTEGER, NULL]}), {"a": None}),
    (an_object(a=an_object(("b",), b=STRING)), an_object(a=an_object(b=STRING)), {"a": {}}),
    (
        {"type": "object", "additionalProperties": INTEGER},
        {"type": "object", "additionalProperties": NUMBER},
        {"a": 0.5},
    ),
    (an_object(a=INTEGER), {"type": "object", "additionalProperties": INTEGER}, {"b": 1}),
    ({"type": "object", "patternProperties": {"^a": INTEGER}}, {"type": "object"}, {"a": ""}),
    (
        {"type": "object", "propertyNames": {"maxLength": 1}},
        {"type": "object", "propertyNames": {"maxLength": 2}},
        {"ab": 1},
    ),
    ({"type": "object", "minProperties": 1}, {"type": "object"}, {}),
    ({"type": "object", "maxProperties": 1}, {"type": "object", "maxProperties": 2}, {"a": 1, "b": 1}),
    (an_object(("a",), a=STRING), {"type": "object", "minProperties": 1, "maxProperties": 1}, {"b": 1}),
    # Choices, references and recursion.
    ({"oneOf": [CAT]}, {"oneOf": [CAT, DOG]}, {"kind": "dog"}),
    ({"oneOf": [CAT, DOG]}, {"anyOf": [DOG, CAT, NULL]}, None),
    ({"oneOf": [{**CAT, "required": ["kind", "lives"]}, DOG]}, {"oneOf": [CAT, DOG]}, {"kind": "cat"}),
    (TREE, WIDER_TREE, {"leaf": 0.5}),
    ({"allOf": [{"pattern": "a"}, {"type": "string", "maxLength": 1}]}, {"type": "string", "maxLength": 2}, "ab"),
    ({"type": "string", "maxLength": 1}, {"allOf": [STRING, {"maxLength": 2}]}, "ab"),
    (
        {"$ref": "#/$defs/A", "maxLength": 1, "$defs": {"A": STRING}},
        {"$ref": "#/$defs/A", "$defs": {"A": STRING}},
        "ab",
    ),
]


@pytest.mark.parametrize(("narrow", "wide", "telling"), NARROW_AND_WIDE)
def test_a_wider_schema_is_proven_and_a_narrower_one_is_not(narrow: Schema, wide: Schema, telling: object) -> None:
    """What only accepts more is proven to; the way back is not, and there is a value that shows why."""
    assert within(narrow, wide), differences(narrow, wide)
    assert not within(wide, narrow)
    assert valued(wide, telling)
    assert not valued(narrow, telling)


EQUAL: list[tuple[Schema, Schema]] = [
    ({"enum": ["a", "b"]}, {"enum": ["b", "a"]}),
    ({"enum": [1]}, {"const": 1.0}),
    ({"type": ["string", "null"]}, {"anyOf": [NULL, STRING]}),
    ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
    ({"type": "integer", "exclusiveMaximum": 3.5}, {"type": "integer", "maximum": 3}),
    ({"type": "string", "minLength": 0}, STRING),
    ({"type": "integer", "multipleOf": 1}, INTEGER),
    ({"type": "array", "items": True, "uniqueItems": False}, {"type": "array"}),
    (an_object(a=INTEGER), {"$ref": "#/$defs/A", "$defs": {"A": an_object(a=INTEGER)}}),
    (an_object(a=INTEGER, open_=True), {"type": "object", "properties": {"a": INTEGER}}),
    (TREE, json.loads(json.dumps(TREE).replace("Tree", "Node"))),
    ({"oneOf": [CAT, DOG]}, {"oneOf": [DOG, CAT], "discriminator": {"propertyName": "kind"}}),
    ({"allOf": [STRING]}, STRING),
    ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, {}),
    (an_object(title=STRING), an_object(title={"type": "string", "title": "Title", "description": "A title."})),
    ({"anyOf": [{"type": "boolean"}, True]}, {}),
    ({"$id": "https://schemas.example.com/b"}, {"$id": "https://schemas.example.com/b", "title": "B"}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_another_spelling_of_the_same_schema_is_proven_in_both_directions(one: Schema, other: Schema) -> None:
    """A contract that only reads differently does not cry wolf."""
    assert differences(one, other) == []
    assert differences(other, one) == []


APART: list[tuple[Schema, Schema]] = [
    (STRING, INTEGER),
    ({"const": 1}, {"const": True}),
    ({"const": "1"}, {"const": 1}),
    # Not compared by meaning, so any difference counts.
    ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^(a)"}),
    ({"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}),
    ({"type": "number", "multipleOf": 0.3}, {"type": "number", "multipleOf": 0.1}),
    ({"not": STRING}, {"not": {"type": ["string", "null"]}}),
    ({"if": STRING, "then": {"maxLength": 1}}, {"if": INTEGER, "then": {"maxLength": 1}}),
    ({"contains": INTEGER}, {"contains": INTEGER, "maxContains": 1}),
    ({"dependentRequired": {"a": ["b"]}}, {"dependentRequired": {"a": ["c"]}}),
    (
        {**an_object(open_=True, a=STRING), "unevaluatedProperties": False},
        {"type": "object", "unevaluatedProperties": False},
    ),
    ({"type": "number", "multipleOf": 0.2}, {"type": "number", "multipleOf": 0.1}),
    ({"enum": [0.5]}, INTEGER),
    # A name may match a pattern.
    (
        {"type": "object", "patternProperties": {"^a": STRING}, "additionalProperties": False},
        {"type": "object", "patternProperties": {"^a": STRING}, "properties": {"a": INTEGER}},
    ),
    (
        {"type": "object", "patternProperties": {"^aa": STRING}, "additionalProperties": INTEGER},
        {"type": "object", "patternProperties": {"^a": INTEGER}},
    ),
    (
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": INTEGER},
        {"type": "object", "patternProperties": {"^a": INTEGER}},
    ),
    ({"type": "object", "patternProperties": {"^a": STRING}, "additionalProperties": False}, an_object()),
    ({**an_object(), "patternProperties": {"^a": STRING}}, {"type": "object", "maxProperties": 0}),
    # What stands beside a reference applies as well, and sees only its own neighbours.
    (
        {"type": "string", "maxLength": 4},
        {"$ref": "#/$defs/A", "maxLength": 5, "$defs": {"A": {"type": "string", "maxLength": 2}}},
    ),
    (
        an_object(a=STRING),
        {"$ref": "#/$defs/A", "additionalProperties": False, "$defs": {"A": {"properties": {"a": STRING}}}},
    ),
    (
        {"allOf": [{"properties": {"a": STRING}}], "unevaluatedProperties": False},
        {"unevaluatedProperties": False},
    ),
    # One value may be a member of two alternatives.
    ({"oneOf": [STRING, INTEGER]}, {"oneOf": [STRING, INTEGER, NUMBER]}),
    (CAT, {"oneOf": [CAT, an_object(("kind",), kind=STRING, lives=INTEGER)]}),
    ({"anyOf": [SMALL, LARGE]}, {"oneOf": [SMALL, LARGE]}),
    (TAGGED[0], {"oneOf": TAGGED}),
    (labelled(PLAIN), labelled({"oneOf": [PLAIN, LABEL]})),
    (labelled({"$ref": "#/$defs/X"}), labelled({"$ref": "#"})),
    # What the client has to do, or what a call means, has changed.
    (INTEGER, {"type": "integer", "x-mcp-header": "Days"}),
    ({"type": "integer", "x-mcp-header": "Days"}, {}),
    (an_object(a={"type": "integer", "default": 1}), an_object(a={"type": "integer", "default": 2})),
    (an_object(a={"type": "integer", "default": 1}), an_object(a=INTEGER)),
    # References that lead out, nowhere, or only to themselves.
    ({"$ref": "https://schemas.example.com/a"}, STRING),
    (STRING, {"$ref": "#/$defs/A"}),
    (STRING, {"$ref": "#/properties/a", "properties": {"a": STRING}}),
    (STRING, {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}),
    (STRING, {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, NULL]}}}),
    (STRING, {"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}),
    # Keywords that change what the others mean.
    (STRING, {"$schema": "http://json-schema.org/draft-04/schema#"}),
    (STRING, {"$id": "https://schemas.example.com/b", "type": ["string", "null"]}),
    (STRING, {"anyOf": [STRING, {"$dynamicRef": "#a"}]}),
    *(
        ({"type": "integer", **foreign}, {"type": "number", **foreign})
        for foreign in (
            {"$schema": "http://json-schema.org/draft-04/schema#"},
            {"$id": "https://schemas.example.com/b"},
        )
    ),
]

# With each, a schema that would be within it if one read it kindly.
MALFORMED: list[tuple[Schema, Schema]] = [
    ({}, {"type": "text"}),
    (STRING, {"type": ["string", "text"]}),
    ({}, {"type": []}),
    ({}, {"type": 3}),
    ({"type": "integer", "minimum": 5}, {"minimum": "1"}),
    ({"type": "integer", "minimum": 5}, {"minimum": True}),
    ({"type": "integer", "maximum": -5}, {"exclusiveMaximum": False}),
    ({"type": "integer", "multipleOf": 6}, {"multipleOf": 0}),
    ({"type": "string", "minLength": 9}, {"minLength": "x"}),
    ({"type": "array", "maxItems": 1}, {"maxItems": None}),
    ({"type": "array", "items": STRING}, {"items": [STRING]}),
    ({"type": "array", "items": STRING}, {"prefixItems": STRING}),
    ({"type": "object", "required": ["a"]}, {"required": 3}),
    ({"type": "object"}, {"properties": ["a"]}),
    (an_object(), {"additionalProperties": "no"}),
    ({}, {"anyOf": []}),
    (STRING, {"oneOf": STRING}),
    ({}, {"allOf": []}),
    ({"const": "a"}, {"enum": "ab"}),
    ({}, {"$ref": 3}),
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_what_cannot_be_proven_is_a_difference(one: Schema, other: Schema) -> None:
    """Foreign keywords, changed meanings and malformed schemas never pass for a proof."""
    assert differences(one, other)


@pytest.mark.parametrize(("kind", "broken"), MALFORMED)
def test_what_is_no_schema_is_a_difference(kind: Schema, broken: Schema) -> None:
    """A malformed schema proves nothing, however little it seems to ask for."""
    assert differences(kind, broken)


def test_a_foreign_keyword_that_stays_does_not_hide_a_proof() -> None:
    """What is equal on both sides does not stand in the way of comparing the rest."""
    same = {"not": {"const": "x"}, "dependentRequired": {"a": ["b"]}, "x-unit": "km"}

    assert within(an_object(a={**STRING, **same}, b=INTEGER), an_object(a={**STRING, **same}, b=NUMBER))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (an_object(days={"maximum": 10}), an_object(days={"maximum": 5}), (".days", "maximum", "10", "5")),
        (an_object(a=STRING), an_object(("a",), a=STRING), (".a", "", "optional", "required")),
        (an_object(a=STRING), an_object(("b",), a=STRING, b=STRING), (".b", "", "unknown", "required")),
        (an_object(a=STRING), an_object(), (".a", "", "accepted", "refused")),
        (an_object(open_=True), an_object(), (".*", "", "accepted", "refused")),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, ("", 'value "b"', "accepted", "refused")),
        ({"anyOf": [STRING, NULL]}, STRING, ("", "null", "accepted", "refused")),
        (STRING, INTEGER, ("", "type", "string", "integer")),
        ({}, STRING, ("", "type", "any", "string")),
        ({}, {"type": ["string", "number"]}, ("", "type", "any", "number or string")),
        (an_object(a={"type": "array", "items": NUMBER}), an_object(a={"type": "array", "items": INTEGER}),
         (".a[]", "type", "number", "integer")),
        (an_object(a={"anyOf": [{"type": "string", "maxLength": 9}, NULL]}),
         an_object(a={"anyOf": [NULL, {"type": "string", "maxLength": 8}]}), (".a", "maxLength", "9", "8")),
        (an_object(a={"type": "integer", "exclusiveMinimum": 0}), an_object(a={"type": "integer", "minimum": 5}),
         (".a", "minimum", "above 0", "5")),
    ],
)  # fmt: skip
def test_a_difference_names_the_place_and_both_sides(a: Schema, b: Schema, expected: tuple[str, ...]) -> None:
    """A reviewer reads where the argument is and what became of it."""
    assert [tuple(item) for item in differences(a, b)] == [expected]


def test_texts_are_found_where_keywords_are_and_nowhere_else() -> None:
    """A property may be called `title` or `description`; its name is not a text."""
    schema = an_object(title={"type": "string", "description": "The title."}, description={"enum": ["title"]})

    assert list(texts(schema)) == [(".title", "description", "The title.")]


@pytest.mark.timeout(20)
def test_the_work_is_bounded() -> None:
    """A schema made to be expensive, or nested without end, costs seconds and is not proven."""
    levels = {f"L{n}": either(f"#/$defs/L{n - 1}") for n in range(1, 25)}
    costly, other = ({"$ref": "#/$defs/L24", "$defs": {**levels, "L0": leaf}} for leaf in (STRING, INTEGER))
    deep: Schema = STRING
    for _ in range(3000):
        deep = {"not": deep}

    assert [item.what for item in differences(costly, other)] == ["cannot be compared: too large"]
    assert [item.what for item in differences(deep, {"not": deep})] == ["cannot be compared: too deep"]


def either(reference: str) -> Schema:
    """Return two alternatives that both lead on."""
    return {"anyOf": [an_object(a={"$ref": reference}, b=STRING), an_object(a={"$ref": reference}, c=STRING)]}


# A source of chance by its number: quicker than one that Hypothesis records step by step.
chances = st.integers(0, 2**32).map(random.Random)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(chances)
def test_no_value_is_lost_where_none_is_said_to_be(chance: random.Random) -> None:
    """Whenever A is proven to be within B, the reference validator finds no value of A that B refuses."""
    one = random_schema(chance)
    other = mutated(chance, one)
    for a, b in ((one, other), (other, one)):
        if sound(a) and sound(b) and within(a, b):
            before, after = Draft202012Validator(a), Draft202012Validator(b)
            for _ in range(10):
                value = value_of(chance, a, a["$defs"])
                assert not accepts(before, value) or accepts(after, value), (a, b, value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(chances)
def test_every_valid_schema_can_be_compared(chance: random.Random) -> None:
    """A schema is within itself whatever its texts say, and no valid schema is taken for a malformed one."""
    one = random_schema(chance)
    other = mutated(chance, one)
    if sound(one) and sound(other):
        assert within(one, {**json.loads(json.dumps(one)), "description": "Other words."})
        assert not [item for item in differences(one, other) if "not a valid schema" in item.what]


WORDS = [
    *("a", "type", "properties", "anyOf", "$ref", "$defs", "enum", "items", "minimum", "required"),
    *("additionalProperties", "maxLength", "default"),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "string", "#", "#/$defs/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(anything, anything)
def test_nothing_that_is_json_stops_the_comparison(one: Any, other: Any) -> None:
    """A malformed schema is a difference, never a crash."""
    assert isinstance(differences(one, other), list)


def sound(schema: Schema) -> bool:
    """Whether it is a valid schema whose references come to an end."""
    try:
        Draft202012Validator.check_schema(schema)
        valued(schema, None)
    except (SchemaError, RecursionError):
        return False
    return True
