"""`Resolve`, `Elicit`, `Sample` and `ListRoots`, nested in each other: as in the bare SDK, or refused by name.

Every row is a parameter of a tool in both servers; what the client is asked and what the tool gets are compared,
in both eras. A no, and an answer that the author's own rules refuse, are told in words of ours.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import time
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from live import ENVIRONMENT, settings_from
from mcp import Client, MCPError
from mcp.server.mcpserver import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
    Elicit,
    ElicitationResult,
    ListRoots,
    MCPServer,
    Resolve,
    Sample,
)
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ListRootsResult,
    Root,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, ConfigDict, Field, FileUrl, field_validator
from typing_extensions import TypeAliasType

from hardening import Context, harden, tool
from hardening.calls.answers import fits
from hardening.calls.declaration import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ["2026-07-28", "legacy"]
ANSWERS: dict[str, Any] = {"ok": True, "name": "text", "age": 3, "day": "2026-01-02", "word": "a", "theX": "text"}


class Sure(BaseModel):
    """What a person is asked."""

    ok: bool


class Name(BaseModel):
    """A text that is described and bounded."""

    name: str = Field(description="Your name", min_length=1, max_length=20)


class Form(BaseModel):
    """Every kind of field, most of them optional."""

    name: str = Field(title="Name")
    age: int | None = Field(default=None, ge=1, le=10)
    height: float = 2.5
    ok: bool = True
    word: Literal["a", "b"] = "a"
    day: date | None = None
    made: str = Field(default_factory=lambda: "made")


class Lettered(BaseModel):
    """A pattern that Python's own module does not read."""

    name: str = Field(pattern=r"^\p{L}+$")


class Aliased(BaseModel):
    """A field with another name on the wire."""

    model_config = ConfigDict(populate_by_name=True)

    x: str = Field(alias="theX")


class Checked(BaseModel):
    """A rule of the author's that no schema says."""

    name: str

    @field_validator("name")
    @classmethod
    def capital(cls, name: str) -> str:
        """Refuse every name."""
        raise ValueError(name)


class Level(enum.Enum):
    """Some words, which no form has."""

    LOW = "low"


class Leveled(BaseModel):
    """A form with an enum."""

    level: Level


class Outer(BaseModel):
    """A model whose field asks."""

    sure: Annotated[Sure, Resolve(lambda: Elicit("Sure?", Sure))]


def eliciting(form: type[BaseModel], message: str = "Sure?") -> Callable[[], Any]:
    """Return a resolver that asks with this form."""

    async def ask() -> Any:
        return Elicit(message, form)

    ask.__annotations__["return"] = Elicit[form]  # type: ignore[valid-type] - known when it runs only
    return ask


async def plain() -> int:
    """Ask nobody."""
    return 5


def blocking() -> Elicit[Sure]:
    """Ask, from a thread."""
    return Elicit("Sure?", Sure)


async def maybe(n: int) -> Sure | Elicit[Sure]:
    """Ask for a part of the calls."""
    return Elicit("Sure?", Sure) if n == 0 else Sure(ok=False)


async def who() -> Elicit[Name]:
    """Ask first."""
    return Elicit("Name?", Name)


async def after_name(given: Annotated[Name, Resolve(who)]) -> Elicit[Sure]:
    """Ask with the answer to another question."""
    return Elicit(f"Sure, {given.name}?", Sure)


async def sampled(given: Annotated[Name, Resolve(who)]) -> Sample:
    """Ask the model, with what the person has said."""
    words = SamplingMessage(role="user", content=TextContent(type="text", text=given.name))
    return Sample([words], max_tokens=5, system_prompt="Be short.", temperature=0.5, stop_sequences=["."])


async def folders(_: Annotated[CreateMessageResult, Resolve(sampled)]) -> ListRoots:
    """Ask the client, after the model, after the person."""
    return ListRoots()


async def joined(one: Annotated[Name, Resolve(who)], two: Annotated[Sure, Resolve(after_name)]) -> str:
    """Take one answer on two ways."""
    return f"{one.name} {two.ok}"


