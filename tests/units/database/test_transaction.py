"""One connection, one transaction, one call."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from captured import captured
from live import KEY, OTHER_KEY, SECONDS, Live, live
from queries import Seen, client, direct, eventually, in_process, serving, whole
from support.pgbouncer import PGBOUNCER, pgbouncer
from wire import ERAS, Era, Wire, begin_call

from hardening import HardeningSettings
from hardening.calls.failures import ERROR_META_KEY
from hardening.database import DatabaseUnavailableError
from hardening.database.transaction import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

CANCELLED = 10_000
AT_ONCE = 40


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Live]:
    """Tools that use the database well and badly, with three connections."""
    with serving(database_url) as running:
        yield running


@pytest.fixture
async def wire(server: Live) -> AsyncIterator[Wire]:
    """A raw client of it."""
    async with client(server) as connected:
        yield connected


@pytest.fixture
async def table(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An empty table of this test's own."""
    name = f"t{abs(hash(request.node.nodeid))}"
    async with direct(database_url) as db:
        await db.execute(f"CREATE TABLE {name} (n int UNIQUE)")
        yield name
        await db.execute(f"DROP TABLE {name}; DROP FUNCTION IF EXISTS wait_{name}")


@pytest.fixture(autouse=True)
def seen() -> Iterator[None]:
    """Start with nothing seen."""
    Seen.holding.clear()
    Seen.late.clear()
    Seen.kept.clear()
    Seen.reached.clear()
    yield
    Seen.kept.clear()


async def rows(url: str, table: str) -> int:
    """Return how many rows others see."""
    async with direct(url) as db:
        return await db.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - the test's own table


def insert(table: str) -> dict[str, str]:
    """Return the arguments that write one row."""
    return {"sql": f"INSERT INTO {table} VALUES (1) RETURNING n"}  # noqa: S608 - the test's own table


