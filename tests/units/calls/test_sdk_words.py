"""What the SDK teaches, word by word: served here as in the bare SDK, or refused with a sentence.

Every row is called in both servers, and schema, result, blocks and failure are compared.
What differs on purpose is written down in `DIFFERENCES`, and nothing else may.
"""

from __future__ import annotations

import base64
import collections
import enum
import functools
import ipaddress
import itertools
import json
import math
import re
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableSequence,
    Sequence,
)
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Self,
    TypeVar,
    Union,
    cast,
)

import pytest
from jsonschema import Draft202012Validator
from live import ENVIRONMENT, settings_from
from mcp import Client, MCPError
from mcp.server.mcpserver import Audio, Image, MCPServer
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    Annotations,
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    Icon,
    ImageContent,
    PromptMessage,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import (
    UUID4,
    AfterValidator,
    AliasChoices,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ImportString,
    PastDate,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretBytes,
    SecretStr,
    Strict,
    StringConstraints,
    Tag,
    WithJsonSchema,
    WrapSerializer,
    WrapValidator,
    computed_field,
    conint,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import Doc, TypeAliasType, TypedDict

from hardening import Context, HardeningSettings, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.calls.json_schema import portable

DIFFERENCES = """
schema: no titles made up from names; unknown arguments are refused (`additionalProperties: false`); a fixed array has
  `items`; a result names a format only where every value of the type has it; a dataclass keeps its docstring.
arguments: strict; JSON in a string is no list or model and is refused (`invalid_input`), where the SDK reads it.
data: everything that is no content type has structured content and a schema, also where the SDK has text alone
  (`UNSTRUCTURED_THERE`); no mapping is put into a `result`.
blocks: data is one block of JSON beside the structured content, as the specification has it; the SDK indents it,
  and writes one block for each item of a list.
schema of data: as it is written, where the SDK lists what would be read (`WRITTEN`).
data of a model: the fields that are declared, also where the value has more of them.
content that the annotation does not name (`Any`, `list`): the blocks of the SDK, and beside them their JSON wherever
  a schema is listed; what a tool builds by hand is put into `result` where its schema has one (`UNTOLD`).
data of another type than the annotation's, or without JSON (`object()`): a failure, also where the SDK sends a text.
bytes of base64 (`Base64Bytes`): encoded from what the tool returns, where the SDK wants them encoded already.
pieces: an iterator leaves as the list that it makes, where the SDK's structured content is empty (`PIECES`).
failure: the text has a kind, advice and a reference, and never the text of an exception that nobody foresaw.
"""

PIXEL = base64.b64encode(b"\x89PNG").decode()
EMPTY = object()
Kind = TypeVar("Kind")
Short = Annotated[str, Field(max_length=20)]
Words = Annotated[list[Short], Field(max_length=5)]


class Colour(enum.StrEnum):
    """Some words."""

    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """A model."""

    model_config = ConfigDict(extra="forbid")

    name: Short
    height: float = 0.0


class Inner(BaseModel):
    """A model in a model."""

    model_config = ConfigDict(extra="forbid")

    place: Place
    tags: Words = []


class Aliased(BaseModel):
    """A field with another name on the wire."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    identifier: int = Field(alias="id")


class Node(BaseModel):
    """A model in itself."""

    model_config = ConfigDict(extra="forbid")

    value: int
    nodes: Annotated[list[Node], Field(max_length=5)] = []


class Stone(BaseModel):
    """A model that does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: int


class Cat(BaseModel):
    """One of two."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["cat"]


class Dog(BaseModel):
    """One of two."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["dog"]


class Box(BaseModel, Generic[Kind]):
    """A model of any kind."""

    model_config = ConfigDict(extra="forbid")

    inside: Kind


class Lazy(BaseModel):
    """A field that is checked while it is read."""

    model_config = ConfigDict(extra="forbid")

    numbers: Annotated[Iterable[int], Field(max_length=5)]


class Made(BaseModel):
    """A field with a default that is made anew."""

    model_config = ConfigDict(extra="forbid")

    words: Words = Field(default_factory=list)


class Number(enum.IntEnum):
    """Some numbers."""

    FIVE = 5


class Movie(TypedDict):
    """A typed dictionary."""

    title: Short
    year: NotRequired[int]


@dataclass
class Point:
    """A dataclass."""

    x: float
    y: float


class Pair(NamedTuple):
    """A named tuple."""

    x: float
    y: float


class Rights(enum.Flag):
    """Some words that can be joined."""

    READ = 4
    WRITE = 8


class Size(enum.Enum):
    """Some values."""

    SMALL = "s"
    LARGE = 5


Day = Annotated[date, BeforeValidator(lambda text: datetime.strptime(text, "%d.%m.%Y").replace(tzinfo=UTC).date())]


class Parsed(BaseModel):
    """A model whose validators take what it is made from, and not what it has become."""

    type: Literal[Size.SMALL] = Size.SMALL
    day: Day
    word: Annotated[str, AfterValidator(lambda word: f"{word:.1}!"), Field(max_length=2)]
    fields: Annotated[int, WrapValidator(lambda value, read: read(value.removeprefix("number ")))]

    @field_validator("day")
    @classmethod
    def early(cls, day: date) -> date:
        """Move it, once."""
        return day.replace(year=day.year - 1)

    def model_post_init(self, _: Any) -> None:
        """Move it, once."""
        self.day = self.day.replace(month=self.day.month + 1)

    @model_validator(mode="after")
    def late(self) -> Self:
        """Look at it; the SDK does so twice."""
        if self.day.year != 2025:
            raise ValueError("it was moved twice")
        return self


class Priced(BaseModel):
    """A model that writes other types than it reads."""

    amount: int
    parts: Annotated[list[int], PlainSerializer(lambda parts: "+".join(map(str, parts)), return_type=str)] = [1, 2]

    @field_serializer("amount")
    def in_euro(self, amount: int) -> str:
        """Write it with its unit."""
        return f"{amount} EUR"

    @computed_field
    @property
    def twice(self) -> int:
        """Add a field that is only written."""
        return self.amount * 2


class Listing(RootModel[Annotated[list[int], Field(max_length=3)]]):
    """A model of a list."""


@dataclass(slots=True, kw_only=True)
class Slotted:
    """A dataclass as newer pages have it."""

    name: Short
    nick: Short | None = None


class Seat(NamedTuple):
    """A named tuple with a default."""

    row: int
    number: int = 1


class Camel(BaseModel):
    """Names on the wire that are made."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    some_name: int


class Choice(BaseModel):
    """A name on the wire that is one of several."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(validation_alias=AliasChoices("num", "no"))


class Ordered(BaseModel):
    """Two fields that belong together."""

    model_config = ConfigDict(extra="forbid")

    low: int
    high: int

    @model_validator(mode="after")
    def in_order(self) -> Self:
        """Check both."""
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class Hidden(BaseModel):
    """A field that is never written."""

    name: Short
    inner: int = Field(default=5, exclude=True)


class Renamed(BaseModel):
    """A field that is written under another name."""

    number: int = Field(serialization_alias="id")


class Untold(BaseModel):
    """A model that does not say which type it writes."""

    amount: int

    @field_serializer("amount")
    def in_euro(self, amount: int):  # noqa: ANN201 - as authors write it
        """Write it with its unit."""
        return f"{amount} EUR"


class Open(BaseModel):
    """Fields that nobody has declared."""

    model_config = ConfigDict(extra="allow")

    name: Short


Number_ = NewType("Number_", int)
Bounded = TypeAliasType("Bounded", Annotated[int, Field(ge=1)])
Nested = TypeAliasType("Nested", "int | Annotated[list[Nested], Field(max_length=3)]")
Pet = Annotated[
    Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")],
    Discriminator(lambda pet: pet.get("kind") if isinstance(pet, dict) else pet.kind),
]


ARGUMENTS: dict[str, tuple[Any, Any, Any]] = {
    "int": (int, 5, EMPTY),
    "int with bounds": (Annotated[int, Field(ge=1, le=9)], 9, EMPTY),
    "int with exclusive bounds": (Annotated[int, Field(gt=1, lt=9)], 8, EMPTY),
    "int, multiple": (Annotated[int, Field(multiple_of=5)], 10, EMPTY),
    "int, default": (int, EMPTY, 3),
    "int, optional": (int | None, None, None),
    "int, Optional": (Optional[int], 4, None),  # noqa: UP045 - as older pages have it
    "float": (float, 1.5, EMPTY),
    "float, default": (float, EMPTY, 0.5),
    "bool": (bool, True, EMPTY),
    "bool, default": (bool, EMPTY, False),
    "str": (Short, "text", EMPTY),
    "str, default": (Short, EMPTY, "usual"),
    "str, optional": (Short | None, EMPTY, None),
    "str, described": (Annotated[str, Field(max_length=20, description="What it is called.")], "a", EMPTY),
    "str, examples": (Annotated[str, Field(max_length=20, examples=["a"])], "a", EMPTY),
    "str, titled": (Annotated[str, Field(max_length=20, title="The name")], "a", EMPTY),
    "str, least and most": (Annotated[str, Field(min_length=1, max_length=3)], "abc", EMPTY),
    "str, pattern": (Annotated[str, Field(pattern=r"^[a-z]+$", max_length=9)], "abc", EMPTY),
    "str, pattern with a class": (Annotated[str, Field(pattern=r"^[\w.-]+@[\w-]+$", max_length=30)], "a@b", EMPTY),
    "str, pattern with a named group": (Annotated[str, Field(pattern=r"^(?<x>[A-Z]{2})$", max_length=9)], "AB", EMPTY),
    "literal": (Literal["a", "b"], "b", EMPTY),
    "literal, default": (Literal["a", "b"], EMPTY, "a"),
    "literal, one": (Literal["a"], "a", EMPTY),
    "enum": (Colour, "red", EMPTY),
    "enum, default": (Colour, EMPTY, Colour.BLUE),
    "list": (Words, ["a", "b"], EMPTY),
    "list, default": (Words, EMPTY, []),
    "list of int": (Annotated[list[int], Field(max_length=5)], [1, 2], EMPTY),
    "list of models": (Annotated[list[Place], Field(max_length=5)], [{"name": "hill"}], EMPTY),
    "list of lists": (Annotated[list[Words], Field(max_length=5)], [["a"]], EMPTY),
    "mapping": (Annotated[dict[str, int], Field(max_length=5)], {"a": 1}, EMPTY),
    "mapping of bounded names": (Annotated[dict[Short, int], Field(max_length=5)], {"a": 1}, EMPTY),
    "mapping by date": (Annotated[dict[date, int], Field(max_length=5)], {"2026-01-02": 1}, EMPTY),
    "mapping by words": (Annotated[dict[Literal["a", "b"], int], Field(max_length=5)], {"a": 1}, EMPTY),
    "mapping by an enum": (Annotated[dict[Colour, int], Field(max_length=5)], {"red": 1}, EMPTY),
    "mapping by number of an enum": (Annotated[dict[Number, int], Field(max_length=5)], {"5": 1}, EMPTY),
    "mapping by number": (Annotated[dict[int, int], Field(max_length=5)], {"1": 1}, EMPTY),
    "tuple of one kind": (tuple[float, float], [1.5, 2.5], EMPTY),
    "tuple of several kinds": (tuple[int, Short], [1, "a"], EMPTY),
    "tuple of any length": (Annotated[tuple[int, ...], Field(max_length=5)], [1, 2, 3], EMPTY),
    "model": (Place, {"name": "hill", "height": 2.5}, EMPTY),
    "model, optional": (Place | None, EMPTY, None),
    "model in a model": (Inner, {"place": {"name": "hill"}, "tags": ["a"]}, EMPTY),
    "model with an alias": (Aliased, {"id": 3}, EMPTY),
    "date": (date, "2026-01-02", EMPTY),
    "datetime": (datetime, "2026-01-02T03:04:05Z", EMPTY),
    "time": (time, "03:04:05", EMPTY),
    "timedelta": (timedelta, "PT5S", EMPTY),
    "uuid": (uuid.UUID, "12345678-1234-5678-1234-567812345678", EMPTY),
    "union of kinds": (int | Short, "a", EMPTY),
    "union, as typing has it": (Union[int, Short], 1, EMPTY),  # noqa: UP007 - as older pages have it
    "union of models": (Place | Aliased, {"id": 4}, EMPTY),
    "models by kind": (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog"}, EMPTY),
    "model in itself": (Node, {"value": 1, "nodes": [{"value": 2, "nodes": []}]}, EMPTY),
    "model of a kind": (Box[int], {"inside": 1}, EMPTY),
    "model with a default that is made": (Made, {}, EMPTY),
    "typed dictionary": (Movie, {"title": "a"}, EMPTY),
    "named tuple": (Pair, [1.5, 2.5], EMPTY),
    "enum of numbers": (Number, 5, EMPTY),
    "bytes": (Annotated[bytes, Field(max_length=9)], "abc", EMPTY),
    "secret": (Annotated[SecretStr, Field(max_length=9)], "abc", EMPTY),
    "address of a host": (ipaddress.IPv4Address, "127.0.0.1", EMPTY),
    "deque": (Annotated[collections.deque[int], Field(max_length=5)], [1], EMPTY),
    "sequence": (Annotated[Sequence[int], Field(max_length=5)], [1], EMPTY),
    "mapping of any kind": (Annotated[Mapping[str, int], Field(max_length=5)], {"a": 1}, EMPTY),
    "validated before": (Annotated[int, BeforeValidator(lambda number: number + 1)], 5, EMPTY),
    "validated after": (Annotated[int, AfterValidator(lambda number: number + 1)], 5, EMPTY),
    "validated around": (Annotated[int, WrapValidator(lambda value, read: read(value) + 1)], 5, EMPTY),
    "lowered": (Annotated[str, StringConstraints(to_lower=True, max_length=9)], "ABC", EMPTY),
    "enum of values": (Size, 5, EMPTY),
    "enum of values, default": (Size, EMPTY, Size.SMALL),
    "literal of kinds": (Literal["a", 5] | None, 5, EMPTY),
    "new type": (Number_, 5, EMPTY),
    "alias of a type": (Bounded, 5, EMPTY),
    "alias in itself": (Nested, [1, [2]], EMPTY),
    "base64": (Annotated[Base64Bytes, Field(max_length=9)], "YQ==", EMPTY),
    "secret bytes": (Annotated[SecretBytes, Field(max_length=9)], "abc", EMPTY),
    "date in the past": (PastDate, "2020-01-02", EMPTY),
    "datetime with a zone": (AwareDatetime, "2026-01-02T03:04:05Z", EMPTY),
    "timedelta, default": (timedelta, EMPTY, timedelta(seconds=5)),
    "uuid, default": (uuid.UUID, EMPTY, uuid.UUID(int=4)),
    "model, default": (Place, EMPTY, Place(name="hill")),
    "model, a mapping as default": (Place, EMPTY, {"name": "hill"}),
    "tuple, default": (tuple[int, int], EMPTY, (1, 2)),
    "nothing alone": (None, None, EMPTY),
    "optional without a default": (int | None, None, EMPTY),
    "strict": (Annotated[int, Strict()], 5, EMPTY),
    "positive": (PositiveInt, 5, EMPTY),
    "constrained, as older pages have it": (conint(ge=1, le=5), 3, EMPTY),
    "described by Doc": (Annotated[int, Doc("How many.")], 5, EMPTY),
    "with an own schema": (Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})], 5, EMPTY),
    "with more in the schema": (Annotated[int, Field(json_schema_extra={"x-unit": "m"})], 5, EMPTY),
    "model with made names": (Camel, {"someName": 1}, EMPTY),
    "model with a choice of names": (Choice, {"num": 1}, EMPTY),
    "model of a list": (Listing, [1], EMPTY),
    "model whose fields belong together": (Ordered, {"low": 1, "high": 2}, EMPTY),
    "models by a function": (Pet, {"kind": "cat"}, EMPTY),
    "named tuple with a default": (Seat, [3], EMPTY),
    "mapping by word": (Annotated[dict[Literal["a"], int], Field(max_length=5)], {"a": 1}, EMPTY),
    "list, as older pages have it": (Annotated[list[int], Field(max_length=5)], [1], EMPTY),
    "empty tuple": (tuple[()], [], EMPTY),
    "stripped": (Annotated[str, StringConstraints(strip_whitespace=True, max_length=9)], " a ", EMPTY),
}

