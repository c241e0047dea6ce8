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
from hardening.logs.throttle import LINES_PER_SECOND, RateLimitedFilter

if TYPE_CHECKING:
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


def test_an_answer_of_the_protocol_that_is_a_fault_is_a_line(tmp_path: Path) -> None:
    """5xx is this server's own; a client's mistake that the protocol answers is not logged here."""
    with captured(tmp_path / "log") as log:
        access = AccessLog()
        access(exchange(status=200))
        access(exchange(status=400))
        access(exchange(status=503))
        lines = refusals(log.lines())

    assert [(line["layer"], line["status"]) for line in lines] == [("protocol", 503)]


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
