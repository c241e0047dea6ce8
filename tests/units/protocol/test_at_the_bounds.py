"""Parts of the protocol alone, on either side of their bounds: messages, sessions, streams, lines, events, turns."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from captured import nothing
from mcp.server.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from pydantic import SecretStr

from hardening import errors
from hardening.exchange import Principal, current, open_exchange
from hardening.protocol import long_lived_streams, response_writer, session_memory, stdio_framing, subscription_bus
from hardening.protocol.list_cache import ListCache
from hardening.protocol.long_lived_streams import LongLivedStreams
from hardening.protocol.message import MessageCheck, has_more_values, too_deep
from hardening.protocol.request_state import request_state_security
from hardening.protocol.response_writer import ResponseWriter
from hardening.protocol.sessions import Sessions
from hardening.protocol.stdio_exchange import exchange_of
from hardening.protocol.turns import Turns
from hardening.protocol.used_states import UsedStates
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from hardening.exchange import Exchange
    from hardening.response import Response

MODERN = {"mcp-protocol-version": "2026-07-28"}
BAD_MESSAGE = (400, "invalid_request", -32600)


def asked(
    body: Any = None, *, headers: dict[str, str] | None = None, method: str = "POST", kind: str = "api_key"
) -> Any:
    """Return a request of Alice with this body."""
    lines = [(name.encode(), text.encode()) for name, text in (MODERN if headers is None else headers).items()]
    exchange: Any = open_exchange(
        {"type": "http", "method": method, "path": "/mcp", "headers": lines}, nothing, nothing
    )
    exchange.principal = Principal(kind, "alice")  # type: ignore[arg-type] - one of the kinds
    exchange.body = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return exchange


def told(answer: Response | None) -> tuple[int, str, int | None] | None:
    """Return status, kind and code."""
    return None if answer is None else (answer.status, answer.kind, answer.code)


def call(**more: Any) -> dict[str, Any]:
    """Return a call of a tool."""
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}} | more


def listing(**more: Any) -> dict[str, Any]:
    """Return a request that carries no data."""
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}} | more


def nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (call(), None),
        (b"{", (400, "parse_error", -32700)),
        (b'{"jsonrpc": NaN}', (400, "parse_error", -32700)),
        ([], BAD_MESSAGE),
        (call(jsonrpc="1.0"), BAD_MESSAGE),
        ({"id": 1, "method": "ping"}, BAD_MESSAGE),
        ({"jsonrpc": "2.0", "method": "ping"}, None),
        (call(id="a" * 128), None),
        (call(id="a" * 129), BAD_MESSAGE),
        (call(id=2**53), None),
        (call(id=2**53 + 1), BAD_MESSAGE),
        (call(id=-(2**53)), None),
        (call(id=-(2**53) - 1), BAD_MESSAGE),
        (call(id=True), BAD_MESSAGE),
        (call(id=1.5), BAD_MESSAGE),
        (call(id=None), BAD_MESSAGE),
        (call(params=[]), BAD_MESSAGE),
        (call(params=None), None),
        (call(method=1), BAD_MESSAGE),
        (call(method=None), BAD_MESSAGE),
        (call(params={"_meta": []}), (400, "invalid_params", -32602)),
        (call(params={"_meta": {"traceparent": 1}}), (400, "invalid_params", -32602)),
        (call(params={"_meta": {"tracestate": None}}), (400, "invalid_params", -32602)),
        (call(params={"_meta": {"baggage": "a", "other": 1}}), None),
        (call(params={"a": nested(8 - 2)}), None),
        (call(params={"a": nested(8 - 1)}), (400, "too_deep", -32600)),
        (call(params={"a": [1] * 1990}), None),
        (call(params={"a": [1] * 2100}), (400, "too_many_values", -32600)),
        (listing(params={"a": [1] * 900}), None),
        (listing(params={"a": [1] * 1100}), (400, "too_many_values", -32600)),
        (listing(params={"a": "x" * 65_000}), None),
        (listing(params={"a": "x" * 65_536}), (413, "too_big", None)),
        (listing(params={"a": "x" * 65_536, "b": "tools/call"}), (413, "too_big", None)),
        (listing(params={"a": [1] * 1100, "b": "prompts/get"}), (400, "too_many_values", -32600)),
        (call(params={"a": "x" * 70_000}), None),
        (json.dumps(call(params={"a": "x" * 70_000})).replace("/", "\\/").encode(), None),
    ],
)
async def test_a_message(body: Any, refused: tuple[int, str, int | None] | None) -> None:
    """400 and 413 with the codes of JSON-RPC; the answer has the id once it is known."""
    exchange = asked(body)
    check = MessageCheck(HardeningSettings(max_json_depth=8, max_json_values=2000))

    assert told(await check(exchange)) == refused
    if refused is None and isinstance(body, dict):
        assert exchange.rpc_id == body.get("id")


async def test_a_monitor_sends_little() -> None:
    """Whatever method it names: its key calls no tool."""
    check = MessageCheck(HardeningSettings())

    assert told(await check(asked(call(params={"a": "x" * 65_536}), kind="probe"))) == (413, "too_big", None)
    assert told(await check(asked(call(params={"a": [1] * 1100}), kind="probe"))) == (400, "too_many_values", -32600)
    assert await check(asked(call(params={"a": "x" * 60_000}), kind="probe")) is None


@pytest.mark.parametrize(
    ("legacy", "headers", "answer", "refused"),
    [
        ("stateful", {}, {"result": {"a": "secret-1"}}, None),
        ("stateful", {}, {"error": {"code": 1, "message": "secret-1"}}, None),
        ("stateful", {}, {"result": []}, BAD_MESSAGE),
        ("stateful", {}, {"error": {"code": "1", "message": "a"}}, BAD_MESSAGE),
        ("stateful", {}, {"error": {"code": 1, "message": 1}}, BAD_MESSAGE),
        ("stateful", {}, {"error": "a"}, BAD_MESSAGE),
        ("stateful", {}, {}, BAD_MESSAGE),
        ("stateful", MODERN, {"result": {}}, BAD_MESSAGE),
        ("stateless", {}, {"result": {}}, BAD_MESSAGE),
    ],
)
async def test_an_answer_to_a_question_of_ours(
    legacy: Any, headers: dict[str, str], answer: dict[str, Any], refused: Any
) -> None:
    """Only in sessions; what a person has written is never logged."""
    exchange = asked({"jsonrpc": "2.0", "id": 5, **answer}, headers=headers)
    found = told(await MessageCheck(HardeningSettings(legacy=legacy))(exchange))

    assert found == refused
    assert (exchange.rpc_method, exchange.rpc_id) == (None, None)
    assert ("secret-1" in exchange.sensitive) is ("secret-1" in json.dumps(answer))


async def test_an_era_that_is_not_served() -> None:
    """400 with what is, whether the message is good or not; the answer has its id."""
    check = MessageCheck(HardeningSettings(legacy="refuse"))
    exchange = asked(listing(id=7), headers={})
    answer = await check(exchange)

    assert answer is not None
    assert told(answer) == (400, "legacy_refused", -32022)
    assert answer.data == (("supported", ["2026-07-28"]), ("requested", "2025-03-26"))
    assert answer.message == "Speak protocol 2026-07-28; older ones are not served here."
    assert exchange.rpc_id == 7
    assert told(await check(asked(b"{", headers={}))) == (400, "legacy_refused", -32022)
    assert await check(asked(listing())) is None
    assert await check(asked(None)) is None


@pytest.mark.parametrize(
    ("message", "kept", "tool"),
    [
        (
            call(params={"name": "echo", "arguments": {"a": "value-1"}, "_meta": {"b": "value-2"}}),
            *({"value-1", "value-2"}, "echo"),
        ),
        (call(params={"name": "echo", "_meta": {"io.modelcontextprotocol/b": "value-0"}}), set(), "echo"),
        (call(params={"name": 5}), set(), None),
        (call(method="prompts/get", params={"name": "value-3"}), {"value-3"}, None),
        (call(method="own/method", params={"x": "value-4"}), {"value-4"}, None),
        (listing(params={"cursor": "value-5"}), {"value-5"}, None),
        (listing(params={"x": "value-6"}), set(), None),
    ],
)
async def test_what_is_never_logged(message: dict[str, Any], kept: set[str], tool: str | None) -> None:
    """What a model or a person has written, in parameters and in headers, and nothing of the protocol's own."""
    exchange = asked(
        message, headers=MODERN | {"mcp-param-a": "value-9", "user-agent": "value-8", "x-other": "value-7"}
    )
    assert await MessageCheck(HardeningSettings())(exchange) is None

    everything = {f"value-{number}" for number in range(10)}
    expected = kept | {"value-9", "value-7"} if kept or message["method"] == "tools/call" else kept
    assert exchange.sensitive & everything == expected
    assert (exchange.tool_name, exchange.rpc_method) == (tool, message["method"])
    assert exchange.params == message["params"]


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b"[]", 1),
        (b"[1,2,3]", 3),
        (b'{"a":[1,2],"b":{}}', 5 - 1 + 1),
        (b'"[[[[{{,,"', 0),
        (b'{"a":"\\",[[["}', 1),
        (b'{"a":"\\\\","b":[1]}', 3),
        (b'["\\\\\\"[,"]', 1),
    ],
)
def test_values_are_counted_without_those_in_texts(body: bytes, values: int) -> None:
    """Exactly, and without parsing."""
    json.loads(body)

    assert not has_more_values(body, values)
    assert values == 0 or has_more_values(body, values - 1)