async def after_a_no(
    given: Annotated[ElicitationResult[Name], Resolve(eliciting(Name, "Say no"))],
) -> Sure | Elicit[Sure]:
    """Go on after a no."""
    return Elicit("Really?", Sure) if given.action == "decline" else Sure(ok=False)


async def versions(ctx: SdkContext[Any, Any] | None, n: int) -> str:
    """Look at the SDK's context, and at an argument of the tool."""
    assert ctx is not None
    return f"{ctx.protocol_version} {ctx.client_capabilities is not None} {n}"


async def by_name(*, n: int) -> int:
    """Take an argument of the tool."""
    return n + 1


class Methods:
    """What may stand in place of a function."""

    async def method(self) -> Elicit[Sure]:
        """Ask."""
        return Elicit("method", Sure)

    def __call__(self) -> Elicit[Sure]:
        """Ask."""
        return Elicit("object", Sure)

    @classmethod
    async def of_class(cls) -> Elicit[Sure]:
        """Ask."""
        return Elicit("class", Sure)

    @staticmethod
    async def static() -> Elicit[Sure]:
        """Ask."""
        return Elicit("static", Sure)


async def asks(message: str) -> Elicit[Sure]:
    """Ask this."""
    return Elicit(message, Sure)


async def refuses() -> int:
    """Refuse by an error of the protocol."""
    raise MCPError(-32050, "words")


SURE = Annotated[Sure, Resolve(blocking)]
# The parameter, what the tool is given beside it.
SERVED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a form": (SURE, {}),
    "a bounded text": (Annotated[Name, Resolve(who)], {}),
    "every kind of field": (Annotated[Form, Resolve(eliciting(Form))], {}),
    "every kind of field, what has to be": (Annotated[Form, Resolve(eliciting(Form, "Least"))], {}),
    "a pattern of Unicode": (Annotated[Lettered, Resolve(eliciting(Lettered))], {}),
    "another name on the wire": (Annotated[Aliased, Resolve(eliciting(Aliased))], {}),
    "the whole outcome, yes": (Annotated[ElicitationResult[Sure], Resolve(blocking)], {}),
    "the whole outcome, no": (Annotated[ElicitationResult[Sure], Resolve(eliciting(Sure, "Say no"))], {}),
    "the whole outcome, dismissed": (Annotated[ElicitationResult[Sure], Resolve(eliciting(Sure, "Dismiss"))], {}),
    "one outcome": (Annotated[AcceptedElicitation[Sure], Resolve(blocking)], {}),
    "some outcomes": (
        Annotated[
            AcceptedElicitation[Sure] | DeclinedElicitation | CancelledElicitation,
            Resolve(eliciting(Sure, "Say no")),
        ],
        {},
    ),
    "nobody is asked": (Annotated[int, Resolve(plain)], {}),
    "asked for a part, yes": (Annotated[Sure, Resolve(maybe)], {"n": 0}),
    "asked for a part, no": (Annotated[Sure, Resolve(maybe)], {"n": 1}),
    "an argument that is left out": (Annotated[Sure, Resolve(maybe)], {}),
    "an argument by name only, left out": (Annotated[int, Resolve(by_name)], {}),
    "after another": (Annotated[Sure, Resolve(after_name)], {}),
    "the model after the person": (Annotated[CreateMessageResult, Resolve(sampled)], {}),
    "the client after the model after the person": (Annotated[ListRootsResult, Resolve(folders)], {}),
    "one answer on two ways": (Annotated[str, Resolve(joined)], {}),
    "after a no": (Annotated[Sure, Resolve(after_a_no)], {}),
    "the SDK's context": (Annotated[str, Resolve(versions)], {"n": 4}),
    "a method": (Annotated[Sure, Resolve(Methods().method)], {}),
    "an object": (Annotated[Sure, Resolve(Methods())], {}),
    "a method of a class": (Annotated[Sure, Resolve(Methods.of_class)], {}),
    "a static method": (Annotated[Sure, Resolve(Methods.static)], {}),
    "a lambda": (Annotated[Sure, Resolve(lambda: Elicit("Sure?", Sure))], {}),
    "part of a function": (Annotated[Sure, Resolve(functools.partial(asks, "Sure?"))], {}),
    "a cache": (Annotated[int, Resolve(functools.lru_cache(lambda: 7))], {}),
    "optional": (Annotated[Sure | None, Resolve(blocking)], {}),
    "with a bound beside it": (Annotated[Sure, Resolve(blocking), Field(description="Sure?")], {}),
    "an error of the protocol": (Annotated[int, Resolve(refuses)], {}),
}


