"""The direct way of a request gives the answers of the SDK's own: status, headers and bytes, in every version."""

from __future__ import annotations

import asyncio
import contextlib
import re
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
import sample
from captured import captured
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import ANYTHING, near
from live import ENVIRONMENT, KEY, PROBE_KEY, Live, settings_from
from mcp.server.mcpserver import Elicit, Resolve
from mcp.types import (
    AudioContent,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ImageContent,
    InputRequiredResult,
    TextContent,
)
from pydantic import BaseModel, ConfigDict, Field
from units.calls import test_sdk_words as words
from wire import MODERN, SECONDS, Era, Wire, request

from hardening import Context, HardeningSettings, connection, errors, harden, tool
from hardening.protocol import direct_calls
from hardening.protocol.direct_calls import LONGEST_KEPT, DirectCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

# The SDK's log notifications are out of fashion, and served.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
CAN = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
LOUD = {"io.modelcontextprotocol/logLevel": "info"}
Text = Annotated[str, Field(max_length=2000)]
FORM = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Sure?",
        requested_schema={"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
    )
)


class Sure(BaseModel):
    """What a person is asked."""

    model_config = ConfigDict(extra="forbid")

    ok: bool


class Nested(BaseModel):
    """Nothing in it, which is left out of an answer that an author builds."""

    inner: str | None = None


async def sure(text: Text) -> Elicit[Sure]:
    """Ask."""
    return Elicit(f"Delete {text}?", Sure)


@tool(read_only=False)
async def resolved(text: Text, answer: Annotated[Sure, Resolve(sure)]) -> str:
    """Delete something after the person was asked."""
    return f"deleted {text} {answer.ok}"


@tool(read_only=False)
async def by_hand(ctx: Context, text: Text = "hello") -> str | InputRequiredResult:
    """Delete something once there are answers."""
    if ctx.sdk.input_responses is None:
        return InputRequiredResult(input_requests={"sure": FORM}, request_state="mine")
    return f"deleted {text} {sorted(ctx.sdk.input_responses)} {ctx.sdk.request_state}"


@tool(read_only=False, confirm=True, destructive=True)
async def confirmed(text: Text) -> str:
    """Delete something after the person has agreed."""
    return f"deleted {text}"


@tool(read_only=True)
async def talkative(text: Text, ctx: Context) -> str:
    """Send log notifications of three levels."""
    await ctx.sdk.debug(text)
    await ctx.sdk.info(text)
    await ctx.sdk.session.send_log_message("warning", {"text": text}, "mine")
    return text


@tool(read_only=True)
async def claimed(ctx: Context) -> dict[str, Any]:
    """Say what the SDK knows of the call."""
    of = ctx.sdk.request_context
    client = of.session.client_params
    return {
        "version": ctx.sdk.protocol_version,
        "client": client.client_info.name if client else None,
        "capabilities": str(of.session.client_capabilities),
        "meta": of.meta,
        "params": of.params,
        "method": of.method,
        "id": of.request_id,
        "asked": of.session.can_send_request,
        "header": of.request.headers["content-type"],
        "answers": ctx.sdk.input_responses,
        "state": ctx.sdk.request_state,
    }


