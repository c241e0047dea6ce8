"""What breaks around the server while it is under load: what clients see, what is logged, when all is well again.

The table in `support/faults.py` is the one of `docs/operations.md`; each row is executed, in both eras at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import subprocess
import threading
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.dev_server import free_port
from support.faults import (
    ECHO,
    PUT,
    SETTINGS,
    SLOWEST_SECONDS,
    TABLE,
    Row,
    ends_well,
    hello,
    numbers,
    redis,
    run,
    under,
)
from support.harness import ROOT
from support.issuer import AUDIENCE, Issuer
from support.postgres import Postgres
from support.proxies import Proxy
from support.relay import Relay
from support.steady_load import Load
from support.watched_server import Watched, good_call, until

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.slow

FROZEN_SECONDS = 3.0


@pytest.fixture(scope="module")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL that these tests may stop."""
    with Postgres() as running:
        yield running


def test_the_page_says_what_is_tested() -> None:
    """The table of `docs/operations.md` is the one above."""
    page = (ROOT / "template/docs/operations.md").read_text("utf-8")
    section = page.partition("\n## When something else breaks\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]

    assert {
        name: Row(
            frozenset(re.findall("`([^`]+)`", sees)), frozenset(re.findall("`([^`]+)`", logged)), int(well.split()[0])
        )
        for name, sees, logged, well in rows
    } == TABLE


AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
CAN_MOUNT = not AS_ROOT or not subprocess.run([*AS_ROOT, "true"], capture_output=True, check=False).returncode


def as_root(*command: str | Path) -> None:
    """Run a command that only root may."""
    subprocess.run([*AS_ROOT, *command], check=True)


async def _freeze(_: Postgres, relay: Relay) -> None:
    relay.partition()


async def _slow(_: Postgres, relay: Relay) -> None:
    relay.delay = 0.3


async def _stop(postgres: Postgres, _: Relay) -> None:
    await asyncio.to_thread(postgres.stop)


async def _kill(postgres: Postgres, _: Relay) -> None:
    await asyncio.to_thread(postgres.kill)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("PostgreSQL is shut down", _stop),
        ("PostgreSQL is killed", _kill),
        ("PostgreSQL does not answer", _freeze),
        ("PostgreSQL is slow", _slow),
    ],
)
async def test_the_database(project: Path, tmp_path: Path, postgres: Postgres, name: str, fault: Any) -> None:
    """Each call ends in time with something that says to try again, and what was acknowledged is there."""
    async with (
        numbers(postgres) as check,
        Relay(lambda: asyncio.open_unix_connection(postgres.socket)) as relay,
    ):
        database = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"
        async with Watched(project, tmp_path / "log", environment={**SETTINGS, "DATABASE_URL": database}) as server:
            writers = Load(server.url, PUT)
            async with Load(server.url, ECHO) as others, under(name, server, writers, well=fault is not _slow) as load:
                await fault(postgres, relay)
                await load.next(20)
                await others.next(20, "ok")
                if fault in {_stop, _kill}:
                    await asyncio.to_thread(postgres.start)
                relay.heal()
            await check(load)
            assert {one.kind for one in others.ended} == {"ok"}
            await asyncio.to_thread(ends_well, server)


@contextmanager
def small_disk(owner: int) -> Generator[Path]:
    """Mount a disk of 256 KiB that belongs to a user; not below pytest's own folder, which is closed to others."""
    with TemporaryDirectory(prefix="disk-") as folder:
        Path(folder).chmod(0o755)
        disk = Path(folder, "disk")
        disk.mkdir()
        as_root("mount", "-t", "tmpfs", "-o", f"size=256k,mode=700,uid={owner}", "tmpfs", disk)
        try:
            yield disk
        finally:
            as_root("umount", "--lazy", disk)