def kind(answer: Any) -> str:
    """Return what kind of failure a call ended with."""
    assert answer.result["isError"], answer.result
    return answer.result["_meta"][ERROR_META_KEY]["kind"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_works_is_committed(wire: Wire, database_url: str, table: str, era: Era) -> None:
    """What a call has written is there when it is answered."""
    answer = await wire.call(era, "query", insert(table))

    assert answer.result["structuredContent"] == {"result": ["1"]}
    assert await rows(database_url, table) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_fails_leaves_nothing(
    wire: Wire, server: Live, database_url: str, table: str, era: Era
) -> None:
    """An exception takes back what was written, and the connection is free again."""
    assert kind(await wire.call(era, "write_then_fail", {"table": table})) == "internal"
    assert await rows(database_url, table) == 0
    assert whole(server)


@pytest.mark.parametrize("era", ERAS)
async def test_a_commit_that_is_cut_off_is_uncertain(wire: Wire, database_url: str, table: str, era: Era) -> None:
    """When the database goes away during the commit, the caller is told to look before it calls again."""
    async with direct(database_url) as db:
        # Checked at the commit, and slow.
        await db.execute(
            f"CREATE FUNCTION wait_{table}() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';"
            f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION wait_{table}()"
        )
        call = asyncio.create_task(wire.call(era, "query", insert(table)))

        async def cut_off() -> bool:
            return await db.fetchval(
                "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE query LIKE 'COMMIT%' AND state = 'active' AND pid <> pg_backend_pid()"
            )

        await eventually(cut_off)
        answer = await call

    assert kind(answer) == "upstream_unavailable"
    assert "Check whether it was, then call again." in answer.text


@pytest.mark.parametrize("era", ERAS)
async def test_what_postgres_says_is_told_by_kind(wire: Wire, table: str, era: Era) -> None:
    """A row that exists is a conflict; a statement with a mistake is a fault of the tool. No text of either leaves."""
    await wire.call(era, "query", insert(table))
    again = await wire.call(era, "query", insert(table))
    mistake = await wire.call(era, "query", {"sql": "SELECT nothing_like_it"})

    assert kind(again) == "conflict"
    assert kind(mistake) == "internal"
    assert table not in again.body.decode()
    assert "nothing_like_it" not in mistake.body.decode()


@pytest.mark.parametrize("era", ERAS)
async def test_a_policy_of_a_table_is_told_from_a_missing_grant(
    wire: Wire, database_url: str, table: str, era: Era
) -> None:
    """A row that row-level security refuses is nothing that this caller may do; a missing GRANT is a mistake."""
    policy = f"CREATE POLICY p ON {table} USING (true) WITH CHECK (n < 10)"
    async with direct(database_url) as db:
        await db.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; {policy}; GRANT ALL ON {table} TO pg_monitor")
    as_role = "DO $$ BEGIN SET LOCAL ROLE pg_monitor; {} END $$"
    refused = await wire.call(era, "query", {"sql": as_role.format(f"INSERT INTO {table} VALUES (11);")})  # noqa: S608 - its own
    mistake = await wire.call(era, "query", {"sql": as_role.format("CREATE SCHEMA nobody;")})

    assert kind(refused) == "permission_denied"
    assert kind(mistake) == "internal"


@pytest.mark.parametrize("era", ERAS)
async def test_a_connection_used_wrongly_is_no_fault_of_the_database(wire: Wire, server: Live, era: Era) -> None:
    """A mistake of the tool is a crash to be found, not a failure to be retried for ever."""
    assert kind(await wire.call(era, "two_at_once")) == "internal"
    await eventually(lambda: whole(server))


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_that_promised_to_change_nothing_cannot(
    wire: Wire, database_url: str, table: str, era: Era
) -> None:
    """A read-only tool has read-only transactions."""
    read = await wire.call(era, "query_read_only", {"sql": "SELECT 1"})
    write = await wire.call(era, "query_read_only", insert(table))

    assert read.result["structuredContent"] == {"result": ["1"]}
    assert kind(write) == "permission_denied"
    assert await rows(database_url, table) == 0


async def test_a_statement_ends_with_the_deadline_of_its_call(wire: Wire) -> None:
    """The database is told how long it may take, so that it stops even if this server is gone."""
    half = await wire.call(
        "modern", "hasty", {"sql": "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"}
    )
    default = await wire.call("modern", "query", {"sql": "SHOW statement_timeout"})

    assert 0 < int(half.text) <= 500
    assert default.result["structuredContent"]["result"][0] in {"30s", *(f"{ms}ms" for ms in range(25_000, 30_000))}


@pytest.mark.parametrize("era", ERAS)
async def test_a_statement_that_takes_too_long_is_a_timeout(wire: Wire, server: Live, era: Era) -> None:
    """At the deadline the call ends, the statement too, and the connection is free again."""
    assert kind(await wire.call(era, "hasty", {"sql": "SELECT pg_sleep(60)"})) == "timeout"
    await eventually(lambda: whole(server))


@pytest.mark.parametrize("era", ERAS)
async def test_a_second_connection_inside_the_first_is_refused(wire: Wire, server: Live, era: Era) -> None:
    """Two at once in one call would wait for each other when the pool is in full use."""
    assert kind(await wire.call(era, "nested")) == "internal"
    assert whole(server)


async def test_one_connection_after_the_other_is_fine(wire: Wire, server: Live) -> None:
    """A call may come back for another transaction."""
    answer = await wire.call("modern", "twice")

    assert len(answer.result["structuredContent"]["result"]) == 2
    assert whole(server)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_cannot_keep_a_connection(
    wire: Wire, server: Live, database_url: str, table: str, era: Era
) -> None:
    """Entered by hand and never left, the connection is taken back when the call ends, and the call has failed."""
    answers = [await wire.call(era, "keep", {"table": table}) for _ in range(6)]

    assert [kind(answer) for answer in answers] == ["internal"] * 6
    assert whole(server)
    assert await rows(database_url, table) == 0
    assert (await wire.call(era, "query", {"sql": "SELECT 1"})).result["structuredContent"] == {"result": ["1"]}


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_ignores_its_end_loses_its_connection(wire: Wire, server: Live, era: Era) -> None:
    """More such calls than connections, and the next one still gets one."""
    answers = await asyncio.gather(*(wire.call(era, "keep_and_stay") for _ in range(3)))

    assert [kind(answer) for answer in answers] == ["timeout"] * 3
    assert len(Seen.late) == 3
    assert whole(server)
    assert (await wire.call(era, "query", {"sql": "SELECT 1"})).result["structuredContent"] == {"result": ["1"]}


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_call_left_behind_gets_no_connection(wire: Wire, server: Live, era: Era) -> None:
    """A task that outlives its call is refused, and told to be awaited."""
    await wire.call(era, "leave_a_task")
    assert await asyncio.to_thread(Seen.holding.wait, SECONDS)

    assert [str(error) for error in Seen.late] == ["the call has been answered: await everything that it starts"]
    assert "connected" not in Seen.kept
    assert whole(server)


@pytest.mark.parametrize("era", ERAS)
async def test_a_caller_that_goes_away_gives_its_connection_back(server: Live, database_url: str, era: Era) -> None:
    """A closed socket ends the call, its statement in the database, and its hold of the connection."""
    for number in range(4):
        Seen.holding.clear()
        arguments = {"sql": f"SELECT pg_sleep(60), 'gone {number}'"}
        name, arguments = ("hold", {"seconds": 60}) if number % 2 else ("statement", arguments)
        _, writer = await begin_call(server.url, era, name, arguments, KEY)
        assert await asyncio.to_thread(Seen.holding.wait, SECONDS)
        writer.transport.abort()

    await eventually(lambda: whole(server))
    async with direct(database_url) as db:

        async def quiet() -> bool:
            return not await db.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE query LIKE '%gone%' AND state <> 'idle' AND pid <> pg_backend_pid()"
            )

        await eventually(quiet)


