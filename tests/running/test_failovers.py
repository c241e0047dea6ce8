"""What stands behind a name changes under load: failover, promotion, a pooler, a certificate, the network between.

Rows of the table in `support/faults.py`, as in `test_faults.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio
from support import faults
from support.dev_server import free_port
from support.faults import ECHO, PUT, SETTINGS, answered_are_kept, ends_well, numbers, under
from support.pgbouncer import PGBOUNCER, certificates, pgbouncer, with_tls
from support.postgres import Postgres, Standby
from support.relay import Relay
from support.standing_sessions import standing
from support.steady_load import Load
from support.watched_server import Watched

if TYPE_CHECKING:
    from collections.abc import Generator

    from support.relay import Streams

pytestmark = pytest.mark.slow

FAR_SECONDS = 0.01
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"


@pytest.fixture(scope="module")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL that these tests may stop."""
    with Postgres() as running:
        asyncio.run(faults.run(running.url, "CREATE ROLE app LOGIN"))
        yield running


def through(relay: Relay, more: str = "") -> str:
    """Return the address of the database behind the relay."""
    return f"postgresql://postgres@127.0.0.1:{relay.port}/postgres{more}"


class Name:
    """A name that leads to one server, then to another.

    Attributes:
        leads_to: A socket of PostgreSQL, or a port.
    """

    def __init__(self, leads_to: str | int) -> None:
        self.leads_to = leads_to

    async def connect(self) -> Streams:
        """Connect to whom it leads to now."""
        if isinstance(self.leads_to, str):
            return await asyncio.open_unix_connection(self.leads_to)
        return await asyncio.open_connection("127.0.0.1", self.leads_to)


@pytest.mark.parametrize("legacy", ["stateless", "stateful"])
async def test_postgresql_fails_over(project: Path, tmp_path: Path, legacy: str) -> None:
    """The name leads to a standby before it is promoted: nobody is told to ask for access, and no write is lost.

    Sessions that stood open go on, and every client is well within 5 s of the promotion.
    """
    with Postgres() as primary, Standby(primary) as standby:
        name = Name(primary.socket)
        async with Relay(name.connect) as relay:
            await faults.run(primary.url, faults.CREATE)
            environment = {**SETTINGS, "DATABASE_URL": through(relay), "MCP_LEGACY": legacy}
            async with Watched(project, tmp_path / "log", environment=environment) as server:
                async with AsyncExitStack() as stack:
                    sessions = await stack.enter_async_context(standing(server))
                    others = await stack.enter_async_context(Load(server.url, ECHO, sessions=sessions[:2]))
                    writers = Load(server.url, PUT, sessions=sessions[2:])
                    fails_over = under("PostgreSQL fails over to a standby", server, writers)
                    load = await stack.enter_async_context(fails_over)
                    name.leads_to = standby.socket
                    await asyncio.to_thread(primary.kill)
                    await load.next(20, "upstream_unavailable")
                    await others.next(20, "ok")
                    assert server.ready() == 200
                    await asyncio.to_thread(standby.promote)
                assert {one.kind for one in others.ended} == {"ok"}
                await answered_are_kept(standby.url, load)
                await asyncio.to_thread(ends_well, server)


async def test_the_first_host_goes_silent(project: Path, tmp_path: Path, postgres: Postgres) -> None:
    """A machine that dies says nothing: the other host of the URL is used, and nobody waits for the first one twice."""
    connect = Name(postgres.socket).connect
    async with numbers(postgres) as check, Relay(connect) as first, Relay(connect) as second:
        url = f"postgresql://app@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres?sslmode=disable"
        async with Watched(project, tmp_path / "log", environment={**SETTINGS, "DATABASE_URL": url}) as server:
            name = "the first host of PostgreSQL goes silent"
            async with Load(server.url, ECHO) as others, under(name, server, Load(server.url, PUT)) as load:
                first.partition()
                await load.next(4, "timeout")
            await check(load)
            assert {one.kind for one in others.ended} == {"ok"}
            await asyncio.to_thread(ends_well, server)


