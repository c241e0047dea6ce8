"""Nothing that the author's code does reaches a caller as it is, and no call hurts another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import sample
from captured import captured
from jsonschema import Draft202012Validator
from live import ENVIRONMENT, KEY, OTHER_KEY, SECONDS, Live, settings_from
from mcp import MCPError
from mcp.types import CallToolResult, Completion, TextContent
from pydantic import Field
from wire import ERAS, Era, Reply, Wire, begin_call

from hardening import HardeningSettings, errors, tool
from hardening.calls.failures import ERROR_META_KEY, ERROR_SCHEMA
from hardening.calls.tool import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from hardening.server import HardenedServer

SENTINEL = "sentinel-value"
DEADLINE = "0.2"
MOST_BYTES = 2000
# Some of the tools may run for an hour.
WAITS = {"MCP_DRAIN_TIMEOUT_SECONDS": "3700"}


class Watched:
    """What a tool that waits has seen, for the test's own thread."""

    began = threading.Event()
    ended = threading.Event()
    let_go = threading.Event()


@tool(read_only=True, timeout_seconds=60)
async def neighbour() -> str:
    """Wait on the same thread as the others do."""
    await asyncio.sleep(0.1)
    return "well"


@tool(read_only=True)
async def slow(text: sample.Text) -> str:
    """Wait for longer than the server's own deadline."""
    await asyncio.sleep(3600)
    return text


@tool(read_only=True, timeout_seconds=3600)
async def watched(text: sample.Text) -> str:
    """Wait until it is cancelled, and say so."""
    Watched.began.set()
    try:
        await asyncio.sleep(3600)
    finally:
        # An ordinary cleanup waits too.
        await asyncio.sleep(0.01)
        Watched.ended.set()
    return text


@tool(read_only=True, cost=10, timeout_seconds=3600)
async def costly(seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Take the whole budget of its caller."""
    Watched.began.set()
    try:
        await asyncio.sleep(seconds)
    finally:
        Watched.ended.set()
    return "done"


@tool(read_only=True)
async def stubborn(text: sample.Text) -> str:
    """Go on after it was told to end."""
    for _ in range(2):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
    return text


@tool(read_only=True)
async def group(text: sample.Text) -> str:
    """Fail in several tasks at once."""

    async def failing(error: Exception) -> None:
        raise error

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(failing(RuntimeError(text)))
        tasks.create_task(failing(LookupError(text)))
    return text


@tool(read_only=True)
async def group_of_failures(text: sample.Text) -> str:
    """Fail in one task of a group, in a way of the taxonomy."""

    async def failing() -> None:
        raise errors.Conflict(f"There is a {text} already.")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(failing())
    return text


@tool(read_only=True)
async def own_timeout(text: sample.Text) -> str:
    """Run into a timeout of its own."""
    raise TimeoutError(text)


@tool(read_only=True)
async def not_for_the_model(text: sample.Text) -> str:
    """Fail in the words of the protocol."""
    raise MCPError(-31000, "This client cannot do that.", {"length": len(text)})


@tool(read_only=True)
async def says_it_failed() -> CallToolResult:
    """Return a result that says it is an error."""
    return CallToolResult(content=[TextContent(type="text", text="The moon is down.")], is_error=True)


TOOLS = (
    says_it_failed,
    neighbour,
    slow,
    watched,
    costly,
    stubborn,
    group,
    group_of_failures,
    own_timeout,
    not_for_the_model,
)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return the sample server with more ways to fail."""
    before, sample.TOOLS = sample.TOOLS, (*sample.TOOLS, *TOOLS)
    try:
        server = sample.build(settings)
    finally:
        sample.TOOLS = before

    async def behave(how: str) -> str:
        if how == "slow":
            await asyncio.sleep(3600)
        failures: dict[str, BaseException] = {
            "crash": RuntimeError(SENTINEL),
            "cancel": asyncio.CancelledError(SENTINEL),
            "exit": SystemExit(SENTINEL),
            "missing": errors.NotFound("Choose another one."),
        }
        if how == "huge":
            return "x" * MOST_BYTES
        if how in failures:
            raise failures[how]
        return how

    @server.prompt()
    async def behaved(how: str) -> str:
        """Do what the argument says."""
        return await behave(how)

    @server.prompt()
    def blocked() -> str:
        """Block a thread."""
        Watched.let_go.wait(SECONDS)
        return "late"

    @server.resource("behave://{how}")
    async def read(how: str) -> str:
        """Do what the address says."""
        return await behave(how)

    @server.completion()
    async def complete(_: Any, argument: Any, __: Any) -> Completion:
        return Completion(values=[await behave(argument.value)])

    _ = (behaved, blocked, read, complete)
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """The sample server with more ways to fail, a small cap and a small budget."""
    environment = {
        **ENVIRONMENT,
        "MCP_MAX_RESPONSE_BYTES": str(MOST_BYTES),
        **WAITS,
        "MCP_BUDGET_UNITS": "10",
        "MCP_RATE_TOOL_PER_MINUTE": "10000",
    }
    with Live(settings_from(environment), build) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Live]:
    """The same with a short deadline; for calls that will not end by themselves."""
    with Live(settings_from({**ENVIRONMENT, **WAITS, "MCP_TOOL_TIMEOUT_SECONDS": DEADLINE}), build) as running:
        yield running