RESULTS: dict[str, tuple[Any, Any]] = {
    "int": (int, 5),
    "float": (float, 1.5),
    "float, whole": (float, 2.0),
    "bool": (bool, True),
    "str": (str, "text"),
    "str, of two lines": (str, 'a "b"\n'),
    "none": (None, None),
    "optional": (int | None, None),
    "optional, there": (int | None, 3),
    "bytes": (bytes, b"text"),
    "list": (list[int], [1, 2]),
    "list, empty": (list[int], []),
    "list of models": (list[Place], [Place(name="hill"), Place(name="dale", height=1.5)]),
    "mapping": (dict[str, int], {"a": 1}),
    "mapping by number": (dict[int, str], {1: "a"}),
    "mapping by pair": (dict[tuple[int, int], int], {(1, 2): 1}),
    "mapping by word or none": (dict[str | None, int], {None: 1, "a": 2}),
    "mapping by numbers of a literal": (dict[Literal[1, 2], int], {1: 1}),
    "mapping of lists": (dict[str, list[int]], {"a": [1]}),
    "tuple": (tuple[int, str], (1, "a")),
    "tuple of one kind": (tuple[float, float], (1.5, 2.5)),
    "tuple of any length": (tuple[int, ...], (1, 2)),
    "set": (set[int], {1}),
    "set of models": (set[Stone], {Stone(weight=5)}),
    "iterable": (Iterable[int], [1, 2]),
    "sequence that changes": (MutableSequence[int], [1]),
    "words by number of each": (collections.Counter[str], collections.Counter("aab")),
    "mapping in order": (collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
    "mapping of content": (dict[str, TextContent], {"a": TextContent(type="text", text="hello")}),
    "described by Doc": (Annotated[str, Doc("What it is.")], "a"),
    "message of a prompt": (PromptMessage, PromptMessage(role="user", content=TextContent(type="text", text="a"))),
    "contents of a resource": (TextResourceContents, TextResourceContents(uri="a://b", text="a")),
    "icon": (Icon, Icon(src="https://example.com/a.png")),
    "decimal": (Decimal, Decimal("1.50")),
    "model": (Place, Place(name="hill")),
    "model in a model": (Inner, Inner(place=Place(name="hill"))),
    "model with an alias": (Aliased, Aliased(id=3)),
    "model, optional": (Place | None, Place(name="hill")),
    "union of models": (Place | Aliased, Aliased(id=4)),
    "typed dictionary": (Movie, {"title": "a"}),
    "typed dictionary, full": (Movie, {"title": "a", "year": 1}),
    "dataclass": (Point, Point(1.5, 2.5)),
    "list of dataclasses": (list[Point], [Point(1.5, 2.5)]),
    "enum": (Colour, Colour.RED),
    "literal": (Literal["a", "b"], "b"),
    "date": (date, date(2026, 1, 2)),
    "datetime with a zone": (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    "datetime with an offset": (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
    "datetime without a zone": (datetime, datetime(2026, 1, 2)),  # noqa: DTZ001 - what authors do
    "datetime that must have a zone": (AwareDatetime, datetime(2026, 1, 2, tzinfo=UTC)),
    "time": (time, time(3, 4)),
    "timedelta": (timedelta, timedelta(seconds=1.5)),
    "uuid": (uuid.UUID, uuid.UUID(int=1)),
    "address": (AnyUrl, AnyUrl("https://example.com/a?b=c")),
    "anything": (Any, {"a": [1, None]}),
    "described": (Annotated[int, Field(description="How many.")], 4),
    "mapping for a model": (Place, {"name": "hill"}),
    "mappings for models": (list[Place], [{"name": "hill"}]),
    "model in itself": (Node, Node(value=1, nodes=[Node(value=2)])),
    "model of a kind": (Box[int], Box[int](inside=1)),
    "models by kind": (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(kind="dog")),
    "model with a default that is made": (Made, Made()),
    "frozen set": (frozenset[int], frozenset({1})),
    "deque": (collections.deque[int], collections.deque([1])),
    "sequence": (Sequence[int], [1]),
    "path": (Path, Path("/a")),
    "address of a host": (ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
    "enum of numbers": (Number, Number.FIVE),
    "enum of values": (Size, Size.LARGE),
    "words that are joined": (Rights, Rights.READ | Rights.WRITE),
    "literal of an enum": (Literal[Size.SMALL], Size.SMALL),
    "literal of kinds": (Literal["a", 5], 5),
    "list of enums": (list[Size], [Size.LARGE]),
    "validated after": (Annotated[str, AfterValidator(str.upper)], "abc"),
    "validated after, in a list": (list[Annotated[str, AfterValidator(str.upper)]], ["abc"]),
    "validated before": (Annotated[int, BeforeValidator(len)], "abc"),
    "stripped": (Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)], " a "),
    "model that is parsed": (Parsed, Parsed(day="02.01.2026", word="hill", fields="number 5")),  # type: ignore[arg-type]
    "models that are parsed": (list[Parsed], [Parsed(day="02.01.2026", word="hill", fields="number 5")]),  # type: ignore[arg-type]
    "model with made names": (Camel, Camel(some_name=1)),
    "model whose fields belong together": (Ordered, Ordered(low=1, high=2)),
    "model with more fields": (Open, Open(name="a", other=5)),  # type: ignore[call-arg]
    "models by a function": (Pet, Cat(kind="cat")),
    "dataclass with slots": (Slotted, Slotted(name="a")),
    "mapping for a dataclass": (Point, {"x": 1.0, "y": 2.0}),
    "new type": (Number_, 5),
    "optional new type": (Number_ | None, None),
    "network": (ipaddress.IPv4Network, ipaddress.IPv4Network("10.0.0.0/8")),
    "pattern": (re.Pattern[str], re.compile("a+")),
    "complex": (complex, 1 + 2j),
    "bytes in a list": (list[bytes], [b"a"]),
    "tuple from a list": (tuple[int, str], [1, "a"]),
    "list from a set": (list[int], {1}),
    "written otherwise": (Annotated[int, WrapSerializer(lambda value, write: write(value))], 5),
}

UNSTRUCTURED_THERE = {
    *("enum", "date", "datetime with a zone", "datetime with an offset", "datetime without a zone"),
    *("datetime that must have a zone", "time", "timedelta", "uuid", "address", "anything"),
    *("path", "address of a host", "enum of numbers", "decimal", "enum of values", "words that are joined"),
    *("network", "complex", "dataclass with slots"),
}

TEXT = TextContent(type="text", text="hello")
PICTURE = ImageContent(type="image", data=PIXEL, mime_type="image/png")
SOUND = AudioContent(type="audio", data=PIXEL, mime_type="audio/wav")
LINK = ResourceLink(type="resource_link", uri="https://example.com/a", name="a", mime_type="text/plain")
PAGE = EmbeddedResource(
    type="resource", resource=TextResourceContents(uri="file:///a.txt", text="a", mime_type="text/plain")
)
FILE = EmbeddedResource(type="resource", resource=BlobResourceContents(uri="file:///a.png", blob=PIXEL))
FOR_PERSON = TextContent(type="text", text="hello", annotations=Annotations(audience=["user"], priority=0.5))
ANSWER = CallToolResult(content=[TEXT], structured_content={"name": "hill", "height": 1.5})
FAILED = CallToolResult(content=[TEXT], is_error=True)

CONTENT: dict[str, tuple[Any, Any]] = {
    "text": (TextContent, TEXT),
    "text, annotated": (TextContent, FOR_PERSON),
    "image": (ImageContent, PICTURE),
    "audio": (AudioContent, SOUND),
    "link": (ResourceLink, LINK),
    "embedded text": (EmbeddedResource, PAGE),
    "embedded file": (EmbeddedResource, FILE),
    "list of text": (list[TextContent], [TEXT, FOR_PERSON]),
    "list of text and images": (list[TextContent | ImageContent], [TEXT, PICTURE]),
    "list of all": (list[TextContent | ImageContent | AudioContent | ResourceLink], [TEXT, PICTURE, SOUND, LINK]),
    "list, empty": (list[ImageContent], []),
    "tuple": (tuple[TextContent, ImageContent], (TEXT, PICTURE)),
    "text or image": (TextContent | ImageContent, PICTURE),
    "optional image": (ImageContent | None, None),
    "optional image, there": (ImageContent | None, PICTURE),
    "words or image": (str | ImageContent, "hello"),
    "list of words and images": (list[str | ImageContent], ["hello", PICTURE]),
    "list of helper and words": (list[str | Image], ["hello", Image(data=b"a", format="png")]),
    "image helper": (Image, Image(data=b"\x89PNG", format="png")),
    "audio helper": (Audio, Audio(data=b"RIFF", format="wav")),
    "list of image helpers": (list[Image], [Image(data=b"a", format="jpeg"), Image(data=b"b", format="gif")]),
    "whole result": (CallToolResult, CallToolResult(content=[TEXT, PICTURE])),
    "whole result, structured": (CallToolResult, ANSWER),
    "whole result, empty": (CallToolResult, CallToolResult(content=[])),
    "whole result, failed": (CallToolResult, FAILED),
    "whole result, with meta": (CallToolResult, CallToolResult(content=[TEXT], _meta={"example.com/a": 1})),
    "whole result with a model": (Annotated[CallToolResult, Place], ANSWER),
    "whole result with a model, failed": (Annotated[CallToolResult, Place], FAILED),
}

# What the SDK lists as it is read, so that its own client refuses most of these.
WRITTEN: dict[str, tuple[Any, Any, Any]] = {
    "other types": (Priced, Priced(amount=5), {"amount": "5 EUR", "parts": "1+2", "twice": 10}),
    "another type": (Annotated[int, PlainSerializer(str, return_type=str)], 5, {"result": "5"}),
    "a hidden field": (Hidden, Hidden(name="a"), {"name": "a"}),
    "a model of a list": (Listing, Listing([1]), {"result": [1]}),
    "another name": (Renamed, Renamed(number=5), {"id": 5}),
    "a mapping by number of an enum": (dict[Number, int], {Number.FIVE: 1}, {"5": 1}),
    "a mapping by named pair": (dict[Seat, int], {Seat(1): 1}, {"1,1": 1}),
    "models in a mapping": (
        dict[str, Priced],
        {"a": Priced(amount=5)},
        {"a": {"amount": "5 EUR", "parts": "1+2", "twice": 10}},
    ),
}

REFUSED: dict[str, tuple[Any, Any, Any, str]] = {
    "words that are joined": (Rights, EMPTY, int, "take a list of words for a Flag, whose members can be joined"),
    "a module that a caller names": (
        Annotated[ImportString[Any], Field(max_length=99)],
        EMPTY,
        int,
        "take a Literal of names for an ImportString, which loads any module",
    ),
    "a module in a mapping": (dict[str, ImportString[Any]], EMPTY, int, "take a Literal of names for an ImportString"),
    "a length of what has none": (
        Annotated[Path, Field(max_length=9)],
        EMPTY,
        int,
        "the type has no length; take Annotated[str, Field(max_length=100)]",
    ),
    "an iterable": (Annotated[Iterable[int], Field(max_length=5)], EMPTY, int, "take a list for an Iterable"),
    "a generator, given": (Annotated[Generator[int, None, None], Field(max_length=5)], EMPTY, int, "take a list for"),
    "an iterable in a model": (Lazy, EMPTY, int, "take a list for an Iterable or a Generator, which is not checked"),
    "an iterable or nothing": (Iterable[int] | None, None, int, "take a list for an Iterable or a Generator"),
    "an iterable or a number": (Iterable[int] | int, EMPTY, int, "take a list for an Iterable or a Generator"),
    "an iterator": (int, EMPTY, Iterator[int], "say what it returns when it is done, e.g. list[int]"),
    "an iterator or nothing": (int, EMPTY, Iterator[int] | None, "say what it returns when it is done"),
    "an iterator of no type": (int, EMPTY, Iterator, "say what it returns when it is done"),
    "an asynchronous iterator": (int, EMPTY, AsyncIterator[int], "say what it returns when it is done"),
    "an asynchronous iterable": (int, EMPTY, AsyncIterable[int], "say what it returns when it is done"),
    "an asynchronous generator": (int, EMPTY, AsyncGenerator[int, None], "say what it returns when it is done"),
    "what is awaited": (int, EMPTY, Awaitable[int], "say what it returns when it is done"),
    "a coroutine": (int, EMPTY, Coroutine[Any, Any, int], "say what it returns when it is done"),
    "Self": (Self, EMPTY, int, "name the type of a parameter in place of Self"),
    "a result of Self": (int, EMPTY, Self, "a type has no JSON Schema: `typing.Self` is invalid"),
    "a uuid of one version": (UUID4, EMPTY, int, "for a type without a length, Annotated[str, Field(max_length=100)]"),
    "the SDK's image": (Image, EMPTY, int, "a type has no JSON Schema"),
    "the SDK's Context": (SdkContext, EMPTY, int, "take hardening's Context in place of the SDK's"),
    "the SDK's Context[…]": (SdkContext[Any, Any], EMPTY, int, "take hardening's Context in place of the SDK's"),
    "the SDK's Context, optional": (SdkContext | None, None, int, "take hardening's Context in place of the SDK's"),
    "a default that is no JSON": (Any, object(), int, "the default of value is none that its type allows"),
    "a default without an end": (float, math.inf, int, "the default of value is none that its type allows"),
    "a default that is no number": (float, math.nan, int, "the default of value is none that its type allows"),
    "a default out of bounds": (Annotated[int, Field(ge=5)], 0, int, "the default of value is none"),
    "a default of another type": (int, "5", int, "the default of value is none that its type allows"),
    "None for an int": (int, None, int, "the default of value is none that its type allows"),
    "a default that is too long": (Annotated[str, Field(max_length=2)], "long", int, "the default of value is none"),
    "a default that is no choice": (Literal["a", "b"], "c", int, "the default of value is none that its type allows"),
    "a default in Field": (Annotated[int, Field(default=5)], EMPTY, int, "write the default of value after ="),
    "a factory in Field": (
        Annotated[int, Field(default_factory=int)],
        EMPTY,
        int,
        "write the default of value after =",
    ),
    "Field as the default": (int, Field(ge=1), int, "write value: Annotated[…, Field(…)]"),
    "a group of Python's": (
        Annotated[str, Field(pattern=r"^(?P<x>[A-Z]{2})-\d+$", max_length=9)],
        EMPTY,
        int,
        "it has no '(?P<'",
    ),
    "anchors of Python's": (Annotated[str, Field(pattern=r"\A[a-z]+\z", max_length=9)], EMPTY, int, "it has no "),
    "flags in a pattern": (Annotated[str, Field(pattern=r"(?i)yes", max_length=9)], EMPTY, int, "it has no '(?i)'"),
    "a needless escape": (Annotated[str, Field(pattern=r"a\_b", max_length=9)], EMPTY, int, "it has no "),
    "a class of POSIX": (Annotated[str, Field(pattern=r"^[[:alpha:]]+$", max_length=9)], EMPTY, int, "it has no "),
    "a pattern in a model": (
        Annotated[list[Annotated[str, Field(pattern=r"(?i)a", max_length=2)]], Field(max_length=2)],
        EMPTY,
        int,
        "it has no '(?i)'",
    ),
    "a pattern in a result": (
        int,
        EMPTY,
        Annotated[str, Field(pattern=r"(?P<x>a)")],
        "result.result: write the pattern",
    ),
    "text without a bound": (str, EMPTY, int, "bound the text"),
    "a list without a bound": (list[int], EMPTY, int, "bound the list"),
    "a mapping without a bound": (dict[str, int], EMPTY, int, "bound the mapping"),
    "bytes": (bytes, EMPTY, int, "bound the text"),
    "a bound that the schema does not show": (
        Annotated[collections.defaultdict[str, int], Field(max_length=5)],
        EMPTY,
        int,
        "bound the mapping, e.g. Annotated[dict[…], Field(max_length=100)]",
    ),
    "a bound around a union": (
        Annotated[int | str, Field(max_length=5)],
        EMPTY,
        int,
        "bound the text, e.g. Annotated[str, Field(max_length=100)]",
    ),
    "bytes that change": (int, EMPTY, bytearray, "take a model, a dataclass or a plain type"),
    "a type that is not there": ("datetime.nothing", EMPTY, int, "a type cannot be read, mend it: "),
    "a set": (Annotated[set[int], Field(max_length=3)], EMPTY, int, "take a list"),
    "a mapping by pair": (
        Annotated[dict[tuple[int, int], int], Field(max_length=5)],
        EMPTY,
        int,
        "take text for the keys",
    ),
    "a mapping by model": (Annotated[dict[Stone, int], Field(max_length=5)], EMPTY, int, "take text for the keys"),
    "a mapping by numbers of a literal": (
        Annotated[dict[Literal[1], int], Field(max_length=5)],
        EMPTY,
        int,
        "take text for the keys of a mapping, e.g. dict[str, int]",
    ),
    "left out without a default": (
        NotRequired[int],
        EMPTY,
        int,
        "give value a default after =, in place of NotRequired",
    ),
    "anything": (Any, EMPTY, int, "give it a type"),
    "a type without a schema": (object, EMPTY, int, "give it a type"),
    "a function": (type(len), EMPTY, int, "a type has no JSON Schema"),
    "a whole result or nothing": (int, EMPTY, CallToolResult | None, "return CallToolResult alone"),
    "a whole result or a model": (int, EMPTY, CallToolResult | Place, "return CallToolResult alone"),
    "a whole result or text": (int, EMPTY, CallToolResult | str, "return CallToolResult alone"),
    "a result without a schema": (int, EMPTY, type(len), "a type has no JSON Schema"),
    "two contexts": ("two contexts", EMPTY, int, "take one Context"),
    "no type of the result": (int, EMPTY, EMPTY, "say what it returns"),
    "no type of the parameter": (EMPTY, EMPTY, int, "give every parameter a type"),
    "a name of 65 letters": ("x" * 65, EMPTY, int, "at most 64"),
    "an argument of 65 letters": ("argument", EMPTY, int, "name the argument"),
    "no docstring": ("no docstring", EMPTY, int, "write a docstring of 20"),
    "no coroutine": ("no coroutine", EMPTY, int, "write it as `async def`"),
}


HELPER = Image(data=b"a", format="png")
MIXED = ["hello", HELPER, Audio(data=b"a", format="wav"), {"a": 1}, PICTURE]
WHOLE = CallToolResult(content=[TEXT, PICTURE])
LISTED = CallToolResult(content=[TEXT], structured_content={"result": [1]})


class Whole(CallToolResult):
    """A kind of its own."""


# The annotation, the value, and whether the SDK has no structured content or another one.
UNTOLD: dict[str, tuple[Any, Any, bool]] = {
    "anything, an image": (Any, PICTURE, True),
    "anything, text": (Any, TEXT, True),
    "anything, a link": (Any, LINK, True),
    "anything, a file": (Any, FILE, True),
    "anything, a helper": (Any, HELPER, True),
    "anything, a list": (Any, MIXED, True),
    "anything, a tuple": (Any, ("hello", PICTURE), True),
    "anything, lists": (Any, [["hello"], [PICTURE]], True),
    "anything, whole": (Any, WHOLE, True),
    "anything, whole, structured": (Any, ANSWER, True),
    "anything, whole, with a result": (Any, LISTED, False),
    "anything, failed": (Any, FAILED, False),
    "an object, a helper": (object, HELPER, True),
    "an object, whole": (object, WHOLE, True),
    "a list": (list, MIXED, True),
    "a list, whole": (list, WHOLE, True),
    "a list of anything": (list[Any], ["hello", PICTURE], False),
    "a list of anything, whole": (list[Any], LISTED, False),
    "a list of objects": (list[object], [PICTURE], False),
    "a tuple": (tuple, (TEXT, HELPER), True),
    "a sequence": (Sequence, [PICTURE, HELPER], True),
    "a sequence of anything": (Sequence[Any], [PICTURE], False),
    "an iterable of images": (Iterable[ImageContent], [PICTURE], False),
    "a mapping, failed": (dict[str, Any], FAILED, False),
    "a mapping, whole": (dict[str, Any], ANSWER, False),
    "anything or nothing": (Optional[Any], PICTURE, False),  # noqa: UP045 - `Any | None` is the same
    "anything or text": (Union[Any, str], [PICTURE], False),  # noqa: UP007
    "text, failed": (str, FAILED, False),
    "text, whole": (str, CallToolResult(content=[TEXT], structured_content={"result": "a"}), False),
    "a model, whole": (Place, ANSWER, False),
    "a model, whole, in part": (Place, CallToolResult(content=[], structured_content={"name": "hill"}), False),
    "a model, failed": (Place, FAILED, False),
    "an image, whole": (ImageContent, WHOLE, False),
    "an image, failed": (ImageContent, FAILED, False),
    "images, structured": (list[ImageContent], ANSWER, False),
    "nothing, failed": (None, FAILED, False),
    "whole, text": (CallToolResult, "hello", False),
    "whole, data": (CallToolResult, {"a": 1}, False),
    "whole, an image": (CallToolResult, HELPER, False),
    "whole, nothing": (CallToolResult, None, False),
    "whole, of a kind": (Whole, Whole(content=[TEXT]), False),
    "whole, of a kind, with a model": (Annotated[Whole, Place], ANSWER, False),
    "a model beside whole, bare": (Annotated[CallToolResult, Place], Place(name="hill"), False),
    "a model, whole, of a kind": (Place, Whole(content=[], structured_content={"name": "hill"}), False),
}


def taking(hint: Any, default: Any = EMPTY) -> Any:
    """Return a tool that says what it was given."""

    async def taker(value: Any) -> str:
        """Say what the function was given, by type and value."""
        return f"{type(value).__name__} {value!r}"

    taker.__annotations__ = {"value": hint, "return": str} if hint is not EMPTY else {"return": str}
    if default is not EMPTY:
        taker.__defaults__ = (default,)
    return taker


def returning(hint: Any, value: Any) -> Any:
    """Return a tool with this result."""
    return making(hint, lambda: value)


def making(hint: Any, make: Callable[[], Any]) -> Any:
    """Return a tool that makes its result in each call."""

    async def giver() -> Any:
        """Return what the row of the table says."""
        return make()

    giver.__annotations__ = {"return": hint}
    return giver


def ours(function: Any) -> Any:
    """Return a hardened server with one tool."""
    settings: HardeningSettings = settings_from(ENVIRONMENT)
    return harden(settings, tools=[tool(read_only=True)(function)])


def bare(function: Any) -> MCPServer[Any]:
    """Return a server of the SDK with one tool."""
    server: MCPServer[Any] = MCPServer("bare")
    server.add_tool(function)
    return server


async def asked(server: Any, name: str, arguments: dict[str, Any], mode: Any = "auto") -> tuple[Any, CallToolResult]:
    """Return what a client is shown of the tool, and the answer to one call."""
    async with Client(server, mode=mode) as client:
        (listed,) = (await client.list_tools()).tools
        return listed, await client.call_tool(name, arguments)


def plain(schema: Any) -> Any:
    """Take out of a schema what differs on purpose."""
    if isinstance(schema, dict):
        kept = {key: plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
        return {key: value for key, value in kept.items() if (key, value) != ("additionalProperties", False)}
    return [plain(one) for one in schema] if isinstance(schema, list) else schema


def same(schema: Any, *, result: bool = False) -> Any:
    """Return a schema of the SDK in the form that clients take."""
    return None if schema is None else portable(json.loads(json.dumps(plain(schema))), result=result)


def undescribed(schema: Any) -> Any:
    """Return a schema without the docstring of a dataclass."""
    return {key: value for key, value in plain(schema).items() if value != Point.__doc__}


@pytest.mark.parametrize("row", ARGUMENTS)
async def test_an_argument_is_read_as_in_the_sdk(row: str) -> None:
    """The same schema, and the function gets the same value."""
    hint, value, default = ARGUMENTS[row]
    arguments = {} if value is EMPTY else {"value": value}
    listed, answer = await asked(ours(taking(hint, default)), "taker", arguments)
    theirs, expected = await asked(bare(taking(hint, default)), "taker", arguments)

    assert not answer.is_error, answer.content
    assert answer.structured_content == expected.structured_content
    assert answer.content == expected.content
    assert plain(listed.input_schema).get("properties") == same(theirs.input_schema).get("properties")
    assert listed.input_schema.get("required") == theirs.input_schema.get("required")


@pytest.mark.parametrize("row", RESULTS)
async def test_a_result_is_the_one_of_the_sdk(row: str) -> None:
    """The same schema and the same structured content; the text says the same."""
    hint, value = RESULTS[row]
    listed, answer = await asked(ours(returning(hint, value)), "giver", {})
    theirs, expected = await asked(bare(returning(hint, value)), "giver", {})

    assert not answer.is_error, answer.content
    content = answer.structured_content or {}
    shown = content["result"] if content.keys() == {"result"} else content
    if row in UNSTRUCTURED_THERE:
        assert not (theirs.output_schema or {}).get("properties")
        text = expected.content[0].text  # type: ignore[union-attr]
        assert (text if isinstance(value, str) else json.loads(text)) == shown
    elif row.startswith("mapping by ") or row in {"mapping in order", "words by number of each"}:
        assert expected.structured_content == {"result": content}
    else:
        assert content == expected.structured_content
        assert undescribed(listed.output_schema) == undescribed(same(theirs.output_schema, result=True))
    (block,) = answer.content
    assert isinstance(block, TextContent)
    assert block.text == (shown if isinstance(shown, str) else json.dumps(shown, separators=(",", ":")))


@pytest.mark.parametrize("row", WRITTEN)
async def test_a_result_is_described_as_it_is_written(row: str) -> None:
    """Names and types of what leaves, with the author's serializers, and computed fields."""
    hint, value, expected = WRITTEN[row]
    listed, answer = await asked(ours(returning(hint, value)), "giver", {})

    assert answer.structured_content == expected
    Draft202012Validator(listed.output_schema).validate(answer.structured_content)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Untold, Untold(amount=5)),
        (Parsed, Parsed.model_construct(type=Size.SMALL, day=date(2026, 1, 2), word="long", fields=5)),
        (Parsed, Parsed.model_construct(type=Size.SMALL, day=date(2026, 1, 2), word="a", fields="5")),
        (list[Listing], [Listing.model_construct([1, 2, 3, 4])]),
        (Annotated[str, AfterValidator(str.upper)], 5),
    ],
    ids=["an untold type", "too long", "another type", "too many", "another type of all"],
)
async def test_a_result_that_breaks_its_schema_does_not_leave(hint: Any, value: Any) -> None:
    """Whatever the author's validators would have made of it."""
    _, answer = await asked(ours(returning(hint, value)), "giver", {})

    assert answer.is_error
    assert (answer.meta or {})["hardening/error"]["kind"] == "internal"