@tool(read_only=True)
async def built(kind: Annotated[str, Field(max_length=20)]) -> CallToolResult:
    """Return a result that the tool builds itself."""
    text = TextContent(type="text", text=kind)
    noted = TextContent.model_validate(
        {"type": "text", "text": kind, "annotations": {"priority": 1}, "_meta": {"a": 1}}
    )
    results = {
        "plain": CallToolResult(content=[text]),
        "nothing": CallToolResult(content=[]),
        "error": CallToolResult(content=[text], is_error=True),
        "meta": CallToolResult.model_validate({"content": [text], "_meta": {"a": None, "b": [1.0, 1e22]}}),
        "named": CallToolResult.model_validate(
            {"content": [text], "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "me", "version": "9"}}}
        ),
        "blocks": CallToolResult(content=[noted, ImageContent(type="image", data="aGk=", mime_type="image/png")]),
        "data": CallToolResult(content=[text], structured_content={"a": None, "b": {"c": 1.0}, "d": [None]}),
        "model": CallToolResult(content=[text], structured_content=Nested()),
        "nested": CallToolResult(content=[text], structured_content={"a": Nested(), "b": b"bytes"}),
        "list": CallToolResult(content=[text], structured_content=[1, None]),
        "claimed": CallToolResult(content=[text], result_type="com.example/later"),
        "asking": CallToolResult(content=[text], result_type="input_required"),
        "wrong": CallToolResult.model_construct(content=["no block"]),
        "sound": CallToolResult(content=[AudioContent(type="audio", data="aGk=", mime_type="audio/wav")]),
    }
    return results[kind]


BUILT = ("plain", "nothing", "error", "meta", "named", "blocks", "data", "model", "nested", "list")
BUILT += ("claimed", "asking", "wrong", "sound")


@tool(read_only=True)
async def numbers() -> dict[str, Any]:
    """Return what is written in several ways."""
    return {"a": 1.0, "b": 1e22, "c": 10**30, "d": '\u2028\x7f\u00e9\U0001f600\\"', "e": None, "f": [], "g": 1e-7}


@tool(read_only=True)
async def stored(ctx: Context) -> str:
    """Want a database where there is none."""
    async with connection(ctx):
        return "never"


@tool(read_only=True, cost=400)
async def dear(text: Text) -> str:
    """Give the text back for many units."""
    return text


OWN = (resolved, by_hand, confirmed, talkative, claimed, built, numbers, stored, dear)
SAFE = [one for one in sample.TOOLS if one.__name__ not in {"block", "leave_a_thread", "stuck", "who"}]


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with every signature of the corpus, tools that misbehave, and those above."""
    return harden(settings, tools=(*words.corpus()[0], *SAFE, *OWN))


class Both:
    """One server that answers directly and one that does not, and how many answers the direct way gave."""

    def __init__(self, direct: Live, longer: Live) -> None:
        self.servers = (direct, longer)
        self.answers = 0


class Pair:
    """A client of each, asking both the same."""

    def __init__(self, both: Both, *clients: httpx2.AsyncClient) -> None:
        self.both = both
        self.clients = clients

    async def same(
        self,
        version: str,
        params: dict[str, Any],
        *,
        method: str = "tools/call",
        headers: dict[str, str] | None = None,
        rpc_id: Any = 7,
    ) -> bytes:
        """Ask both, and return the body that both give."""
        usual, body = request(era_of(version), method, params, rpc_id=rpc_id, key=KEY)
        sent = usual | {"mcp-protocol-version": version} | (headers or {})
        one, other = await asyncio.gather(*(client.post("/mcp", headers=sent, content=body) for client in self.clients))
        assert told(one) == told(other), params
        return one.content


async def some_at_once(asks: list[Any]) -> None:
    """Ask eight things at a time."""
    for at in range(0, len(asks), 8):
        for outcome in await asyncio.gather(*asks[at : at + 8], return_exceptions=True):
            if isinstance(outcome, BaseException):
                for rest in asks[at + 8 :]:
                    rest.close()
                raise outcome


def era_of(version: str) -> Era:
    """Return the era of a version."""
    return "modern" if version == MODERN else "legacy"


def told(answer: httpx2.Response) -> tuple[int, dict[str, str], bytes]:
    """Return an answer without what is another in each: the reference, the time, the sealed state and its length."""
    reference = answer.headers["x-request-id"]
    fields = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    body = answer.content.replace(reference.encode(), b"reference")
    sealed = re.sub(rb'"requestState":"[^"]+"', b'"requestState":"sealed"', body)
    if sealed != body and "content-length" in fields:
        # A sealed state holds a time and a number, whose length varies.
        fields["content-length"] = "sealed"
    return answer.status_code, fields, sealed


@pytest.fixture
async def pair(both: Both) -> AsyncIterator[Pair]:
    """Clients of both servers, for one test."""
    async with AsyncExitStack() as stack:
        made = [httpx2.AsyncClient(base_url=server.url, timeout=SECONDS) for server in both.servers]
        yield Pair(both, *[await stack.enter_async_context(client) for client in made])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both servers, for all tests of this file."""
    with serving(tmp_path_factory.mktemp("log")) as servers:
        yield servers


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Both]:
    """Both servers, which have left out no line of another test."""
    with serving(tmp_path) as servers:
        yield servers


