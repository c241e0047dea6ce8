"""Asking the person: never an argument, one answer for one call, and a typed failure where nobody can be asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
import structlog
from captured import captured
from live import ENVIRONMENT, KEY, OTHER_KEY, Live, settings_from
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import Elicit, ListRoots, Resolve, Sample
from mcp.types import (
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    Root,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, ConfigDict, Field, FileUrl
from support.relay import Relay
from wire import ERAS, SECONDS, Era, Reply, Wire, opening, request

from hardening import Context, HardeningSettings, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.errors import UpstreamUnavailable
from hardening.logs import redaction
from hardening.protocol import used_states
from hardening.protocol.used_states import UsedStates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

log = structlog.get_logger()
REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
CAN = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
RAN: list[str] = []
Name = Annotated[str, Field(max_length=100)]


class Sure(BaseModel):
    """What a person is asked."""

    model_config = ConfigDict(extra="forbid")

    ok: bool


async def sure(name: str, ctx: Context) -> Elicit[Sure]:
    """Ask; a resolver is given arguments and the context as the tool is."""
    return Elicit(f"{ctx.principal.name}, delete {name}?", Sure)


@tool(read_only=False)
async def resolved(name: Name, answer: Annotated[Sure, Resolve(sure)]) -> str:
    """Delete something after the person was asked."""
    RAN.append(f"{name} {answer.ok}")
    return "deleted"


FORM = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Sure?",
        requested_schema={"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
    )
)


@tool(read_only=False)
async def by_hand(name: Name, ctx: Context) -> str | InputRequiredResult:
    """Delete something once there are answers, whatever they are."""
    if ctx.sdk.input_responses is None:
        return InputRequiredResult(input_requests={"sure": FORM})
    (answer,) = ctx.sdk.input_responses.values()
    assert isinstance(answer, ElicitResult)
    RAN.append(f"{name} {(answer.content or {}).get('ok')}")
    return "deleted"


@tool(read_only=False)
async def two_by_hand(name: Name, ctx: Context) -> str | InputRequiredResult:
    """Ask two things at once, and go on with whatever comes back."""
    if ctx.sdk.request_state is None:
        return InputRequiredResult(input_requests={"one": FORM, "two": FORM}, request_state="mine")
    RAN.append(f"{name} {ctx.sdk.request_state} {sorted(ctx.sdk.input_responses or {})}")
    return "deleted"


@tool(read_only=False)
async def directly(name: Name, ctx: Context) -> str:
    """Delete something after asking over the connection."""
    answer = await ctx.sdk.elicit("Sure?", Sure)
    RAN.append(f"{name} {answer.action}")
    return "deleted"


class Told(BaseModel):
    """What a person says."""

    model_config = ConfigDict(extra="forbid")

    word: Annotated[str, Field(max_length=100)]


def forget_recent_calls() -> None:
    """Forget what other requests have sent, as when so much came since: what is left belongs to the call."""
    redaction.RECENT._generations.clear()  # noqa: SLF001 - a process has no reason to forget


@tool(read_only=True)
async def repeat(ctx: Context) -> str:
    """Log what a person says over the connection."""
    answer = await ctx.sdk.elicit("Say something", Told)
    assert answer.action == "accept"
    forget_recent_calls()
    log.info("heard", kind=answer.data.word)
    return "logged"


async def say() -> Elicit[Told]:
    """Ask for a word."""
    return Elicit("Say something", Told)


@tool(read_only=True)
async def repeat_resolved(told: Annotated[Told, Resolve(say)]) -> str:
    """Log what a person says."""
    forget_recent_calls()
    log.info("heard", kind=told.word)
    return "logged"


@tool(read_only=True)
async def repeat_folders(ctx: Context) -> str:
    """Log which folders the client has."""
    answer = await ctx.sdk.session.send_request(ListRootsRequest(), ListRootsResult)
    forget_recent_calls()
    log.info("heard", kind=answer.roots[0].name)
    return "logged"


@tool(read_only=True)
async def repeat_model(ctx: Context) -> str:
    """Log what the client's model says."""
    hello = SamplingMessage(role="user", content=TextContent(type="text", text="Hello"))
    wanted = CreateMessageRequest(params=CreateMessageRequestParams(messages=[hello], max_tokens=10))
    answer = await ctx.sdk.session.send_request(wanted, CreateMessageResult)
    assert isinstance(answer.content, TextContent)
    forget_recent_calls()
    log.info("heard", kind=answer.content.text)
    return "logged"