@pytest.mark.parametrize("row", CONTENT)
async def test_content_is_the_one_of_the_sdk(row: str) -> None:
    """Block by block, with no schema but the one that is asked for."""
    hint, value = CONTENT[row]
    listed, answer = await asked(ours(returning(hint, value)), "giver", {})
    theirs, expected = await asked(bare(returning(hint, value)), "giver", {})

    assert answer.content == expected.content
    assert answer.structured_content == expected.structured_content
    assert (answer.is_error, answer.meta and answer.meta.get("example.com/a")) == (
        expected.is_error,
        expected.meta and expected.meta.get("example.com/a"),
    )
    assert plain(listed.output_schema) == same(theirs.output_schema, result=True)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("row", UNTOLD)
async def test_content_that_no_annotation_names_is_the_one_of_the_sdk(row: str, mode: str) -> None:
    """The same blocks, with structured content that satisfies the schema wherever one is listed."""
    hint, value, differs = UNTOLD[row]
    listed, answer = await asked(ours(returning(hint, value)), "giver", {}, mode)
    _, expected = await asked(bare(returning(hint, value)), "giver", {}, mode)

    assert answer.is_error == expected.is_error
    assert [block for block in answer.content if not _is_json(block)] == [
        block for block in expected.content if not _is_json(block)
    ]
    assert len(answer.content) == len(expected.content)
    if not differs:
        assert answer.structured_content == expected.structured_content
    if listed.output_schema and not answer.is_error:
        Draft202012Validator(listed.output_schema).validate(answer.structured_content)