@contextmanager
def serving(folder: Path) -> Iterator[Both]:
    """Run both servers, with the keys of sealed state in common."""
    usual = {**ENVIRONMENT, "MCP_REQUEST_STATE_KEYS": "k" * 40, "MCP_MAX_RESPONSE_BYTES": "5000"}
    usual |= {f"MCP_RATE_{name}": "1000000" for name in ("PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST")}
    usual |= {f"MCP_RATE_{name}": "1000000" for name in ("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "TOOL_PER_MINUTE")}
    usual["MCP_BUDGET_UNITS"] = "1000000"
    off = settings_from({**usual, "MCP_DIRECT_CALLS": "off"})
    with captured(folder / "log"), pytest.MonkeyPatch.context() as patch:
        answer = DirectCalls.answer

        async def counted(*args: Any) -> dict[str, Any]:
            servers.answers += 1
            return await answer(*args)

        patch.setattr(DirectCalls, "answer", counted)
        with Live(settings_from(usual), build) as direct, Live(off, build) as longer:
            servers = Both(direct, longer)
            yield servers


def each() -> list[dict[str, Any]]:
    """Return calls of everything, good and bad."""
    calls = [{"name": name, "arguments": arguments} for name, arguments in words.corpus()[1].items()]
    calls += [{"name": "row_0", "arguments": {"value": wrong}} for wrong in ("5", None, 1.5, [], {})]
    calls += [{"name": "echo", "arguments": {"text": "hello", "number": number}} for number in (0, 5.0, 100, 101, -1)]
    calls += [{"name": "fail", "arguments": {"text": "hello", "kind": kind.__name__}} for kind in FAILURES]
    calls += [{"name": "built", "arguments": {"kind": kind}} for kind in BUILT]
    calls += [{"name": name, "arguments": {"text": "hello"}} for name in NAMES]
    calls += [{"name": name, "arguments": {"text": "hello"}, "_meta": CAN} for name in NAMES]
    calls += [{"name": "talkative", "arguments": {"text": "a\u2028b"}, "_meta": LOUD | CAN}]
    calls += [{"name": name} for name in ("claimed", "numbers", "stored", "nested", "echo")]
    calls += [{"name": "huge_result", "arguments": {"size": size}} for size in (1, 2000, 6000)]
    calls += [{"name": "query", "arguments": {"sql": "select 1"}}]
    return calls


FAILURES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ToolFailure)]
FAILURES.remove(errors.ToolFailure)
NAMES = ("crash", "stray_cancel", "leave", "too_slow", "wrong_result", "scoped", "resolved", "by_hand", "confirmed")
NAMES += ("talkative", "claimed", "dear", "no_such_tool", "Echo", "")


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_call_is_answered_alike(pair: Pair, version: str) -> None:
    """Every signature of the corpus, every failure, questions, log notifications; nearly all of them directly."""
    before = pair.both.answers
    calls = each()
    await some_at_once([pair.same(version, params) for params in calls])

    assert len(calls) > 190
    assert pair.both.answers - before > 0.95 * len(calls)