@pytest.mark.parametrize("legacy", ["stateless", "stateful"])
@pytest.mark.parametrize("name", ["Redis fails over to a replica", "Redis becomes a replica"])
async def test_redis_takes_no_writes(project: Path, tmp_path: Path, database: str, name: str, legacy: str) -> None:
    """A replica that is not promoted yet counts for nobody: limits are counted here, and tighter, until one writes.

    Sessions that stood open go on, and limits are shared again within 5 s; connections to the replica stay open,
    and are not used again.
    """
    first, second = free_port(), free_port()
    folder = tmp_path / "replica"
    folder.mkdir()
    leads = Name(first)
    with (
        faults.redis(tmp_path, first) as child,
        faults.redis(folder, second, "--replicaof", "127.0.0.1", str(first)),
    ):
        async with Relay(leads.connect) as relay:
            environment = {**SETTINGS, "DATABASE_URL": database, "REDIS_URL": f"redis://127.0.0.1:{relay.port}"}
            environment["MCP_LEGACY"] = legacy
            async with Watched(project, tmp_path / "log", environment=environment) as server:
                async with (
                    standing(server) as sessions,
                    under(name, server, Load(server.url, ECHO, sessions=sessions)) as load,
                ):
                    if name == "Redis becomes a replica":
                        # Connections stay open, as with a planned failover.
                        await replicate(second)
                        await replicate(first, "127.0.0.1", str(second))
                    else:
                        leads.leads_to = second
                        child.kill()
                    await asyncio.to_thread(server.line, "rate limits degraded")
                    await load.next(50)
                    if name == "Redis becomes a replica":
                        leads.leads_to = second
                    else:
                        await replicate(second)
                await asyncio.to_thread(ends_well, server)


@pytest.mark.parametrize(
    ("name", "setting", "begin", "end"),
    [("Redis is full", "maxmemory", "1", "0"), ("Redis refuses the password", "requirepass", "another", "")],
)
async def test_redis_refuses(  # noqa: PLR0913, PLR0917 - the row
    project: Path, tmp_path: Path, database: str, name: str, setting: str, begin: str, end: str
) -> None:
    """Limits are counted here, and tighter, until it takes what it is asked again."""
    port = free_port()
    with faults.redis(tmp_path, port):
        async with (
            Relay(Name(port).connect) as relay,
            redis.asyncio.Redis(port=port, single_connection_client=True) as admin,
        ):
            environment = {**SETTINGS, "DATABASE_URL": database, "REDIS_URL": f"redis://127.0.0.1:{relay.port}"}
            async with Watched(project, tmp_path / "log", environment=environment) as server:
                async with under(name, server, Load(server.url, ECHO)) as load:
                    await admin.config_set(setting, begin)
                    relay.drop()
                    await asyncio.to_thread(server.line, "rate limits degraded")
                    await load.next(50)
                    await admin.config_set(setting, end)
                await asyncio.to_thread(ends_well, server)


async def test_the_certificate_of_redis_is_not_trusted(project: Path, tmp_path: Path, database: str) -> None:
    """While Redis shows a certificate of somebody else, nothing is asked of it."""
    port = free_port()
    certificates(tmp_path)

    def serving(name: str) -> AbstractContextManager[object]:
        files = ("--tls-cert-file", f"{tmp_path}/{name}.crt", "--tls-key-file", f"{tmp_path}/{name}.key")
        trust = ("--tls-ca-cert-file", f"{tmp_path}/{name}.crt", "--tls-auth-clients", "no")
        return faults.redis(tmp_path, port, "--port", "0", "--tls-port", str(port), *files, *trust)

    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/server.crt"
    with ExitStack() as first, ExitStack() as second, ExitStack() as third:
        first.enter_context(serving("server"))
        environment = {**SETTINGS, "DATABASE_URL": database, "REDIS_URL": url}
        async with Watched(project, tmp_path / "log", environment=environment) as server:
            name = "the certificate of Redis is not trusted"
            async with under(name, server, Load(server.url, ECHO)) as load:
                assert "rate limits degraded" not in {line["msg"] for line in server.lines()}
                first.close()
                second.enter_context(serving("other"))
                await asyncio.to_thread(server.line, "rate limits degraded")
                await load.next(50)
                second.close()
                third.enter_context(serving("server"))
            await asyncio.to_thread(ends_well, server)


async def replicate(port: int, *source: str) -> None:
    """Let a Redis follow another one, or nobody."""
    async with redis.asyncio.Redis(port=port) as client:
        await client.execute_command("REPLICAOF", *(source or ("NO", "ONE")))