def _is_json(block: Any) -> bool:
    """Return whether it is data, which the SDK indents."""
    return isinstance(block, TextContent) and block.text.startswith("{")


class Written(BaseModel):
    """A model whose names and types differ in the two directions."""

    number: int = Field(serialization_alias="id")
    price: Decimal = Decimal("1.50")


BY_HAND: dict[str, tuple[Any, Any, Any]] = {
    "a number in a text": (Place, {"name": "hill", "height": "1.5"}, {"name": "hill", "height": 1.5}),
    "another name": (Written, {"number": 1}, {"id": 1, "price": "1.50"}),
    "a list of them": (list[Written], {"result": [{"number": 1}]}, {"result": [{"id": 1, "price": "1.50"}]}),
    "another type": (int, {"result": "5"}, {"result": 5}),
    "a number that JSON Schema calls whole": (int, {"result": 5.0}, {"result": 5}),
}


@pytest.mark.parametrize("row", BY_HAND)
async def test_structured_content_that_is_built_by_hand_satisfies_its_schema(row: str) -> None:
    """What the SDK takes and its own client then refuses is written anew."""
    hint, given, expected = BY_HAND[row]
    for annotation in (hint, Annotated[CallToolResult, hint]):
        listed, answer = await asked(
            ours(returning(annotation, CallToolResult(content=[], structured_content=given))), "giver", {}
        )

        assert answer.structured_content == expected
        Draft202012Validator(listed.output_schema).validate(answer.structured_content)


