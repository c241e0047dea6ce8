"""Alive and ready are two questions, and neither tells anything else."""

from __future__ import annotations

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


async def test_is_unready_from_the_first_moment_of_a_drain() -> None:
    """The balancer hears of it before anything is refused."""
    drain = Drain()
    guard = Health(drain)
    drain.unready = True
    ready = await guard(asked("/readyz"))

    assert ready is not None
    assert ready.status == 503
