"""Alive and ready are two questions, and neither tells anything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from wire import Wire

from hardening.edge.draining import Drain
from hardening.edge.health import Health
from hardening.exchange import Exchange, open_exchange

if TYPE_CHECKING:
    from live import Live


def asked(path: str) -> Exchange:
    """Return a GET of this path."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    return open_exchange(scope, None, None)  # type: ignore[arg-type] - neither is used


@pytest.mark.parametrize(("path", "body"), [("/livez", b'{"status":"live"}'), ("/readyz", b'{"status":"ready"}')])
async def test_answers_without_a_credential(server: Live, path: str, body: bytes) -> None:
    """The platform needs no key, and learns one word."""
    async with Wire(server.url) as nobody:
        reply = await nobody.get(path)

    assert reply.status == 200
    assert reply.body == body
    assert reply.headers["cache-control"] == "no-store"


async def test_a_head_request_has_no_body(server: Live) -> None:
    """Monitors that ask with HEAD get the same status."""
    async with Wire(server.url) as nobody:
        reply = await nobody.send(b"", {}, method="HEAD", path="/readyz")

    assert reply.status == 200
    assert reply.body == b""


async def test_is_unready_while_the_database_does_not_answer() -> None:
    """Traffic goes elsewhere; the process stays alive."""

    async def away() -> bool:
        return False

    guard = Health(Drain(), away)
    ready, live = await guard(asked("/readyz")), await guard(asked("/livez"))

    assert ready is not None
    assert live is not None
    assert (ready.status, live.status) == (503, 200)


async def test_is_unready_from_the_first_moment_of_a_drain() -> None:
    """The balancer hears of it before anything is refused."""
    drain = Drain()
    guard = Health(drain, None)
    drain.unready = True
    ready = await guard(asked("/readyz"))

    assert ready is not None
    assert ready.status == 503


async def test_many_questions_are_one_ping_a_second() -> None:
    """Health checks cannot become load on the database."""
    now = 0.0
    pings = 0

    async def ping() -> bool:
        nonlocal pings
        pings += 1
        await asyncio.sleep(0)
        return True

    guard = Health(Drain(), ping, clock=lambda: now)
    await asyncio.gather(*(guard(asked("/readyz")) for _ in range(100)))
    await guard(asked("/readyz"))
    assert pings == 1
    now = 1.5
    await guard(asked("/readyz"))

    assert pings == 2