@pytest.fixture
async def hasty_wire(hasty: Live) -> AsyncIterator[Wire]:
    """A raw client of the server with the short deadline."""
    async with Wire(hasty.url, KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def watch() -> Iterator[None]:
    """Start each test with nothing seen, and let everything go afterwards."""
    for event in (Watched.began, Watched.ended, Watched.let_go):
        event.clear()
    yield
    Watched.let_go.set()


FAILING: dict[str, tuple[str, dict[str, Any], str]] = {
    "a crash": ("crash", {"text": SENTINEL}, "internal"),
    "a cancellation nobody asked for": ("stray_cancel", {"text": SENTINEL}, "internal"),
    "an exit": ("leave", {"text": SENTINEL}, "internal"),
    "a wrong result": ("wrong_result", {"text": SENTINEL}, "internal"),
    "a group": ("group", {"text": SENTINEL}, "internal"),
    "a group of failures": ("group_of_failures", {"text": SENTINEL}, "conflict"),
    "a failure": ("fail", {"text": SENTINEL}, "not_found"),
    "another failure": ("fail", {"text": SENTINEL, "kind": "Busy"}, "busy"),
    "a timeout of its own": ("own_timeout", {"text": SENTINEL}, "timeout"),
    "its declared deadline": ("too_slow", {"text": SENTINEL}, "timeout"),
    "a result that is too large": ("huge_result", {"size": MOST_BYTES}, "invalid_input"),
    "a missing argument": ("echo", {}, "invalid_input"),
    "an argument of another type": ("echo", {"text": [SENTINEL]}, "invalid_input"),
    "an argument out of bounds": ("echo", {"text": SENTINEL * 100}, "invalid_input"),
    "an unknown argument": ("echo", {"text": "hello", SENTINEL: SENTINEL}, "invalid_input"),
}


def told(answer: Reply) -> dict[str, Any]:
    """Return what a failed call says, after checking everything that holds for each of them."""
    failure = answer.result["_meta"][ERROR_META_KEY]
    assert answer.status == 200
    assert answer.result["isError"] is True
    assert "structuredContent" not in answer.result
    Draft202012Validator(ERROR_SCHEMA).validate(failure)
    assert failure["reference"] == answer.headers["x-request-id"]
    for part in (failure["kind"], failure["advice"], failure["reference"]):
        assert part in answer.text
    assert ("Retry after" in answer.text or "A retry can help." in answer.text) is failure["retryable"]
    return failure


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", FAILING)
async def test_a_call_that_fails_says_so_and_hurts_nobody(wire: Wire, name: str, era: Era) -> None:
    """It answers for the model, without a value of the call, while a neighbour with the same id gets its result."""
    failing, arguments, kind = FAILING[name]
    beside, answer = await asyncio.gather(wire.call(era, "neighbour"), wire.call(era, failing, arguments))

    assert told(answer)["kind"] == kind
    assert SENTINEL not in answer.body.decode()
    assert SENTINEL not in str(answer.headers)
    # What the exception says beside the value.
    assert "secret detail" not in answer.body.decode()
    assert beside.text == "well"
    assert not (await wire.call(era, "who")).result["isError"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ["slow", "stubborn"])
async def test_a_tool_without_a_deadline_has_that_of_the_server(hasty_wire: Wire, name: str, era: Era) -> None:
    """A call ends after `MCP_TOOL_TIMEOUT_SECONDS` even when it goes on; its neighbour has another one."""
    beside, answer = await asyncio.gather(
        hasty_wire.call(era, "neighbour"), hasty_wire.call(era, name, {"text": SENTINEL})
    )

    assert told(answer)["kind"] == "timeout"
    assert beside.text == "well"


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_with_a_deadline_has_its_own(wire: Wire, era: Era) -> None:
    """What is declared beside the tool counts, long before the deadline of the server."""
    async with asyncio.timeout(SECONDS):
        answer = await wire.call(era, "too_slow", {"text": SENTINEL})

    assert told(answer)["kind"] == "timeout"


@pytest.mark.parametrize("era", ERAS)
async def test_a_refused_argument_is_named_with_its_rule(wire: Wire, era: Era) -> None:
    """The model learns which argument to correct, and how."""
    answer = await wire.call(era, "echo", {"text": 5, "number": 101})

    assert told(answer)["advice"] == (
        "Invalid arguments. text: string type; number: less than equal (le 100). Correct them and call again."
    )


@pytest.mark.parametrize("era", ERAS)
async def test_the_words_of_the_protocol_pass(wire: Wire, era: Era) -> None:
    """A tool that raises a protocol error means it: what a client cannot do is not for the model."""
    answer = await wire.call(era, "not_for_the_model", {"text": "four"})

    assert answer.error == {"code": -31000, "message": "This client cannot do that.", "data": {"length": 4}}


UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "tool": ("tools/call", {"name": SENTINEL, "arguments": {}}),
    "prompt": ("prompts/get", {"name": SENTINEL}),
    "argument of a prompt": ("prompts/get", {"name": "behaved", "arguments": {}}),
    "resource": ("resources/read", {"uri": f"none://{SENTINEL}"}),
    "resource that is not there": ("resources/read", {"uri": "behave://missing"}),
    "name of a prompt that is raised": ("prompts/get", {"name": "behaved", "arguments": {"how": "missing"}}),
    "arguments that are a list": ("tools/call", {"name": "echo", "arguments": [SENTINEL]}),
    "cursor of tools": ("tools/list", {"cursor": SENTINEL}),
    "cursor of prompts": ("prompts/list", {"cursor": ""}),
    "cursor of resources": ("resources/list", {"cursor": SENTINEL}),
    "cursor of templates": ("resources/templates/list", {"cursor": SENTINEL}),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", UNKNOWN)
async def test_what_does_not_exist_is_an_invalid_parameter(wire: Wire, name: str, era: Era) -> None:
    """Unknown names, addresses and cursors are -32602 (2026-07-28, Error codes), and nothing of them comes back."""
    answer = await wire.ask(era, *UNKNOWN[name])

    assert answer.error["code"] == -32602
    assert answer.status == (400 if era == "modern" else 200)
    assert SENTINEL not in answer.body.decode()


BEYOND_TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "prompt": ("prompts/get", {"name": "behaved", "arguments": {"how": "{}"}}),
    "resource": ("resources/read", {"uri": "behave://{}"}),
    "completion": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "behaved"}, "argument": {"name": "how", "value": "{}"}},
    ),
}