@pytest.mark.parametrize(
    ("value", "depth"),
    [(1, 0), ([], 1), ({}, 1), ([[1], {}], 2), ({"a": {"b": [{}]}}, 4), ([1, [2, [3]]], 3)],
)
def test_depth_is_measured_exactly(value: Any, depth: int) -> None:
    """Arrays and objects alike."""
    body = json.dumps(value).encode()

    assert not too_deep(body, value, depth)
    assert depth == 0 or too_deep(body, value, depth - 1)


async def test_large_messages_take_turns() -> None:
    """8 KiB and more: one in each round of the loop, caller by caller; one that was given up takes no round."""
    turns, order = Turns(), []

    async def wait(name: str, size: int) -> None:
        exchange = asked(b"x" * size)
        exchange.principal = Principal("api_key", name)
        await turns.wait(exchange)
        order.append((name, size))

    tasks = [asyncio.create_task(wait(*one)) for one in (("a", 8192), ("a", 8193), ("a", 8194), ("b", 9000))]
    given_up = asyncio.create_task(wait("c", 9000))
    await asyncio.sleep(0)
    given_up.cancel()
    await wait("d", 8191)
    await asyncio.gather(*tasks)

    assert order == [("d", 8191), ("a", 8192), ("b", 9000), ("a", 8193), ("a", 8194)]
    assert not turns._waiting  # noqa: SLF001 - nothing is kept
    await turns.wait(asked(None))