@pytest.mark.skipif(not CAN_MOUNT and not os.environ.get("CI"), reason="only root can mount a small disk")
async def test_no_room_for_the_database(project: Path, tmp_path: Path, postgres: Postgres) -> None:
    """What cannot be written is refused and named in the log; whoever writes nothing is served."""
    fill = "INSERT INTO put SELECT -number FROM generate_series(1, 99999) number"
    with small_disk(postgres.folder.stat().st_uid) as disk:
        await run(postgres.url, f"CREATE TABLESPACE small LOCATION '{disk}'")
        async with numbers(postgres) as check:
            await run(postgres.url, "ALTER TABLE put SET TABLESPACE small")
            environment = {**SETTINGS, "DATABASE_URL": postgres.url}
            async with Watched(project, tmp_path / "log", environment=environment) as server:
                writers = under("PostgreSQL has no room on its disk", server, Load(server.url, PUT))
                async with Load(server.url, (("through", hello), *ECHO)) as others, writers as load:
                    with pytest.raises(asyncpg.DiskFullError):
                        await run(postgres.url, fill)
                    await load.next(20, "upstream_unavailable")
                    as_root("mount", "-o", "remount,size=16m", disk)
                await check(load)
                assert {one.kind for one in others.ended} == {"ok"}
                await asyncio.to_thread(ends_well, server)
        await run(postgres.url, "DROP TABLESPACE small")


@pytest.mark.parametrize("name", ["Redis is killed", "Redis does not answer", "Redis is slow"])
async def test_redis(project: Path, tmp_path: Path, database: str, name: str) -> None:
    """No call notices; limits are counted here, and tighter, until it is back."""
    port = free_port()
    async with Relay(lambda: asyncio.open_connection("127.0.0.1", port)) as relay, AsyncExitStack() as stack:
        child = stack.enter_context(redis(tmp_path, port))
        environment = {**SETTINGS, "DATABASE_URL": database, "REDIS_URL": f"redis://127.0.0.1:{relay.port}"}
        async with Watched(project, tmp_path / "log", environment=environment) as server:
            async with under(name, server, Load(server.url, ECHO)) as load:
                if name == "Redis is killed":
                    child.kill()
                    child.wait()
                elif name == "Redis is slow":
                    relay.delay = 0.5
                else:
                    relay.partition()
                await asyncio.to_thread(server.line, "rate limits degraded")
                await load.next(50)
                if name == "Redis is killed":
                    stack.enter_context(redis(tmp_path, port))
                relay.heal()
            await asyncio.to_thread(ends_well, server)


def token_settings(issuer: Issuer, database: str) -> dict[str, str]:
    """Return settings of a server that takes tokens of an issuer."""
    return {
        **SETTINGS,
        "DATABASE_URL": database,
        "MCP_AUTH": "jwt",
        "MCP_API_KEYS": "",
        "MCP_JWT_ISSUER": issuer.url,
        "MCP_JWT_AUDIENCE": AUDIENCE,
    }


async def test_the_issuer_while_its_keys_are_known(project: Path, tmp_path: Path, database: str) -> None:
    """Nobody notices: keys are good for an hour."""
    async with Issuer() as issuer, Relay(issuer.connect) as relay:
        issuer.url = f"http://127.0.0.1:{relay.port}"
        async with Watched(project, tmp_path / "log", environment=token_settings(issuer, database)) as server:
            async with under(
                "the issuer is away, its keys are known", server, Load(server.url, ECHO, issuer.token())
            ) as load:
                relay.away = True
                await load.next(50)
                relay.heal()
            await asyncio.to_thread(ends_well, server)


async def test_the_issuer_signs_with_another_key(project: Path, tmp_path: Path, database: str) -> None:
    """Tokens of both keys are good while both are published, from the first token of the new one on."""
    async with Issuer() as issuer, Relay(issuer.connect) as relay:
        issuer.url = f"http://127.0.0.1:{relay.port}"
        async with Watched(project, tmp_path / "log", environment=token_settings(issuer, database)) as server:
            old = Load(server.url, ECHO, issuer.token())
            async with old, under("the issuer signs with another key", server, Load(server.url, ECHO, old.key)) as load:
                issuer.keys["b"] = ec.generate_private_key(ec.SECP256R1())
                load.key = issuer.token("b")
                await load.next(50)
            assert {one.kind for one in old.ended} == {"ok"}
            await asyncio.to_thread(ends_well, server)


