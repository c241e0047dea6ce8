"""Prompts, resources and completion of the SDK, word by word: served here as in the bare SDK, or refused by name.

Every row is declared in both servers; listing, result and failure are compared. What differs is in `DIFFERENCES`.
"""

from __future__ import annotations

import base64
import collections
import functools
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from captured import captured
from live import ENVIRONMENT, settings_from
from mcp import Client, MCPError
from mcp.server.mcpserver import Audio, Elicit, Image, MCPServer, Resolve
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage
from mcp.server.mcpserver.resources import ResourceSecurity
from mcp.types import (
    Annotations,
    AudioContent,
    BlobResourceContents,
    Completion,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    Icon,
    ImageContent,
    InputRequiredResult,
    PromptReference,
    ResourceLink,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)
from pydantic import AfterValidator, AnyUrl, BaseModel, BeforeValidator, Field, Json, SecretStr, WithJsonSchema
from typing_extensions import TypeAliasType, TypedDict

from hardening import Context, HardeningSettings, errors, harden, tool
from hardening.calls.declaration import InvalidDeclarationError

DIFFERENCES = """
arguments: what no text can be (a list, a model) is read from the JSON in it, where the SDK fails each time
  (`READ_HERE`); a number that JSON does not have is refused (`REFUSED_HERE`).
failure: -32602 names the rule where the SDK says -32603; no text of an exception that nobody foresaw.
texts: a docstring has no indent.
completion: at most 100 values (`CUT`); the context of its request, which the SDK does not hand over.
questions: an answer is asked for in sessions of the legacy era too; `Resolve` is refused, where the SDK lets a client
  give what a person should.
"""

PIXEL = base64.b64encode(b"\x89PNG").decode()
EMPTY = object()
# What the author's function, or what was given to it, may end with.
FAILURES = {-32602, -32603, -32050}
Kind = TypeVar("Kind")


class Colour(StrEnum):
    """Some words."""

    RED = "red"


class Place(BaseModel):
    """A model."""

    name: str
    height: float = 0.0


class Box(BaseModel, Generic[Kind]):
    """A model of any kind."""

    inside: Kind


class Node(BaseModel):
    """A model in itself."""

    value: int
    nodes: list[Node] = []


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """One of two."""

    kind: Literal["dog"]


class Movie(TypedDict):
    """A typed dictionary."""

    title: str


@dataclass
class Point:
    """A dataclass."""

    x: float


class Pair(NamedTuple):
    """A named tuple."""

    x: float
    y: float


UUID = "12345678-1234-5678-1234-567812345678"
# The type, the text that is given, the default.
SERVED: dict[str, tuple[Any, ...]] = {
    "text": (str, "a"),
    "text that is a number": (str, "5"),
    "text that is JSON": (str, '["a"]'),
    "text, empty": (str, ""),
    "text with spaces": (str, " a "),
    "no type": (EMPTY, "5"),
    "no type, JSON": (EMPTY, '["a"]'),
    "anything, JSON": (Any, '["a"]'),
    "an object, JSON": (object, '{"a": 1}'),
    "text or list": (str | list[str], '["a"]'),
    "text or nothing": (str | None, "null"),
    "text, left out": (str | None, EMPTY, None),
    "int": (int, "5"),
    "int with spaces": (int, " 5 "),
    "int as a float": (int, "5.0"),
    "int that is none": (int, "a"),
    "int, missing": (int, EMPTY),
    "int, bounded": (Annotated[int, Field(ge=1)], "5"),
    "int, out of bounds": (Annotated[int, Field(ge=1)], "0"),
    "int, described": (Annotated[int, Field(description="How many.")], "5"),
    "int or nothing": (int | None, "5"),
    "int or text": (int | str, "5"),
    "int, default": (int, EMPTY, 3),
    "int, default, given": (int, "4", 3),
    "int, a default of another type": (int, EMPTY, "unknown"),
    "float": (float, "1.5"),
    "bool": (bool, "true"),
    "bool, yes": (bool, "yes"),
    "bool that is none": (bool, "maybe"),
    "literal": (Literal["a", "b"], "a"),
    "literal that is none": (Literal["a", "b"], "c"),
    "literal number": (Literal[1, 2], "1"),
    "enum": (Colour, "red"),
    "enum that is none": (Colour, "green"),
    "date": (date, "2026-01-02"),
    "datetime": (datetime, "2026-01-02T03:04:05Z"),
    "datetime as a number": (datetime, "1700000000"),
    "time": (time, "03:04"),
    "timedelta": (timedelta, "PT5S"),
    "uuid": (uuid.UUID, UUID),
    "decimal": (Decimal, "0.10000000000000000000001"),
    "bytes": (bytes, "abc"),
    "path": (Path, "/a/b"),
    "address of a host": (ipaddress.IPv4Address, "127.0.0.1"),
    "secret": (SecretStr, "abc"),
    "pattern": (re.Pattern[str], "a+"),
    "address": (AnyUrl, "https://example.com/a"),
    "JSON by name": (Json[list[int]], "[1]"),
    "validated before": (Annotated[int, BeforeValidator(lambda text: int(text) + 1)], "5"),
    "validated after": (Annotated[int, AfterValidator(lambda number: number + 1)], "5"),
    "too long": (Annotated[str, Field(max_length=2)], "abc"),
    "a list that is none": (list[str], "a, b"),
    "a model that is none": (Place, '{"height": 1}'),
}