@pytest.mark.parametrize(
    ("hint", "given"),
    [(str, None), (Place, None), (Place, {"height": 1.5}), (int, {"result": "many"}), (list[int], {"a": 1})],
    ids=["no text", "no model", "part of a model", "another type", "another form"],
)
async def test_structured_content_that_does_not_fit_stays_here(hint: Any, given: Any) -> None:
    """As in the SDK it is a fault of the tool."""
    built = CallToolResult(content=[TEXT], structured_content=given)
    for annotation in (hint, Annotated[CallToolResult, hint]):
        _, answer = await asked(ours(returning(annotation, built)), "giver", {})
        _, expected = await asked(bare(returning(annotation, built)), "giver", {})

        assert answer.is_error
        assert expected.is_error


def refused(row: str) -> Any:
    """Return the function of a row that is refused."""
    hint, default, returned, _ = REFUSED[row]

    async def taker(value: Any, other: Any) -> Any:
        """Take what the row of the table says."""

    async def one(value: Any) -> Any:
        """Take what the row of the table says."""

    def blocking(value: int) -> int:
        """Take what the row of the table says."""
        return value

    if row == "two contexts":
        taker.__annotations__ = {"value": Context, "other": Context | None, "return": int}
        return taker
    if row == "no coroutine":
        return blocking
    named = int if isinstance(hint, str) and row != "a type that is not there" else hint
    one.__annotations__ = {"value": named, "return": returned}
    one.__annotations__ = {name: kind for name, kind in one.__annotations__.items() if kind is not EMPTY}
    if row == "no docstring":
        one.__doc__ = "Short."
    if row == "a name of 65 letters":
        one.__name__ = hint
    if row == "an argument of 65 letters":
        one.__annotations__["value"] = int
        code = one.__code__
        one.__code__ = code.replace(co_varnames=("y" * 65,))
        one.__annotations__ = {"y" * 65: int, "return": int}
    if default is not EMPTY:
        one.__defaults__ = (default,)
    return one


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_be_served_is_refused_with_a_sentence(row: str) -> None:
    """At the declaration, by the name of the tool, with what to write instead."""
    with pytest.raises(InvalidDeclarationError) as problem:
        ours(refused(row))

    assert REFUSED[row][3] in str(problem.value)


