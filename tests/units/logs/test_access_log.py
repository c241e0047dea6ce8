"""Each refusal is a line, a flood of them is a few lines and a number, and what is usual is none."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured, exchange
from live import KEY, Live, live
from wire import ERAS, Era, Wire, opening

from hardening.logs.access_log import AccessLog
from hardening.logs.throttle import LINES_PER_SECOND, RateLimitedFilter, Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def refusals(lines: list[dict[str, Any]], layer: str = "") -> list[dict[str, Any]]:
    """Return the lines of refusals."""
    return [line for line in lines if line["msg"] == "refused" and layer in {"", line["layer"]}]


@pytest.mark.parametrize("era", ERAS)
async def test_a_refusal_says_who_refused_and_how(server: Live, tmp_path: Path, era: Era) -> None:
    """Layer, status and the reference that the caller has."""
    with captured(tmp_path / "log") as log:
        async with Wire(server.url, KEY) as wire:
            reply = await wire.ask(era, *opening(era), key="")
        # The answer is there before its line is.
        server.do(lambda: None)
        (line,) = refusals(log.lines(), "authentication")

    assert line["status"] == 401
    assert line["request_id"] == reply.headers["x-request-id"]
    assert line["duration_ms"] >= 0
    assert line["era"] == era
    assert KEY not in str(line)


@pytest.mark.parametrize("era", ERAS)
async def test_a_refusal_for_a_rate_says_which(tmp_path: Path, era: Era) -> None:
    """The layer alone does not: several rates are asked at once."""
    with (
        captured(tmp_path / "log") as log,
        live(MCP_RATE_PRINCIPAL_PER_MINUTE="1", MCP_RATE_PRINCIPAL_BURST="1") as running,
    ):
        async with Wire(running.url, KEY) as wire:
            await wire.ask(era, "tools/list")
            reply = await wire.ask(era, "tools/list")
        running.do(lambda: None)
        (line,) = refusals(log.lines())

    assert reply.status == 429
    assert (line["layer"], line["limit"]) == ("rate", "principal")


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_served_is_no_refusal(server: Live, tmp_path: Path, era: Era) -> None:
    """Nor is a health check, whatever it says, nor the question of a browser."""
    with captured(tmp_path / "log") as log:
        async with Wire(server.url, KEY) as wire:
            await wire.ask(era, *opening(era))
            await wire.get("/livez")
            server.do(lambda: setattr(server.app.drain, "unready", True))
            unready = await wire.get("/readyz")
            server.do(lambda: setattr(server.app.drain, "unready", False))
            await wire.send(b"", {"origin": "http://localhost"}, method="OPTIONS")
        found = refusals(log.lines())

    assert unready.status == 503
    assert not found


def test_a_flood_is_a_few_lines_and_their_number(tmp_path: Path) -> None:
    """So many a second for each layer; the next line says how many were left out."""
    clock = Clock()
    with captured(tmp_path / "log") as log:
        access = AccessLog(clock=clock)
        for _ in range(1000):
            access(exchange(refused_by="address_rate", status=429))
        # One layer's flood does not hide what another one refuses.
        access(exchange(refused_by="authentication", status=401))
        clock.now += 1
        access(exchange(refused_by="address_rate", status=429))
        clock.now += 1
        access(exchange(refused_by="address_rate", status=429))
        lines = log.lines()

    flood = refusals(lines, "address_rate")
    assert [line["suppressed"] for line in flood] == [0] * LINES_PER_SECOND + [1000 - LINES_PER_SECOND, 0]
    assert len(refusals(lines, "authentication")) == 1


def test_what_the_protocol_refuses_is_a_line(tmp_path: Path) -> None:
    """By its status or by the code of its error, unless a line of the call has said so; 5xx always."""
    with captured(tmp_path / "log") as log:
        access = AccessLog()
        access(exchange(status=200))
        access(exchange(status=400))
        access(exchange(status=400, logged=True))
        access(exchange(status=200, rpc_error=-32601))
        access(exchange(status=200, rpc_error=-32602, logged=True))
        access(exchange(status=503, logged=True))
        lines = refusals(log.lines())

    assert [(line["layer"], line["status"], line["error_code"]) for line in lines] == [
        ("protocol", 400, None),
        ("protocol", 200, -32601),
        ("protocol", 503, None),
    ]


WORD = "Wolpertinger"
MISSING = "0123456789abcdef0123456789abcdef"
# Era, method, parameters, headers; None for parameters is a body that is no request.
REFUSED: dict[str, tuple[Era, str, dict[str, Any], dict[str, str]]] = {
    "an unknown method": ("modern", WORD, {}, {}),
    "a method of the older protocols": ("modern", "ping", {}, {}),
    "a cursor": ("modern", "tools/list", {"cursor": WORD}, {}),
    "an unknown tool": ("modern", "tools/call", {"name": WORD, "arguments": {}}, {}),
    "arguments that are none": ("modern", "tools/call", {"name": "echo", "arguments": WORD}, {}),
    "another method in the header": ("modern", "tools/list", {}, {"mcp-method": "server/discover"}),
    "another tool in the header": ("modern", "tools/call", {"name": "echo"}, {"mcp-name": WORD}),
    "an unknown version": ("modern", "tools/list", {}, {"mcp-protocol-version": "2099-01-01"}),
    "another type": ("modern", "tools/list", {}, {"accept": "text/html"}),
    "older: an unknown method": ("legacy", WORD, {}, {}),
    "older: a cursor": ("legacy", "tools/list", {"cursor": WORD}, {}),
    "older: an unknown tool": ("legacy", "tools/call", {"name": WORD, "arguments": {}}, {}),
    "older: parameters that do not fit": ("legacy", "tools/call", {"name": 5}, {}),
    "older: another type": ("legacy", "tools/list", {}, {"accept": "text/html"}),
    "older: no session": ("legacy", "tools/list", {}, {"mcp-session-id": ""}),
    "older: an unknown session": ("legacy", "tools/list", {}, {"mcp-session-id": MISSING}),
}
TOLD = {"refused", "tool call", "client initialized"}


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """A server with sessions."""
    with live(MCP_LEGACY="stateful") as running:
        yield running


@pytest.mark.parametrize("row", REFUSED)
@pytest.mark.parametrize("sessions", [False, True], ids=["without sessions", "with sessions"])
async def test_every_refusal_of_the_protocol_is_one_line_and_one_count(
    server: Live,
    stateful: Live,
    tmp_path: Path,
    row: str,
    sessions: bool,  # noqa: FBT001
) -> None:
    """Whoever refuses, guards, the SDK's transports or its handlers; without a word of what was sent."""
    era, method, params, more = REFUSED[row]
    running = stateful if sessions else server
    async with Wire(running.url, KEY) as wire:
        headers = dict(more)
        if sessions and era == "legacy" and "mcp-session-id" not in more:
            opened = await wire.ask("legacy", *opening("legacy"))
            headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        if not sessions and "mcp-session-id" in more:
            headers, method = {}, WORD
        before = refused_so_far(running)
        # Of another second than the test before.
        running.app.pipeline.access_log.admit = Throttle()
        with captured(tmp_path / "log") as log:
            reply = await wire.ask(era, method, params, headers=headers)
            await settled(running)
            text, lines = log.text(), [line for line in log.lines() if line["msg"] in TOLD]

    assert reply.status >= 400 or "error" in reply.message
    assert [line["msg"] for line in lines] == ["refused"]
    assert refused_so_far(running) == before + 1
    assert WORD not in text