async def answer(_: Any, params: Any) -> ElicitResult:
    """Answer as a person would: what the question says, with the least of it where it says so."""
    said = {"Say no": "decline", "Dismiss": "cancel"}.get(params.message)
    if said is not None:
        return ElicitResult(action=said)
    assert isinstance(params, ElicitRequestFormParams)
    schema = params.requested_schema
    asked_for = schema.get("required", []) if params.message == "Least" else schema["properties"]
    return ElicitResult(action="accept", content={one: ANSWERS[one] for one in asked_for if one in ANSWERS})


async def think(_: Any, params: Any) -> CreateMessageResult:
    """Answer as a model would."""
    words = TextContent(type="text", text=f"{params.system_prompt} {params.max_tokens} {params.messages[0].content}")
    return CreateMessageResult(role="assistant", model="m", content=words)


async def roots(_: Any) -> ListRootsResult:
    """Answer as a client does."""
    return ListRootsResult(roots=[Root(uri=FileUrl("file:///a"), name="a")])


def taking(hint: Any) -> Any:
    """Return a tool that says what its parameter was given."""

    async def teller(value: Any, n: int = 0) -> str:
        """Say what the function was given."""
        return f"{value!r} {n}"

    teller.__annotations__["value"] = hint
    teller.__annotations__ |= {"n": int, "return": str}
    return teller


async def asked(server: Any, arguments: dict[str, Any], mode: str) -> tuple[Any, list[Any], Any]:
    """Return the names of the arguments, what the client was asked, and the result."""
    questions: list[Any] = []

    def noted(respond: Any) -> Any:
        async def callback(context: Any, *params: Any) -> Any:
            questions.extend(one.model_dump(mode="json", exclude={"meta"}) for one in params)
            return await respond(context, *params)

        return callback

    async with Client(
        server,
        mode=mode,
        elicitation_callback=noted(answer),
        sampling_callback=noted(think),
        list_roots_callback=noted(roots),
    ) as client:
        (listed,) = (await client.list_tools()).tools
        try:
            result: Any = (await client.call_tool("teller", arguments)).content
        except MCPError as error:
            result = (error.error.code, error.error.message)
    return sorted(listed.input_schema.get("properties", {})), questions, result


