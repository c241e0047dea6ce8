"""Results fit what is advertised."""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from pydantic import AnyUrl, AwareDatetime, BaseModel, ConfigDict, Field, computed_field, field_serializer

from hardening import errors
from hardening.calls.results import ResultSchema

LARGE = 1_000_000


class Colour(enum.StrEnum):
    """Some words."""

    RED = "red"


class Part(BaseModel):
    """A model with everything that makes reading back hard."""

    model_config = ConfigDict(extra="forbid")

    identifier: int = Field(ge=0, serialization_alias="id")
    colour: Colour = Colour.RED
    made: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    price: Decimal = Decimal("1.50")

    @computed_field
    @property
    def double(self) -> int:
        """Twice the identifier."""
        return self.identifier * 2


class Side(enum.Enum):
    """Values that no JSON has."""

    LEFT = (-1, 0)
    HERE = 0


@dataclass
class Place:
    """A plain dataclass."""

    name: str
    height: float


class Corner(NamedTuple):
    """A named tuple."""

    x: float
    y: float


class Written(BaseModel):
    """A model that writes a number as text."""

    number: int

    @field_serializer("number")
    def as_text(self, number: int) -> str:
        """Write it in words of its own."""
        return str(number)


EXAMPLES: list[tuple[Any, Any]] = [
    (int, 5),
    (str, "text"),
    (None, None),
    (list[int], [1, 2]),
    (dict[str, float], {"a": 1.5}),
    (dict[Side, int], {Side.LEFT: 1}),
    (Mapping[str, int], MappingProxyType({"a": 1})),
    (Side, Side.LEFT),
    (Literal[b"a"], b"a"),
    (frozenset[Corner], frozenset({Corner(1.5, 2.5)})),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (Colour, Colour.RED),
    (Decimal, Decimal("0.10")),
    (Part, Part(identifier=1)),
    (list[Part], [Part(identifier=1)]),
    (Place, Place("hill", 3.5)),
    (Written, Written(number=5)),
    (Part | Place, Place("hill", 3.5)),
    (int | None, None),
    (Any, {"a": [1, None]}),
]


@pytest.mark.parametrize(("hint", "value"), EXAMPLES, ids=lambda one: str(one)[:30])
def test_a_result_fits_its_advertised_schema(hint: Any, value: Any) -> None:
    """Whatever type a tool returns, the structured content is an object that fits the output schema."""
    results = ResultSchema(hint)
    out = results.finish(value, LARGE)

    assert isinstance(out, CallToolResult)
    assert results.schema is not None
    assert results.schema["type"] == "object"
    Draft202012Validator.check_schema(results.schema)
    Draft202012Validator(results.schema).validate(out.structured_content)


def test_text_says_the_same_as_the_structured_content() -> None:
    """A client that reads only text gets the same: JSON, or the text itself."""
    wrapped = ResultSchema(list[int]).finish([1, 2], LARGE)
    text = ResultSchema(str).finish('a "b"\n', LARGE)

    assert isinstance(wrapped, CallToolResult)
    assert isinstance(text, CallToolResult)
    assert wrapped.structured_content == {"result": [1, 2]}
    assert wrapped.content == [TextContent(type="text", text="[1,2]")]
    assert text.content == [TextContent(type="text", text='a "b"\n')]


def test_aliases_and_computed_fields_go_out_as_advertised() -> None:
    """What is written under another name than it is read, or only written, is right all the same."""
    out = ResultSchema(Part).finish(Part(identifier=2), LARGE)

    assert isinstance(out, CallToolResult)
    assert out.structured_content == {
        "id": 2,
        "colour": "red",
        "made": "2026-01-01T00:00:00Z",
        "price": "1.50",
        "double": 4,
    }


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "5"),
        (int, 1.5),
        (str, None),
        (list[int], ["1"]),
        (Part, Part.model_construct(identifier=-1)),
        (Part, Part.model_construct(identifier="many")),
        (Place, Place("hill", math.nan)),
        (float, math.inf),
        (Annotated[str, Field(max_length=2)], "long"),
        (Annotated[list[int], Field(max_length=1)], [1, 2]),
        (dict[str, Annotated[int, Field(ge=0)]], {"a": -1}),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_wrong_result_does_not_leave(hint: Any, value: Any) -> None:
    """A value of another type or beyond a bound is a fault of the tool, also in a model that was not validated."""
    with pytest.raises(ValueError):  # noqa: PT011 - each library has its own
        ResultSchema(hint).finish(value, LARGE)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_what_leaves_always_fits(value: Any) -> None:
    """Any value either fits the advertised schema when it leaves, or does not leave."""
    results = ResultSchema(list[int | str] | dict[str, int] | bool)
    try:
        out = results.finish(value, LARGE)
    except ValueError:
        return
    assert isinstance(out, CallToolResult)
    assert results.schema is not None
    Draft202012Validator(results.schema).validate(out.structured_content)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (str, "x" * 100),
        (CallToolResult, CallToolResult(content=[TextContent(type="text", text="x" * 100)])),
        (InputRequiredResult, InputRequiredResult(request_state="x" * 100)),
    ],
)
def test_a_result_over_the_cap_does_not_leave(hint: Any, value: Any) -> None:
    """The cap holds for every kind of result, and the caller is told to ask for less."""
    results = ResultSchema(hint)

    results.finish(value, 1000)
    with pytest.raises(errors.TooLarge, match="Ask for less"):
        results.finish(value, 99)


def test_a_tool_may_build_its_content_itself() -> None:
    """Such a tool has no output schema; what it returns in place of a result becomes content, as in the SDK."""
    results = ResultSchema(CallToolResult)
    built = CallToolResult(content=[TextContent(type="text", text="built")])

    assert results.schema is None
    assert results.finish(built, LARGE) is built
    assert results.finish("built", LARGE) == built


def test_a_tool_that_asks_for_input_first_keeps_its_output_schema() -> None:
    """`Model | InputRequiredResult` advertises the schema of the model alone."""
    results = ResultSchema(Part | InputRequiredResult)
    asking = InputRequiredResult(request_state="state")

    assert results.schema == ResultSchema(Part).schema
    assert results.finish(asking, LARGE) is asking
    assert isinstance(results.finish(Part(identifier=1), LARGE), CallToolResult)
    assert ResultSchema(InputRequiredResult).schema is None


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        (datetime, None),
        (AwareDatetime, "date-time"),
        (list[datetime], None),
        (Part, None),
        (time, None),
        (timedelta, None),
        (AnyUrl, None),
        (Annotated[str, Field(json_schema_extra={"format": "date-time"})], None),
        (date, "date"),
        (UUID, "uuid"),
        (IPv4Address, "ipv4"),
    ],
    ids=str,
)
def test_a_format_is_named_only_where_every_value_has_it(hint: Any, named: str | None) -> None:
    """A client that checks formats loses no result: a time may come without its zone, a duration with fractions."""
    found = re.findall(r'"format": "([^"]+)"', json.dumps(ResultSchema(hint).schema))

    assert found == ([named] if named else [])
    assert "x-aware" not in json.dumps(ResultSchema(hint).schema)


@pytest.mark.parametrize("hint", [tuple[int, str], tuple[float, float], Corner], ids=str)
def test_a_fixed_array_has_items(hint: Any) -> None:
    """An editor drops a tool whose array has none; they allow nothing that was not allowed before."""
    (schema,) = (ResultSchema(hint).schema or {})["properties"].values()

    assert "items" in schema
    assert schema["minItems"] == schema["maxItems"] == 2
    assert not Draft202012Validator(schema).is_valid([None, None])