def filled(template: Any, how: str) -> Any:
    """Return the parameters with what is to happen."""
    if isinstance(template, dict):
        return {key: filled(value, how) for key, value in template.items()}
    return template.replace("{}", how)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("how", ["crash", "cancel", "exit"])
@pytest.mark.parametrize("what", BEYOND_TOOLS)
async def test_failures_beyond_tools_say_as_little(wire: Wire, what: str, how: str, era: Era) -> None:
    """A prompt, resource or completion that fails is -32603 with kind and reference, and no more."""
    method, params = BEYOND_TOOLS[what]
    answer = await wire.ask(era, method, filled(params, how))

    assert answer.error["code"] == -32603
    assert answer.error["data"]["kind"] == "internal"
    assert answer.error["data"]["reference"] == answer.headers["x-request-id"]
    assert SENTINEL not in answer.body.decode()
    assert "error" not in (await wire.ask(era, method, filled(params, "well"))).message


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("what", [*BEYOND_TOOLS, "listing"])
async def test_what_is_no_tool_has_a_cap_too(wire: Wire, what: str, era: Era, tmp_path: Any) -> None:
    """A prompt, resource, completion or listing that is too large does not leave; caller and operator learn why."""
    method, params = BEYOND_TOOLS.get(what, ("tools/list", {}))
    with captured(tmp_path / "log") as log:
        answer = await wire.ask(era, method, filled(params, "huge"))
        (line,) = [line for line in log.lines() if line["msg"] == "answer too large"]

    assert (answer.error["code"], answer.error["data"]["kind"]) == (-32603, "invalid_input")
    assert "Ask for less." in answer.error["message"]
    assert len(answer.body) < MOST_BYTES
    assert (line["rpc_method"], line["limit"]) == (method, MOST_BYTES)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("what", BEYOND_TOOLS)