class Callables:
    """What may stand in place of a plain function."""

    async def method(self, value: int) -> int:
        """Return what the function was given."""
        return value

    @classmethod
    async def of_class(cls, value: int) -> int:
        """Return what the function was given."""
        return value

    @staticmethod
    async def static(value: int) -> int:
        """Return what the function was given."""
        return value

    async def __call__(self, value: int) -> int:
        """Return what the function was given."""
        return value


async def plain_function(value: int) -> int:
    """Return what the function was given."""
    return value


@functools.wraps(plain_function)
async def wrapped(*given: Any, **named: Any) -> Any:
    """Stand in front of it."""
    return await plain_function(*given, **named)


async def by_name(*, value: int) -> int:
    """Return what the function was given."""
    return value


@pytest.mark.parametrize(
    "function",
    [Callables().method, Callables.of_class, Callables.static, wrapped, by_name],
    ids=["method", "method of a class", "static method", "wrapped", "by name only"],
)
async def test_a_function_of_any_kind_is_called_as_in_the_sdk(function: Any) -> None:
    """Under its own name, with its own arguments."""
    listed, answer = await asked(ours(function), function.__name__, {"value": 5})
    theirs, expected = await asked(bare(function), function.__name__, {"value": 5})

    assert answer.structured_content == expected.structured_content == {"result": 5}
    assert (listed.name, listed.description) == (theirs.name, theirs.description)
    assert plain(listed.input_schema) == plain(theirs.input_schema)