async def test_a_flood_of_what_the_protocol_refuses_is_a_few_lines(stateful: Live, tmp_path: Path) -> None:
    """At most five a second; the next line says how many there were."""
    async with Wire(stateful.url, KEY) as wire:
        before, started = refused_so_far(stateful), time.monotonic()
        with captured(tmp_path / "log") as log:
            for _ in range(60):
                await wire.ask("modern", WORD)
            await settled(stateful)
            lines = refusals(log.lines(), "protocol")

    assert len(lines) <= LINES_PER_SECOND * (int(time.monotonic() - started) + 2)
    assert refused_so_far(stateful) == before + 60


def refused_so_far(running: Live) -> float:
    """Return how many refusals were counted."""
    families = running.server.metrics.registry.collect()
    return sum(sample.value for one in families for sample in one.samples if sample.name == "mcp_refused_total")


async def settled(running: Live) -> None:
    """Wait until what was answered has been logged and counted: that is done after the last byte."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(running.do, running.app.pipeline.in_flight):
            await asyncio.sleep(0.005)


def test_what_is_kept_is_bounded() -> None:
    """Layers are few and known; nothing that a caller sends becomes a key."""
    access = AccessLog()
    for number in range(1000):
        access(exchange(refused_by="host", status=421, address=f"192.0.2.{number}", client_name=str(number)))

    assert set(access.suppressed) == {"host"}


async def test_who_sends_no_http_cannot_fill_the_log(tmp_path: Path) -> None:
    """Of warnings with one text a few are written in a second, and errors always."""
    with live() as running, captured(tmp_path / "log") as log:
        port = int(running.url.rpartition(":")[2])
        started = time.monotonic()
        for _ in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\r\n\x00\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            writer.close()
        seconds = int(time.monotonic() - started) + 2
        for _ in range(20):
            logging.getLogger("uvicorn.error").error("of importance")
        lines = log.lines()
        texts = [line["msg"] for line in lines]

    told = [(line["layer"], line["limit"], line["status"]) for line in refusals(lines)]
    assert set(told) == {("connection", "malformed", 400)}
    assert len(told) <= LINES_PER_SECOND * seconds
    assert "Invalid HTTP request received." not in texts
    assert texts.count("of importance") == 20


def test_each_text_is_counted_by_itself_and_for_a_second() -> None:
    """One warning that comes often hides no other, and comes again in the next second."""
    now = [10.0]
    seldom = RateLimitedFilter(lambda: now[0])

    def written(text: str) -> bool:
        return seldom.filter(logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, text, None, None))

    first = [written("one") for _ in range(10)]
    other = written("other")
    now[0] = 11.0
    later = written("one")

    assert first == [True] * LINES_PER_SECOND + [False] * (10 - LINES_PER_SECOND)
    assert (other, later) == (True, True)