# --- Sessions ----------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def sessions(clock: Clock, ended: list[Any], **more: Any) -> Sessions:
    """Return the guard, and note what ends."""
    given = {"legacy": "stateful", "max_sessions_per_principal": 2, "session_idle_seconds": 60} | more
    return Sessions(HardeningSettings(**given), clock=clock, on_end=[lambda *end: ended.append(end)])


def of_session(
    name: str = "", rpc_method: str = "ping", rpc_id: Any = None, who: str = "alice", **more: Any
) -> Exchange:
    """Return a request of a session."""
    headers = {"mcp-protocol-version": "2025-06-18"} | ({"mcp-session-id": name} if name else {})
    exchange = asked(headers=headers, **more)
    exchange.principal, exchange.rpc_method, exchange.rpc_id = Principal("api_key", who), rpc_method, rpc_id
    return exchange


def done(exchange: Exchange) -> None:
    """End a request."""
    for action in exchange.on_done:
        action()


async def open_one(guard: Sessions, name: str, who: str = "alice") -> Exchange:
    """Open a session as the SDK does, in the headers of an answer."""
    exchange = of_session(rpc_method="initialize", who=who)
    assert await guard(exchange) is None
    exchange.status = 200
    for hook in exchange.on_response_start:
        hook(exchange, {"headers": [(b"Mcp-Session-Id", name.encode())]})
    return exchange


