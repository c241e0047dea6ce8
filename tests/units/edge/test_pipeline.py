"""The one layer around everything: whatever happens inside it, it answers, says nothing, and gives everything back."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import sample
from captured import captured, nothing
from live import KEY, Live, live
from wire import ERAS, SECONDS, Era, Reply, Wire, opening, request

from hardening.edge.pipeline import Pipeline
from hardening.exchange import current
from hardening.logs.access_log import AccessLog
from hardening.logs.throttle import Throttle
from hardening.response import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from pathlib import Path

    from hardening.exchange import Exchange

TEXT = "what an exception holds and nobody may read"

both_eras = pytest.mark.parametrize("era", ERAS)


class Slot:
    """A guard that takes something for each request."""

    def __init__(self) -> None:
        self.taken = 0

    async def __call__(self, exchange: Exchange) -> None:
        """Take it until the end."""
        self.taken += 1
        exchange.on_end.append(self._give_back)

    def _give_back(self) -> None:
        self.taken -= 1


async def crash(*_: Any) -> Any:
    """Fail as a guard or as the protocol, with a text that nobody may see."""
    raise RuntimeError(TEXT)


async def half_an_answer(scope: Any, receive: Any, send: Any) -> None:
    """Begin to answer, then fail."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"half":', "more_body": True})
    raise RuntimeError(TEXT)


@contextmanager
def edge_with(server: Live, *guards: Any, protocol: Any = None) -> Generator[Slot]:
    """Add guards behind the others, or put something in the protocol's place, for a while."""
    edge, slot = server.app.pipeline, Slot()
    before = edge.guards, edge.inner_app
    edge.guards = (*edge.guards, ("slot", slot), *((f"added {number}", guard) for number, guard in enumerate(guards)))
    edge.inner_app = protocol or edge.inner_app
    try:
        yield slot
    finally:
        edge.guards, edge.inner_app = before


async def idle(server: Live) -> None:
    """Wait until the server has ended every exchange."""
    async with asyncio.timeout(SECONDS):
        while server.app.pipeline.in_flight():
            await asyncio.sleep(0.005)


@both_eras
@pytest.mark.parametrize("place", ["guard", "protocol"])
async def test_a_crash_is_500_with_a_reference_and_without_a_text(
    server: Live, wire: Wire, tmp_path: Path, era: Era, place: str
) -> None:
    """The caller learns a reference, the log where it happened, and what was taken is given back."""
    added = {"guards": (crash,), "protocol": None} if place == "guard" else {"guards": (), "protocol": crash}
    with captured(tmp_path / "log") as log, edge_with(server, *added["guards"], protocol=added["protocol"]) as slot:
        reply = await wire.ask(era, "tools/list", rpc_id="mine")
        await idle(server)
        lines = log.lines()
        text = log.text()

    assert reply.status == 500
    assert reply.message["id"] == "mine"
    assert reply.error["data"]["reference"] == reply.headers["x-request-id"]
    assert TEXT not in reply.body.decode() + text
    assert any(
        line["msg"] == "unhandled exception" and line["request_id"] == reply.headers["x-request-id"] for line in lines
    )
    assert slot.taken == 0


async def silent(*_: Any) -> None:
    """Return without an answer, as no protocol layer should."""