async def nothing_left_open(url: str) -> None:
    """Check in the database itself that no call is in a transaction any more."""
    async with direct(url) as db:
        left = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        assert not await db.fetchval(left)


async def test_ten_thousand_cancelled_calls_leak_nothing(database_url: str, tmp_path: Path) -> None:
    """Whenever a call is cancelled, before, while or after it has its connection, the connection comes back."""
    cancelled = 0

    async def caller(server: HardenedServer, number: int) -> None:
        nonlocal cancelled
        while cancelled < CANCELLED:
            number += 37
            held = asyncio.Event()
            Seen.held.set(held)
            call = asyncio.create_task(server.call_tool("passing", {}))
            if number % 20:
                await asyncio.sleep(number % 40 / 1000)
            else:
                # Not left to chance: this one is cancelled in the middle of its statement.
                await asyncio.wait_for(held.wait(), SECONDS)
            call.cancel()
            await asyncio.wait({call})
            cancelled += call.cancelled()

    with captured(tmp_path / "log", level="error"):
        async with in_process(database_url) as server:
            database = server.database
            assert database is not None
            await asyncio.gather(*(caller(server, number) for number in range(AT_ONCE)))
            await eventually(lambda: database.idle == database.size)

            assert cancelled >= CANCELLED
            # It happened at both moments, and often.
            assert min(Seen.reached["waiting"], Seen.reached["holding"]) >= CANCELLED / 100, Seen.reached
            assert database.size <= 3
            assert database.waiting == 0
            await nothing_left_open(database_url)
            results = await asyncio.gather(*(server.call_tool("query", {"sql": "SELECT 1"}) for _ in range(30)))
            assert not any(result.is_error for result in results)  # type: ignore[union-attr]


@pytest.mark.parametrize("era", ERAS)
async def test_hundreds_of_callers_that_hang_up_leak_nothing(server: Live, database_url: str, era: Era) -> None:
    """The same over sockets, through the whole stack: many at once, each gone at another moment."""

    async def hang_up(number: int) -> None:
        _, writer = await begin_call(server.url, era, "passing", {}, KEY)
        await asyncio.sleep(number % 101 / 500)
        writer.transport.abort()

    await asyncio.gather(*(hang_up(number) for number in range(300)))
    await eventually(lambda: whole(server) and not server.app.pipeline.in_flight())

    assert Seen.reached["waiting"] + Seen.reached["holding"] >= 30, Seen.reached
    await nothing_left_open(database_url)
    async with client(server) as wire:
        answers = await asyncio.gather(*(wire.call(era, "query", {"sql": "SELECT 1"}) for _ in range(30)))
    assert not any(answer.result["isError"] for answer in answers)