UNUSUAL: list[dict[str, Any]] = [
    {"name": "echo", "arguments": None},
    {"name": "echo", "arguments": []},
    {"name": "echo", "arguments": "none"},
    {"name": "echo", "arguments": {"text": "a"}, "more": 1},
    {"name": "echo", "arguments": {"text": "a"}, "task": {"ttl": 60}},
    {"name": "echo", "arguments": {"text": "a"}, "task": None},
    {"name": "echo", "arguments": {"text": "a"}, "requestState": None},
    {"name": "echo", "arguments": {"text": "a"}, "requestState": "made up"},
    {"name": "echo", "arguments": {"text": "a"}, "requestState": 5},
    {"name": "echo", "arguments": {"text": "a"}, "inputResponses": {}},
    {"name": "echo", "arguments": {"text": "a"}, "inputResponses": {"x": {"action": "accept"}}},
    {"name": "echo", "arguments": {"text": "a"}, "inputResponses": "none"},
    {"name": 5, "arguments": {"text": "a"}},
    {"name": None},
    {"arguments": {}},
    {"name": "echo", "input_responses": {}, "arguments": {"text": "a"}},
]
METAS: list[dict[str, Any]] = [
    {"progressToken": "p"},
    {"progressToken": 5},
    {"progressToken": 0},
    {"progressToken": None},
    {"progressToken": True},
    {"progressToken": 1.0},
    {"progressToken": 1.5},
    {"progressToken": []},
    {"progress_token": "p"},
    {"com.example/any": [1, {"a": None}], "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"},
    {"tracestate": "a=b", "baggage": "c=d"},
    {"io.modelcontextprotocol/clientInfo": None},
    {"io.modelcontextprotocol/clientInfo": {"name": "no version"}},
    {"io.modelcontextprotocol/clientInfo": {"name": "n", "version": "1", "more": 1, "icons": [{"src": "a"}]}},
    {"io.modelcontextprotocol/clientInfo": {"name": "long", "version": "x" * LONGEST_KEPT}},
    {"io.modelcontextprotocol/clientInfo": "no object"},
    {"io.modelcontextprotocol/clientCapabilities": None},
    {"io.modelcontextprotocol/clientCapabilities": []},
    {"io.modelcontextprotocol/clientCapabilities": {"elicitation": "no object"}},
    {"io.modelcontextprotocol/clientCapabilities": {"extensions": {"com.example/a": {}}, "sampling": {"tools": {}}}},
    {"io.modelcontextprotocol/logLevel": "loud"},
    {"io.modelcontextprotocol/logLevel": None},
    {"io.modelcontextprotocol/logLevel": "error"},
    {"io.modelcontextprotocol/protocolVersion": "2026-07-29"},
    {"io.modelcontextprotocol/protocolVersion": 5},
]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_unusual_is_answered_alike(pair: Pair, version: str) -> None:
    """Parameters of other versions, `_meta` of every shape, ids, headers that contradict, clients that take JSON."""
    plain = {"name": "echo", "arguments": {"text": "a"}}
    asks = [pair.same(version, params) for params in UNUSUAL]
    for meta in METAS:
        asks.append(pair.same(version, {"name": "claimed", "arguments": {}, "_meta": meta}))
        asks.append(pair.same(version, {"name": "talkative", "arguments": {"text": "a"}, "_meta": meta}))
    ids = (0, -1, 2**53, "", "é" * 20, 2**53 + 1, 1.5, None, True)
    asks += [pair.same(version, plain, rpc_id=rpc_id) for rpc_id in ids]
    wrong = ({"mcp-name": "who"}, {"mcp-method": "tools/list"}, {"mcp-name": ""}, {"accept": "text/html"})
    asks += [pair.same(version, plain, headers=headers) for headers in wrong]
    asked = {"name": "stream", "arguments": {"steps": 2, "seconds": 0.06}, "_meta": {"progressToken": "p"}}
    accepted = ("application/json", "application/json;q=0.9", "application/*", "")
    asks += [pair.same(version, asked, headers={"accept": accept}) for accept in accepted]
    await some_at_once(asks)


@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_lists_and_discovery_are_answered_alike(fresh: Both, version: str, method: str) -> None:
    """The first one, which is made, and those from memory; nearly all of them directly, where the version has them."""
    asked: list[dict[str, Any]] = [{}, {}, {"cursor": None}, {"cursor": "1"}, {"cursor": 5}, {"more": 1}]
    asked += [{"_meta": meta} for meta in METAS]
    async with AsyncExitStack() as stack:
        made = [httpx2.AsyncClient(base_url=server.url, timeout=SECONDS) for server in fresh.servers]
        pair = Pair(fresh, *[await stack.enter_async_context(client) for client in made])
        await pair.same(version, {}, method=method)
        await some_at_once([pair.same(version, params, method=method) for params in asked])
        plain = pair.both.answers
        await pair.same(version, {}, method=method, headers={"accept": "application/json"})

    served = method == "tools/list" or version == MODERN
    assert fresh.answers - plain == (1 if served else 0)
    assert (plain > 10) is served