async def test_what_is_no_tool_has_a_deadline_too(hasty_wire: Wire, what: str, era: Era) -> None:
    """A prompt, resource or completion that does not end is ended."""
    method, params = BEYOND_TOOLS[what]
    async with asyncio.timeout(SECONDS):
        answer = await hasty_wire.ask(era, method, filled(params, "slow"))

    assert (answer.error["code"], answer.error["data"]["kind"]) == (-32603, "timeout")


@pytest.mark.parametrize("era", ERAS)
async def test_a_blocked_thread_is_answered_at_the_deadline(hasty_wire: Wire, era: Era) -> None:
    """A prompt that is no coroutine cannot be cancelled, yet its caller does not wait for it."""
    answer = await hasty_wire.ask(era, "prompts/get", {"name": "blocked"})

    assert answer.error["data"]["kind"] == "timeout"
    assert not Watched.let_go.is_set()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("error", [RuntimeError(SENTINEL), SystemExit(SENTINEL), asyncio.CancelledError(SENTINEL)])
async def test_a_listing_that_fails_says_nothing(
    wire: Wire, server: Live, monkeypatch: pytest.MonkeyPatch, era: Era, error: BaseException
) -> None:
    """Whatever an author has put in the way of a listing, its text stays here."""

    async def failing() -> Any:
        raise error

    monkeypatch.setattr(server.server, "list_resources", failing)
    answer = await wire.ask(era, "resources/list")

    assert answer.error["code"] == -32603
    assert answer.error["data"]["kind"] == "internal"
    assert SENTINEL not in answer.body.decode()


async def left(server: Live, era: Era, name: str, arguments: dict[str, Any], key: str = KEY) -> None:
    """Call a tool and go away when it runs; return when the server has noticed everything."""
    reader, writer = await begin_call(server.url, era, name, arguments, key)
    assert await asyncio.to_thread(Watched.began.wait, SECONDS)
    writer.transport.abort()
    del reader
    assert await asyncio.to_thread(Watched.ended.wait, SECONDS)
    assert server.running is not None
    over = asyncio.run_coroutine_threadsafe(nothing_runs(server), server.running.loop)
    await asyncio.wait_for(asyncio.wrap_future(over), SECONDS)


async def nothing_runs(server: Live) -> None:
    """Wait, on the server's own loop, until no request and no call is there; they end one step after the other."""
    assert server.running is not None
    await server.running.app.pipeline.idle()
    while server.running.app.server.deadlines.names():
        await asyncio.sleep(0)
    # The line of a call is written in the step after its end.
    await asyncio.sleep(0)