async def test_sessions_are_counted_by_caller() -> None:
    """Two of a caller: the third is 503 with half a minute to wait, other callers and other requests go on."""
    clock, ended = Clock(), []
    guard = sessions(clock, ended)
    first = await open_one(guard, "one")
    await open_one(guard, "two")
    third = of_session(rpc_method="initialize")
    refused = await guard(third)

    assert first.session_id == "one"
    assert refused is not None
    assert (refused.status, refused.kind, refused.retry_after) == (503, "sessions", 30)
    assert await guard(of_session(rpc_method="initialize", who="bob")) is None
    assert await guard(of_session()) is None
    guard.close()
    assert (sorted(ended), guard.open) == ([(0.0, ""), (0.0, "")], {})
    assert await guard(of_session(rpc_method="initialize")) is None


async def test_a_session_ends_when_nobody_has_used_it() -> None:
    """After its idle time and not before, and not while it works; the end is the moment when the time was over."""
    clock, ended = Clock(), []
    guard = sessions(clock, ended)
    await open_one(guard, "one")
    clock.now += 40
    working = of_session("one")
    assert await guard(working) is None
    assert (working.session_id, guard.open["one"].busy, guard.open["one"].used) == ("one", 1, 140.0)
    clock.now += 61
    await guard(of_session())
    assert "one" in guard.open
    done(working)
    assert (guard.open["one"].busy, guard.open["one"].used) == (0, 201.0)
    clock.now += 60
    await guard(of_session())
    assert "one" in guard.open
    clock.now += 1
    await guard(of_session())

    assert guard.open == {}
    assert ended == [(161.0, "2025-06-18")]


@pytest.mark.parametrize(
    ("who", "method", "status", "over"),
    [
        ("alice", "DELETE", 200, True),
        ("alice", "POST", 404, True),
        ("alice", "POST", 200, False),
        ("bob", "DELETE", 404, False),
    ],
)
async def test_a_session_is_ended_by_its_caller(who: str, method: str, status: int, over: bool) -> None:  # noqa: FBT001
    """Or when it is told that it does not exist; nobody else learns of it, or ends it."""
    clock, ended = Clock(), []
    guard = sessions(clock, ended)
    await open_one(guard, "one")
    clock.now += 5
    exchange = of_session("one", who=who, method=method)
    assert await guard(exchange) is None
    exchange.status = status
    for hook in exchange.on_response_start:
        hook(exchange, {})

    assert ("one" not in guard.open) is over
    assert ended == ([(5.0, "2025-06-18")] if over else [])
    assert (exchange.session_id == "one") is (who == "alice")


async def test_only_the_older_protocols_have_sessions() -> None:
    """And only where they are switched on."""
    clock: Clock = Clock()
    for guard, exchange in (
        (sessions(clock, [], legacy="stateless"), of_session("one")),
        (sessions(clock, []), asked()),
    ):
        assert await guard(exchange) is None
        assert exchange.on_response_start == []


async def test_requests_with_one_id_take_turns() -> None:
    """1 and "1" are one id to the SDK; who waits as long as a call may take gets 503, and nothing is kept."""
    guard = sessions(Clock(), [], tool_timeout_seconds=0.1)
    await open_one(guard, "one")
    first, second, third = (of_session("one", rpc_id=rpc_id) for rpc_id in (1, "1", 1))
    assert await guard(first) is None
    assert await guard(of_session("one", rpc_id=2)) is None
    assert await guard(of_session("one")) is None
    refused = await guard(second)
    assert refused is not None
    assert (refused.status, refused.kind, refused.retry_after) == (503, "duplicate_id", 1)
    waiting = asyncio.ensure_future(guard(third))
    await asyncio.sleep(0.01)
    assert guard.open["one"].turns["1"].users == 2
    done(first)
    assert await waiting is None
    done(third)

    assert set(guard.open["one"].turns) == {"2"}