@pytest.mark.parametrize("version", VERSIONS)
async def test_progress_is_the_same_stream(pair: Pair, version: str) -> None:
    """A stream from the first notification, with a token; JSON without one."""
    params = {"name": "stream", "arguments": {"steps": 3, "seconds": 0.06}}
    before = pair.both.answers
    plain = await pair.same(version, params)
    streamed = await pair.same(version, {**params, "_meta": {"progressToken": 0}})

    assert plain.startswith(b'{"jsonrpc"')
    assert streamed.count(b"notifications/progress") == 3
    assert pair.both.answers == before + 2


async def test_every_round_of_questions_is_the_same(pair: Pair) -> None:
    """The state that one way seals, the other opens; an answer counts once in either."""
    asking = (("by_hand", "sure", True), ("by_hand", "sure", False))
    asking += (("confirmed", "confirm", True), ("resolved", "", True))
    for name, key, full in asking:
        params = {"name": name, "_meta": CAN} | ({"arguments": {"text": "hello"}} if full else {})
        await pair.same(MODERN, params)
        states = []
        for server in pair.both.servers:
            async with Wire(server.url, KEY) as wire:
                first = await wire.ask("modern", "tools/call", params)
            states.append((first.result["requestState"], key or next(iter(first.result["inputRequests"]))))
        # Each at the other server: what is used up is known by each for itself.
        for (state, asked), server in zip(states, reversed(pair.both.servers), strict=True):
            content = {"confirm": True} if name == "confirmed" else {"ok": True}
            answer = {"inputResponses": {asked: {"action": "accept", "content": content}}, "requestState": state}
            async with Wire(server.url, KEY) as wire:
                second = await wire.ask("modern", "tools/call", {**params, **answer})
                again = await wire.ask("modern", "tools/call", {**params, **answer})

            assert second.text.startswith("deleted hello")
            assert name != "by_hand" or second.text.endswith("mine")
            assert again.error["code"] == -32602


async def test_calls_made_up_by_a_machine_are_answered_alike(pair: Pair) -> None:
    """Arguments that nearly fit, `_meta` and parameters of any shape, in a version drawn by lot."""
    declared = pair.both.servers[0].app.server.declared
    names = sorted(name for name in declared if name.startswith("row_") or name in {"echo", "claimed", "numbers"})
    keys = st.sampled_from(["progressToken", *CAN, *LOUD, "io.modelcontextprotocol/clientInfo", "com.example/a"])
    metas = st.dictionaries(keys, ANYTHING | st.just({}), max_size=3)
    more = st.dictionaries(st.sampled_from(["task", "requestState", "inputResponses", "x"]), ANYTHING, max_size=1)
    calls: list[tuple[str, dict[str, Any]]] = []

    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def draw(data: Any) -> None:
        name = data.draw(st.sampled_from(names))
        schema = declared[name].input_schema
        params = {"name": name, "arguments": data.draw(near(schema, schema)), **data.draw(more)}
        calls.append((data.draw(st.sampled_from(VERSIONS)), params | {"_meta": data.draw(metas)}))

    draw()
    await some_at_once([pair.same(version, params) for version, params in calls])


@pytest.mark.parametrize("version", VERSIONS[-2:])
async def test_lines_and_counts_are_the_same(fresh: Both, version: str, tmp_path: Path) -> None:
    """One line and one count for each call, whichever way it went."""
    era = era_of(version)
    calls = [{"name": name, "arguments": {"text": "hello"}} for name in ("echo", "crash", "too_slow", "by_hand", "no")]
    calls += [{"name": "stream", "arguments": {"steps": 2, "seconds": 0.06}, "_meta": {"progressToken": 1}}]
    seen = []
    for number, server in enumerate(fresh.servers):
        async with Wire(server.url, KEY) as wire, Wire(server.url, PROBE_KEY) as probe:
            before = counts((await probe.get("/metrics", authorization=f"Bearer {PROBE_KEY}")).body)
            with captured(tmp_path / f"log{number}") as log:
                for params in calls:
                    await wire.ask(era, "tools/call", params, headers={"mcp-protocol-version": version})
                lines = [without(line) for line in log.lines()]
            after = counts((await probe.get("/metrics", authorization=f"Bearer {PROBE_KEY}")).body)
        seen.append((lines, {name: after[name] - before.get(name, 0) for name in after}))

    for one, other in zip(*seen, strict=True):
        assert one == other
    assert [line["msg"] for line in seen[0][0]].count("tool call") == 5


