"""The pool: each wait has an end, and whatever happens to PostgreSQL, calls are answered."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import ssl
import struct
import time
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from captured import captured
from live import KEY, PROBE_KEY, SECONDS, Process, free_port
from queries import Seen, client, direct, eventually, in_process, serving, settings_for, whole
from support.pgbouncer import PGBOUNCER, certificates, pgbouncer, with_tls
from support.relay import Relay
from wire import ERAS, Era, Reply, Wire, opening

from hardening.calls.failures import ERROR_META_KEY
from hardening.database import DatabaseUnavailableError
from hardening.database.connecting import connect_arguments
from hardening.database.failures import lost
from hardening.database.pool import Database
from hardening.database.transaction import connection
from hardening.errors import PoolExhausted, UpstreamUnavailable
from hardening.limits.memory import TokenBuckets
from hardening.settings.urls import database_target
from hardening.telemetry import otlp

if TYPE_CHECKING:
    from collections.abc import Generator

    from hardening.dev.postgres import EmbeddedPostgres

RETRYABLE = {"busy", "timeout", "upstream_unavailable"}


@pytest.fixture
def url(postgres: EmbeddedPostgres) -> str:
    """The address of the PostgreSQL that may be stopped."""
    return postgres.server.get_uri()


@pytest.fixture(autouse=True)
def seen() -> None:
    """Start with nothing seen."""
    Seen.holding.clear()


def outcome(answer: Reply) -> str:
    """Return how a call ended: ok, or the kind of its failure."""
    if not answer.result["isError"]:
        return "ok"
    failure = answer.result["_meta"][ERROR_META_KEY]
    assert failure["retryable"] is (failure["kind"] in RETRYABLE)
    return failure["kind"]


async def asked(wire: Wire, sql: str = "SELECT 1", era: Era = "modern") -> str:
    """Run a statement and return how it ended."""
    return outcome(await wire.call(era, "query", {"sql": sql}))


async def test_no_database_at_start_is_one_sentence() -> None:
    """A database that refuses or does not answer is named by its setting within its deadline, never by its address."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"nobody": free_port(), "silent": silent.getsockname()[1]}
        for port in ports.values():
            address = f"postgresql://someone:a-password@127.0.0.1:{port}/name"
            database = Database(settings_for(address, MCP_DATABASE_START_TIMEOUT_SECONDS="0.3"))
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailableError, match=r"^DATABASE_URL: ") as refused:
                await database.open()
            assert time.monotonic() - started < 5
            assert "password" not in str(refused.value)
            assert str(port) not in str(refused.value)
            assert refused.value.__cause__ is None
            assert refused.value.away


async def test_a_database_that_is_away_is_waited_for(url: str, tmp_path: Path) -> None:
    """Refused, or not up yet, is no mistake in the settings: it is waited for, said once, and found when it comes."""
    parts = urlsplit(url)
    (host,) = parse_qs(parts.query)["host"]
    port = free_port()
    database = Database(settings_for(f"postgresql://postgres@127.0.0.1:{port}/postgres"))
    with captured(tmp_path / "log") as log:
        opening_it = asyncio.ensure_future(database.open())
        # Two attempts: the second is half a second after the first.
        await asyncio.sleep(0.7)
        assert not opening_it.done()
        said = [line for line in log.lines() if line["msg"] == "waiting for the database"]
    assert [(line["error_type"], line["timeout_seconds"]) for line in said] == [("ConnectionRefusedError", 10)]

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        await opening_it
        assert database.size
        await database.close()