# --- The answer --------------------------------------------------------------------------------------


class Written:
    """What was sent, and when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()

    async def send(self, message: Any) -> None:
        """Keep a message."""
        self.sent.append(message)

    async def receive(self) -> Any:
        """Wait until the client leaves."""
        await self.left.wait()
        return {"type": "http.disconnect"}


def writer(wire: Written, *, stream: bool = True, token: Any = 5, ping: float = 60) -> ResponseWriter:
    """Return what the SDK sends by."""
    exchange = asked()
    exchange.accepts_stream, exchange.rpc_id = stream, 7
    exchange.params = {"_meta": {"progressToken": token}}
    return ResponseWriter(exchange, wire.receive, wire.send, ping)


JSON_START = {
    "type": "http.response.start",
    "status": 404,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ],
}


def event(message: bytes, *, more: bool = True) -> dict[str, Any]:
    """Return what one event is sent as."""
    return {
        "type": "http.response.body",
        "body": b"event: message\r\ndata: " + message + b"\r\n\r\n",
        "more_body": more,
    }


async def test_an_answer_to_the_letter() -> None:
    """JSON with its status; a stream from the first notification on, whose status is 200."""
    plain, streamed, silent = Written(), Written(), Written()
    await writer(plain).finish(b"{}", 404)
    reply = writer(streamed)
    await reply.notify("a/b", None)
    await reply.notify("a/c", {"x": 1})
    await reply.finish(b"{}", 404)
    quiet = writer(silent, stream=False)
    await quiet.notify("a/b", None)
    await quiet.finish(b"{}", 404)

    body = {"type": "http.response.body", "body": b"{}"}
    assert plain.sent == silent.sent == [JSON_START, body]
    assert streamed.sent == [
        STREAM_START,
        event(b'{"jsonrpc":"2.0","method":"a/b"}'),
        event(b'{"jsonrpc":"2.0","method":"a/c","params":{"x":1}}'),
        event(b"{}", more=False),
    ]
    assert (reply.request_id, reply.can_send_request, reply.transport.kind) == (7, False, "streamable-http")
    assert reply.transport.headers == MODERN
    assert reply.transport.can_send_request is False


async def test_the_head_goes_out_before_whatever_is_sent_at_the_same_time() -> None:
    """Two notifications and an answer at once, over a connection that takes its time: one head, then the events."""

    class Slow(Written):
        async def send(self, message: Any) -> None:
            await asyncio.sleep(0.01 if message["type"] == "http.response.start" else 0)
            self.sent.append(message)

    reply = writer(wire := Slow())
    await asyncio.gather(reply.notify("a/b", None), reply.notify("a/c", None), reply.finish(b"{}", 200))

    assert wire.sent == [
        STREAM_START,
        event(b'{"jsonrpc":"2.0","method":"a/b"}'),
        event(b'{"jsonrpc":"2.0","method":"a/c"}'),
        event(b"{}", more=False),
    ]


@pytest.mark.parametrize(("token", "sent"), [("t", True), (0, True), (True, False), (None, False), ([], False)])
async def test_progress_goes_to_who_has_asked(token: Any, sent: bool) -> None:  # noqa: FBT001 - a column
    """By its token, without what is not known."""
    wire = Written()
    reply = writer(wire, token=token)
    await reply.progress(0.5)
    await reply.progress(1, 2, "half")

    bodies = [json.loads(one["body"][22:]) for one in wire.sent if one["type"] == "http.response.body"]
    assert [body["params"] for body in bodies] == (
        [
            {"progressToken": token, "progress": 0.5},
            {"progressToken": token, "progress": 1, "total": 2, "message": "half"},
        ]
        if sent
        else []
    )


async def test_nothing_is_asked_of_a_client_this_way() -> None:
    """There is no way back."""
    from mcp.shared.exceptions import NoBackChannelError

    with pytest.raises(NoBackChannelError):
        await writer(Written()).send_raw_request("a/b", None)


async def test_a_silent_answer_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """By comments, once it has been silent for so long; what was sent meanwhile counts."""
    monkeypatch.setattr(response_writer, "WATCH_AFTER_SECONDS", 0.0)
    wire = Written()
    reply = writer(wire, ping=0.05)
    with reply:
        async with asyncio.timeout(10):
            while len(wire.sent) < 3:
                await asyncio.sleep(0.005)
    count = len(wire.sent)
    await asyncio.sleep(0.12)

    ping = {"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True}
    assert wire.sent[:3] == [STREAM_START, ping, ping]
    assert len(wire.sent) == count
    assert not reply.client_gone()


async def test_a_client_that_leaves_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is cancelled, and whoever has asked is told; a cancellation of another origin is not taken for it."""
    monkeypatch.setattr(response_writer, "WATCH_AFTER_SECONDS", 0.0)
    wire, found = Written(), []

    async def work(*, leave: bool) -> None:
        reply = writer(wire)
        told = reply.cancel_requested
        try:
            with reply:
                if leave:
                    wire.left.set()
                await asyncio.sleep(10)
        except asyncio.CancelledError:
            found.append((reply.client_gone(), told.is_set()))
            if not leave:
                raise

    await asyncio.wait_for(work(leave=True), 5)
    wire.left.clear()
    other = asyncio.create_task(work(leave=False))
    await asyncio.sleep(0.02)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)

    assert found == [(True, True), (False, False)]