class Pooler:
    """PgBouncer behind a name; another one takes its place."""

    def __init__(self, postgres: Postgres, name: Name) -> None:
        self.postgres = postgres
        self.name = name
        self.running = ExitStack()

    async def start(self, mode: str = "transaction", more: str = "") -> None:
        """Start one, and let the name lead to it."""
        starting = pgbouncer(self.postgres.url, more, mode=mode)
        self.name.leads_to = urlsplit(await asyncio.to_thread(self.running.enter_context, starting)).port or 0

    async def stop(self) -> None:
        """End it."""
        await asyncio.to_thread(self.running.close)


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pgbouncer_is_restarted(project: Path, tmp_path: Path, postgres: Postgres, mode: str) -> None:
    """Calls on their way are told to try again, in either mode."""
    name = Name("")
    pooler = Pooler(postgres, name)
    async with AsyncExitStack() as stack:
        stack.callback(pooler.running.close)
        await pooler.start(mode)
        check = await stack.enter_async_context(numbers(postgres))
        relay = await stack.enter_async_context(Relay(name.connect))
        environment = {
            **SETTINGS,
            "DATABASE_URL": through(relay),
            "MCP_DATABASE_PGBOUNCER": str(int(mode == "transaction")),
            "MCP_POOL_MAX_SIZE": "2",
        }
        server = await stack.enter_async_context(Watched(project, tmp_path / "log", environment=environment))
        async with under(f"PgBouncer is restarted, in {mode} mode", server, Load(server.url, PUT)) as load:
            await pooler.stop()
            await load.next(20, "upstream_unavailable")
            await pooler.start(mode)
        await check(load)
        await asyncio.to_thread(ends_well, server)


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("PgBouncer is paused", "PAUSE", "RESUME"),
        ("PgBouncer takes no more clients", "SET max_client_conn = 1", "SET max_client_conn = 100"),
    ],
)
async def test_pgbouncer_lets_nobody_through(  # noqa: PLR0913, PLR0917 - the row
    project: Path, tmp_path: Path, postgres: Postgres, name: str, begin: str, end: str
) -> None:
    """Calls end by their deadlines, with something that says to try again."""
    leads = Name("")
    pooler = Pooler(postgres, leads)
    async with AsyncExitStack() as stack:
        stack.callback(pooler.running.close)
        await pooler.start(more="admin_users = postgres\n")
        check = await stack.enter_async_context(numbers(postgres))
        relay = await stack.enter_async_context(Relay(leads.connect))
        environment = {**SETTINGS, "DATABASE_URL": through(relay), "MCP_DATABASE_PGBOUNCER": "1"}
        server = await stack.enter_async_context(Watched(project, tmp_path / "log", environment=environment))
        admin = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{leads.leads_to}/pgbouncer")
        stack.push_async_callback(admin.close)
        async with Load(server.url, ECHO) as others, under(name, server, Load(server.url, PUT)) as load:
            await admin.execute(begin)
            if begin != "PAUSE":
                relay.drop()
            await load.next(12)
            await admin.execute(end)
        await check(load)
        assert {one.kind for one in others.ended} == {"ok"}
        await asyncio.to_thread(ends_well, server)


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
async def test_pgbouncer_comes_between(project: Path, tmp_path: Path, postgres: Postgres) -> None:
    """The address leads to a pooler in transaction mode, and no setting says so: the first failures find it."""
    name = Name(postgres.socket)
    pooler = Pooler(postgres, name)
    async with AsyncExitStack() as stack:
        stack.callback(pooler.running.close)
        check = await stack.enter_async_context(numbers(postgres))
        relay = await stack.enter_async_context(Relay(name.connect))
        environment = {**SETTINGS, "DATABASE_URL": through(relay)}
        server = await stack.enter_async_context(Watched(project, tmp_path / "log", environment=environment))
        async with under("PgBouncer comes between, and no setting says so", server, Load(server.url, PUT)) as load:
            await pooler.start()
            relay.drop()
            await load.next(50)
        await check(load)
        await asyncio.to_thread(ends_well, server)