async def yields(value: int) -> Any:
    """Return what the function was given."""
    yield value


def yields_at_once(value: int) -> Any:
    """Return what the function was given."""
    yield value


async def gathers(*value: int) -> int:
    """Return what the function was given."""
    return value[0]


async def by_place(value: int, /) -> int:
    """Return what the function was given."""
    return value


async def hidden(_value: int) -> int:
    """Return what the function was given."""
    return _value


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (functools.partial(plain_function, value=5), "put @tool(read_only=…) above a function or a method"),
        (len, "add @tool(read_only=…) above the function"),
        (Callables(), "put @tool(read_only=…) above a function or a method"),
        (yields, "return the whole result in place of yield; ctx.report_progress says how far it is"),
        (yields_at_once, "return the whole result in place of yield"),
        (gathers, "value must be a parameter that can be given by name"),
        (by_place, "value must be a parameter that can be given by name"),
        (hidden, "_value must be a parameter that can be given by name"),
    ],
    ids=[
        "part of a function",
        "of Python's",
        "an object",
        "a generator",
        "a generator that blocks",
        "any number",
        "by place",
        "hidden",
    ],
)
def test_what_is_no_function_is_refused_with_a_sentence(function: Any, sentence: str) -> None:
    """At the declaration, not with a traceback."""
    with pytest.raises(InvalidDeclarationError) as problem:
        ours(function)

    assert sentence in str(problem.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Tools that cannot be read and tools that break a rule stand in one list."""
    functions = [
        tool(read_only=True)(refused(row)) for row in ("the SDK's Context", "no docstring", "text without a bound")
    ]
    for number, function in enumerate(functions):
        function.__name__ = f"number_{number}"
    settings: HardeningSettings = settings_from(ENVIRONMENT)

    with pytest.raises(InvalidDeclarationError) as problem:
        harden(settings, tools=functions)

    assert [line.partition(":")[0] for line in problem.value.problems] == ["number_0", "number_1", "number_2"]


async def raising(error: Exception) -> tuple[CallToolResult, CallToolResult]:
    """Return how both servers tell a failure."""

    async def failing() -> int:
        """Fail as the row of the table says."""
        raise error

    return (await asked(ours(failing), "failing", {}))[1], (await asked(bare(failing), "failing", {}))[1]


async def test_the_sdks_failure_is_told_as_in_the_sdk() -> None:
    """`ToolError` carries the author's sentence to the model, and a crash carries nothing."""
    told, expected = await raising(ToolError("The moon is down."))
    crashed, their_crash = await raising(KeyError("secret"))

    assert told.is_error
    assert expected.is_error
    assert "The moon is down." in told.content[0].text  # type: ignore[union-attr]
    assert told.meta is not None
    assert told.meta["hardening/error"]["kind"] == "tool_error"
    assert crashed.is_error
    assert their_crash.is_error
    assert "secret" not in str(crashed.content)


async def test_a_protocol_error_is_one_in_both() -> None:
    """`MCPError` of the author's goes out as it is."""
    for server in (ours, bare):

        async def failing() -> int:
            """Fail with an error of the protocol."""
            raise MCPError(-32050, "Not today")

        async with Client(server(failing)) as client:
            with pytest.raises(MCPError) as problem:
                await client.call_tool("failing", {})
        assert (problem.value.error.code, problem.value.error.message) == (-32050, "Not today")


@pytest.mark.parametrize(
    "block",
    [
        ImageContent(type="image", data="no base64!", mime_type="image/png"),
        AudioContent(type="audio", data="a", mime_type="audio/wav"),
        EmbeddedResource(type="resource", resource=BlobResourceContents(uri="file:///a", blob="é")),
    ],
    ids=["image", "audio", "file"],
)
async def test_a_block_that_clients_refuse_does_not_leave(block: Any) -> None:
    """Clients in TypeScript drop the whole result over it; here it is a fault of the tool, with a reference."""
    _, answer = await asked(ours(returning(type(block), block)), "giver", {})

    assert answer.is_error
    assert answer.meta is not None
    assert answer.meta["hardening/error"]["kind"] == "internal"


class Creature(BaseModel):
    """A model that another one begins with."""

    name: Short


class Kitten(Creature):
    """What nobody has declared stays here."""

    secret: int = 5


async def test_what_is_declared_of_a_model_leaves_and_nothing_else() -> None:
    """A model with more fields than the declared one: what it adds is in no schema, and stays here."""
    _, answer = await asked(ours(returning(Creature, Kitten(name="a"))), "giver", {})
    _, several = await asked(ours(returning(list[Creature], [Kitten(name="a")])), "giver", {})

    assert answer.structured_content == {"name": "a"}
    assert several.structured_content == {"result": [{"name": "a"}]}


PIECES: dict[str, tuple[Any, Callable[[], Any], Any]] = {
    "a generator": (list[int], lambda: (one for one in (1, 2)), [1, 2]),
    "a generator, as it is": (Generator[int, None, None], lambda: (one for one in (1, 2)), [1, 2]),
    "a generator, iterable": (Iterable[int], lambda: (one for one in (1, 2)), [1, 2]),
    "a generator, optional": (list[int] | None, lambda: iter([1]), [1]),
    "a generator of models": (list[Place], lambda: (Place(name=name) for name in ("a",)), [{"name": "a", "height": 0}]),
    "map": (list[int], lambda: map(int, "12"), [1, 2]),
    "zip": (list[tuple[int, str]], lambda: zip([1], ["a"], strict=True), [[1, "a"]]),
    "filter": (tuple[int, ...], lambda: filter(None, [0, 1]), [1]),
    "range": (list[int], lambda: range(3), [0, 1, 2]),
    "keys": (list[str], {"a": 1}.keys, ["a"]),
    "values": (list[int], {"a": 1}.values, [1]),
    "items": (list[tuple[str, int]], {"a": 1}.items, [["a", 1]]),
}


@pytest.mark.parametrize("row", PIECES)
async def test_what_is_made_piece_by_piece_leaves_whole(row: str) -> None:
    """An iterator is read once, to its end; in the SDK the structured content of most is empty."""
    hint, make, expected = PIECES[row]
    _, answer = await asked(ours(making(hint, make)), "giver", {})

    assert not answer.is_error, answer.content
    assert answer.structured_content == {"result": expected}


@pytest.mark.parametrize("blocks", [[TEXT, PICTURE]], ids=["text and image"])
async def test_content_that_is_made_piece_by_piece_is_content(blocks: list[Any]) -> None:
    """Each block is one, where the SDK writes all of them as text."""
    _, answer = await asked(ours(returning(list[TextContent | ImageContent], iter(blocks))), "giver", {})

    assert answer.content == blocks


class Numbers(BaseModel):
    """A model that checks nothing when it is filled by hand."""

    numbers: list[int]


@dataclass
class Several:
    """A dataclass, which checks nothing."""

    numbers: list[int]


def built(**content: Any) -> CallToolResult:
    """Return a result that is built by hand."""
    return CallToolResult(content=[], structured_content=content)


BROKEN: dict[str, tuple[Any, Callable[[], Any], str]] = {
    "of another type": (list[int], lambda: iter(["a"]), "internal"),
    "without an end": (list[int], itertools.count, "invalid_input"),
    "the same without an end": (set[int], lambda: itertools.repeat(1), "invalid_input"),
    "inside of a mapping": (dict[str, list[int]], lambda: {"a": iter([1])}, "internal"),
    "inside of a list": (list[list[int]], lambda: [map(int, "1")], "internal"),
    "inside of a model": (Numbers, lambda: Numbers.model_construct(numbers=iter([1])), "internal"),
    "inside of a dataclass": (list[Several], lambda: [Several(cast("Any", iter([1])))], "internal"),
    "inside of what the tool builds": (CallToolResult, lambda: built(numbers=iter([1])), "internal"),
    "inside of what is described": (Annotated[CallToolResult, Numbers], lambda: built(numbers=iter([1])), "internal"),
}


@pytest.mark.parametrize("row", BROKEN)
async def test_what_is_made_piece_by_piece_is_never_lost_without_a_word(row: str) -> None:
    """It fits, or the call fails; one without an end is too large."""
    hint, make, kind = BROKEN[row]
    _, answer = await asked(ours(making(hint, make)), "giver", {})

    assert answer.is_error
    assert (answer.meta or {})["hardening/error"]["kind"] == kind


SAID: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a name": ({"read_only": True, "name": "other"}, ["@tool(name=…): the name of the function is the tool's"]),
    "a description": (
        {"read_only": True, "description": "What it does."},
        ["@tool(description=…): the docstring of the function is the tool's description"],
    ),
    "annotations": ({"read_only": True, "annotations": {}}, ["@tool(annotations=…): say read_only, destructive,"]),
    "structured output": (
        {"read_only": True, "structured_output": False},
        ["@tool(structured_output=…): the type of the result says it"],
    ),
    "meta": ({"read_only": True, "meta": {}}, ["@tool(meta=…): only a tool of an extension has meta"]),
    "icons": ({"read_only": True, "icons": []}, ["@tool(icons=…): there is no such word"]),
    "nothing": ({}, ["say whether it changes anything, @tool(read_only=…)"]),
    "two at once": (
        {"name": "other", "meta": {}},
        ["@tool(meta=…): only", "@tool(name=…): the name", "say whether it changes anything"],
    ),
}