# --- Streams, events, states, lines ------------------------------------------------------------------


async def test_a_stream_ends_with_its_last_piece() -> None:
    """At a drain the protocol sees a client that leaves; the client sees a stream that has come to its end."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def protocol(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["headers"], await receive()))
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def never() -> Any:
        await asyncio.Event().wait()

    streams = LongLivedStreams(protocol)
    scope = {"method": "GET", "headers": [(b"last-event-id", b"5"), (b"accept", b"a")]}
    task = asyncio.create_task(streams(scope, never, send))
    await asyncio.sleep(0.01)
    assert not task.done()
    streams.end()
    await asyncio.wait_for(task, 5)
    await streams({**scope, "method": "POST"}, nothing, send)

    assert seen == [([(b"accept", b"text/event-stream")], {"type": "http.disconnect"}), (scope["headers"], None)]
    start = {"type": "http.response.start", "status": 200}
    assert sent == [start, {"type": "http.response.body", "body": b"", "more_body": False}, start]


async def test_a_stream_that_has_ended_by_itself_is_not_ended_again() -> None:
    """Its last piece was the last."""
    sent: list[Any] = []

    async def protocol(scope: Any, receive: Any, send: Any) -> None:
        del scope
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message: Any) -> None:
        sent.append(message.get("body"))

    async def body() -> Any:
        return {"type": "http.request"}

    await LongLivedStreams(protocol)({"method": "GET", "headers": []}, body, send)
    await asyncio.sleep(0)

    assert sent == [None, b"a", b"b"]
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing of it waits for the drain"


async def test_a_subscription_that_has_ended_is_forgotten_before_its_token_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No timer keeps it for the hours that the token still holds."""
    handlers: list[Any] = []

    class Handler:
        def __init__(self, *_: Any, **__: Any) -> None:
            handlers.append(weakref.ref(self))

        async def __call__(self, *_: Any) -> str:
            return "ended"

        def close(self) -> None: ...

    monkeypatch.setattr(long_lived_streams, "ListenHandler", Handler)
    one = asked()
    one.principal = Principal("jwt", "alice", expires_at=time.time() + 3600)
    token = current.set(one)
    try:
        ended = await long_lived_streams.Listening(None)(None, SimpleNamespace(model_extra=None))  # type: ignore[arg-type] - not asked
    finally:
        current.reset(token)
    gc.collect()

    assert ended == "ended"
    assert [handler() for handler in handlers] == [None]


