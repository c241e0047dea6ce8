"""The advertised schema and the validator agree."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import math
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from agreement import check_agreement, takes
from hypothesis import given, settings
from json_values import accepts, near
from pydantic import BaseModel, ConfigDict, Field

from hardening import Context, errors, tool
from hardening.calls.tool import InvalidDeclarationError, Tool

Inner = ConfigDict(extra="forbid")


class Colour(enum.StrEnum):
    """Some words."""

    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    """Some numbers."""

    SMALL = 2
    LARGE = 3


class Point(BaseModel):
    """A model that is not strict by itself."""

    model_config = Inner

    x: int
    y: float = 0.5


class Tree(BaseModel):
    """A model that holds itself."""

    model_config = Inner

    name: Annotated[str, Field(max_length=3)]
    children: Annotated[list[Tree], Field(max_length=2)] = []


class Cat(BaseModel):
    """One of two that are told apart by a field."""

    model_config = Inner

    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    """The other one."""

    model_config = Inner

    kind: Literal["dog"]
    good: bool


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
TYPES: dict[str, Any] = {
    "int": int,
    "bounded int": Annotated[int, Field(ge=-3, le=3)],
    "open int": Annotated[int, Field(gt=-3, lt=3)],
    "multiple": Annotated[int, Field(multiple_of=3)],
    "float": float,
    "bounded float": Annotated[float, Field(ge=0.5, lt=2)],
    "bool": bool,
    "str": str,
    "bounded str": Annotated[str, Field(min_length=1, max_length=3)],
    "pattern": Annotated[str, Field(pattern=r"^[a-c]{1,3}$")],
    "none": None,
    "optional": int | None,
    "union": int | str,
    "numbers": int | float,
    "either bool": bool | int,
    "list": Annotated[list[int], Field(min_length=1, max_length=2)],
    "nested list": list[list[str]],
    "tuple": tuple[int, str],
    "dict": Annotated[dict[str, int], Field(max_length=2)],
    "literal": Literal["one", 2] | None,
    "words": Colour,
    "sizes": Size,
    "model": Point,
    "tree": Tree,
    "pets": Pet,
    "models": list[Point | Cat],
    "anything": Any,
}
# Types whose `format` Pydantic asserts; it reads some texts more than the format allows.
FORMATS: dict[str, Any] = {"date": dt.date, "uuid": uuid.UUID, "ipv4": ipaddress.IPv4Address}


def declared(hint: Any, *, optional: bool = False) -> Tool:
    """Return a tool with one parameter of this type, `value`."""

    async def taker(value: Any = 1) -> None:
        """Take a value."""

    taker.__annotations__ = {"value": hint, "return": None}
    if not optional:
        taker.__defaults__ = None
    return Tool(tool(read_only=True)(taker))


@pytest.mark.parametrize("name", TYPES)
def test_schema_and_validator_accept_the_same(name: str) -> None:
    """Whatever the advertised schema accepts the validator accepts, and the reverse."""
    check_agreement(declared(TYPES[name], optional=name == "bounded int"))


@pytest.mark.parametrize("name", FORMATS)
def test_what_fits_a_format_is_accepted(name: str) -> None:
    """Whatever fits the advertised format the validator accepts."""
    one = declared(FORMATS[name])

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(near(one.input_schema, one.input_schema))
    def accepted(arguments: Any) -> None:
        if isinstance(arguments, dict) and accepts(one.input_schema, arguments):
            assert takes(one, arguments), arguments

    accepted()


@pytest.mark.parametrize(
    ("hint", "value", "taken"),
    [
        (int, 1.0, True),
        (int, 1e300, True),
        (int, 10**300, True),
        (int, -(10**4299), True),
        (int, 1.5, False),
        (int, "1", False),
        (int, True, False),
        (int, math.nan, False),
        (float, 1, True),
        (float, "1.5", False),
        (float, math.nan, False),
        (float, math.inf, False),
        (bool, 1, False),
        (bool, "true", False),
        (str, 1, False),
        (Annotated[str, Field(max_length=2)], "\U0001f600\U0001f600", True),
        (Annotated[str, Field(max_length=2)], "\U0001f600\U0001f600\U0001f600", False),
        (list[int], "[1]", False),
        (list[int], {"0": 1}, False),
        (dict[str, int], '{"a": 1}', False),
        (Point, {"x": 1.0}, True),
        (Point, {"x": "1"}, False),
        (Point, {"x": 1, "z": 1}, False),
        (Literal[2], 2.0, True),
        (Size, 2.0, True),
        (Colour, "red", True),
        (Colour, "RED", False),
        (Tree, {"name": "a", "children": [{"name": "b", "children": [{"name": "long"}]}]}, False),
    ],
)
def test_nothing_is_converted(hint: Any, value: Any, *, taken: bool) -> None:
    """A value is taken for what it is: 1.0 is an integer, "1" is not, and length counts characters."""
    assert takes(declared(hint), {"value": value}) is taken


def test_the_function_gets_values_of_its_types() -> None:
    """A whole number that came as 5.0 is an int, a model is a model, and a missing argument is not there."""
    one = declared(int | Point)

    assert one.arguments.validate({"value": 5.0}) == {"value": 5}
    assert type(one.arguments.validate({"value": 5.0})["value"]) is int
    assert one.arguments.validate({"value": {"x": 1}}) == {"value": Point(x=1)}
    assert declared(int, optional=True).arguments.validate({}) == {}


def test_unknown_arguments_are_refused() -> None:
    """What the schema does not know is refused, and the schema says that it will be."""
    one = declared(int)

    assert one.input_schema["additionalProperties"] is False
    assert not takes(one, {"value": 1, "more": 1})
    assert not takes(one, {})


def test_no_argument_at_all_has_the_recommended_schema() -> None:
    """A tool without arguments accepts the empty object only."""

    async def nothing() -> None:
        """Take nothing."""

    one = Tool(tool(read_only=True)(nothing))
    assert {key: one.input_schema[key] for key in ("type", "additionalProperties")} == {
        "type": "object",
        "additionalProperties": False,
    }
    assert takes(one, {})
    assert not takes(one, {"value": 1})


def test_defaults_are_advertised() -> None:
    """A client sees what it gets when it leaves an argument out, and the context is no argument."""

    async def many(
        ctx: Context, number: Annotated[int, Field(ge=0, description="How many.")] = 3, colour: Colour = Colour.RED
    ) -> None:
        """Take a few."""

    schema = Tool(tool(read_only=True)(many)).input_schema
    assert schema["properties"]["number"] == {"default": 3, "description": "How many.", "minimum": 0, "type": "integer"}
    assert schema["properties"]["colour"]["default"] == "red"
    assert "required" not in schema
    assert "ctx" not in schema["properties"]


def test_a_refusal_names_the_rule_and_no_value() -> None:
    """What breaks which rule is said by path and rule: no value, no key that the caller made up."""
    one = declared(Annotated[dict[str, Pet], Field(max_length=2)])
    with pytest.raises(errors.InvalidArguments) as refused:
        one.arguments.validate({"value": {"sentinel_key": {"kind": "cat", "lives": 99, "sentinel_more": "sentinel"}}})

    said = refused.value.advice
    assert "value.*.*.lives: less than equal (le 9)" in said
    assert "value.*.*: has a field that the schema does not know" in said
    assert "sentinel" not in said
    assert "99" not in said


def test_a_refusal_is_bounded() -> None:
    """Ten rules are named, the others counted, however many a caller breaks."""
    one = declared(list[Point])
    with pytest.raises(errors.InvalidArguments) as refused:
        one.arguments.validate({"value": [{"x": "no", "y": "no", str(n): 0} for n in range(1000)]})

    assert "; and 2990 more" in refused.value.advice
    assert len(refused.value.advice) < 500


async def any_type(value) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Take anything."""


async def default_field(value: int = Field(1, ge=1)) -> None:
    """Bound nothing, because the bound is where the default belongs."""


async def many_values(*values: int) -> None:
    """Take many."""


async def by_place(value: int, /) -> None:
    """Take one that has no name."""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (any_type, "any_type: give every parameter a type"),
        (default_field, "default_field: write value: Annotated[…, Field(…)] in place of = Field(…)"),
        (many_values, "many_values: values must be a parameter that can be given by name"),
        (by_place, "by_place: value must be a parameter that can be given by name"),
    ],
)
def test_parameters_that_cannot_be_served_are_refused_at_start(function: Any, says: str) -> None:
    """What would be unbounded or uncallable is told before a client can find it."""
    with pytest.raises(InvalidDeclarationError, match=re.escape(says)):
        Tool(tool(read_only=True)(function))


def test_a_type_without_an_exact_schema_is_refused_at_start() -> None:
    """No client is told a schema that the validator does not keep."""
    with pytest.raises(InvalidDeclarationError, match="taker: a type has no JSON Schema: take a float"):
        declared(Decimal)
    with pytest.raises(InvalidDeclarationError, match="taker: a type has no JSON Schema"):
        declared(object())