async def half_silent(scope: Any, receive: Any, send: Any) -> None:
    """Begin to answer, then return."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"half":', "more_body": True})


@both_eras
async def test_a_request_that_nothing_answers_is_500(server: Live, wire: Wire, tmp_path: Path, era: Era) -> None:
    """The caller gets a reference at once, the log one line of each kind, the metric one count; slots are free."""
    server.app.pipeline.access_log.admit = Throttle(time.monotonic)
    with captured(tmp_path / "log") as log, edge_with(server, protocol=silent) as slot:
        before = refused(server)
        reply = await wire.ask(era, "tools/list", rpc_id="mine")
        await idle(server)
        lines = [line for line in log.lines() if line.get("request_id") == reply.headers["x-request-id"]]

    assert reply.status == 500
    assert reply.message["id"] == "mine"
    assert reply.error["data"]["reference"] == reply.headers["x-request-id"]
    assert [line["level"] for line in lines if line["msg"] == "request not answered"] == ["error"]
    assert [line["layer"] for line in lines if line["msg"] == "refused"] == ["shield"]
    assert refused(server) == before + 1
    assert slot.taken == 0


@both_eras
@pytest.mark.parametrize("protocol", [half_silent, half_an_answer], ids=["silent", "crash"])
async def test_half_an_answer_is_cut_and_counted(
    server: Live, wire: Wire, tmp_path: Path, era: Era, protocol: Any
) -> None:
    """The connection closes behind it; for log and metric it is 500, whatever status the caller has read."""
    server.app.pipeline.access_log.admit = Throttle(time.monotonic)
    with captured(tmp_path / "log") as log, edge_with(server, protocol=protocol) as slot:
        before = refused(server)
        with pytest.raises(httpx2.RemoteProtocolError):
            await wire.ask(era, "tools/list")
        await idle(server)
        lines = [line for line in log.lines() if line["msg"] == "refused"]

    assert [(line["layer"], line["status"]) for line in lines] == [("shield", 500)]
    assert refused(server) == before + 1
    assert slot.taken == 0


async def whole_then_crash(scope: Any, receive: Any, send: Any) -> None:
    """Answer, then fail."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"result":{}}'})
    raise RuntimeError(TEXT)


@both_eras
async def test_a_crash_behind_a_whole_answer_is_a_line_and_no_refusal(
    server: Live, wire: Wire, tmp_path: Path, era: Era
) -> None:
    """The caller has everything: the log tells of the crash, and nothing counts a 500 that nobody was sent."""
    server.app.pipeline.access_log.admit = Throttle(time.monotonic)
    with captured(tmp_path / "log") as log, edge_with(server, protocol=whole_then_crash) as slot:
        before = refused(server)
        reply = await wire.ask(era, "tools/list")
        await idle(server)
        lines = [line["msg"] for line in log.lines()]

    assert (reply.status, reply.result) == (200, {})
    assert lines.count("unhandled exception") == 1
    assert "refused" not in lines
    assert refused(server) == before
    assert slot.taken == 0


@both_eras
async def test_a_client_that_has_left_is_no_fault(server: Live, wire: Wire, tmp_path: Path, era: Era) -> None:
    """Nobody waits for the answer, so nothing is wrong with its missing."""
    began = asyncio.Event()

    async def until_it_leaves(_: Any, receive: Any, __: Any) -> None:
        began.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    with captured(tmp_path / "log") as log, edge_with(server, protocol=until_it_leaves):
        before = refused(server)
        call = asyncio.create_task(wire.ask(era, "tools/list"))
        async with asyncio.timeout(SECONDS):
            while not began.is_set():
                await asyncio.sleep(0.005)
        call.cancel()
        await idle(server)
        lines = [line["msg"] for line in log.lines()]

    assert "request not answered" not in lines
    assert refused(server) == before


def refused(server: Live) -> float:
    """Return how many requests the last-resort handler has refused."""
    labels = {"layer": "shield", "status": "500"}
    return server.app.metrics.registry.get_sample_value("mcp_refused_total", labels) or 0.0