@pytest.mark.parametrize(
    ("event_", "written"),
    [
        (ToolsListChanged(), {"from": "me", "changed": "tools"}),
        (PromptsListChanged(), {"from": "me", "changed": "prompts"}),
        (ResourcesListChanged(), {"from": "me", "changed": "resources"}),
        (ResourceUpdated(uri="a://b"), {"from": "me", "updated": "a://b"}),
    ],
)
def test_an_event_travels_between_replicas(event_: Any, written: dict[str, str]) -> None:
    """As JSON with its origin, which does not hear of it again."""
    text = subscription_bus.encode(event_, "me")

    assert json.loads(text) == written
    assert subscription_bus.decode(text, "other") == event_
    assert subscription_bus.decode(text, "me") is None


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b"{}", b'{"from": "a"}', b'{"from": "a", "changed": "x"}'])
def test_what_is_no_event_is_none(text: bytes) -> None:
    """Another version may share the channel."""
    assert subscription_bus.decode(text, "me") is None


def test_where_events_go() -> None:
    """To this process where it is alone, over Redis where there is one, nowhere where they would not reach all."""
    assert type(subscription_bus.open_bus(HardeningSettings())).__name__ == "InMemorySubscriptionBus"
    assert subscription_bus.open_bus(HardeningSettings(replicas=2)) is None
    bus = subscription_bus.open_bus(HardeningSettings(replicas=2, REDIS_URL="redis://h"))
    assert isinstance(bus, subscription_bus.RedisBus)


async def test_a_state_is_used_once() -> None:
    """For 660 s, 1024 of them at most; with replicas and no Redis, never."""
    clock = Clock()
    states = UsedStates(HardeningSettings(rate_max_keys=1024), clock=clock)
    assert [await states.take("a"), await states.take("a"), await states.take("b")] == [True, False, True]
    clock.now += 659.9
    assert await states.take("a") is False
    clock.now += 0.1
    assert await states.take("a") is True
    for number in range(1023):
        await states.take(f"more {number}")
    with pytest.raises(errors.Busy):
        await states.take("one too many")
    with pytest.raises(errors.UpstreamUnavailable):
        await UsedStates(HardeningSettings(replicas=2)).take("a")
    alone = HardeningSettings(REDIS_URL="redis://127.0.0.1:1")
    assert await UsedStates(alone).take("a") is True
    shared = UsedStates(alone.model_copy(update={"request_state_keys": (SecretStr("k" * 32),)}))
    for _ in range(2):
        with pytest.raises(errors.UpstreamUnavailable):
            await shared.take("a")
    await shared.aclose()


def test_who_a_state_is_bound_to() -> None:
    """The caller, for ten minutes, with the first key or with one of this process."""
    exchange = asked()
    for keys in ((), (SecretStr("k" * 32), SecretStr("l" * 32))):
        security = request_state_security(HardeningSettings(request_state_keys=keys))
        assert security.ttl == 600
        assert security.bind_principal is not None
        token = current.set(exchange)
        assert security.bind_principal(None) == "api_key alice"  # type: ignore[arg-type] - not asked
        current.reset(token)
        assert security.bind_principal(None) is None  # type: ignore[arg-type] - not asked


@pytest.mark.parametrize(
    ("text", "era", "version"),
    [
        (b'{"params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}}', "modern", "2026-07-28"),
        (b'{"params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2025-06-18"}}}', "legacy", "2025-03-26"),
        (b'{"params": []}', "legacy", "2025-03-26"),
        (b"{", "legacy", "2025-03-26"),
        (None, "legacy", "2025-03-26"),
    ],
)
async def test_a_message_on_standard_input(text: bytes | None, era: str, version: str) -> None:
    """Is from one local caller, and has ids of its own."""
    one, other = exchange_of(text, 100), exchange_of(text, 100)

    assert (one.era, one.protocol_version, one.body) == (era, version, text)
    assert (one.principal, one.method, one.path, one.headers) == (Principal("none", "stdio"), "", "", {})
    assert (len(one.request_id), len(one.trace_id)) == (16, 32)
    assert one.request_id != other.request_id
    assert one.scope == {"type": "stdio"}
    assert await one.receive() is None