async def test_the_issuer_at_the_start(project: Path, tmp_path: Path, database: str) -> None:
    """Without keys, tokens are neither accepted nor called wrong: clients are told when to come again."""

    async def one(name: str, log: Path) -> None:
        async with Issuer() as issuer, Relay(issuer.connect) as relay:
            issuer.url = f"http://127.0.0.1:{relay.port}"
            if name == "the issuer is away at the start":
                relay.away = True
            else:
                relay.partition()
            async with Watched(project, log, environment=token_settings(issuer, database)) as server:
                async with under(
                    name, server, Load(server.url, ECHO, issuer.token(), first="auth_unavailable")
                ) as load:
                    await load.next(20)
                    relay.heal()
                await asyncio.to_thread(ends_well, server)

    await asyncio.gather(
        one("the issuer is away at the start", tmp_path / "away"),
        one("the issuer does not answer at the start", tmp_path / "silent"),
    )


async def test_the_proxy(project: Path, tmp_path: Path, database: str) -> None:
    """Calls on their way lose their connection; afterwards nothing is left of them in the server."""
    calls = (("slow", lambda _: {"seconds": 0.2}), *ECHO)
    environment = {**SETTINGS, "DATABASE_URL": database, "MCP_TRUSTED_PROXY_HOPS": "1"}
    async with Watched(project, tmp_path / "log", environment=environment) as server:
        proxy = Proxy("caddy", project / "deploy", tmp_path, [f"127.0.0.1:{server.port}"])
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(proxy)
            async with under("Caddy is killed", server, Load(proxy.url, calls, trust=proxy.trust())) as load:
                proxy.process.kill()
                await proxy.process.wait()
                proxy.log.close()
                await load.next(20, "connection lost")
                await asyncio.to_thread(until, lambda: not server.metrics()["mcp_in_flight"])
                await stack.enter_async_context(proxy)
        await asyncio.to_thread(ends_well, server)


class Pipe:
    """The reader of a server's standard error: it stops, goes on, or goes away when the test says so."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.reader, self.writer = os.pipe()
        self.reading = threading.Event()
        self.reading.set()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with self.log.open("ab", buffering=0) as log:
            while self.reading.wait() and (data := os.read(self.reader, 65_536)):
                log.write(data)

    def close(self) -> None:
        """Go away."""
        os.close(self.reader)


async def test_standard_error_is_closed(project: Path, tmp_path: Path, database: str) -> None:
    """Lines are lost and counted, and no call notices."""
    reader, writer = os.pipe()
    environment = {**SETTINGS, "DATABASE_URL": database}
    log = tmp_path / "log"
    log.write_bytes(b"")
    child = Watched(project, log, environment=environment, options={"stdout": writer, "stderr": writer})
    os.close(writer)
    said = b""
    while b'"msg":"started"' not in said:
        said += await asyncio.to_thread(os.read, reader, 65_536)
    log.write_bytes(said[: said.rindex(b"\n") + 1])
    async with child as server:
        async with under("standard error is closed", server, Load(server.url, ECHO)) as load:
            os.close(reader)
            await load.next(200)
        assert server.metrics()["mcp_log_lines_dropped_total"] > 0
        await asyncio.to_thread(ends_well, server)


async def many(server: Watched, calls: int, at_once: int = 30) -> None:
    """Call a tool very often, with as many requests ahead as a connection may have."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    headers, body = good_call("modern", "bare", {})
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    answered = 0
    while answered < calls:
        writer.write(request * at_once)
        answered += at_once
        answers = b""
        while answers.count(b'"jsonrpc"') < at_once:
            data = await asyncio.wait_for(reader.read(2**20), SLOWEST_SECONDS)
            assert data, answers
            answers += data
    writer.close()