def without(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line without what is another in each."""
    varying = {"ts", "request_id", "trace_id", "duration_ms", "reference"}
    return {name: value for name, value in line.items() if name not in varying}


def counts(metrics: bytes) -> dict[str, float]:
    """Return what counts calls and requests, without times and sizes."""
    counted = re.compile(rb"^(mcp_(?:tool|requests|refus|protocol)\w*_(?:total|count)(?:{.*})?) (.*)$", re.MULTILINE)
    return {name.decode(): float(value) for name, value in counted.findall(metrics)}


@pytest.mark.parametrize("version", VERSIONS[-2:])
async def test_a_client_that_leaves_ends_its_call(both: Both, version: str, tmp_path: Path) -> None:
    """The tool is cancelled, the line says so, and nothing is in flight any more, whichever way it went."""
    headers, body = request(era_of(version), "tools/call", {"name": "wait", "arguments": {"seconds": 3600}}, key=KEY)
    before = both.answers
    for number, server in enumerate(both.servers):
        for event in (sample.RUNNING, sample.CANCELLED):
            server.do(event.clear)
        with captured(tmp_path / f"log{number}") as log:
            async with httpx2.AsyncClient(timeout=SECONDS) as client:
                leaving = asyncio.ensure_future(client.post(f"{server.url}/mcp", headers=headers, content=body))
                await until(sample.RUNNING.is_set)
                leaving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await leaving
            await until(sample.CANCELLED.is_set)
            await until(lambda: server.do(server.app.pipeline.in_flight) == 0)  # noqa: B023 - used at once
            (line,) = [line for line in log.lines() if line["msg"] == "tool call"]
        assert (line["outcome"], line["error_code"]) == ("cancelled", "cancelled")
    assert both.answers == before + 1


async def until(true: Any) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.01)


async def rewrite(ctx: Any, call_next: Any) -> Any:
    """Stand in the chain of the SDK, as an author's middleware may, and give the tool another argument."""
    return await call_next(replace(ctx, params={**ctx.params, "arguments": {"text": 1}}))


@pytest.mark.parametrize("when", ["at first", "later"])
async def test_a_middleware_of_the_author_is_passed_as_in_the_sdk(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """What it makes of a call is checked again: with one, every call goes the SDK's way."""

    def own(settings: HardeningSettings) -> HardenedServer:
        server = harden(settings, tools=(sample.echo,))
        if when == "at first":
            server.middleware.append(rewrite)
        return server

    with Live(settings_from(ENVIRONMENT), own) as server:
        async with Wire(server.url, KEY) as wire:
            if when == "later":
                assert (await wire.call("modern", "echo", {"text": "a"})).result["isError"] is False
                server.do(lambda: server.server.middleware.append(rewrite))
            monkeypatch.setattr(DirectCalls, "answer", None)
            reply = await wire.call("modern", "echo", {"text": "a"})

    assert reply.result["_meta"]["hardening/error"]["kind"] == "invalid_input"


async def test_what_is_remembered_of_claims_is_bounded(pair: Pair) -> None:
    """In number and in size; what differs from call to call is no part of it."""
    cache = direct_calls._valid  # noqa: SLF001 - its bound is the promise
    cache.cache_clear()
    for version in ("1", "x" * LONGEST_KEPT):
        claim = {"io.modelcontextprotocol/clientInfo": {"name": "wire", "version": version}}
        for token in range(3):
            meta = claim | {"progressToken": token, "traceparent": f"00-{token}"}
            await pair.same(MODERN, {"name": "echo", "arguments": {"text": "a"}, "_meta": meta})

    assert cache.cache_info().currsize == 1
    assert (LONGEST_KEPT, cache.cache_info().maxsize) == (1024, 256)


def test_the_direct_way_is_the_usual_one() -> None:
    """And one setting goes back."""
    assert settings_from(ENVIRONMENT).direct_calls is True
    assert settings_from({**ENVIRONMENT, "MCP_DIRECT_CALLS": "off"}).direct_calls is False