def ours(function: Any) -> Any:
    """Return a hardened server with this tool."""
    return harden(settings_from(ENVIRONMENT), tools=[tool(read_only=True)(function)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", SERVED)
async def test_a_parameter_is_resolved_as_in_the_sdk(row: str, mode: str) -> None:
    """The same arguments, the same questions in the same order, the same value."""
    hint, arguments = SERVED[row]
    server = MCPServer("bare")
    server.tool()(taking(hint))
    expected = await asked(server, arguments, mode)

    assert await asked(ours(taking(hint)), arguments, mode) == expected
    assert "value" not in expected[0]


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_that_the_authors_rules_refuse_is_asked_again(mode: str) -> None:
    """The SDK tells the model a name of the author's module; here it learns what to do."""
    hint = Annotated[Checked, Resolve(eliciting(Checked))]
    _, questions, (block,) = await asked(ours(taking(hint)), {}, mode)

    assert len(questions) == 1
    assert block.text.startswith("invalid_input: The answer does not fit what was asked. Call again without an answer")


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^\p{L}+$", r"^(?=a)a+$"], ids=["nested", "of Unicode", "of others"])
def test_a_pattern_of_a_form_is_checked_in_linear_time(pattern: str) -> None:
    """As Pydantic reads it: Python's own module would hold every other call for the first, and has no second."""
    schema = {"type": "object", "properties": {"name": {"type": "string", "pattern": pattern}}}
    form = ElicitRequest(params=ElicitRequestFormParams(message="Sure?", requested_schema=schema))

    assert fits(form, ElicitResult(action="accept", content={"name": "aaa"}))
    began = time.thread_time()
    refused = not fits(form, ElicitResult(action="accept", content={"name": "a" * 28 + "!"}))
    # What no form of Pydantic's has is left to the author.
    assert refused == ("?=" not in pattern)
    assert time.thread_time() - began < 5


async def ours_optional(ctx: Context | None, n: int) -> str:
    """Take hardening's context, and an argument of the tool."""
    assert ctx is not None
    return f"{ctx.principal.name} {n}"


async def test_a_context_may_be_optional() -> None:
    """As it may be in a tool."""
    _, _, (block,) = await asked(ours(taking(Annotated[str, Resolve(ours_optional)])), {"n": 2}, "2026-07-28")

    assert block.text == "'in process 2' 2"


async def gathers(*n: int) -> int:
    """Take any number."""
    return sum(n)


async def by_place(n: int, /) -> int:
    """Take one that has no name."""
    return n


async def logs(ctx: Context) -> int:
    """Take a word of the SDK's context from hardening's."""
    await ctx.info("words")  # type: ignore[attr-defined]
    return 1


async def unknown(other: int) -> int:
    """Take what the tool has not."""
    return other


Aliases = TypeAliasType("Aliases", SURE)
DIRECTLY = "value: a caller could give it: write Annotated[T, Resolve(…)] beside the parameter"
REFUSED: dict[str, tuple[Any, str]] = {
    "in an alias": (Aliases, DIRECTLY),
    "in a list": (list[SURE], "annotate the parameter directly"),
    "in a mapping": (dict[str, SURE], "annotate the parameter directly"),
    "in a union": (SURE | None, "annotate the parameter directly"),
    "in a list in an alias": (TypeAliasType("Many", list[SURE]), DIRECTLY),
    "in a model": (Outer, DIRECTLY),
    "in a list of models": (list[Outer], DIRECTLY),
    "any number of arguments": (Annotated[int, Resolve(gathers)], "a resolver takes n by its name, without * or /"),
    "by place only": (Annotated[int, Resolve(by_place)], "a resolver takes n by its name, without * or /"),
    "a word of the SDK's context": (Annotated[int, Resolve(logs)], "ctx.info: log.info(…) of hardening tells"),
    "an argument that is none": (Annotated[int, Resolve(unknown)], "'other' cannot be resolved"),
    "an enum in a form": (
        Annotated[Leveled, Resolve(eliciting(Leveled))],
        "plain fields only (text, numbers, bool, dates, a Literal of words for an Enum)",
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_would_be_an_argument_or_fail_in_each_call_is_refused(row: str) -> None:
    """With what to write instead: in the SDK a caller gives some of it in place of the person."""
    hint, sentence = REFUSED[row]

    with pytest.raises(InvalidDeclarationError) as problem:
        ours(taking(hint))
    assert str(problem.value).startswith("teller: ")
    assert sentence in str(problem.value)


async def test_a_no_in_words_of_the_sdk_is_declined() -> None:
    """Whichever resolver has asked."""
    for hint in (
        Annotated[Sure, Resolve(eliciting(Sure, "Say no"))],
        Annotated[Sure, Resolve(eliciting(Sure, "Dismiss"))],
    ):
        for mode in MODES:
            _, _, (block,) = await asked(ours(taking(hint)), {}, mode)
            assert block.text.startswith("declined: ")


async def test_what_the_author_says_in_a_resolver_is_told() -> None:
    """The SDK's `ToolError`, with the author's own words."""

    async def fails() -> int:
        with contextlib.suppress(KeyError):
            raise ToolError("Resolver of mine: no.")
        return 0

    _, _, (block,) = await asked(ours(taking(Annotated[int, Resolve(fails)])), {}, "2026-07-28")

    assert block.text.startswith("tool_error: Resolver of mine: no.")
