"""Answers of other systems are bounded on the wire: by bytes, by number and by the time of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from live import ENVIRONMENT, settings_from
from structlog.testing import capture_logs
from support.hostile_host import CHUNKED, ENDLESS, OK, SECONDS, Hostile

from hardening.auth.jwks import Keys, KeysUnavailableError
from hardening.errors import TooLarge
from hardening.outbound.client import Outbound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.hostile_host import Answer


@pytest.fixture
def hostile() -> Iterator[Callable[[Answer], str]]:
    """Start hosts that answer by the path; return their URL."""
    hosts: list[Hostile] = []

    def start(answer: Answer) -> str:
        hosts.append(Hostile(answer))
        return hosts[-1].url

    yield start
    for host in hosts:
        host.close()


class Loop:
    """What the event loop does while something runs: CPU seconds in all, and the most between two turns."""

    longest = 0.0
    busy = 0.0

    async def watch(self) -> None:
        """Measure until cancelled; the CPU time of this thread alone, so a busy machine does not matter."""
        began = before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest, self.busy, before = max(self.longest, now - before), now - began, now


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Loop]:
    """Hold what happens inside to a second of CPU, 50 ms of it at a time, and to four seconds by the clock."""
    # What earlier tests have left is not collected in this one.
    gc.collect()
    gc.freeze()
    loop, began = Loop(), time.monotonic()
    watch = asyncio.create_task(loop.watch())
    await asyncio.sleep(0.01)
    try:
        async with asyncio.timeout(SECONDS):
            yield loop
        await asyncio.sleep(0.01)
    finally:
        gc.unfreeze()
        watch.cancel()
    assert loop.longest < 0.05
    assert loop.busy < 1
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("path", ["", "/keys"], ids=["metadata", "keys"])
@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_issuer_costs_no_more_than_its_bounds(kind: str, path: str, hostile: Callable[[Answer], str]) -> None:
    """Whatever it sends without end, at every place: 503, at most 50 ms of the event loop at a time, within 4 s."""
    now, ready = [1000.0], threading.Event()
    url = hostile(lambda _: ENDLESS[kind] if ready.is_set() else (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", b""))
    keys = Keys(url, path and url + path, clock=lambda: now[0])

    # The first fetch loads certificates.
    with capture_logs() as lines, pytest.raises(KeysUnavailableError):
        await keys.find("a", "ES256")
    now[0] += 11
    ready.set()
    async with watched():
        with pytest.raises(KeysUnavailableError):
            await keys.find("a", "ES256")

    assert [line["event"] for line in lines] == ["issuer keys unavailable"]


class Call:
    """A call with plenty of time."""

    def remaining_seconds(self) -> float:
        """Return how long it may still take."""
        return SECONDS


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """The connections behind `ctx.http`, which take 100 kB."""
    allowed = {"MCP_HTTP_ALLOW": "127.0.0.0/8", "MCP_HTTP_MAX_RESPONSE_BYTES": "100000"}
    outbound = Outbound(settings_from(ENVIRONMENT | allowed), lambda *_: None)
    yield outbound
    await outbound.aclose()


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_upstream_costs_no_more_than_its_bounds(
    kind: str, outbound: Outbound, hostile: Callable[[Answer], str]
) -> None:
    """`ctx.http` raises an error of its own, and nobody else waits longer than 50 ms for it."""
    url = hostile(lambda _: ENDLESS[kind])
    import httpx2

    async with watched():
        with pytest.raises((TooLarge, httpx2.RemoteProtocolError)):
            await outbound.client(Call()).get(url)


async def test_each_answer_on_a_connection_has_the_whole_bound(
    outbound: Outbound, hostile: Callable[[Answer], str]
) -> None:
    """What came for earlier requests does not count: five answers of nearly 100 kB each, on one connection."""
    body = b"x" * 99_000
    url = hostile(lambda _: (OK + b"content-length: 99000\r\n\r\n" + body, b""))
    client = outbound.client(Call())

    assert [len((await client.get(url)).content) for _ in range(5)] == [99_000] * 5


@pytest.mark.parametrize("more", [0, 1])
async def test_a_body_has_its_own_bound(more: int, outbound: Outbound, hostile: Callable[[Answer], str]) -> None:
    """What framing may take is no room for a larger body: 100,000 bytes are taken, one more is not."""
    size = 100_000 + more
    url = hostile(lambda _: (OK + f"content-length: {size}\r\n\r\n".encode() + b"x" * size, b""))

    with pytest.raises(TooLarge) if more else contextlib.nullcontext():
        await outbound.client(Call()).get(url)


async def test_an_answer_of_many_small_chunks_is_taken(outbound: Outbound, hostile: Callable[[Answer], str]) -> None:
    """What streams token by token is no attack: 1,500 chunks of 60 bytes."""
    url = hostile(lambda _: (CHUNKED + (b"3c\r\n" + b"x" * 60 + b"\r\n") * 1500 + b"0\r\n\r\n", b""))

    assert len((await outbound.client(Call()).get(url)).content) == 90_000


async def test_an_issuer_has_one_budget_for_all_its_answers(hostile: Callable[[Answer], str]) -> None:
    """Metadata at three places and the keys are 640 KiB together, though each document is within its own bound."""
    public = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)

    def padded(document: object) -> tuple[bytes, bytes]:
        body = json.dumps(document).encode().ljust(padding)
        return OK + f"content-length: {len(body)}\r\n\r\n".encode() + body, b""

    def answer(path: str) -> tuple[bytes, bytes]:
        if path == "/keys":
            return padded({"keys": [public | {"kid": "a"}]})
        right = path == "/tenant/.well-known/openid-configuration"
        return padded({"issuer": f"{url}/tenant" if right else "", "jwks_uri": f"{url}/keys"})

    url = hostile(answer)
    padding = 150_000
    assert await Keys(f"{url}/tenant").find("a", "ES256")
    padding = 250_000
    with pytest.raises(KeysUnavailableError):
        await Keys(f"{url}/tenant").find("a", "ES256")