@tool(read_only=True)
async def sampled(ctx: Context) -> str:
    """Ask for the folders of the client."""
    await ctx.sdk.session.send_request(ListRootsRequest(), ListRootsResult)
    return "listed"


async def model() -> Sample:
    """Ask the client's model."""
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="2 + 2?"))], max_tokens=10)


async def folders() -> ListRoots:
    """Ask for the client's folders."""
    return ListRoots()


@tool(read_only=True)
async def gathered(
    sum_: Annotated[CreateMessageResult, Resolve(model)], roots: Annotated[ListRootsResult, Resolve(folders)]
) -> str:
    """Say what the client's model and the client itself said."""
    assert isinstance(sum_.content, TextContent)
    return f"{sum_.content.text} {[str(root.uri) for root in roots.roots]}"


ASKING = (gathered, resolved, by_hand, two_by_hand, directly, sampled)
TOOLS = (*ASKING, repeat, repeat_resolved, repeat_folders, repeat_model)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose tools and prompt ask."""
    server = harden(settings, tools=TOOLS)

    @server.prompt()
    def asking(ctx: SdkContext[Any, Any]) -> str | InputRequiredResult:
        """Ask before anything is said."""
        if ctx.input_responses is None:
            return InputRequiredResult(input_requests={"sure": FORM})
        RAN.append("prompt")
        return "done"

    _ = asking
    return server


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Forget what ran."""
    RAN.clear()


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """The tools on a socket, without sessions."""
    with Live(settings_from(ENVIRONMENT), build) as running:
        yield running


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """The tools on a socket, with sessions for older clients."""
    with Live(settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful"}), build) as running:
        yield running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A Redis of its own, and what ends it."""
    command = [
        REDIS or "",
        "--port",
        "0",
        "--unixsocket",
        f"{tmp_path}/redis.sock",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def kill() -> None:
        process.kill()
        process.wait(10)

    try:
        assert process.stdout is not None
        assert any("eady to accept connections" in line for line in process.stdout)
        yield f"unix://{tmp_path}/redis.sock", kill
    finally:
        kill()
        if process.stdout is not None:
            process.stdout.close()


@asynccontextmanager
async def connected(url: str, mode: str, answer: Callable[..., Any] | None) -> AsyncIterator[Client]:
    """Connect the SDK's own client, whose person answers so."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=answer) as client:  # type: ignore[arg-type]
            yield client


def says(action: Any, **content: Any) -> Callable[..., Any]:
    """Return a person who answers so."""

    async def answer(*_: Any) -> ElicitResult:
        return ElicitResult(action=action, content=content or None)

    return answer


async def ask(wire: Wire, name: str = "resolved", **more: Any) -> Reply:
    """Call a tool as a modern client does that can ask."""
    params = {"name": name, "arguments": {"name": "shopping"}, "_meta": CAN, **more}
    return await wire.ask("modern", "tools/call", params)


def kind(reply: Reply) -> str:
    """Return the kind of a failed call."""
    return reply.result["_meta"]["hardening/error"]["kind"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_resolved_parameter_is_no_argument(wire: Wire, era: Era) -> None:
    """It is not in the schema, and what a caller sends in its name is refused; the tool does not run."""
    listed = {one["name"]: one for one in (await wire.ask(era, "tools/list")).result["tools"]}
    forged = await wire.call(era, "resolved", {"name": "shopping", "answer": {"ok": True}})

    assert list(listed["resolved"]["inputSchema"]["properties"]) == ["name"]
    assert kind(forged) == "invalid_input"
    assert RAN == []


@pytest.mark.parametrize("name", ["resolved", "by_hand"])
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_person_is_asked_in_both_eras(stateful: Live, mode: str, name: str) -> None:
    """The answer of the person reaches the tool: in a second round, or over the session."""
    async with connected(stateful.url, mode, says("accept", ok=False)) as client:
        result = await client.call_tool(name, {"name": "shopping"})

    assert not result.is_error, result.content
    assert RAN == ["shopping False"]


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_model_and_the_client_are_asked_too(stateful: Live, mode: str) -> None:
    """`Sample` and `ListRoots` of a resolver are answered in both eras, both in one call."""

    async def sample(*_: Any) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", model="m", content=TextContent(type="text", text="4"))

    async def roots(*_: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///notes"))])

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS) as http:
        transport = streamable_http_client(f"{stateful.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, sampling_callback=sample, list_roots_callback=roots) as client:
            result = await client.call_tool("gathered", {})

    assert result.structured_content == {"result": "4 ['file:///notes']"}


@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_a_no_ends_the_call(stateful: Live, mode: str, action: str) -> None:
    """A person who declines or closes the question has the tool not run; the model is told `declined`."""
    async with connected(stateful.url, mode, says(action)) as client:
        result = await client.call_tool("resolved", {"name": "shopping"})

    assert (result.meta or {})["hardening/error"]["kind"] == "declined"
    assert RAN == []


@pytest.mark.parametrize("content", [{}, {"ok": "true"}, {"ok": 1}, {"ok": True, "more": 1}])
@pytest.mark.parametrize("name", ["resolved", "by_hand", "directly"])
async def test_over_a_session_an_answer_must_fit(stateful: Live, name: str, content: dict[str, Any]) -> None:
    """A value of another type, a field that was not asked for and an empty form are refused."""
    async with connected(stateful.url, "legacy", says("accept", **content)) as client:
        result = await client.call_tool(name, {"name": "shopping"})

    assert (result.meta or {})["hardening/error"]["kind"] == "invalid_input"
    assert RAN == []


@pytest.mark.parametrize("answers", [None, {}, {"other": {"action": "accept", "content": {"ok": True}}}])
@pytest.mark.parametrize("name", ["resolved", "by_hand"])
async def test_without_an_answer_it_is_asked_again(wire: Wire, name: str, answers: Any) -> None:
    """Nothing, an empty map and an answer to something else are no answers: the same question comes back."""
    first = (await ask(wire, name)).result
    again = (await ask(wire, name, requestState=first["requestState"], inputResponses=answers)).result

    assert again["resultType"] == "input_required"
    assert again["inputRequests"] == first["inputRequests"]
    assert RAN == []


async def test_only_what_is_missing_is_asked_again(wire: Wire) -> None:
    """Half of the answers do not run the tool; the other half is asked for, and then it has all of them."""
    yes = {"action": "accept", "content": {"ok": True}}
    first = (await ask(wire, "two_by_hand")).result
    again = (await ask(wire, "two_by_hand", requestState=first["requestState"], inputResponses={"one": yes})).result
    ran = list(RAN)
    await ask(wire, "two_by_hand", requestState=again["requestState"], inputResponses={"two": yes})

    assert list(again["inputRequests"]) == ["two"]
    assert ran == []
    assert RAN == ["shopping mine ['one', 'two']"]


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "accept"},
        {"action": "accept", "content": {}},
        {"action": "accept", "content": {"ok": "yes"}},
        {"action": "accept", "content": {"ok": 1}},
        {"action": "accept", "content": {"ok": True, "more": "x"}},
        {"roots": []},
        {"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}},
    ],
)
@pytest.mark.parametrize("name", ["resolved", "by_hand"])
async def test_an_answer_must_fit_what_was_asked(wire: Wire, name: str, answer: Any) -> None:
    """An accepted form without content, values of another type, unknown fields and other kinds are refused."""
    first = (await ask(wire, name)).result
    (key,) = first["inputRequests"]
    refused = await ask(wire, name, requestState=first["requestState"], inputResponses={key: answer})

    assert kind(refused) == "invalid_input"
    assert RAN == []


@pytest.mark.parametrize("name", ["resolved", "by_hand"])
async def test_an_answer_is_used_once(wire: Wire, name: str) -> None:
    """The same state a second time is refused as a forged one is (-32602), at once and later; the tool ran once."""
    first = (await ask(wire, name)).result
    (key,) = first["inputRequests"]
    good = {
        "requestState": first["requestState"],
        "inputResponses": {key: {"action": "accept", "content": {"ok": True}}},
    }
    replies = await asyncio.gather(*(ask(wire, name, **good) for _ in range(3)))
    replies.append(await ask(wire, name, **good))

    assert sorted(reply.status for reply in replies) == [200, 400, 400, 400]
    assert {reply.error["code"] for reply in replies if reply.status == 400} == {-32602}
    assert RAN == ["shopping True"]


async def test_an_answer_to_nothing_is_none(wire: Wire) -> None:
    """Answers without the state of a question are those of nobody: the person is asked."""
    reply = await ask(wire, "by_hand", inputResponses={"sure": {"action": "accept", "content": {"ok": True}}})

    assert reply.result["resultType"] == "input_required"
    assert RAN == []


@pytest.mark.parametrize("change", ["caller", "tool", "arguments", "bit"])
async def test_an_answer_is_for_one_call(server: Live, change: str) -> None:
    """Another caller, another tool, other arguments or a changed bit: refused, and nothing ran."""
    async with Wire(server.url, KEY) as wire, Wire(server.url, OTHER_KEY) as other:
        first = (await ask(wire, "by_hand")).result
        state = first["requestState"]
        if change == "bit":
            state = state[:-9] + ("A" if state[-9] != "A" else "B") + state[-8:]
        more: dict[str, Any] = {
            "requestState": state,
            "inputResponses": {"sure": {"action": "accept", "content": {"ok": True}}},
        }
        if change == "arguments":
            more["arguments"] = {"name": "everything"}
        refused = await ask(
            other if change == "caller" else wire, "resolved" if change == "tool" else "by_hand", **more
        )

    assert (refused.status, refused.error["code"]) == (400, -32602)
    assert RAN == []


async def test_a_prompt_asks_once_too(wire: Wire) -> None:
    """What holds for tools holds for prompts: one answer, used once, that fits."""
    params = {"name": "asking", "arguments": {}, "_meta": CAN}
    first = (await wire.ask("modern", "prompts/get", params)).result
    back = {**params, "requestState": first["requestState"]}
    unfit = await wire.ask("modern", "prompts/get", {**back, "inputResponses": {"sure": {"action": "accept"}}})
    good = {**back, "inputResponses": {"sure": {"action": "accept", "content": {"ok": True}}}}
    replies = [await wire.ask("modern", "prompts/get", good) for _ in range(2)]

    assert unfit.error["data"]["kind"] == "invalid_input"
    assert [reply.status for reply in replies] == [200, 400]
    assert RAN == ["prompt"]


@pytest.mark.parametrize("name", ["resolved", "by_hand", "directly"])
async def test_where_nobody_can_be_asked_the_failure_is_typed(wire: Wire, name: str) -> None:
    """Without a session a legacy client cannot be asked, and the model is told so: `cannot_ask`."""
    reply = await wire.call("legacy", name, {"name": "shopping"})

    assert kind(reply) == "cannot_ask"
    assert RAN == []


@pytest.mark.parametrize("name", ["resolved", "by_hand", "directly", "sampled"])
async def test_a_client_that_has_not_declared_it_is_not_asked(stateful: Live, name: str) -> None:
    """A session whose client cannot answer gets the typed failure at once, not a question without an answer."""
    async with connected(stateful.url, "legacy", None) as client:
        result = await client.call_tool(name, {} if name == "sampled" else {"name": "shopping"})

    assert (result.meta or {})["hardening/error"]["kind"] == "cannot_ask"
    assert RAN == []


async def test_a_call_in_the_process_cannot_ask() -> None:
    """As in an author's tests: nobody is there to be asked."""
    server = build(settings_from(ENVIRONMENT))
    result = await server.call_tool("resolved", {"name": "shopping"})

    assert isinstance(result, CallToolResult)
    assert (result.meta or {})["hardening/error"]["kind"] == "cannot_ask"
    assert RAN == []


async def test_such_a_client_is_sent_no_question(stateful: Live) -> None:
    """The answer to its call is all that it gets: it might wait for ever with a question that it does not know."""
    async with Wire(stateful.url, KEY) as wire:
        opened = await wire.ask("legacy", *opening("legacy"))
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        reply = await wire.call("legacy", "directly", {"name": "shopping"}, headers=session)

    assert kind(reply) == "cannot_ask"
    assert len(reply.messages) == 1


async def test_asking_over_a_connection_that_has_no_way_back_is_typed(wire: Wire) -> None:
    """In the modern era the SDK's `elicit` has no way: `cannot_ask`, without a word of the SDK."""
    reply = await ask(wire, "directly")

    assert kind(reply) == "cannot_ask"
    assert "back-channel" not in reply.body.decode()


@pytest.mark.parametrize("name", ["resolved", "by_hand"])
async def test_a_modern_client_is_told_which_capability_is_missing(wire: Wire, name: str) -> None:
    """-32021 with `requiredCapabilities` (2026-07-28, Capabilities), and no name of a module of the author."""
    reply = await wire.call("modern", name, {"name": "shopping"})

    assert (reply.status, reply.error["code"]) == (400, -32021)
    assert reply.error["data"]["requiredCapabilities"] == {"elicitation": {"form": {}}}
    assert __name__ not in reply.body.decode()


async def test_a_client_that_refuses_the_question_has_not_answered(stateful: Live) -> None:
    """What a client says in place of an answer stays out: the failure is `cannot_ask`."""

    async def refuse(*_: Any) -> ErrorData:
        return ErrorData(code=-1, message="words of the client")

    async with connected(stateful.url, "legacy", refuse) as client:
        result = await client.call_tool("resolved", {"name": "shopping"})

    assert (result.meta or {})["hardening/error"]["kind"] == "cannot_ask"
    assert "words of the client" not in str(result)


@pytest.mark.parametrize(
    ("mode", "name"), [("2026-07-28", "repeat_resolved"), ("legacy", "repeat_resolved"), ("legacy", "repeat")]
)
async def test_what_a_person_answers_is_scrubbed(stateful: Live, tmp_path: Path, mode: str, name: str) -> None:
    """An answer arrives in another request than its call, and is kept out of the log as an argument is."""
    with captured(tmp_path / "log", level="debug") as log_of_all:
        async with connected(stateful.url, mode, says("accept", word="Wolpertinger")) as client:
            result = await client.call_tool(name, {})
        lines, text = log_of_all.lines(), log_of_all.text()

    assert not result.is_error
    assert "heard" in {line["msg"] for line in lines}
    assert "Wolpertinger" not in text


@pytest.mark.parametrize("name", ["repeat_folders", "repeat_model"])
async def test_what_a_client_answers_is_scrubbed(stateful: Live, tmp_path: Path, name: str) -> None:
    """Its folders and the words of its model belong to the call that asked, in a session too."""

    async def sample(*_: Any) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", model="m", content=TextContent(type="text", text="Wolpertinger"))

    async def roots(*_: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///notes"), name="Wolpertinger")])

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS) as http:
        transport = streamable_http_client(f"{stateful.url}/mcp", http_client=http)
        with captured(tmp_path / "log", level="debug") as log_of_all:
            async with Client(transport, mode="legacy", sampling_callback=sample, list_roots_callback=roots) as client:
                result = await client.call_tool(name, {})
            lines, text = log_of_all.lines(), log_of_all.text()

    assert not result.is_error, result
    assert "heard" in {line["msg"] for line in lines}
    assert "Wolpertinger" not in text


WORD = "Wolpertinger"
MESSAGES: dict[str, dict[str, Any]] = {
    "the reason of a cancellation": {
        "method": "notifications/cancelled",
        "params": {"requestId": 77, "reason": WORD},
    },
    "the text of a progress": {
        "method": "notifications/progress",
        "params": {"progressToken": WORD, "progress": 1, "message": WORD},
    },
    "a notification that nobody knows": {"method": f"notifications/{WORD}", "params": {"a": WORD}},
    "folders that changed": {"method": "notifications/roots/list_changed", "params": {"_meta": {"a": WORD}}},
    "a level": {"id": 5, "method": "logging/setLevel", "params": {"level": WORD}},
    "an address to watch": {"id": 5, "method": "resources/subscribe", "params": {"uri": f"a://{WORD}"}},
    "a cursor": {"id": 5, "method": "tools/list", "params": {"cursor": WORD}},
    "a method": {"id": 5, "method": f"{WORD}/{WORD}", "params": {"a": WORD}},
    "an id": {"id": WORD, "method": "tools/call", "params": {"name": WORD, "arguments": {}}},
    "what is completed": {
        "id": 5,
        "method": "completion/complete",
        "params": {"ref": {"type": "ref/prompt", "name": WORD}, "argument": {"name": WORD, "value": WORD}},
    },
    "an answer to nothing": {"id": 5, "result": {"action": "accept", "content": {"word": WORD}}},
    "an error to nothing": {"id": 5, "error": {"code": -1, "message": WORD, "data": WORD}},
    "no answer at all": {"id": 5, "result": {"action": WORD}, "error": {"code": WORD, "message": WORD}},
}


@pytest.mark.parametrize("row", MESSAGES)
async def test_no_word_of_any_message_of_a_session_is_logged(stateful: Live, tmp_path: Path, row: str) -> None:
    """Notifications, answers and refused requests: at the lowest level, of the SDK and of ours."""
    with captured(tmp_path / "log", level="debug") as log_of_all:
        async with Wire(stateful.url, KEY) as wire:
            opened = await wire.ask("legacy", *opening("legacy"))
            headers, _ = request("legacy", "ping", key=KEY)
            headers["mcp-session-id"] = opened.headers["mcp-session-id"]
            await wire.send(json.dumps({"jsonrpc": "2.0", **MESSAGES[row]}).encode(), headers)
            # The session has read the message when it answers the next one.
            pinged = await wire.ask("legacy", "ping", headers=headers, rpc_id=6)
        lines, text = log_of_all.lines(), log_of_all.text()

    assert pinged.result == {}
    assert "client initialized" in {line["msg"] for line in lines}
    assert WORD.casefold() not in text.casefold()


async def test_an_open_question_ends_with_the_drain() -> None:
    """At SIGTERM a call that waits for a person is answered within a second: try again; nothing runs."""
    waiting = asyncio.Event()

    async def thinks(*_: Any) -> ElicitResult:
        waiting.set()
        await asyncio.sleep(SECONDS)
        raise AssertionError

    settings = settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful"})
    with Live(settings, build) as running:
        async with connected(running.url, "legacy", thinks) as client:
            call = asyncio.ensure_future(client.call_tool("resolved", {"name": "shopping"}))
            await asyncio.wait_for(waiting.wait(), SECONDS)
            began = time.monotonic()
            assert running.running is not None
            running.running.http.handle_exit(signal.SIGTERM, None)
            result = await asyncio.wait_for(call, SECONDS)
            took = time.monotonic() - began

    failure = (result.meta or {})["hardening/error"]
    assert (failure["kind"], failure["retryable"]) == ("upstream_unavailable", True)
    assert took < 5
    assert RAN == []


@pytest.mark.skipif(REDIS is None, reason="redis-server is missing: install Redis or Valkey")
async def test_an_answer_is_used_once_by_all_replicas(redis: tuple[str, Callable[[], None]]) -> None:
    """Two replicas with one Redis run the tool once; without Redis neither runs it."""
    url, kill = redis
    shared = {"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": KEY, "REDIS_URL": url}
    settings = settings_from({**ENVIRONMENT, **shared})
    with Live(settings, build) as one, Live(settings, build) as two:
        async with Wire(one.url, KEY) as first, Wire(two.url, KEY) as second:
            replies = [await ask(first), await ask(first)]
            retries: list[dict[str, Any]] = []
            for reply in replies:
                (key,) = reply.result["inputRequests"]
                answer = {key: {"action": "accept", "content": {"ok": True}}}
                retries.append({"requestState": reply.result["requestState"], "inputResponses": answer})
            used = await asyncio.gather(*(ask(wire, **retries[0]) for wire in (first, second) * 2))
            ran = list(RAN)
            kill()
            blind = await ask(second, **retries[1])

    assert sorted(reply.status for reply in used) == [200, 400, 400, 400]
    assert ran == RAN == ["shopping True"]
    assert kind(blind) == "upstream_unavailable"


class LastWord:
    """What comes from Redis; where `lost` is set, the next of it is lost with its connection."""

    lost = False

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def read(self, size: int) -> bytes:
        """Return what has come, or the end."""
        data = await self._reader.read(size)
        if LastWord.lost:
            LastWord.lost = False
            return b""
        return data


@pytest.mark.skipif(REDIS is None, reason="redis-server is missing: install Redis or Valkey")
async def test_a_lost_answer_of_redis_is_no_second_use(redis: tuple[str, Callable[[], None]]) -> None:
    """Redis has noted the state and its answer is lost: the call is told to try again, not that the state was used."""

    async def connect() -> Any:
        reader, writer = await asyncio.open_unix_connection(redis[0].removeprefix("unix://"))
        return LastWord(reader), writer

    async with Relay(connect) as relay:
        own = {"MCP_REQUEST_STATE_KEYS": "k" * 40, "REDIS_URL": f"redis://127.0.0.1:{relay.port}"}
        states = UsedStates(settings_from({**ENVIRONMENT, **own}))
        try:
            assert await states.take("first")
            LastWord.lost = True
            with pytest.raises(UpstreamUnavailable):
                await states.take("second")
            # Redis has it.
            assert not LastWord.lost
            assert not await states.take("second")
        finally:
            await states.aclose()


@pytest.mark.skipif(REDIS is None, reason="redis-server is missing: install Redis or Valkey")
async def test_redis_may_be_far_away(redis: tuple[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting takes several round trips, each longer than the time for an answer here: it has a time of its own."""
    # A busy machine decides nothing.
    monkeypatch.setattr(used_states, "CONNECT_SECONDS", 10.0)
    async with Relay(lambda: asyncio.open_unix_connection(redis[0].removeprefix("unix://"))) as relay:
        relay.delay = 0.01
        own = {"MCP_REQUEST_STATE_KEYS": "k" * 40, "REDIS_URL": f"redis://127.0.0.1:{relay.port}"}
        own["MCP_REDIS_TIMEOUT_SECONDS"] = "0.01"
        states = UsedStates(settings_from({**ENVIRONMENT, **own}))
        try:
            assert await states.take("first")
            assert not await states.take("first")
        finally:
            await states.aclose()


async def test_a_cluster_that_cannot_be_asked_has_noted_nothing() -> None:
    """Whatever the client makes of what comes from there, the call is told to try again, each time."""

    async def moved(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(b"-MOVED 5 127.0.0.1:1\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(moved, "127.0.0.1", 0) as server:
        address = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2"
        states = UsedStates(settings_from({**ENVIRONMENT, "MCP_REQUEST_STATE_KEYS": "k" * 40, "REDIS_URL": address}))
        try:
            for _ in range(2):
                with pytest.raises(UpstreamUnavailable):
                    await states.take("first")
        finally:
            await states.aclose()


def test_replicas_that_ask_need_redis() -> None:
    """Several replicas without Redis could each use the answer: refused at start, with the setting to set."""
    settings = settings_from({**ENVIRONMENT, "MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": KEY})

    with pytest.raises(InvalidDeclarationError) as refused:
        build(settings)

    assert {problem.partition(":")[0] for problem in refused.value.problems} == {
        "resolved",
        "by_hand",
        "repeat_resolved",
        "two_by_hand",
        "gathered",
    }
    assert "REDIS_URL" in str(refused.value)


class Nested(BaseModel):
    """What no client can show."""

    inner: Sure


async def unshowable() -> Elicit[Nested]:
    """Ask with a form inside a form."""
    return Elicit("?", Nested)


async def unknown(other: int) -> Elicit[Sure]:
    """Take what nobody gives."""
    return Elicit(str(other), Sure)


async def both(answer: Annotated[Sure, Resolve(sure)], name: Name) -> str | InputRequiredResult:
    """Ask in two ways at once, which cannot work."""
    return f"{name}{answer}"


async def nested(answer: Annotated[Nested, Resolve(unshowable)]) -> str:
    """Ask what cannot be shown."""
    return str(answer)


async def deeper(inner: Annotated[Nested, Resolve(unshowable)]) -> Sure:
    """Take what another resolver asks."""
    return inner.inner


async def nested_deeper(answer: Annotated[Sure, Resolve(deeper)]) -> str:
    """Ask what cannot be shown, by a resolver of a resolver."""
    return str(answer)


async def lost(answer: Annotated[Sure, Resolve(unknown)]) -> str:
    """Ask with a resolver that lacks an argument."""
    return str(answer)


async def buried(name: Name, answer: Annotated[Sure, Resolve(sure)] | None = None) -> str:
    """Hide the question in a union."""
    return f"{name}{answer}"


@pytest.mark.parametrize(
    ("function", "cure"),
    [
        (both, "not by both"),
        (nested, "plain fields only"),
        (nested_deeper, "plain fields only"),
        (lost, "cannot be resolved"),
        (buried, "directly"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(function: Any, cure: str) -> None:
    """What could only fail in a call is refused at start, by name."""
    with pytest.raises(InvalidDeclarationError, match=cure) as refused:
        harden(settings_from(ENVIRONMENT), tools=(tool(read_only=True)(function),))

    assert str(refused.value).startswith(f"{function.__name__}: ")


async def takes_context(ctx: Context) -> Elicit[Sure]:
    """Ask, with the context under a name that the tool uses for an argument."""
    return Elicit(ctx.request_id, Sure)


async def clashing(ctx: Name, answer: Annotated[Sure, Resolve(takes_context)]) -> str:
    """Have an argument of a name that its resolver gives to the context."""
    return f"{ctx}{answer}"


def test_an_argument_cannot_take_the_place_of_a_context() -> None:
    """A resolver is never given an argument of the caller in place of its context."""
    with pytest.raises(InvalidDeclarationError, match="clashing: rename ctx"):
        harden(settings_from(ENVIRONMENT), tools=(tool(read_only=True)(clashing),))