@pytest.mark.parametrize(
    ("path", "words"), [("postgres?surprise", "not known"), ("nowhere", "no database of this name")]
)
async def test_what_is_wrong_is_refused_at_once(url: str, path: str, words: str) -> None:
    """No waiting mends a name that does not exist: exit 78, where one that is away is 75."""
    parts = urlsplit(url)
    wrong = f"postgresql://postgres@/{path.partition('?')[0]}?{parts.query}"
    wrong += "&role=surprise" if "?" in path else ""
    started = time.monotonic()
    database = Database(settings_for(wrong, MCP_DATABASE_START_TIMEOUT_SECONDS="30"))
    with pytest.raises(DatabaseUnavailableError) as refused:
        await database.open()
    assert not refused.value.away
    assert time.monotonic() - started < 10
    assert words in str(refused.value) or "cannot connect" in str(refused.value)


@pytest.mark.parametrize("era", ERAS)
async def test_a_database_that_takes_no_writes_is_left_for_the_one_that_does(
    url: str, era: Era, tmp_path: Path
) -> None:
    """After a failover the name may lead to a read-only server: calls are told to try again, and it heals."""
    admin = await asyncpg.connect(url)
    try:
        await admin.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        with serving(url) as server, captured(tmp_path / "log", level="warning") as log:
            async with client(server) as wire:
                during = [await asked(wire, "SELECT 1", era) for _ in range(2)]
                written = [await asked(wire, "CREATE TABLE failover (a int)", era) for _ in range(2)]
                await admin.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
                # One that meets a connection of before is told to try again.
                await asked(wire, "CREATE TABLE IF NOT EXISTS failover (a int)", era)
                after = [await asked(wire, "CREATE TABLE IF NOT EXISTS failover (a int)", era) for _ in range(3)]
            said = {(line["msg"], line.get("backend"), line.get("setting")) for line in log.lines()}
    finally:
        await admin.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        await admin.execute("DROP TABLE IF EXISTS failover")
        await admin.close()

    # Nothing of PgBouncer, which is not there.
    assert said == {("database read-only", "postgres", "DATABASE_URL")}
    assert during == ["ok", "ok"]
    assert written == ["upstream_unavailable"] * 2
    assert after == ["ok"] * 3


@pytest.mark.parametrize("era", ERAS)
async def test_many_more_calls_than_connections_are_all_answered(url: str, era: Era) -> None:
    """Sixty calls for three connections: each gets its result or is told to try again, and none hangs."""
    with serving(url, MCP_POOL_ACQUIRE_TIMEOUT_SECONDS="0.25") as server:
        async with client(server) as wire:
            answers = await asyncio.gather(
                *(wire.call(era, "query", {"sql": "SELECT pg_sleep(0.05)"}) for _ in range(60))
            )
        outcomes = Counter(map(outcome, answers))
        busy = next(answer for answer in answers if outcome(answer) == "busy")
        assert whole(server)

    assert set(outcomes) == {"ok", "busy"}
    assert busy.result["_meta"][ERROR_META_KEY]["retryAfterSeconds"] == 1
    assert "Retry after 1 s." in busy.text


async def test_waiting_for_a_connection_is_enough(url: str) -> None:
    """With time to wait, every call gets a connection in its turn, and the pool never grows."""
    async with in_process(url) as server:
        calls = [server.call_tool("query", {"sql": "SELECT pg_sleep(0.005)"}) for _ in range(60)]
        results = await asyncio.gather(*calls)
        assert server.database is not None

        assert not any(result.is_error for result in results)  # type: ignore[union-attr]
        assert server.database.size <= 3