@both_eras
async def test_a_crash_in_the_middle_of_an_answer_cuts_it(server: Live, wire: Wire, era: Era) -> None:
    """Half an answer must not look like a whole one, and nothing is appended to it."""
    headers, body = request(era, "tools/list", key=KEY)
    host = server.url.removeprefix("http://")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with edge_with(server, protocol=half_an_answer) as slot:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(f"POST /mcp HTTP/1.1\r\nhost: {host}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await asyncio.wait_for(reader.read(), SECONDS)
        writer.close()
        await idle(server)

    assert answer.endswith(b'{"half":\r\n')
    assert slot.taken == 0
    assert (await wire.ask(era, "tools/list")).status == 200


async def test_nothing_is_sent_into_an_answer_that_has_begun() -> None:
    """Not even a refusal: the client would read it as a part of what it asked for."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    edge = Pipeline((), half_an_answer, AccessLog())
    await edge({"type": "http", "method": "POST", "path": "/mcp", "headers": []}, nothing, send)

    assert [message.get("body") for message in sent] == [None, b'{"half":']


@both_eras
async def test_a_release_that_fails_keeps_no_other_from_running(server: Live, wire: Wire, era: Era) -> None:
    """Each of them runs, and the drain does not wait for an exchange that is over."""

    async def broken(exchange: Exchange) -> None:
        def fail() -> None:
            raise RuntimeError(TEXT)

        exchange.on_end.append(fail)

    with edge_with(server, broken) as slot:
        replies = [await wire.ask(era, "tools/list") for _ in range(2)]
        await idle(server)

    assert {reply.status for reply in replies} == {200}
    assert slot.taken == 0


async def test_releases_run_in_reverse_order(server: Live, wire: Wire) -> None:
    """What was taken last is given back first."""
    order: list[int] = []

    def note(number: int) -> Callable[[Exchange], Awaitable[None]]:
        async def guard(exchange: Exchange) -> None:
            exchange.on_end.append(lambda: order.append(number))

        return guard

    with edge_with(server, note(1), note(2), note(3)):
        await wire.ask("modern", "tools/list")
        await idle(server)

    assert order == [3, 2, 1]


async def test_slots_are_free_before_the_protocol_has_tidied_up_and_turns_after(server: Live, wire: Wire) -> None:
    """A whole answer gives back what was taken for it; what hangs on the protocol's own state waits for that."""
    order: list[str] = []

    async def guard(exchange: Exchange) -> None:
        exchange.on_end.append(lambda: order.append("slot"))
        exchange.on_done.append(lambda: order.append("turn"))

    async def protocol(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        order.append("tidied up")

    with edge_with(server, guard, protocol=protocol):
        await wire.ask("modern", "tools/list")
        await idle(server)

    assert order == ["slot", "tidied up", "turn"]


@both_eras
async def test_a_client_that_goes_away_leaves_nothing_behind(server: Live, wire: Wire, era: Era) -> None:
    """The call is cancelled, and its slot is free."""
    with edge_with(server) as slot:
        server.do(sample.RUNNING.clear)
        call = asyncio.create_task(wire.call(era, "wait", {"seconds": 60}))
        async with asyncio.timeout(SECONDS):
            while not sample.RUNNING.is_set():
                await asyncio.sleep(0.005)
        held = slot.taken
        call.cancel()
        await idle(server)

    assert held == 1
    assert slot.taken == 0


@pytest.mark.parametrize("answer", ["refusal", "crash", "protocol"])
async def test_an_answer_that_cannot_be_sent_leaves_nothing_behind(answer: str) -> None:
    """A connection that breaks in the middle of an answer is no reason to keep what was taken."""
    slot = Slot()

    async def refuse(_: Exchange) -> Response:
        return Response(503, "busy", "Busy.")

    async def reply(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def broken(_: Any) -> None:
        raise OSError(TEXT)

    last = {"refusal": ("last", refuse), "crash": ("last", crash), "protocol": ("last", nothing)}[answer]
    edge = Pipeline((("slot", slot), last), reply, AccessLog())
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    # What the server would do with it: nothing may be left behind either way.
    await asyncio.gather(edge(scope, nothing, broken), return_exceptions=True)

    assert slot.taken == 0
    assert edge.in_flight() == 0
    assert current.get() is None
    await asyncio.wait_for(edge.idle(), 1)


@pytest.mark.parametrize(("path", "counted"), [("/mcp", 1), ("/metrics", 0), ("/livez", 0)])
async def test_a_drain_waits_for_requests_of_the_protocol_alone(path: str, counted: int) -> None:
    """What monitors ask holds no drain, and is none of the requests that the metric counts."""
    seen: list[tuple[int, bool]] = []

    async def answer(_: Any, __: Any, send: Any) -> None:
        seen.append((edge.in_flight(), edge._idle.is_set()))  # noqa: SLF001 - what a drain waits for
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    edge = Pipeline((), answer, AccessLog())
    await edge({"type": "http", "method": "GET", "path": path, "headers": []}, nothing, nothing)

    assert seen == [(counted, not counted)]
    assert edge.in_flight() == 0


async def test_what_is_no_http_request_is_not_served() -> None:
    """A websocket reaches no guard, hence nothing behind them."""
    edge = Pipeline((("crash", crash),), crash, AccessLog())

    await edge({"type": "websocket", "path": "/mcp"}, crash, crash)


@both_eras
@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("answer", 200),
        ("stream", 200),
        ("no key", 401),
        ("foreign host", 421),
        ("no such path", 404),
        ("no such method", 405),
        ("bad json", 400),
        ("not acceptable", 406),
        ("health", 200),
        ("preflight", 204),
    ],
)
async def test_every_answer_carries_a_request_id_of_its_own(wire: Wire, era: Era, what: str, status: int) -> None:
    """Refused or not: it is what a caller reports and an operator looks for."""
    replies = [await asked(wire, era, what) for _ in range(2)]
    ids = [reply.headers.get_list("x-request-id") for reply in replies]

    assert [reply.status for reply in replies] == [status, status]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]
    assert all(len(each[0]) == 16 for each in ids)