@pytest.mark.skipif(not PGBOUNCER, reason="pgbouncer is not installed")
async def test_the_certificate_is_not_trusted(project: Path, tmp_path: Path, postgres: Postgres) -> None:
    """While the database shows a certificate of somebody else, nothing is sent to it."""
    name = Name("")
    pooler = Pooler(postgres, name)
    async with AsyncExitStack() as stack:
        # Not below pytest's own folder: run by root, that is closed to the user that PgBouncer runs as.
        folder = certificates(Path(stack.enter_context(TemporaryDirectory(prefix="tls-"))))
        stack.callback(pooler.running.close)
        await pooler.start("session", with_tls(folder))
        check = await stack.enter_async_context(numbers(postgres))
        relay = await stack.enter_async_context(Relay(name.connect))
        url = through(relay, f"?sslmode=verify-full&sslrootcert={folder}/server.crt")
        environment = {**SETTINGS, "DATABASE_URL": url, "MCP_POOL_MAX_SIZE": "2"}
        server = await stack.enter_async_context(Watched(project, tmp_path / "log", environment=environment))
        async with under("the certificate of PostgreSQL is not trusted", server, Load(server.url, PUT)) as load:
            await pooler.stop()
            await pooler.start("session", with_tls(folder, "other"))
            await load.next(20, "upstream_unavailable")
            await pooler.stop()
            await pooler.start("session", with_tls(folder))
        await check(load)
        await asyncio.to_thread(ends_well, server)


async def ends_connections(postgres: Postgres, _: Relay, load: Load) -> None:
    """End every connection, as an administrator does."""
    for _ in range(5):
        await faults.run(postgres.url, TERMINATE)
        await load.next(2)


async def no_room(postgres: Postgres, _: Relay, load: Load) -> None:
    """Let the server's own role have no connection."""
    await faults.run(postgres.url, "ALTER ROLE app CONNECTION LIMIT 0")
    await faults.run(postgres.url, TERMINATE)
    await load.next(20, "upstream_unavailable")
    await faults.run(postgres.url, "ALTER ROLE app CONNECTION LIMIT -1")


async def refuses(postgres: Postgres, _: Relay, load: Load) -> None:
    """Refuse the server's own role, as with a password that was changed; then take it again."""
    await faults.run(postgres.url, "ALTER ROLE app NOLOGIN")
    await faults.run(postgres.url, TERMINATE)
    await load.next(20, "upstream_unavailable")
    await faults.run(postgres.url, "ALTER ROLE app LOGIN")


async def takes_no_writes(postgres: Postgres, _: Relay, load: Load) -> None:
    """Take no writes, as providers do it while the disk is full."""
    await faults.run(postgres.url, "ALTER ROLE app SET default_transaction_read_only = on")
    await faults.run(postgres.url, TERMINATE)
    await load.next(20, "upstream_unavailable")
    await faults.run(postgres.url, "ALTER ROLE app RESET default_transaction_read_only")


async def adds_a_column(postgres: Postgres, _: Relay, load: Load) -> None:
    """Change a table under statements that are prepared."""
    await faults.run(postgres.url, "ALTER TABLE put ADD COLUMN further integer")
    await load.next(20)


async def replaces_a_type(postgres: Postgres, _: Relay, load: Load) -> None:
    """Replace the type of a column under statements that are prepared."""
    await faults.run(postgres.url, "CREATE DOMAIN one AS bigint; ALTER TABLE put ALTER number TYPE one")
    await faults.run(postgres.url, TERMINATE)
    await load.recovered()
    await faults.run(
        postgres.url, "CREATE DOMAIN two AS bigint; ALTER TABLE put ALTER number TYPE two; DROP DOMAIN one"
    )
    await load.next(1, "upstream_unavailable")