async def test_without_a_database_the_setting_is_named() -> None:
    """A tool that uses the database of a project that has none says which setting is missing."""

    class Call:
        database = None

        def here(self) -> Call:
            return self

    assert HardeningSettings.model_fields["database_url"].default is None
    with pytest.raises(DatabaseUnavailableError, match="DATABASE_URL"):
        async with connection(Call()):  # type: ignore[arg-type]
            pass


# What a tool may leave on its connection, and how the next caller would notice: not at all.
LEFT_BEHIND = {
    "where names are looked up": ("SELECT set_config('search_path', 'pg_catalog', false)", "SHOW search_path"),
    "how long a lock is waited for": ("SELECT set_config('lock_timeout', '7s', false)", "SHOW lock_timeout"),
    "which rows a policy shows": ("SELECT set_config('row_security', 'off', false)", "SHOW row_security"),
    "a role": ("SET SESSION ROLE pg_monitor", "SELECT current_user"),
    "a tenant": ("SELECT set_config('mcp.tenant', 'another', false)", "SELECT current_setting('mcp.tenant')"),
    "a principal": (
        "SELECT set_config('mcp.principal', 'another', false)",
        "SELECT current_setting('mcp.principal') = 'another'",
    ),
    "a lock": ("SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    "a channel": ("LISTEN left_behind", "SELECT count(*) FROM pg_listening_channels()"),
    "a temporary table": (
        "CREATE TEMP TABLE left_behind (n int)",
        "SELECT count(*) FROM pg_class WHERE relname = 'left_behind'",
    ),
    "a cursor": ("DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors"),
}


@pytest.mark.parametrize("bouncer", [False, True], ids=["direct", "pgbouncer"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_call_leaves_nothing_on_its_connection(database_url: str, era: Era, *, bouncer: bool) -> None:
    """With one connection for everybody, what one caller's tool has set for the session is gone for the next."""
    if bouncer:
        assert PGBOUNCER, "pgbouncer is needed"
    bounds = {"MCP_POOL_MIN_SIZE": "1", "MCP_POOL_MAX_SIZE": "1", "MCP_DATABASE_PGBOUNCER": str(int(bouncer))}
    with (
        pgbouncer(database_url, "max_db_connections = 1\n") if bouncer else nullcontext(database_url) as address,
        live(DATABASE_URL=address, **bounds) as running,
    ):
        async with Wire(running.url, KEY) as one, Wire(running.url, OTHER_KEY) as other:
            for what, (statement, look) in LEFT_BEHIND.items():
                before = await asked(other, era, look)
                process = await asked(one, era, "SELECT pg_backend_pid()")
                changed = await one.call(era, "query", {"sql": statement})
                after = await asked(other, era, look)

                assert not changed.result.get("isError"), (what, changed.result)
                assert after == before, what
                assert await asked(other, era, "SELECT pg_backend_pid()") == process, what


async def asked(wire: Wire, era: Era, sql: str) -> Any:
    """Return what the database answers a caller."""
    answer = await wire.call(era, "query", {"sql": sql})
    return answer.result["structuredContent"]


@pytest.mark.parametrize("era", ERAS)
async def test_another_program_behind_pgbouncer_meets_nothing_either(database_url: str, era: Era) -> None:
    """Who waits for the same server connection gets it at the end of the transaction, as it was opened."""
    assert PGBOUNCER, "pgbouncer is needed"
    statement = "SELECT set_config('search_path', 'pg_catalog', false) FROM pg_sleep(0.7)"
    running_now = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(0.7)'"
    with (
        pgbouncer(database_url, "max_db_connections = 1\n") as address,
        live(DATABASE_URL=address, MCP_POOL_MIN_SIZE="1", MCP_DATABASE_PGBOUNCER="1") as running,
    ):
        other = await asyncpg.connect(address, statement_cache_size=0)

        async def look() -> str:
            async with other.transaction():
                return await other.fetchval("SHOW search_path")

        before = await look()
        async with Wire(running.url, KEY) as wire, direct(database_url) as watching, asyncio.timeout(SECONDS):
            call = asyncio.ensure_future(asked(wire, era, statement))
            while not await watching.fetchval(running_now):
                await asyncio.sleep(0.01)
            # It waits until the call's transaction is over.
            assert await look() == before
            assert await call == {"result": ["pg_catalog"]}
        await other.close()

    assert before == '"$user", public'