async def asked(wire: Wire, era: Era, what: str) -> Reply:
    """Ask for one kind of answer."""
    headers, body = request(era, *opening(era), key=wire.key)
    progress = {"name": "stream", "arguments": {"steps": 2, "seconds": 0.06}, "_meta": {"progressToken": "p"}}
    ask: dict[str, Callable[[], Awaitable[Reply]]] = {
        "answer": lambda: wire.send(body, headers),
        "stream": lambda: wire.ask(era, "tools/call", progress),
        "no key": lambda: wire.ask(era, *opening(era), key=""),
        "foreign host": lambda: wire.send(body, {**headers, "host": "evil.example.com"}),
        "no such path": lambda: wire.send(body, headers, path="/other"),
        "no such method": lambda: wire.send(b"", headers, method="PUT"),
        "bad json": lambda: wire.send(b"{", headers),
        "not acceptable": lambda: wire.send(body, {**headers, "accept": "text/html"}),
        "health": lambda: wire.get("/livez"),
        "preflight": lambda: wire.send(b"", {"origin": "http://localhost"}, method="OPTIONS"),
    }
    reply = await ask[what]()
    if what == "stream":
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.notifications
    return reply


@both_eras
async def test_a_refusal_is_a_protocol_error_with_the_id_of_its_request(era: Era) -> None:
    """As soon as the message has been read; before that there is no id to name."""
    with live(MCP_RATE_PRINCIPAL_BURST="1", MCP_RATE_PRINCIPAL_PER_MINUTE="1") as server:
        async with Wire(server.url, KEY) as wire:
            await wire.ask(era, "tools/list")
            known = await wire.ask(era, "tools/list", rpc_id="mine")
            unknown = await wire.ask(era, "tools/list", rpc_id="mine", key="")

    assert (known.status, unknown.status) == (429, 401)
    assert (known.message["id"], unknown.message["id"]) == ("mine", None)
    for reply in (known, unknown):
        assert reply.message["jsonrpc"] == "2.0"
        assert set(reply.error) == {"code", "message", "data"}
        assert reply.error["data"]["reference"] == reply.headers["x-request-id"]


async def test_a_head_request_is_refused_without_a_body(server: Live) -> None:
    """The length is told, the body is not sent (RFC 9110, HEAD)."""
    host = server.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"HEAD /mcp HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), SECONDS)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


@both_eras
async def test_an_answered_request_holds_nothing_of_its_connection(server: Live, wire: Wire, era: Era) -> None:
    """A task that lives on, as that of a session does, keeps neither body nor strings of it; log lines need none."""
    seen: list[Exchange] = []

    async def note(exchange: Exchange) -> None:
        seen.append(exchange)

    guards = server.app.pipeline.guards
    server.app.pipeline.guards = (*guards, ("note", note))
    try:
        reply = await wire.call(era, "echo", {"text": "hello"})
    finally:
        server.app.pipeline.guards = guards
    async with asyncio.timeout(SECONDS):
        while server.do(server.app.pipeline.in_flight):
            await asyncio.sleep(0.01)

    (exchange,) = seen
    assert exchange.request_id == reply.headers["x-request-id"]
    assert not exchange.sensitive
    assert exchange.body is None
    assert not exchange.scope
    with pytest.raises(RuntimeError):
        await exchange.receive()