async def is_another(_: Postgres, relay: Relay, load: Load) -> None:
    """Let a web server answer at the address."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    connect = relay.connect
    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        relay.connect = Name(server.sockets[0].getsockname()[1]).connect
        relay.drop()
        await load.next(20, "upstream_unavailable")
        relay.connect = connect


async def forgets(_: Postgres, relay: Relay, load: Load) -> None:
    """Lose what comes on the connections that there are."""
    relay.forget()
    await load.next(8)


async def loses(_: Postgres, relay: Relay, load: Load) -> None:
    """Let one piece in five be sent twice."""
    relay.lost_one_in = 5
    await load.next(16)
    relay.heal()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("PostgreSQL ends every connection", ends_connections),
        ("PostgreSQL takes no more connections", no_room),
        ("PostgreSQL refuses the role of the server", refuses),
        ("PostgreSQL is made read-only", takes_no_writes),
        ("a column is added to a table", adds_a_column),
        ("a type of a column is replaced", replaces_a_type),
        ("the name of PostgreSQL leads to another program", is_another),
        ("the network forgets every connection to PostgreSQL", forgets),
        ("the network loses a part of what is sent to PostgreSQL", loses),
    ],
)
async def test_connections_to_the_database(
    project: Path, tmp_path: Path, postgres: Postgres, name: str, fault: Any
) -> None:
    """Each call ends in time with something that says to try again, and what was acknowledged is there."""
    async with numbers(postgres) as check, Relay(Name(postgres.socket).connect) as relay:
        environment = {**SETTINGS, "DATABASE_URL": through(relay).replace("postgres@", "app@")}
        async with Watched(project, tmp_path / "log", environment=environment) as server:
            calls = (*PUT, ("newest", lambda _: {})) if fault is adds_a_column else PUT
            writers = Load(server.url, calls)
            judged = under(name, server, writers, well=fault not in {loses, adds_a_column})
            async with Load(server.url, ECHO) as others, judged as load:
                await fault(postgres, relay, load)
            if fault is not adds_a_column:
                await check(load)
            assert {one.kind for one in others.ended} == {"ok"}
            await asyncio.to_thread(ends_well, server)


async def test_the_network_is_slow(project: Path, tmp_path: Path, postgres: Postgres) -> None:
    """With 20 ms of round trip to PostgreSQL and to Redis nothing is refused, and limits stay shared."""
    port = free_port()
    far = [Relay(Name(postgres.socket).connect), Relay(Name(port).connect)]
    async with AsyncExitStack() as stack:
        stack.enter_context(faults.redis(tmp_path, port))
        check = await stack.enter_async_context(numbers(postgres))
        for relay in far:
            relay.delay = FAR_SECONDS
            await stack.enter_async_context(relay)
        environment = {**SETTINGS, "DATABASE_URL": through(far[0]), "REDIS_URL": f"redis://127.0.0.1:{far[1].port}"}
        server = await stack.enter_async_context(Watched(project, tmp_path / "log", environment=environment))
        async with under("PostgreSQL and Redis are 20 ms away", server, Load(server.url, PUT)) as load:
            await load.next(40)
        await check(load)
        assert "rate limits degraded" not in {line["msg"] for line in server.lines()}
        await asyncio.to_thread(ends_well, server)


async def test_the_database_is_away_at_the_start(project: Path, tmp_path: Path) -> None:
    """What is started at the same time may need a moment: the server waits for it, and nobody starts it again."""
    with Postgres() as postgres, ExitStack() as stack:
        await faults.run(postgres.url, faults.CREATE)
        await asyncio.to_thread(postgres.stop)
        server = Watched(project, tmp_path / "log", environment={**SETTINGS, "DATABASE_URL": postgres.url})
        stack.callback(server.__exit__)
        await asyncio.to_thread(server.line, "waiting for the database")
        assert "started" not in {line["msg"] for line in server.lines()}
        await asyncio.to_thread(postgres.start)
        async with server, under("PostgreSQL is away at the start", server, Load(server.url, PUT)) as load:
            await load.next(20)
        await answered_are_kept(postgres.url, load)


async def test_redis_is_away_at_the_start(project: Path, tmp_path: Path, database: str) -> None:
    """Limits are counted in the process, and tighter, until it comes."""
    port = free_port()
    environment = {**SETTINGS, "DATABASE_URL": database, "REDIS_URL": f"redis://127.0.0.1:{port}"}
    with ExitStack() as stack:
        async with Watched(project, tmp_path / "log", environment=environment) as server:
            async with under("Redis is away at the start", server, Load(server.url, ECHO)) as load:
                await load.next(50)
                stack.enter_context(faults.redis(tmp_path, port))
            await asyncio.to_thread(ends_well, server)


async def test_a_library_does_not_return(project: Path, tmp_path: Path, database: str) -> None:
    """Threads that hang cost their caller, until they return; whoever needs none is served."""
    seconds = 0.0
    environment = {
        **SETTINGS,
        "DATABASE_URL": database,
        "MCP_MAX_THREADS": "4",
        "MCP_MAX_THREADS_PER_PRINCIPAL": "2",
        "MCP_THREAD_ACQUIRE_TIMEOUT_SECONDS": "0.5",
    }
    async with Watched(project, tmp_path / "log", environment=environment) as server:
        blocking = Load(server.url, (("blocking", lambda _: {"seconds": seconds}),))
        judged = under("a library that a tool calls does not return", server, blocking)
        async with Load(server.url, ECHO) as others, judged as load:
            seconds = 4.0
            await load.next(2, "timeout")
            await load.next(4, "busy")
            assert server.metrics()["mcp_threads_busy"] == 2
            assert server.metrics()["mcp_oldest_thread_seconds"] > 2
            seconds = 0.0
        assert {one.kind for one in others.ended} == {"ok"}
        await asyncio.to_thread(ends_well, server)