def test_a_message_of_too_many_values_on_standard_input_is_not_parsed() -> None:
    """Before its values are counted nothing is read of it, not even the version that it names."""
    text = b'{"params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, "a": [%b1]}}' % (
        b"1, " * 100
    )

    assert exchange_of(text, 100).era == "legacy"
    assert exchange_of(text, 110).era == "modern"


async def test_a_line_that_drips_costs_what_its_bytes_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as many bytes, one by one, take about eight times as long of the processor: not sixty-four times."""
    monkeypatch.setattr(stdio_framing, "CHUNK_BYTES", 1)
    spent = []
    for size in (40_000, 320_000):
        reading, writing = os.pipe()
        reader = stdio_framing.LineReader(reading, 2**20)
        began = time.process_time()
        await asyncio.to_thread(stdio_framing.write_line, writing, b"a" * size)
        line, _ = await reader.next()
        spent.append(time.process_time() - began)
        os.close(writing)
        assert await reader.next() == (b"", True)
        assert line == b"a" * size

    assert spent[1] < 24 * spent[0], spent


async def test_lines_are_bounded_to_the_byte() -> None:
    """A longer one comes as None, wherever it is cut; the last may lack its end."""
    reading, writing = os.pipe()
    reader = stdio_framing.LineReader(reading, 10)
    sent = b"a" * 10 + b"\n" + b"b" * 11 + b"\n" + b"c" * 200_000 + b"\n\nlast"
    pushed = asyncio.create_task(asyncio.to_thread(stdio_framing.write_line, writing, sent[:-4] + b"x"))
    lines = [await asyncio.wait_for(reader.next(), 10) for _ in range(5)]
    await pushed
    os.write(writing, b"last")
    os.close(writing)
    lines += [await asyncio.wait_for(reader.next(), 10) for _ in range(2)]
    os.close(reading)

    assert lines == [
        *((b"a" * 10, False), (None, False), (None, False), (b"", False), (b"x", False)),
        *((b"last", False), (b"", True)),
    ]


class Listed:
    """A server with tools."""

    def __init__(self) -> None:
        self.tools: list[Any] = []

    async def list_tools(self) -> list[Any]:
        """Return the same list each time."""
        return self.tools


async def test_listings_are_kept_by_version() -> None:
    """Until the tools are others; what is kept is not the answer that was given away."""
    from types import SimpleNamespace

    server, asked_for = Listed(), []
    cache = ListCache(server)  # type: ignore[arg-type] - what it asks for is there
    cache.restricted = True

    async def answer(ctx: Any) -> Any:
        asked_for.append((ctx.method, ctx.protocol_version))
        return {"tools": server.tools, "at": len(asked_for)}

    async def ask(method: str = "tools/list", version: str = "2025-11-25") -> Any:
        return await cache(SimpleNamespace(method=method, protocol_version=version, params={}), answer)

    first, second = await ask(), await ask()
    assert first == second == {"tools": [], "at": 1, "_meta": {"hardening/restricted": True}}
    assert json.loads(cache.encoded(second) or b"") == first
    assert cache.encoded({"tools": [], "at": 1}) is None
    assert cache.encoded(None) is None
    second["at"] = 99
    assert (await ask())["at"] == 1
    assert (await ask(version="2025-06-18"))["at"] == 2
    assert (await ask("prompts/list"))["at"] == 3
    assert (await ask("prompts/list"))["at"] == 4
    server.tools = []
    assert (await ask())["at"] == 5


def test_what_a_session_may_say_it_can_do() -> None:
    """4 KiB of capabilities as JSON, to the byte, and 128 values; what is no mapping is for the SDK to refuse."""
    room = 4096 - len('{"a":""}')

    assert session_memory.refuse_opening({"capabilities": {"a": "x" * room}}) is None
    assert session_memory.refuse_opening({"capabilities": {"a": "x" * (room + 1)}}) is not None
    for number, good in ((126, True), (129, False)):
        values = {"capabilities": {"a": [1] * number}}
        assert (session_memory.refuse_opening(values) is None) is good
    assert session_memory.refuse_opening({"capabilities": []}) is None
    assert session_memory.refuse_opening({}) is None