async def test_standard_error_is_read_slowly(project: Path, tmp_path: Path, database: str) -> None:
    """Lines beyond what is queued are lost and counted, and no call waits for the reader."""
    pipe = Pipe(tmp_path / "log")
    options = {"stdout": pipe.writer, "stderr": pipe.writer}
    child = Watched(project, tmp_path / "log", environment={**SETTINGS, "DATABASE_URL": database}, options=options)
    os.close(pipe.writer)
    async with child as server:
        async with under("standard error is read slowly", server, Load(server.url, ECHO)) as load:
            pipe.reading.clear()
            # More than the pipe and the queue hold.
            await asyncio.gather(*(many(server, 1500) for _ in range(4)))
            await load.next(20, "ok")
            pipe.reading.set()
        await asyncio.to_thread(ends_well, server)
        until(lambda: server.lines()[-1]["msg"] == "stopped")
    pipe.close()


@pytest.mark.skipif(not CAN_MOUNT and not os.environ.get("CI"), reason="only root can mount a small disk")
async def test_the_disk_is_full(project: Path, tmp_path: Path, database: str) -> None:
    """Lines are lost and counted while nothing can be written, and afterwards each is whole again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", disk)
    try:
        environment = {**SETTINGS, "DATABASE_URL": database}
        async with Watched(project, disk / "log", environment=environment, torn=True) as server:
            async with under("the disk of the log is full", server, Load(server.url, ECHO)) as load:
                dropped = "mcp_log_lines_dropped_total"
                await load.next(400)
                await asyncio.to_thread(until, lambda: server.metrics()[dropped] > 50)
                as_root("mount", "-o", "remount,size=16m", disk)
                await load.next(20)
            await asyncio.to_thread(ends_well, server)
            assert server.lines()[-1]["msg"] == "stopped"
    finally:
        as_root("umount", "--lazy", disk)


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(FAKETIME is None and not os.environ.get("CI"), reason="the Debian package faketime is missing")
@pytest.mark.parametrize(
    ("name", "offset"), [("the clock is set back", "-3600"), ("the clock is set forward", "+3600")]
)
async def test_the_clock_is_set(project: Path, tmp_path: Path, database: str, name: str, offset: str) -> None:
    """An hour: no deadline, limit or connection is measured by the time of day."""
    assert FAKETIME, "the Debian package faketime is missing"
    clock = tmp_path / "clock"
    clock.write_text("+0\n", "ascii")
    environment = {
        **SETTINGS,
        "DATABASE_URL": database,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # The clock that counts from the start of the machine cannot be set.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    calls = (("slow", lambda _: {"seconds": 0.05}), ("through", hello), *ECHO)
    async with Watched(project, tmp_path / "log", environment=environment) as server:
        async with under(name, server, Load(server.url, calls)) as load:
            clock.write_text(f"{offset}\n", "ascii")
            await load.next(60)
        first, last = (datetime.fromisoformat(server.lines()[place]["ts"]) for place in (0, -1))
        assert abs((last - first).total_seconds() - int(offset)) < 600, "the clock was not set"
        await asyncio.to_thread(ends_well, server)


async def test_no_descriptors_are_left(project: Path, tmp_path: Path, database: str) -> None:
    """Those who are connected go on; others are turned away or wait, until there is room."""
    environment = {**SETTINGS, "DATABASE_URL": database}
    calls = (("through", hello), *ECHO)
    async with Watched(project, tmp_path / "log", environment=environment) as server:
        async with under("no descriptors are left", server, Load(server.url, calls), well=False) as load:
            _, hard = resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE)
            most = server.descriptors() + 10
            resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (most, hard))
            crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
            await asyncio.to_thread(until, lambda: server.descriptors() >= most - 1)
            await load.next(100)
            for one in crowd:
                one.close()
        resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (hard, hard))
        await asyncio.to_thread(ends_well, server)


async def test_the_process_is_stopped(project: Path, tmp_path: Path, database: str) -> None:
    """After a pause of the whole process, calls on their way end by their deadlines, and all others are answered."""
    calls = (("slow", lambda _: {"seconds": 0.1}), ("through", hello), *ECHO)
    async with Watched(project, tmp_path / "log", environment={**SETTINGS, "DATABASE_URL": database}) as server:
        async with under("the process is stopped for a while", server, Load(server.url, calls), well=False):
            server.child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(FROZEN_SECONDS)
            server.child.send_signal(signal.SIGCONT)
        await asyncio.to_thread(ends_well, server)