@pytest.mark.parametrize("era", ERAS)
async def test_a_caller_that_goes_away_ends_its_call(server: Live, era: Era, tmp_path: Any) -> None:
    """A closed connection cancels the call, lets it clean up, and gives back its place."""
    with captured(tmp_path / "log") as log:
        await left(server, era, "watched", {"text": "hello"})
        (line,) = [line for line in log.lines() if line["msg"] == "tool call"]

    assert Watched.ended.is_set()
    assert (line["outcome"], line["error_code"]) == ("cancelled", "cancelled")
    assert server.running is not None
    assert dict(server.running.app.pipeline.guards)["in_flight"].slots.total == 0  # type: ignore[attr-defined]
    assert server.running.app.server.deadlines.names() == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_call_costs_no_budget_and_an_invalid_one_does(server: Live, wire: Wire, era: Era) -> None:
    """What a cancelled call would have cost is given back; invalid arguments are not free."""
    key = {"modern": KEY, "legacy": OTHER_KEY}[era]
    await left(server, era, "costly", {"seconds": 3600}, key)
    paid = await wire.call(era, "costly", {"seconds": -1}, key=key)
    broke = await wire.call(era, "costly", {"seconds": 0}, key=key)

    assert told(paid)["kind"] == "invalid_input"
    assert told(broke)["kind"] == "budget_exhausted"


@pytest.mark.parametrize("era", ERAS)
async def test_every_call_has_one_line(wire: Wire, server: Live, era: Era, tmp_path: Any) -> None:
    """A line says which tool, for how long and how it ended, and no more of a call than its caller is told."""
    expected = {"echo": "ok", "crash": "internal", "fail": "not_found", "too_slow": "timeout"}
    with captured(tmp_path / "log") as log:
        log.logs.allow_words(word for one in server.server.declared.values() for word in one.words())
        for name in expected:
            await wire.call(era, name, {"text": SENTINEL})
        await wire.call(era, "unknown")
        lines = [line for line in log.lines() if line["msg"] == "tool call"]
        text = log.text()

    assert {line["tool_name"]: line["error_code"] or line["outcome"] for line in lines} == expected
    assert {line["outcome"] for line in lines} == {"ok", "error"}
    assert all(line["duration_ms"] >= 0 and line["era"] == era for line in lines)
    assert SENTINEL not in text


def test_a_tool_cannot_be_added_past_the_boundary() -> None:
    """What the SDK would call without deadline and limits is refused when it is declared."""
    server = build(settings_from(ENVIRONMENT | WAITS))

    async def outside() -> str:
        return "out"

    with pytest.raises(InvalidDeclarationError, match=r"outside: declare it with @tool\(read_only=…\)"):
        server.tool()(outside)
    with pytest.raises(InvalidDeclarationError):
        server.add_tool(outside)


async def test_a_tool_can_be_called_in_process() -> None:
    """An author's test calls a tool through the same boundary, without a server."""
    server = build(settings_from(ENVIRONMENT | WAITS))
    good = await server.call_tool("echo", {"text": "hello"})
    bad = await server.call_tool("crash", {"text": SENTINEL})

    assert good.structured_content == {"text": "hello", "number": 1}  # type: ignore[union-attr]
    assert bad.is_error  # type: ignore[union-attr]
    assert SENTINEL not in str(bad)
    with pytest.raises(MCPError, match="Unknown tool"):
        await server.call_tool("none", {})


@pytest.mark.parametrize("era", ERAS)
async def test_a_result_that_says_it_failed_is_a_failure(wire: Wire, era: Era, tmp_path: Any) -> None:
    """The client gets it as it is, and log and metrics count a failure of the tool."""
    with captured(tmp_path / "log") as log:
        answer = await wire.call(era, "says_it_failed")
        (line,) = [line for line in log.lines() if line["msg"] == "tool call"]

    assert answer.result["isError"]
    assert answer.text == "The moon is down."
    assert (line["outcome"], line["error_code"]) == ("error", "tool_error")
