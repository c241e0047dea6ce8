"""A name with several addresses: the first that answers is used, and one that is silent costs a quarter of a second."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from live import KEY, Process, free_port
from support import faults
from support.pgbouncer import certificates
from support.relay import Relay
from wire import Wire

from hardening.lifecycle.event_loop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from hardening.dev.postgres import EmbeddedPostgres

NAME = "several.test"
# Reads the addresses of the name from the environment, as a name server would give them out.
NAMED = """
import os
import socket
import sample
from hardening import HardeningSettings
from hardening.lifecycle.event_loop import EventLoop
from hardening.lifecycle.startup import serve

class Named:
    get = EventLoop.getaddrinfo

async def getaddrinfo(self, host, port, **options):
    if host not in os.environ:
        return await Named.get(self, host, port, **options)
    ports = os.environ[host].split(",")
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port))) for port in ports]

EventLoop.getaddrinfo = getaddrinfo
raise SystemExit(serve(HardeningSettings, sample.build))
"""


class Named(EventLoop):
    """An event loop that knows where the name leads to."""

    ports: tuple[int, ...] = ()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Answer as a name server does."""
        if host != NAME:
            return await super().getaddrinfo(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one)) for one in self.ports]


def run(work: Coroutine[Any, Any, Any], *ports: int) -> Any:
    """Run something in an event loop where the name has these addresses."""
    with asyncio.Runner(loop_factory=Named) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Named)
        loop.ports = ports
        return runner.run(work)


@contextmanager
def silent() -> Generator[int]:
    """Return a port that does not answer any more, as that of a machine that has died: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def answering(stack: ExitStack) -> socket.socket:
    """Return a listener."""
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def descriptors() -> int:
    """Return how many are open, with those that the first event loop of a process keeps."""
    run(asyncio.sleep(0))
    return len(list(Path("/proc/self/fd").iterdir()))


async def connected() -> tuple[int, float]:
    """Connect to the name; return the port, and how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(20):
        _, writer = await asyncio.open_connection(NAME, 1)
    port = writer.get_extra_info("peername")[1]
    writer.close()
    await writer.wait_closed()
    return port, time.monotonic() - started


def test_an_address_that_is_silent_is_passed_over() -> None:
    """The next one is tried after 0.25 s, and nothing is left of the first attempt."""
    before = descriptors()
    with silent() as dead, ExitStack() as stack:
        port = answering(stack).getsockname()[1]
        reached, seconds = run(connected(), dead, port)
        again, at_once = run(connected(), port, dead)

    assert reached == again == port
    assert 0.2 < seconds < 10
    assert at_once < seconds
    assert descriptors() == before


def test_what_is_refused_costs_no_time() -> None:
    """An address where nobody listens is passed over at once; when all are like that, it is said so."""
    closed = free_port(), free_port()
    with ExitStack() as stack:
        port = answering(stack).getsockname()[1]
        assert run(connected(), *closed, port)[0] == port
    with pytest.raises(ConnectionRefusedError):
        run(connected(), *closed)


def test_who_stops_waiting_leaves_nothing_behind() -> None:
    """Attempts end with the one who wanted them, sockets and tasks."""

    async def given_up() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await asyncio.open_connection(NAME, 1)
        await asyncio.sleep(0.05)
        return len(asyncio.all_tasks())

    with silent() as first, silent() as second:
        before = descriptors()
        assert run(given_up(), first, second) == 1
        assert descriptors() == before


def test_the_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    """TLS asks for the name and not for the address that was found."""
    certificates(tmp_path)
    asked: list[str] = []
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    served.sni_callback = lambda _, name, __: asked.append(name or "")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def both() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=served) as server:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, Named)
            loop.ports = (server.sockets[0].getsockname()[1],)
            _, writer = await asyncio.open_connection(NAME, 1, ssl=trusting)
            writer.close()

    run(both())
    assert asked == [NAME]


async def test_a_server_passes_over_silent_addresses_of_its_database_and_redis(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """It starts, answers calls that need the database, and counts in Redis."""
    (folder,) = parse_qs(urlsplit(postgres.server.get_uri()).query)["host"]
    port = free_port()
    async with Relay(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")) as relay:
        with silent() as dead, faults.redis(tmp_path, port):
            environment = {"db.test": f"{dead},{relay.port}", "redis.test": f"{dead},{port}"}
            environment |= {"DATABASE_URL": "postgresql://postgres@db.test/postgres", "REDIS_URL": "redis://redis.test"}
            with Process("-c", NAMED, **environment) as process:
                # In a thread: the relay works here.
                url = await asyncio.to_thread(lambda: process.url)
                async with Wire(url, KEY) as wire:
                    reply = await wire.call("modern", "query", {"sql": "SELECT 1"})
                await asyncio.to_thread(process.stop)
    assert not reply.result["isError"]
    assert not [line for line in process.lines if "rate limits degraded" in line]