@pytest.mark.parametrize("row", SAID)
def test_what_the_sdks_decorator_takes_is_refused_with_its_place_here(row: str) -> None:
    """Where tools are read, with all else that is wrong; the module of the tool can be imported."""
    said, sentences = SAID[row]
    declare: Any = tool

    with pytest.raises(InvalidDeclarationError) as problem:
        harden(settings_from(ENVIRONMENT), tools=[declare(**said)(returning(int, 5))])

    assert len(problem.value.problems) == len(sentences)
    for line, sentence in zip(problem.value.problems, sentences, strict=True):
        assert line.startswith(f"giver: {sentence}")


def test_a_name_without_its_word_is_refused_too() -> None:
    """`@tool("other")`, as the SDK's decorator takes it."""
    declare: Any = tool

    with pytest.raises(InvalidDeclarationError, match=re.escape("giver: @tool(name=…): the name of the function")):
        harden(settings_from(ENVIRONMENT), tools=[declare("other", read_only=True)(returning(int, 5))])


def test_a_decorator_without_brackets_declares_nothing() -> None:
    """It is refused where tools are read, by name."""
    declare: Any = tool

    with pytest.raises(InvalidDeclarationError, match=re.escape("giver: add @tool(read_only=…) above the function")):
        harden(settings_from(ENVIRONMENT), tools=[declare(returning(int, 5))])


def test_the_corpus_is_large_enough() -> None:
    """At least 150 rows."""
    assert len(ARGUMENTS) + len(RESULTS) + len(CONTENT) + len(REFUSED) >= 150


def numbered(rows: list[Any]) -> list[Any]:
    """Return functions under names of their own."""
    for number, function in enumerate(rows):
        function.__name__ = f"row_{number}"
    return [tool(read_only=True)(function) for function in rows]


def corpus() -> tuple[list[Any], dict[str, dict[str, Any]]]:
    """Return every tool that is served, and the call of each."""
    taken = [
        (taking(hint, default), {} if value is EMPTY else {"value": value})
        for hint, value, default in ARGUMENTS.values()
    ]
    written = ((hint, value) for hint, value, _ in WRITTEN.values())
    results = (*RESULTS.values(), *written, *CONTENT.values(), *((hint, value) for hint, value, _ in UNTOLD.values()))
    given = [(returning(hint, value), {}) for hint, value in results]
    functions = numbered([function for function, _ in taken + given])
    calls = {function.__name__: call for function, (_, call) in zip(functions, taken + given, strict=True)}
    return functions, calls


async def test_every_result_satisfies_its_schema_with_formats_asserted() -> None:
    """By a validator that takes `format` for a promise."""
    for hint, value in (*RESULTS.values(), *((hint, value) for hint, value, _ in WRITTEN.values())):
        listed, answer = await asked(ours(returning(hint, value)), "giver", {})
        Draft202012Validator.check_schema(listed.output_schema)
        Draft202012Validator.check_schema(listed.input_schema)
        validator = Draft202012Validator(listed.output_schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        validator.validate(answer.structured_content)