@pytest.mark.parametrize("era", ERAS)
async def test_a_restart_under_load_costs_a_retry(url: str, postgres: EmbeddedPostgres, era: Era) -> None:
    """Calls in flight fail in a way that can be retried, others are served, and afterwards all is as before."""
    with serving(url, MCP_POOL_ACQUIRE_TIMEOUT_SECONDS="1") as server:
        async with client(server) as wire:
            outcomes: Counter[str] = Counter()
            enough = asyncio.Event()

            async def load() -> None:
                while not enough.is_set():
                    outcomes[await asked(wire, "SELECT pg_sleep(0.01)", era)] += 1

            workers = [asyncio.create_task(load()) for _ in range(6)]
            caught = asyncio.create_task(wire.call(era, "statement", {"sql": "SELECT pg_sleep(60)"}))
            assert await asyncio.to_thread(Seen.holding.wait, SECONDS)
            await asyncio.to_thread(postgres.server.stop)
            in_flight = outcome(await caught)
            away = await asked(wire, era=era)
            asks = (opening(era), ("tools/list", {}))
            served = [(await wire.get("/readyz")).status, *[(await wire.ask(era, *each)).status for each in asks]]
            await asyncio.to_thread(postgres.server.start)
            await eventually(lambda: back(wire))
            enough.set()
            await asyncio.gather(*workers)
            after = [await asked(wire, era=era) for _ in range(6)]
            assert whole(server)

    assert in_flight == "upstream_unavailable"
    assert away in RETRYABLE
    # What needs no database is served, so no replica is taken out of service.
    assert served == [200, 200, 200]
    assert outcomes["ok"]
    assert set(outcomes) <= {"ok", *RETRYABLE}
    assert after == ["ok"] * 6


@contextmanager
def frozen(processes: list[int]) -> Generator[None]:
    """Stop processes as they are: they answer nothing, and their sockets stay open."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("era", ERAS)
async def test_a_database_that_hangs_costs_a_deadline(url: str, postgres: EmbeddedPostgres, era: Era) -> None:
    """A call on a frozen database ends at its deadline, its connection is discarded, the replica stays ready."""
    with serving(url, MCP_POOL_ACQUIRE_TIMEOUT_SECONDS="0.5") as server:
        async with client(server) as wire, direct(url) as db:
            assert await asked(wire, era=era) == "ok"
            backends = [
                row[0] for row in await db.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            ]
            postmaster = postgres.server.get_pid()
            assert postmaster is not None
            with frozen([postmaster, *backends]):
                started = time.monotonic()
                answers = await asyncio.gather(*(wire.call(era, "hasty", {"sql": "SELECT 1"}) for _ in range(5)))
                seconds = time.monotonic() - started
                ready = await wire.get("/readyz")
                assert whole(server)
            await eventually(lambda: back(wire))
            assert whole(server)

    assert set(map(outcome, answers)) <= RETRYABLE
    assert seconds < 4
    assert ready.status == 200


@pytest.mark.parametrize("hangs", [False, True], ids=["stopped", "hanging"])
async def test_a_scrape_says_whether_the_database_answers(
    url: str,
    postgres: EmbeddedPostgres,
    hangs: bool,  # noqa: FBT001 - the row
) -> None:
    """`mcp_database_up` is as old as the scrape, under load too: 0 while the database is away, 1 when it is back."""
    pattern = re.compile(rb"^mcp_database_up ([01])\.0$", re.MULTILINE)
    with serving(url, MCP_POOL_ACQUIRE_TIMEOUT_SECONDS="0.5") as server:
        async with client(server) as wire, Wire(server.url, PROBE_KEY) as probe, direct(url) as db:

            async def up(expected: bytes) -> bool:
                # The question to the database may take one second of it.
                async with asyncio.timeout(2.5):
                    reply = await probe.get("/metrics", authorization=f"Bearer {PROBE_KEY}")
                found = pattern.search(reply.body)
                return found is not None and found[1] == expected

            enough = asyncio.Event()

            async def load() -> None:
                while not enough.is_set():
                    await wire.call("modern", "hasty", {"sql": "SELECT 1"})

            workers = [asyncio.create_task(load()) for _ in range(6)]
            assert await up(b"1")
            if hangs:
                backends = [
                    row[0] for row in await db.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                ]
                postmaster = postgres.server.get_pid()
                assert postmaster is not None
                with frozen([postmaster, *backends]):
                    await eventually(lambda: up(b"0"))
            else:
                await asyncio.to_thread(postgres.server.stop)
                await eventually(lambda: up(b"0"))
                # It stays so: what waits for connections does not make it look as if somebody answered.
                assert [await up(b"0") for _ in range(5)] == [True] * 5
                await asyncio.to_thread(postgres.server.start)
            await eventually(lambda: up(b"1"))
            enough.set()
            await asyncio.gather(*workers)


async def test_a_database_that_hangs_does_not_keep_a_drain(url: str, postgres: EmbeddedPostgres) -> None:
    """A call waits on a frozen database when SIGTERM comes: the log names it without its statement, and exit 0."""
    bounds = {"MCP_DRAIN_TIMEOUT_SECONDS": "2.5", "MCP_TOOL_TIMEOUT_SECONDS": "2"}
    with Process(DATABASE_URL=url, **bounds) as process:
        async with Wire(process.url, KEY) as wire, direct(url) as db:
            call = asyncio.create_task(wire.call("modern", "query", {"sql": "SELECT pg_sleep(77)"}))
            others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            while not await db.fetchval(f"SELECT count(*) {others} AND query LIKE '%77%'"):
                await asyncio.sleep(0.02)
            backends = [row[0] for row in await db.fetch(f"SELECT pid {others}")]
            postmaster = postgres.server.get_pid()
            assert postmaster is not None
            with frozen([postmaster, *backends]):
                code = await asyncio.to_thread(process.stop)
                answer = outcome(await call)

    named = [line for line in process.lines if '"query"' in line]
    assert code == 0
    assert answer in {"timeout", "busy"}
    assert any('"tool call"' in line or '"drain: call cut short"' in line for line in named)
    assert not any("pg_sleep" in line for line in process.lines)


async def test_the_pool_is_closed_last(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits, then telemetry, then the pool: what is closed first needs what is closed later."""
    closed: list[str] = []

    def note(name: str, owner: Any, method: str) -> None:
        close = getattr(owner, method)

        async def noted(*given: Any) -> None:
            closed.append(name)
            await close(*given)

        monkeypatch.setattr(owner, method, noted)

    note("limits", TokenBuckets, "aclose")
    note("telemetry", otlp, "stop")
    note("pool", Database, "close")
    with serving(url):
        pass

    assert closed == ["limits", "telemetry", "pool"]