READ_HERE: dict[str, tuple[Any, str, str]] = {
    "list": (list[str], '["a", "b"]', "['a', 'b']"),
    "list or nothing": (list[int] | None, "[1]", "[1]"),
    "nothing": (int | None, "null", "None"),
    "list of models": (list[Place], '[{"name": "a"}]', "[Place(name='a', height=0.0)]"),
    "mapping": (dict[str, int], '{"a": 1}', "{'a': 1}"),
    "tuple": (tuple[int, str], '[1, "a"]', "(1, 'a')"),
    "set": (set[int], "[1]", "{1}"),
    "frozen set": (frozenset[int], "[1]", "frozenset({1})"),
    "deque": (collections.deque[int], "[1]", "deque([1])"),
    "model": (Place, '{"name": "a", "height": 2}', "Place(name='a', height=2.0)"),
    "model of a kind": (Box[int], '{"inside": 1}', "Box[int](inside=1)"),
    "model in itself": (
        Node,
        '{"value": 1, "nodes": [{"value": 2}]}',
        "Node(value=1, nodes=[Node(value=2, nodes=[])])",
    ),
    "models by kind": (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind": "dog"}', "Dog(kind='dog')"),
    "models": (Cat | Dog, '{"kind": "cat"}', "Cat(kind='cat')"),
    "typed dictionary": (Movie, '{"title": "a"}', "{'title': 'a'}"),
    "dataclass": (Point, '{"x": 1}', "Point(x=1.0)"),
    "named tuple": (Pair, "[1, 2]", "Pair(x=1.0, y=2.0)"),
}

REFUSED_HERE = {"nan": "nan", "infinity": "Infinity"}


def told(hint: Any, default: Any = EMPTY, *, blocking: bool = False) -> Any:
    """Return a function that says what it was given."""

    async def teller(value: Any) -> str:
        """Say what the function was given."""
        return f"{type(value).__name__} {value!r}"

    def blocks(value: Any) -> str:
        """Say what the function was given."""
        return f"{type(value).__name__} {value!r}"

    function = blocks if blocking else teller
    function.__name__ = "teller"
    function.__annotations__ = {} if hint is EMPTY else {"value": hint}
    if default is not EMPTY:
        function.__defaults__ = (default,)
    return function


def ours() -> Any:
    """Return a hardened server."""
    settings: HardeningSettings = settings_from(ENVIRONMENT)
    return harden(settings, tools=[])


def bare() -> MCPServer[Any]:
    """Return a server of the SDK."""
    return MCPServer("bare")


def shown(model: Any) -> Any:
    """Return a model as it goes out, without what names the server."""
    return model.model_dump(mode="json", exclude_none=True, exclude={"meta"})


async def asked(declare: Callable[[Any], Any], ask: Callable[[Client], Any]) -> tuple[Any, Any]:
    """Return what a client gets from our server, and from the SDK's; "failed" for an error of the protocol."""
    answers: list[Any] = []
    for server in (ours(), bare()):
        declare(server)
        async with Client(server) as client:
            try:
                answers.append(await ask(client))
            except MCPError as error:
                answers.append("failed" if error.error.code in FAILURES else error.error.code)
    return answers[0], answers[1]


async def listed(client: Client) -> list[Any]:
    """Return every listing but that of tools, with what belongs to each entry."""
    found = [
        *((await client.list_prompts()).prompts if client.server_capabilities.prompts else ()),
        *((await client.list_resources()).resources if client.server_capabilities.resources else ()),
        *((await client.list_resource_templates()).resource_templates if client.server_capabilities.resources else ()),
    ]
    return [one.model_dump(mode="json", exclude_none=True) for one in found]


def prompting(function: Any, arguments: dict[str, str] | None = None, **declared: Any) -> tuple[Any, Any]:
    """Return how to declare a prompt, and how to ask for its listing and for it."""

    async def ask(client: Client) -> Any:
        entry = await listed(client)
        return entry, shown(await client.get_prompt(entry[0]["name"], arguments))

    return lambda server: server.prompt(**declared)(function), ask


def reading(function: Any, template: str, address: str, **declared: Any) -> tuple[Any, Any]:
    """Return how to declare a resource, and how to ask for its listing and for it."""

    async def ask(client: Client) -> Any:
        answer = await client.read_resource(address)
        return await listed(client), [one.model_dump(mode="json", exclude_none=True) for one in answer.contents]

    return lambda server: server.resource(template, **declared)(function), ask


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("row", SERVED)
async def test_an_argument_of_a_prompt_is_read_as_in_the_sdk(row: str, blocking: bool) -> None:  # noqa: FBT001
    """The same listing, and the function gets the same value; both fail, or neither."""
    hint, text, default = (*SERVED[row], EMPTY)[:3]
    given = {} if text is EMPTY else {"value": text}
    answer, expected = await asked(*prompting(told(hint, default, blocking=blocking), given))

    assert answer == expected


@pytest.mark.parametrize("row", [row for row in SERVED if SERVED[row][1] not in {EMPTY, ""}])
async def test_a_parameter_of_an_address_is_read_as_in_the_sdk(row: str) -> None:
    """As an argument of a prompt; slashes in it are of its template."""
    hint, text, default = (*SERVED[row], EMPTY)[:3]
    address = "told://" + "".join(f"%{byte:02X}" for byte in text.encode())
    answer, expected = await asked(*reading(told(hint, default), "told://{value}", address))

    assert answer == expected


@pytest.mark.parametrize("row", READ_HERE)
async def test_what_no_text_can_be_is_read_as_json(row: str) -> None:
    """The SDK cannot be given such an argument at all."""
    hint, text, value = READ_HERE[row]
    answer, expected = await asked(*prompting(told(hint), {"value": text}))
    address = "told://" + "".join(f"%{byte:02X}" for byte in text.encode())
    read, theirs = await asked(*reading(told(hint), "told://{value}", address))

    assert (expected, theirs) == ("failed", "failed")
    assert answer[1]["messages"][0]["content"]["text"].endswith(f" {value}")
    assert read[1][0]["text"].endswith(f" {value}")


@pytest.mark.parametrize("row", REFUSED_HERE)
async def test_a_number_that_json_does_not_have_is_refused(row: str) -> None:
    """As in the arguments of tools."""
    answer, expected = await asked(*prompting(told(float), {"value": REFUSED_HERE[row]}))

    assert answer == "failed"
    assert expected != "failed"


TEXT = TextContent(type="text", text="hello", annotations=Annotations(audience=["user"], priority=0.5))
PICTURE = ImageContent(type="image", data=PIXEL, mime_type="image/png")
SOUND = AudioContent(type="audio", data=PIXEL, mime_type="audio/wav")
LINK = ResourceLink(type="resource_link", uri="https://example.com/a", name="a", mime_type="text/plain")
PAGE = EmbeddedResource(type="resource", resource=TextResourceContents(uri="file:///a.txt", text="a"))
FILE = EmbeddedResource(type="resource", resource=BlobResourceContents(uri="file:///a.png", blob=PIXEL))


def raising(error: Exception) -> Callable[[], Any]:
    """Return a function that raises it."""

    def fail() -> Any:
        raise error

    return fail


MESSAGES: dict[str, Callable[[], Any]] = {
    "text": lambda: "hello",
    "of the user": lambda: UserMessage("hello"),
    "of the assistant": lambda: AssistantMessage("hello"),
    "of a role": lambda: Message(role="assistant", content="hello"),
    "several": lambda: [UserMessage("a"), AssistantMessage("b"), "c"],
    "tuple": lambda: ("a", "b"),
    "none at all": list,
    "mapping": lambda: {"role": "user", "content": "a"},
    "mapping with a block": lambda: {"role": "assistant", "content": {"type": "text", "text": "a"}},
    "mappings": lambda: [{"role": "user", "content": {"type": "image", "data": PIXEL, "mimeType": "image/png"}}],
    "mapping of no role": lambda: {"role": "system", "content": "a"},
    "other mapping": lambda: {"a": 1},
    "block": lambda: TEXT,
    "image": lambda: PICTURE,
    "image of a role": lambda: AssistantMessage(PICTURE),
    "sound": lambda: SOUND,
    "link": lambda: LINK,
    "embedded text": lambda: PAGE,
    "embedded file": lambda: FILE,
    "every block": lambda: [TEXT, PICTURE, SOUND, LINK, PAGE, FILE],
    "image helper": lambda: Image(data=b"a", format="png"),
    "image helper of a role": lambda: UserMessage(Image(data=b"a", format="jpeg")),
    "sound helper": lambda: Audio(data=b"a", format="wav"),
    "nothing": lambda: None,
    "number": lambda: 5,
    "numbers": lambda: [1, 2.5, True],
    "model": lambda: Place(name="a"),
    "set": lambda: {"a"},
    "bytes": lambda: b"a",
    "date": lambda: datetime(2026, 1, 2),  # noqa: DTZ001 - what authors do
    "generator": lambda: (letter for letter in "ab"),
    "lists": lambda: [["a"], ["b"]],
    "a crash": raising(ValueError("secret")),
    "a failure": raising(ToolError("words")),
    "an error of the protocol": raising(MCPError(-32050, "words")),
}

CONTENTS: dict[str, Callable[[], Any]] = {
    "text": lambda: "hello",
    "text, empty": lambda: "",
    "text that is JSON": lambda: '{"a": 1}',
    "bytes": lambda: b"\x89PNG",
    "bytes, empty": lambda: b"",
    "array of bytes": lambda: bytearray(b"a"),
    "mapping": lambda: {"a": 1, "b": [None, True]},
    "list": lambda: [1, 2],
    "nothing": lambda: None,
    "number": lambda: 1.5,
    "truth": lambda: True,
    "model": lambda: Place(name="a"),
    "dataclass": lambda: Point(1.0),
    "named tuple": lambda: Pair(1.0, 2.0),
    "enum": lambda: Colour.RED,
    "set": lambda: {1},
    "deque": lambda: collections.deque([1]),
    "decimal": lambda: Decimal("1.10"),
    "uuid": lambda: uuid.UUID(UUID),
    "path": lambda: Path("/a"),
    "datetime": lambda: datetime(2026, 1, 2),  # noqa: DTZ001 - what authors do
    "timedelta": lambda: timedelta(seconds=5),
    "secret": lambda: SecretStr("secret"),
    "generator": lambda: (number for number in (1, 2)),
    "no number": lambda: float("nan"),
    "a crash": raising(ValueError("secret")),
    "a failure": raising(ResourceError("words")),
    "an error of the protocol": raising(MCPError(-32050, "words")),
}


def giving(make: Callable[[], Any], *, blocking: bool, parameter: bool = False) -> Any:
    """Return a function with this result."""

    async def giver() -> Any:
        """Return what the row of the table says."""
        return make()

    def blocks() -> Any:
        """Return what the row of the table says."""
        return make()

    async def of_one(value: str) -> Any:  # noqa: ARG001 - of the address
        """Return what the row of the table says."""
        return make()

    blocks.__name__ = of_one.__name__ = "giver"
    if parameter:
        return of_one
    return blocks if blocking else giver


@pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("row", MESSAGES)
async def test_a_message_is_the_one_of_the_sdk(row: str, blocking: bool) -> None:  # noqa: FBT001
    """Role and blocks; a failure is one in both."""
    answer, expected = await asked(*prompting(giving(MESSAGES[row], blocking=blocking)))

    assert answer == expected


@pytest.mark.parametrize("how", ["async", "sync", "template"])
@pytest.mark.parametrize("row", CONTENTS)
async def test_a_content_is_the_one_of_the_sdk(row: str, how: str) -> None:
    """Text, or base64 of bytes; a failure is one in both."""
    template = how == "template"
    function = giving(CONTENTS[row], blocking=how == "sync", parameter=template)
    answer, expected = await asked(*reading(function, "a://{value}" if template else "a://b", "a://b"))

    assert answer == expected


DECLARED: dict[str, Any] = {
    "name": "given",
    "title": "Given",
    "description": "What it is good for.",
    "icons": [Icon(src="https://example.com/a.png", mime_type="image/png", sizes=["48x48"])],
    "mime_type": "application/json",
    "annotations": Annotations(audience=["user"], priority=0.5),
    "meta": {"example.com/a": {"b": 1}},
}


@pytest.mark.parametrize("without", ["nothing", *DECLARED])
async def test_what_is_declared_is_listed_as_in_the_sdk(without: str) -> None:
    """Names, titles, icons, types of content, annotations, meta: of prompts, resources and templates."""
    declared = {name: value for name, value in DECLARED.items() if name != without}
    of_prompts = {name: declared[name] for name in declared.keys() & {"name", "title", "description", "icons"}}
    function = giving(lambda: {"a": 1}, blocking=False)
    function_of_one = giving(lambda: b"a", blocking=False, parameter=True)

    for how in (
        prompting(giving(lambda: "a", blocking=False), **of_prompts),
        reading(function, "a://b", "a://b", **declared),
        reading(function_of_one, "a://{value}", "a://b", **declared),
    ):
        answer, expected = await asked(*how)
        assert answer == expected
        assert answer != "failed"


async def two(x: str, y: str) -> str:
    """Say both."""
    return f"{x} {y}"


async def second_optional(x: str, y: int = 7, z: str | None = None) -> str:
    """Say all."""
    return f"{x} {y} {z}"


async def default_of_another_type(x: str, y: str = 7) -> str:  # type: ignore[assignment]
    """Say both."""
    return f"{x} {y!r}"


async def segments(x: list[str]) -> str:
    """Say them."""
    return json.dumps(x)


async def anything(x) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001 - as older pages have it
    """Say it."""
    return repr(x)


async def itself(self: str) -> str:
    """Say it."""
    return self


TEMPLATES: dict[str, tuple[Any, str, str]] = {
    "two": (two, "a://{x}/{y}", "a://1/2"),
    "two in one segment": (two, "a://{x}.{y}", "a://1.2"),
    "a path": (anything, "a://{+x}", "a://b/c/d"),
    "segments": (segments, "a://p{/x*}", "a://p/a/b"),
    "a fragment": (anything, "a://b{#x}", "a://b#c"),
    "a query": (second_optional, "a://{x}{?y,z}", "a://1?y=5&z=6"),
    "a query, in part": (second_optional, "a://{x}{?y,z}", "a://1?z=6"),
    "a query, left out": (second_optional, "a://{x}{?y,z}", "a://1"),
    "a query that does not fit": (second_optional, "a://{x}{?y,z}", "a://1?y=z"),
    "a default of another type": (default_of_another_type, "a://{x}{?y}", "a://1"),
    "encoded": (anything, "a://{x}", "a://a%20b%C3%A9"),
    "two segments for one": (anything, "a://{x}", "a://a/b"),
    "nothing": (anything, "a://{x}", "a://"),
    "a way up": (anything, "a://{x}", "a://..%2Fb"),
    "a way up, long": (anything, "a://{+x}", "a://a/../../b"),
    "an absolute path": (anything, "a://{x}", "a://%2Fetc%2Fpasswd"),
    "a NUL": (anything, "a://{x}", "a://a%00"),
    "another scheme": (anything, "a://{x}", "b://1"),
    "scheme in capitals": (anything, "a://{x}", "A://1"),
    "no scheme": (anything, "{x}", "b"),
    "a name of Python's": (itself, "a://{self}", "a://1"),
}


@pytest.mark.parametrize("row", TEMPLATES)
async def test_a_template_is_the_one_of_the_sdk(row: str) -> None:
    """What fits it, what is read out of it, and what is refused."""
    function, template, address = TEMPLATES[row]
    answer, expected = await asked(*reading(function, template, address))

    assert answer == expected


@pytest.mark.parametrize("address", ["a://b", "a://c", "a://1/c", "a://x/c", "a://1/d"])
async def test_the_first_that_fits_is_read_as_in_the_sdk(address: str) -> None:
    """A resource before a template, templates in their order."""

    def declare(server: Any) -> None:
        @server.resource("a://{x}")
        async def first(x: str) -> str:
            return f"first {x}"

        @server.resource("a://b")
        async def static() -> str:
            return "static"

        @server.resource("a://{y}/c")
        async def second(y: int) -> str:
            return f"second {y}"

        _ = (first, static, second)

    answer, expected = await asked(declare, reading(None, "", address)[1])

    assert answer == expected


async def test_a_parameter_may_be_exempt_from_checks_of_paths() -> None:
    """`security=` means what it means in the SDK."""
    declared = {"security": ResourceSecurity(exempt_params={"x"})}
    answer, expected = await asked(*reading(anything, "a://{x}", "a://..%2Fb", **declared))

    assert answer == expected
    assert answer != "failed"


class Callables:
    """What may stand in place of a plain function."""

    async def method(self, value: str) -> str:
        """Say it."""
        return value

    @classmethod
    async def of_class(cls, value: str) -> str:
        """Say it."""
        return value

    @staticmethod
    def static(value: str) -> str:
        """Say it."""
        return value

    def __call__(self, value: str) -> str:
        """Say it."""
        return value


async def plain(value: str) -> str:
    """Say it."""
    return value


@functools.wraps(plain)
async def wrapped(*given: Any, **named: Any) -> Any:
    """Stand in front of it."""
    return await plain(*given, **named)


async def by_name(*, value: str) -> str:
    """Say it."""
    return value


async def with_context(value: str, ctx: SdkContext[Any, Any]) -> str:
    """Say it."""
    return f"{value} {type(ctx).__name__}"


FUNCTIONS: dict[str, Any] = {
    "method": Callables().method,
    "method of a class": Callables.of_class,
    "static method": Callables.static,
    "wrapped": wrapped,
    "by name only": by_name,
    "the SDK's context": with_context,
    "lambda with a name": lambda value: value,
}


@pytest.mark.parametrize("row", FUNCTIONS)
async def test_a_function_of_any_kind_is_called_as_in_the_sdk(row: str) -> None:
    """Behind prompts and behind resources."""
    prompted, theirs = await asked(*prompting(FUNCTIONS[row], {"value": "a"}, name="given"))
    read, expected = await asked(*reading(FUNCTIONS[row], "a://{value}", "a://b", name="given"))

    assert prompted == theirs
    assert read == expected
    assert "failed" not in {prompted if isinstance(prompted, str) else "", read if isinstance(read, str) else ""}


async def yields(value: str) -> Any:
    """Say it."""
    yield value


async def gathers(*value: str) -> str:
    """Say it."""
    return str(value)


async def names(value: str, **others: str) -> str:
    """Say it."""
    return f"{value} {others}"


async def by_place(value: str, /) -> str:
    """Say it."""
    return value


async def hidden(value: str, _other: str = "") -> str:
    """Say it."""
    return value


async def elsewhere(value: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Say it."""
    return str(value)


async def contexts(value: str, ctx: SdkContext[Any, Any], other: SdkContext[Any, Any]) -> str:
    """Say it."""
    return f"{value} {ctx} {other}"


async def misspelt(value: datetime.nothing) -> str:  # type: ignore[name-defined]
    """Say it."""
    return str(value)


async def unfinished(value: "list[") -> str:  # type: ignore[valid-type] # noqa: F722
    """Say it."""
    return str(value)


async def ask() -> Elicit[Place]:
    """Ask the person."""
    return Elicit("Where?", Place)


class Asked(BaseModel):
    """A model that asks."""

    place: Annotated[Place, Resolve(ask)]


RESOLVED = Annotated[Place, Resolve(ask)]
ASKING = "Resolve(…) fills parameters of tools alone; return InputRequiredResult to ask the person"
CURE = "decorate a function or a method that returns its whole result"
REFUSED: dict[str, tuple[Any, str]] = {
    "an object": (Callables(), CURE),
    "a class": (Place, CURE),
    "part of a function": (functools.partial(plain, value="a"), CURE),
    "a function of Python's": (len, CURE),
    "a cache": (functools.lru_cache(Callables.static), CURE),
    "a generator": (yields, CURE),
    "any number of arguments": (gathers, "value must be a parameter that can be given by name"),
    "any names": (names, "others must be a parameter that can be given by name"),
    "by place only": (by_place, "value must be a parameter that can be given by name"),
    "a hidden argument": (hidden, "_other must be a parameter that can be given by name"),
    "a type that is not imported": (
        elsewhere,
        "import Missing outside TYPE_CHECKING, or make it at the top of the file",
    ),
    "a type that is not there": (misspelt, "a type cannot be read, mend it: type object 'datetime.datetime'"),
    "a type that is not finished": (unfinished, "a type cannot be read, mend it: "),
    "two contexts of the SDK": (contexts, "take one Context, not 2"),
    "a question by Resolve": (told(RESOLVED), ASKING),
    "a question by Resolve, optional": (told(RESOLVED | None, None), ASKING),
    "a question by Resolve in an alias": (told(TypeAliasType("Alias", RESOLVED)), ASKING),
    "a question by Resolve in a model": (told(Asked), ASKING),
    "a type without a schema": (told(Callable), "an argument cannot be read"),
    "an iterable": (told(Iterable[int]), "an argument cannot be read: take a list for an Iterable or a Generator"),
    "Field as the default": (told(int, Field(ge=1)), "write value: Annotated[…, Field(…)]"),
    "a default in Field": (told(Annotated[int, Field(default=1)]), "write the default of value after ="),
    "an alias in Field": (told(Annotated[int, Field(alias="other")]), "give value its name on the wire"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_be_served_is_refused_by_name(row: str) -> None:
    """With what to write instead; behind prompts and behind resources."""
    function, sentence = REFUSED[row]
    for declare, owner in (
        (ours().prompt(name="given"), "prompt given: "),
        (ours().resource("a://{value}"), "resource a://{value}: "),
    ):
        with pytest.raises(InvalidDeclarationError) as problem:
            declare(function)
        assert str(problem.value).startswith(owner)
        assert sentence in str(problem.value)


def test_a_prompt_without_a_name_is_refused() -> None:
    """A lambda has none of its own."""
    with pytest.raises(InvalidDeclarationError, match=re.escape("name it, @server.prompt(name=…)")):
        ours().prompt()(lambda: "a")


@pytest.mark.parametrize(
    "make",
    [lambda: ImageContent(type="image", data="no base64!", mime_type="image/png"), lambda: "\udcff"],
    ids=["no base64", "half a character"],
)
async def test_what_clients_cannot_read_does_not_leave(make: Callable[[], Any]) -> None:
    """The SDK sends a block that clients drop the whole prompt for, or what cannot be written."""
    declare, ask = prompting(giving(make, blocking=True))
    declare(server := ours())

    async with Client(server) as client:
        with pytest.raises(MCPError) as failure:
            await ask(client)
    assert failure.value.error.data["kind"] == "internal"


@functools.wraps(plain)
def around(*given: Any, **named: Any) -> Any:
    """Stand in front of it, as decorators do that know nothing of coroutines."""
    return plain(*given, **named)


def completes_around(ref: Any, argument: Any, context: Any) -> Any:
    """Stand in front of what completes."""

    async def complete() -> Any:
        return Completion(values=[f"{ref.name} {argument.value} {context}"])

    return complete()


async def test_a_coroutine_that_a_decorator_returns_is_awaited() -> None:
    """The SDK sends the name of an object in memory, but in a completion."""
    declare, ask = prompting(around, {"value": "a"})
    declare(server := ours())
    server.resource("a://{value}")(around)
    server.completion()(completes_around)

    async with Client(server) as client:
        _, answer = await ask(client)
        read = await client.read_resource("a://b")
        values = (await completed(client))["completion"]["values"]
    assert answer["messages"][0]["content"]["text"] == "a"
    assert read.contents[0].text == "b"  # type: ignore[union-attr] - a text
    assert values == ["p a None"]


COMPLETED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "values": lambda _, argument, __: Completion(values=[f"{argument.name} {argument.value}"]),
    "of many": lambda *_: Completion(values=["a"], total=50, has_more=True),
    "nothing": lambda *_: None,
    "none at all": lambda *_: Completion(values=[]),
    "by reference": lambda ref, *_: Completion(values=[type(ref).__name__, getattr(ref, "uri", "") or ref.name]),
    "by context": lambda _, __, context: Completion(values=[str(context and context.arguments)]),
    "a mapping": lambda *_: {"values": ["a"]},
    "another type": lambda *_: ["a"],
    "a crash": lambda *_: 1 // 0,
    "a hundred": lambda *_: Completion(values=["a"] * 100),
}


# Clients refuse what the SDK sends.
CUT: dict[str, Callable[[Any, Any, Any], Any]] = {
    "more than clients take": lambda *_: Completion(values=[str(one) for one in range(150)]),
    "more than clients take, of many": lambda *_: Completion(values=[str(one) for one in range(150)], total=400),
}


@pytest.mark.parametrize("context", [None, {"other": "b"}], ids=["alone", "in context"])
@pytest.mark.parametrize(
    "ref",
    [PromptReference(type="ref/prompt", name="p"), ResourceTemplateReference(type="ref/resource", uri="a://{x}")],
    ids=["prompt", "template"],
)
@pytest.mark.parametrize("row", COMPLETED)
async def test_completion_is_the_one_of_the_sdk(row: str, ref: Any, context: dict[str, str] | None) -> None:
    """The same values for prompts and templates; a failure is one in both."""

    def declare(server: Any) -> None:
        @server.completion()
        async def complete(ref: Any, argument: Any, context: Any) -> Any:
            return COMPLETED[row](ref, argument, context)

        _ = complete

    async def ask(client: Client) -> Any:
        return shown(await client.complete(ref, {"name": "x", "value": "a"}, context))

    answer, expected = await asked(declare, ask)

    assert answer == expected


@pytest.mark.parametrize("row", CUT)
async def test_a_completion_has_at_most_a_hundred_values(row: str) -> None:
    """The first are sent, and how many there are."""
    declare, ask = completing(CUT[row])
    declare(server := ours())

    async with Client(server) as client:
        completion = (await ask(client))["completion"]
    total = 400 if "many" in row else 150
    assert completion == {"values": [str(one) for one in range(100)], "total": total, "has_more": True}


async def test_a_completion_that_is_none_is_logged_as_a_failure(tmp_path: Path) -> None:
    """The client gets an error, so the line says one."""
    declare, ask = completing(lambda *_: ["a"])
    declare(server := ours())

    with captured(tmp_path / "log") as log:
        async with Client(server) as client:
            with pytest.raises(MCPError) as failure:
                await ask(client)
        told = [line["error_code"] for line in log.lines() if line["msg"] == "completion call"]
    assert failure.value.error.data["kind"] == "internal"
    assert told == ["internal"]


def completing(make: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any]:
    """Return how to declare a completion, and how to ask for it."""

    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return make(ref, argument, context)

    return lambda server: server.completion()(complete), completed


async def completed(client: Client) -> Any:
    """Return what completes an argument."""
    return shown(await client.complete(PromptReference(type="ref/prompt", name="p"), {"name": "x", "value": "a"}))


async def context_first(ctx: Context, ref: Any, argument: Any, context: Any) -> Any:
    """Ask the person, as no completion should."""
    return Completion(values=[(await ctx.sdk.elicit(f"{ref.name} {argument.value} {context}", Place)).action])


async def context_last(ref: Any, argument: Any, context: Any, ctx: SdkContext[Any, Any]) -> Any:
    """Ask the person, as no completion should."""
    return Completion(values=[(await ctx.elicit(f"{ref.name} {argument.value} {context}", Place)).action])


async def context_by_name(ref: Any, argument: Any, context: Any, *, ctx: Context) -> Any:
    """Ask the person, as no completion should."""
    return Completion(values=[(await ctx.sdk.elicit(f"{ref.name} {argument.value} {context}", Place)).action])


async def says(_: Any, params: Any) -> ElicitResult:
    """Answer as a person would."""
    schema = params.requested_schema
    return ElicitResult(action="accept", content=dict.fromkeys(schema["required"], "a"))


@pytest.mark.parametrize("function", [context_first, context_last, context_by_name])
async def test_a_completion_has_the_context_of_its_request(function: Any) -> None:
    """The SDK hands it none. It can ask where there is a way back; where there is none the failure is typed."""
    server = ours()
    server.completion()(function)

    async with Client(server, mode="legacy", elicitation_callback=says) as client:
        assert (await completed(client))["completion"]["values"] == ["accept"]
    async with Client(server, mode="2026-07-28", elicitation_callback=says) as client:
        with pytest.raises(MCPError) as failure:
            await completed(client)
    assert failure.value.error.data["kind"] == "cannot_ask"


async def of_two(ref: Any, argument: Any) -> Any:
    """Forget one."""
    return (ref, argument)


async def of_four(ref: Any, argument: Any, context: Any, more: Any) -> Any:
    """Want one that nobody gives."""
    return (ref, argument, context, more)


async def of_names(*, ref: Any, argument: Any, context: Any) -> Any:
    """Take them by name, as the SDK never gives them."""
    return (ref, argument, context)


async def of_a_question(ref: Any, argument: Any, context: Any, place: RESOLVED) -> Any:
    """Ask by Resolve."""
    return (ref, argument, context, place)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (of_two, "take ref, argument and context, in this order"),
        (of_four, "take ref, argument and context, in this order"),
        (of_names, "take ref, argument and context, in this order"),
        (of_a_question, ASKING),
        (yields, CURE),
    ],
    ids=["two", "four", "by name", "a question", "a generator"],
)
def test_a_completion_that_fails_each_time_is_refused(function: Any, sentence: str) -> None:
    """Where it is declared; the SDK says so in each call."""
    with pytest.raises(InvalidDeclarationError) as problem:
        ours().completion()(function)
    assert str(problem.value).startswith("completion: ")
    assert sentence in str(problem.value)


DESCRIBED: dict[str, Any] = {
    "by Field": Annotated[str, Field(description="one")],
    "twice": Annotated[str, Field(description="one"), Field(description="two")],
    "beside a schema": Annotated[str, WithJsonSchema({"type": "string", "description": "one"})],
    "in an alias": TypeAliasType("Alias", Annotated[str, Field(description="one")]),
    "inside of a union": Annotated[str, Field(description="one")] | None,
    "around a union": Annotated[str | None, Field(description="one", title="Two", examples=["three"])],
    "a text beside it": Annotated[str, "one"],
    "by an enum": Colour,
    "by Field and an enum": Annotated[Colour, Field(description="one")],
    "by a model": Place,
}


@pytest.mark.parametrize("row", DESCRIBED)
async def test_an_argument_is_described_as_in_the_sdk(row: str) -> None:
    """In the listing of prompts."""
    listings: list[Any] = []
    for server in (ours(), bare()):
        server.prompt()(told(DESCRIBED[row]))
        async with Client(server) as client:
            listings.append(await listed(client))

    assert listings[0] == listings[1]


async def expects(address: str, ctx: SdkContext[Any, Any]) -> str:
    """Read a resource, and say which failure of the SDK's it was."""
    try:
        (content,) = await ctx.read_resource(address)
    except ResourceNotFoundError as missing:
        return f"missing: {missing}"
    except ResourceError as failed:
        return f"{type(failed).__name__}: {failed}"
    return f"{content.content!r} {content.mime_type}"


def declare_read(server: Any) -> None:
    """Declare what is read, and a prompt that reads it."""

    @server.resource("a://static", mime_type="application/json")
    async def static() -> Any:
        return {"a": 1}

    @server.resource("a://of/{value}")
    async def of_one(value: str, ctx: SdkContext[Any, Any]) -> Any:
        if value == "missing":
            raise ResourceNotFoundError("There is no such city.")
        if value == "refused":
            raise ResourceError("The city is closed.")
        if value == "asks":
            form = ElicitRequestFormParams(message="Sure?", requested_schema={"type": "object", "properties": {}})
            return InputRequiredResult(input_requests={"sure": ElicitRequest(params=form)})
        if value == "crash":
            raise ValueError("secret")
        return f"{value} {ctx.input_responses} {ctx.protocol_version}"

    server.prompt(name="reads")(expects)
    _ = (static, of_one)


READ = ["a://static", "a://of/b", "a://of/missing", "a://of/refused", "a://of/crash", "a://of/asks", "a://none", "no"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("address", READ)
async def test_what_a_call_reads_itself_is_the_one_of_the_sdk(address: str, mode: str) -> None:
    """Contents, and failures that an author can expect by the SDK's names."""
    answers: list[Any] = []
    for server in (ours(), bare()):
        declare_read(server)
        async with Client(server, mode=mode, elicitation_callback=says) as client:
            try:
                answers.append(shown(await client.get_prompt("reads", {"address": address})))
            except MCPError:
                answers.append("failed")

    assert answers[0] == answers[1]
    assert (answers[0] == "failed") == (address == "a://of/asks")


@tool(read_only=True)
async def reads(address: Annotated[str, Field(max_length=100)], ctx: Context) -> str:
    """Read a resource, and expect no failure."""
    (content,) = await ctx.sdk.read_resource(address)
    return str(content.content)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("a://of/b", ""),
        ("a://of/missing", "not_found: There is no such city. "),
        ("a://of/refused", "tool_error: The city is closed. "),
        ("a://of/crash", "internal: "),
        ("a://none", "not_found: "),
        ("b://busy", "busy: Come back later. "),
    ],
)
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_resource_that_a_tool_cannot_read_is_a_failure_of_the_tool(mode: str, address: str, kind: str) -> None:
    """A result with `isError`, as in the SDK, and not an error of the protocol."""
    server = harden(settings_from(ENVIRONMENT), tools=[reads])
    declare_read(server)

    @server.resource("b://busy")
    async def busy() -> str:
        raise errors.Busy("Come back later.")

    _ = busy
    async with Client(server, mode=mode) as client:
        result = await client.call_tool("reads", {"address": address})
    assert result.is_error == bool(kind)
    assert result.content[0].text.startswith(kind or "b None ")  # type: ignore[union-attr] - a text


async def test_the_words_of_an_author_who_misses_a_resource_are_told() -> None:
    """What nobody has declared is told in ours."""
    declare_read(server := ours())

    async with Client(server) as client:
        with pytest.raises(MCPError) as failure:
            await client.read_resource("a://of/missing")
        with pytest.raises(MCPError) as unknown:
            await client.read_resource("a://none")
    assert failure.value.error.code == -32602
    assert failure.value.error.message.startswith("not_found: There is no such city. ")
    assert (unknown.value.error.code, unknown.value.error.message) == (-32602, "Resource not found")


def test_a_resource_of_one_address_asks_nobody() -> None:
    """In the SDK every read of it fails."""

    async def asks() -> str | InputRequiredResult:
        """Ask."""
        return "a"

    with pytest.raises(InvalidDeclarationError, match="resource a://b: give its address a parameter to ask the person"):
        ours().resource("a://b")(asks)


def test_the_corpus_is_large_enough() -> None:
    """At least 210 rows."""
    rows = (SERVED, READ_HERE, MESSAGES, CONTENTS, DECLARED, TEMPLATES, FUNCTIONS, REFUSED, COMPLETED, DESCRIBED, READ)

    assert sum(map(len, rows)) >= 210