async def test_the_log_says_once_why_the_database_cannot_be_used(url: str, tmp_path: Path) -> None:
    """A role that is refused looks like a server that is away to callers; a line has the class of the failure."""
    async with direct(url) as db:
        await db.execute("CREATE ROLE refused LOGIN")
        address = urlsplit(url)._replace(netloc="refused@").geturl()
        database = Database(settings_for(address, MCP_POOL_MIN_SIZE="0"))
        await database.open()
        with captured(tmp_path / "log") as log:
            await db.execute("ALTER ROLE refused NOLOGIN")
            await database.renew()
            for _ in range(2):
                with pytest.raises(UpstreamUnavailable):
                    await database.take()
            assert not database.up
            await db.execute("ALTER ROLE refused LOGIN")
            await database.give_back(await database.take())
            said = [(one["msg"], one.get("error_type")) for one in log.lines() if one["msg"].startswith("database ")]
        await database.close()
        await db.execute("DROP ROLE refused")
    assert said == [
        ("database unavailable", "asyncpg.exceptions.InvalidAuthorizationSpecificationError"),
        ("database available", None),
    ]


async def test_nobody_is_left_to_see_how_giving_back_ends(url: str, postgres: EmbeddedPostgres) -> None:
    """A call that is cancelled while it gives its connection back leaves no failure that nobody has asked for."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    async with in_process(url) as server:
        assert server.database is not None
        kept = await server.database.take()
        postmaster = postgres.server.get_pid()
        assert postmaster is not None
        with frozen([postmaster, await kept.fetchval("SELECT pg_backend_pid()")]):
            giving = asyncio.create_task(server.database.give_back(kept))
            await asyncio.sleep(0.1)
            giving.cancel()
            await asyncio.wait([giving], timeout=SECONDS)
            server.database.cut(kept)
            # Nothing here may hold on to what it waits for.
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=0.5)

    gc.collect()
    assert giving.cancelled()
    assert seen == []


async def back(wire: Wire) -> bool:
    """Return whether the database is used again."""
    return await asked(wire) == "ok"


async def test_a_pool_in_full_use_is_a_database_that_answers(url: str) -> None:
    """A scrape does not wait for calls, and load alone does not look as if the database were away."""
    with serving(url) as server:
        async with client(server) as wire, Wire(server.url, PROBE_KEY) as probe:
            calls = [asyncio.create_task(wire.call("modern", "hold", {"seconds": 0.4})) for _ in range(6)]
            assert await asyncio.to_thread(Seen.holding.wait, SECONDS)
            database = server.server.database
            assert database is not None
            await eventually(lambda: server.do(lambda: database.full and database.waiting > 0))
            during = (await probe.get("/metrics", authorization=f"Bearer {PROBE_KEY}")).body
            outcomes = {outcome(answer) for answer in await asyncio.gather(*calls)}

    assert b"\nmcp_database_up 1.0\n" in during
    assert outcomes == {"ok"}


async def test_a_closed_pool_says_so(url: str) -> None:
    """Before it is open and after it is closed there is nothing to be had, and nothing hangs."""
    database = Database(settings_for(url))
    assert not await database.ping()
    assert (database.size, database.idle, database.full) == (0, 0, False)
    with pytest.raises(DatabaseUnavailableError):
        await database.take()

    await database.open()
    assert await database.ping()
    assert (database.size, database.idle) == (1, 1)
    kept = await database.take()
    started = time.monotonic()
    await database.close()
    assert time.monotonic() - started < 5
    assert lost(kept)
    assert not await database.ping()
    await database.give_back(kept)
    await database.close()


async def test_how_long_a_call_has_waited_is_told(url: str) -> None:
    """Whether a connection came or none did, the metric gets the seconds that the call has waited for it."""
    waited: list[float] = []
    bounds = {"MCP_POOL_MAX_SIZE": "1", "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "0.5"}
    database = Database(settings_for(url, **bounds), on_acquired=waited.append)
    await database.open()
    try:
        taken = await database.take()
        with pytest.raises(PoolExhausted):
            await database.take()
        waiting = asyncio.create_task(database.take())
        await asyncio.sleep(0.2)
        assert database.waiting == 1
        await database.give_back(taken)
        await database.give_back(await waiting)
        assert database.waiting == 0
    finally:
        await database.close()

    at_once, in_vain, later = waited
    assert 0 <= at_once < 0.2
    assert 0.5 <= in_vain < 5
    assert 0.15 <= later < 0.5


async def test_a_connection_that_cannot_be_made_is_not_a_pool_in_use(url: str) -> None:
    """The caller is told at once that the database is away, not that it is busy, and the metric says it too."""
    made: list[object] = []

    async def only_one(connection: object) -> None:
        made.append(connection)
        if len(made) > 1:
            raise ConnectionResetError

    database = Database(settings_for(url, MCP_POOL_MAX_SIZE="2"), on_connection=only_one)
    await database.open()
    try:
        taken = await database.take()
        with pytest.raises(UpstreamUnavailable):
            await database.take()
        assert not database.up
        await database.give_back(taken)
    finally:
        await database.close()


async def test_a_connection_that_does_not_come_is_not_a_pool_in_use(url: str, tmp_path: Path) -> None:
    """A server that accepts and says nothing is away, for its callers and in the log; a pool in full use is busy."""
    parts = urlsplit(url)
    (folder,) = parse_qs(parts.query)["host"]
    async with Relay(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")) as relay:
        bounds = {"MCP_POOL_MAX_SIZE": "2", "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "0.3"}
        database = Database(settings_for(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres", **bounds))
        await database.open()
        try:
            with captured(tmp_path / "log") as log:
                first = await database.take()
                relay.partition()
                with pytest.raises(UpstreamUnavailable):
                    await database.take()
                assert not database.up
                relay.heal()
                second = await database.take()
                with pytest.raises(PoolExhausted):
                    await database.take()
                assert database.up
                said = [(one["msg"], one.get("error_type")) for one in log.lines()]
            for one in (first, second):
                await database.give_back(one)
        finally:
            await database.close()
    assert said == [("database unavailable", "TimeoutError"), ("database available", None)]


async def test_an_address_that_is_silent_is_passed_over(url: str) -> None:
    """Of a URL with several addresses the one that answers is used, within the time for a connection; then at once."""
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    connect = partial(asyncio.open_unix_connection, f"{folder}/.s.PGSQL.5432")
    async with Relay(connect) as first, Relay(connect) as second:
        where = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        bounds = {"MCP_POOL_MIN_SIZE": "1", "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "3"}
        database = Database(settings_for(f"postgresql://postgres@{where}/postgres?sslmode=disable", **bounds))
        await database.open()
        try:
            # The connection that is there leads to the first one.
            kept = await database.take()
            first.partition()
            took: list[float] = []
            for _ in range(2):
                started = time.monotonic()
                taken = await database.take()
                took.append(time.monotonic() - started)
                database.cut(taken)
                await database.give_back(taken)
            database.cut(kept)
            await database.give_back(kept)
        finally:
            await database.close()
    slow, quick = took
    assert 1 <= slow < 3
    assert quick < 1


async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes) -> None:
    """Refuse TLS, then answer the opening of a connection with an error."""
    with suppress(asyncio.IncompleteReadError):
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        if length == 8:
            await reader.readexactly(4)
            writer.write(b"N")
            (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(b"E" + struct.pack("!i", len(said) + 4) + said)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("code", "away"), [("XX000", True), ("55000", True), ("53300", True), ("57P03", True), ("28P01", False)]
)
async def test_what_a_pooler_says_at_the_start(code: str, away: bool) -> None:  # noqa: FBT001 - the row
    """A database that sleeps, moves or takes nobody for a while is waited for (75); a password that is refused is not.

    Poolers of providers say the first with the code of an internal error.
    """
    said = b"SFATAL\0C" + code.encode() + b"\0MTenant or user not found\0\0"
    async with await asyncio.start_server(lambda *streams: talks(*streams, said), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = f"postgresql://someone:a-password@127.0.0.1:{port}/name"
        database = Database(settings_for(address, MCP_DATABASE_START_TIMEOUT_SECONDS="0.8"))
        with pytest.raises(DatabaseUnavailableError) as refused:
            await database.open()
    assert refused.value.away is away
    assert "Tenant" not in str(refused.value)


async def test_a_type_is_replaced_under_prepared_statements(url: str) -> None:
    """As migrations replace an enum: one call for each connection is told to try again, and every later one works.

    The server says it of each statement that was prepared with the old type, for as long as its connection lives.
    """
    async with direct(url) as db, in_process(url, MCP_POOL_MAX_SIZE="1") as server:
        sdk: Any = None

        async def cast() -> str:
            ctx = server.services.context(5, sdk, None, read_only=False)
            async with connection(ctx) as taken:
                return await taken.fetchval("SELECT $1::mood", "low")

        await db.execute("CREATE TYPE mood AS ENUM ('low')")
        try:
            assert await cast() == "low"
            await db.execute("ALTER TYPE mood RENAME TO old; CREATE TYPE mood AS ENUM ('low', 'high'); DROP TYPE old")
            with pytest.raises(UpstreamUnavailable):
                await cast()
            assert [await cast(), await cast()] == ["low", "low"]
        finally:
            await db.execute("DROP TYPE mood")


async def test_giving_back_ends_in_time(url: str, postgres: EmbeddedPostgres) -> None:
    """A database that lets go of nothing holds a call for two seconds more, and its connection is closed."""
    database = Database(settings_for(url))
    await database.open()
    try:
        taken = await database.take()
        postmaster = postgres.server.get_pid()
        assert postmaster is not None
        with frozen([postmaster, await taken.fetchval("SELECT pg_backend_pid()")]):
            async with asyncio.timeout(SECONDS / 2):
                await database.give_back(taken)
        assert database.size == 0
    finally:
        await database.close()


def test_the_roots_of_the_system_are_asked_for_in_full() -> None:
    """`sslrootcert=system`: the certificate has to be one of a known authority, and of this host."""
    target = database_target("postgresql://u:p@h/db?sslmode=verify-full&sslrootcert=system")
    context = connect_arguments(target, pooled=False, seconds=1)["ssl"]

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_connections_that_come_and_go_are_forgotten(url: str) -> None:
    """What is remembered of connections is bounded, however many are replaced: four times the pool, and one."""
    database = Database(settings_for(url, MCP_POOL_MAX_SIZE="2"))
    # Otherwise at most once a second.
    database.may_renew = lambda: True
    await database.open()
    remembered: list[int] = []
    try:
        for _ in range(12):
            await database.give_back(await database.take())
            await database.renew()
            remembered.append(len(database._idle_check._used))  # noqa: SLF001 - its size is the promise
        assert max(remembered) == 9
        assert not database.pooled
    finally:
        await database.close()


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
@pytest.mark.parametrize("told", [True, False])
async def test_pgbouncer_in_transaction_mode(url: str, told: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Many calls share two server connections; without MCP_DATABASE_PGBOUNCER the first failure finds it, and heals."""
    statements = [f"SELECT {number}, pg_sleep(0.002)" for number in range(10)]
    with (
        pgbouncer(url) as address,
        serving(address, MCP_DATABASE_PGBOUNCER=str(int(told)), MCP_POOL_MAX_SIZE="6") as server,
        captured(tmp_path / "log", level="warning") as log,
    ):
        async with client(server) as wire:
            answers = await asyncio.gather(*(wire.call("modern", "query", {"sql": sql}) for sql in statements * 8))
            limit = await wire.call("modern", "hasty", {"sql": "SELECT pg_sleep(60)"})
            again = await asyncio.gather(*(wire.call("modern", "query", {"sql": sql}) for sql in statements * 8))
        outcomes = Counter(map(outcome, answers))
        found = [line for line in log.lines() if line["msg"] == "database behind PgBouncer"]

    # Said once, however many calls have met it; who has been told has nothing to find.
    assert [(line["backend"], line["setting"]) for line in found] == (
        [] if told else [("postgres", "MCP_DATABASE_PGBOUNCER")]
    )
    assert Counter(map(outcome, again)) == {"ok": 80}
    if told:
        assert outcomes == {"ok": 80}
        values = [answer.result["structuredContent"]["result"] for answer in answers]
        assert values == [[str(number)] for number in range(10)] * 8
        assert outcome(limit) == "timeout"
    else:
        assert outcomes["upstream_unavailable"] > 0
        assert not outcomes["internal"]


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
async def test_tls_to_the_database(url: str) -> None:
    """The URL asks for TLS and names who is trusted; a certificate of somebody else ends the start."""
    with TemporaryDirectory(prefix="tls-") as folder, pgbouncer(url, with_tls(certificates(Path(folder)))) as address:
        asking = f"{address}?sslmode=verify-full&sslrootcert={folder}"
        environment = {"MCP_DATABASE_PGBOUNCER": "1"}
        with serving(f"{asking}/server.crt", **environment) as server:
            async with client(server) as wire:
                answers = await asyncio.gather(*(asked(wire, "SELECT pg_sleep(0.002)", era) for era in ERAS * 5))
        for refused in (f"{asking}/other.crt", f"{address}?sslmode=disable"):
            with pytest.raises(
                DatabaseUnavailableError, match=r"^DATABASE_URL: (the certificate is refused|PgBouncer wants TLS)"
            ):
                await Database(settings_for(refused, **environment)).open()

    assert set(answers) == {"ok"}
