"""What is decided about connections and transactions, each decision alone: no server, one row for each case."""

from __future__ import annotations

import asyncio
import ssl
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from captured import captured
from queries import settings_for

from hardening.database import DatabaseUnavailableError, availability, connecting, idle_check, pool
from hardening.database.connecting import connect_arguments, connect_in_time
from hardening.database.failures import is_wrong, lost, what_is_wrong
from hardening.database.idle_check import IdleCheck
from hardening.database.pool import Database
from hardening.database.session_reset import ResetConnection
from hardening.database.transaction import connection
from hardening.errors import UpstreamUnavailable
from hardening.settings.urls import database_target

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://someone:a-password@127.0.0.1/name"
SECONDS = 20.0


class Connection:
    """A connection as the pool and a transaction see it: what is asked of it is noted, and what it says is given."""

    def __init__(self, said: Any = None, *, closed: bool = False, read_only: bool = False) -> None:
        self.said = said
        self.closed = closed
        self.read_only = read_only
        self.done: list[Any] = []

    def get_server_pid(self) -> int:
        """Return the process that serves it."""
        return 7

    def get_reset_query(self) -> str:
        """Return what resets the session."""
        return "RESET"

    def is_closed(self) -> bool:
        """Return whether it is, or raise as one that was taken back."""
        if isinstance(self.closed, BaseException):
            raise self.closed
        return self.closed

    def terminate(self) -> None:
        """Close."""
        self.done.append("cut")

    async def execute(self, statement: str) -> None:
        """Answer, or fail."""
        self.done.append(statement)
        await asyncio.sleep(0)
        if isinstance(self.said, BaseException):
            raise self.said

    fetchval = execute

    async def fetchrow(self, _: str, *given: Any) -> dict[str, bool]:
        """Say whether writes are taken."""
        self.done.append(given)
        return {"read_only": self.read_only}

    def transaction(self, *, readonly: bool) -> Connection:
        """Return the transaction."""
        self.done.append(f"readonly={readonly}")
        return self

    async def start(self) -> None:
        """Begin."""
        self.done.append("begin")

    async def commit(self) -> None:
        """Commit."""
        self.done.append("commit")

    async def rollback(self) -> None:
        """Roll back, or fail."""
        self.done.append("rollback")
        if isinstance(self.said, BaseException):
            raise self.said


class Pool:
    """A pool with one connection, or with a reason to have none."""

    def __init__(self, given: Any, sizes: list[tuple[int, int]]) -> None:
        self.given = given
        self.sizes = sizes
        self.done: list[Any] = []

    def get_size(self) -> int:
        """Return how many are open."""
        return self.sizes[0][0]

    def get_idle_size(self) -> int:
        """Return how many are free."""
        return self.sizes[0][1]

    async def acquire(self) -> Any:
        """Give the connection, or fail; meanwhile the sizes change."""
        self.done.append("acquire")
        if len(self.sizes) > 1:
            self.sizes.pop(0)
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given

    async def release(self, given: Any, *, timeout: float) -> None:  # noqa: ASYNC109 - as in the driver
        """Take it back."""
        self.done.append(("release", given, timeout))

    def set_connect_args(self, **given: Any) -> None:
        """Connect with these from now on."""
        self.done.append(given)

    async def expire_connections(self) -> None:
        """Replace every connection."""
        self.done.append("expire")


def database_of(given: Any, *sizes: tuple[int, int], **environment: str) -> tuple[Database, Pool]:
    """Return a database that is open."""
    database = Database(settings_for(URL, **environment))
    filled = Pool(given, list(sizes) or [(1, 1)])
    database._pool = filled  # type: ignore[assignment]  # noqa: SLF001 - there is no server
    database.up = True
    return database, filled


@pytest.mark.parametrize(
    ("error", "wrong", "sentence"),
    [
        (asyncpg.InvalidPasswordError("x"), True, "the password is refused (InvalidPasswordError)"),
        (
            asyncpg.InvalidAuthorizationSpecificationError("x"),
            True,
            "the user, or this address, is refused (InvalidAuthorizationSpecificationError)",
        ),
        (asyncpg.InvalidCatalogNameError("x"), True, "there is no database of this name (InvalidCatalogNameError)"),
        (
            asyncpg.UndefinedObjectError("x"),
            True,
            "the server does not know a parameter of the URL (UndefinedObjectError)",
        ),
        *(
            (
                asyncpg.ProtocolViolationError(said),
                wrong,
                "PgBouncer wants TLS, or takes no such parameter in the URL (ProtocolViolationError)",
            )
            for said, wrong in (
                ("SSL required", True),
                ("unsupported startup parameter: role", True),
                ("password authentication failed", True),
                ("server login has been failing", False),
                ("", False),
            )
        ),
        (ssl.SSLError("x"), True, "the certificate is refused; look at sslmode and sslrootcert (SSLError)"),
        (ValueError("x"), True, "cannot connect (ValueError)"),
        (asyncpg.InterfaceError("x"), True, "cannot connect (InterfaceError)"),
        (ConnectionRefusedError("x"), False, "cannot connect (ConnectionRefusedError)"),
        (asyncpg.CannotConnectNowError("x"), False, "cannot connect (CannotConnectNowError)"),
        (asyncpg.TooManyConnectionsError("x"), False, "cannot connect (TooManyConnectionsError)"),
        (asyncpg.ConnectionDoesNotExistError("x"), False, "cannot connect (ConnectionDoesNotExistError)"),
        (asyncpg.InternalClientError("x"), False, "cannot connect (InternalClientError)"),
        (asyncpg.InternalServerError("x"), False, "cannot connect (InternalServerError)"),
        (
            asyncpg.ObjectNotInPrerequisiteStateError("x"),
            False,
            "cannot connect (ObjectNotInPrerequisiteStateError)",
        ),
    ],
    ids=lambda given: f"{type(given).__name__} {given}" if isinstance(given, Exception) else "",
)
def test_wrong_and_away_are_told_apart(error: Exception, wrong: bool, sentence: str) -> None:  # noqa: FBT001 - the row
    """What waiting may mend is tried again; what a person mends is said in words without the URL."""
    assert is_wrong(error) is wrong
    assert what_is_wrong(error) == sentence


@pytest.mark.parametrize(
    ("closed", "expected"), [(True, True), (False, False), (asyncpg.InterfaceError("taken back"), True)]
)
def test_a_connection_is_lost_when_it_is_closed_or_taken_back(closed: Any, expected: bool) -> None:  # noqa: FBT001
    """The library raises for one that is back in its pool; that is no connection either."""
    assert lost(Connection(closed=closed)) is expected  # type: ignore[arg-type]


async def test_attempts_are_half_a_second_apart() -> None:
    """A database that is away is asked again after 0.5 s; the sentence names what it has said."""
    tried: list[float] = []

    async def connect() -> None:
        tried.append(time.monotonic())
        raise ConnectionRefusedError

    with pytest.raises(DatabaseUnavailableError) as refused:
        await connect_in_time(connect, 0.7)
    assert str(refused.value) == "DATABASE_URL: no answer within 0.7 s (ConnectionRefusedError)"
    assert refused.value.away
    assert len(tried) == 2
    assert 0.5 <= tried[1] - tried[0] < 0.7


def test_a_database_is_away_only_when_that_is_said() -> None:
    """The exit code is 78 unless waiting can help."""
    assert not DatabaseUnavailableError("words").away
    assert str(DatabaseUnavailableError("words", away=True)) == "words"


@pytest.mark.parametrize(("pooled", "prepared"), [(False, 100), (True, 0)])
def test_each_connection_is_opened_with_what_the_url_says(pooled: bool, prepared: int) -> None:  # noqa: FBT001
    """100 prepared statements, none behind PgBouncer; session settings of the URL, or none at all."""
    plain = connect_arguments(database_target(URL), pooled=pooled, seconds=3)
    named = connect_arguments(database_target(f"{URL}?application_name=mine"), pooled=pooled, seconds=3)

    expected = {"dsn": URL, "timeout": 3, "statement_cache_size": prepared, "server_settings": None}
    assert plain == expected
    assert named == expected | {"server_settings": {"application_name": "mine"}}


@pytest.mark.parametrize(
    ("query", "environment", "pooled"),
    [("", {}, False), ("?pgbouncer=true", {}, True), ("", {"MCP_DATABASE_PGBOUNCER": "1"}, True)],
    ids=["direct", "by the URL", "by the setting"],
)
async def test_the_pool_is_made_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    environment: dict[str, str],
    pooled: bool,  # noqa: FBT001 - the row
) -> None:
    """Sizes, ages, the author's preparation and the reset of every connection; at least one is opened at start."""
    given: list[dict[str, Any]] = []

    async def create(**arguments: Any) -> Pool:
        given.append(arguments)
        return Pool(None, [(1, 1)])

    prepared: list[Any] = []

    async def prepare(connection: Any) -> None:
        prepared.append(connection)

    monkeypatch.setattr(pool.asyncpg, "create_pool", create)
    bounds = {"MCP_POOL_MIN_SIZE": "0", "MCP_POOL_MAX_SIZE": "4", "MCP_POOL_IDLE_SECONDS": "90"}
    bounds["MCP_DATABASE_START_TIMEOUT_SECONDS"] = "5"
    database = Database(settings_for(URL + query, **bounds, **environment), on_connection=prepare)
    assert not database.up
    await database.open()

    assert database.up
    assert database.pooled is pooled
    await given[0].pop("init")("a connection")
    assert prepared == ["a connection"]
    assert given == [
        {
            "min_size": 1,
            "max_size": 4,
            "connect": None,
            "connection_class": ResetConnection,
            "max_inactive_connection_lifetime": 90,
            "dsn": URL,
            "timeout": 5,
            "statement_cache_size": 0 if pooled else 100,
            "server_settings": None,
        }
    ]


@pytest.mark.parametrize(
    ("query", "several"),
    [("", True), ("?target_session_attrs=primary", True), ("?target_session_attrs=prefer-standby", False)],
)
async def test_addresses_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch, query: str, several: bool) -> None:  # noqa: FBT001 - the row
    """Each has its own URL and its share of the time; the one that was there is the first of the next connection."""
    urls = [f"postgresql://someone:a-password@{host}/name{query}" for host in ("[::1]:1", "two", "three:3")]
    connect = connecting.in_turn(f"postgresql://someone:a-password@[::1]:1,two,three:3/name{query}", 5)
    assert (connect is not None) is several
    tried: list[str] = []
    there = {"two", "three"}

    async def answer(url: str, *, timeout: float) -> str:  # noqa: ASYNC109 - as in the driver
        tried.append(url)
        assert timeout == 30
        if not any(host in url for host in there):
            raise ConnectionRefusedError
        return url

    monkeypatch.setattr(connecting.asyncpg, "connect", answer)
    if connect is not None:
        assert await connect("", timeout=30) == await connect("", timeout=30) == urls[1]
        assert tried == [urls[0], urls[1], urls[1]]
        there.clear()
        with pytest.raises(ConnectionRefusedError):
            await connect("", timeout=30)
        assert tried[3:] == [urls[1], urls[0], urls[2]]
    assert connecting.in_turn(f"{URL}{query}", 5) is None


async def test_without_an_address_nothing_is_opened() -> None:
    """The sentence names the setting."""
    settings = settings_for(URL).model_copy(update={"database_url": None})
    with pytest.raises(DatabaseUnavailableError, match=r"^DATABASE_URL: not set$"):
        await Database(settings).open()


async def test_every_connection_is_replaced_and_pgbouncer_said_once(tmp_path: Path) -> None:
    """Found behind PgBouncer, later connections prepare nothing; before it is open there is nothing to replace."""
    database, filled = database_of(None)
    database._target = {"dsn": URL, "statement_cache_size": 100}  # noqa: SLF001 - as `open` leaves it
    with captured(tmp_path / "log") as log:
        await database.renew()
        assert (filled.done, database.pooled) == (["expire"], False)
        for _ in range(2):
            await database.renew(pooled=True)
        said = [line["msg"] for line in log.lines()]
    assert filled.done == ["expire", {"dsn": URL, "statement_cache_size": 0}, "expire", "expire"]
    assert database.pooled
    assert said == ["database behind PgBouncer"]

    unopened = Database(settings_for(URL))
    await unopened.renew(pooled=True)
    assert not unopened.pooled


async def test_connections_are_replaced_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What many calls find at once, or each finds again, costs no storm of connections."""
    now = [100.0]
    monkeypatch.setattr(availability, "time", SimpleNamespace(monotonic=lambda: now[0]))
    database, filled = database_of(None)
    for step in (0.0, 0.0, 0.9, 0.1, 0.9):
        now[0] += step
        await database.renew()
    assert filled.done == ["expire", "expire"]


@pytest.mark.parametrize(
    ("up", "given", "sizes", "expected"),
    [
        # In full use: nobody is asked, and nobody waits.
        (True, AssertionError("asked"), [(2, 0)], True),
        (False, AssertionError("asked"), [(2, 0)], False),
        # An answer, whatever was seen before.
        (False, Connection(), [(2, 1)], True),
        # No connection, while the pool came into full use meanwhile: nothing was learnt.
        (True, TimeoutError(), [(2, 1), (2, 0)], True),
        (False, TimeoutError(), [(2, 1), (2, 0)], False),
        # No connection, and not because of others.
        (True, TimeoutError(), [(1, 0)], False),
        (True, ConnectionRefusedError(), [(0, 0)], False),
        # A connection that does not answer, however full the pool is.
        (True, Connection(TimeoutError()), [(2, 1), (2, 0)], False),
    ],
)
async def test_what_a_look_at_the_database_learns(
    up: bool,  # noqa: FBT001 - the row
    given: Any,
    sizes: list[tuple[int, int]],
    expected: bool,  # noqa: FBT001 - the row
) -> None:
    """Load is no failure, and a connection that answers nothing is one: it is cut, and each is given back."""
    database, filled = database_of(given, *sizes, MCP_POOL_MAX_SIZE="2")
    database.up = up
    assert await database.ping() is expected
    assert database.up is expected
    if isinstance(given, Connection):
        assert filled.done == ["acquire", ("release", given, 2.0)]
        assert given.done == ["SELECT 1", "cut"][: 1 if given.said is None else 2]


async def test_a_call_that_ends_while_its_connection_is_asked_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes of the question, the connection that gave no answer is cut and given back."""
    given = Connection()
    database, filled = database_of(given)

    async def never(_: Any) -> bool:
        raise asyncio.CancelledError

    monkeypatch.setattr(database._idle_check, "answers", never)  # noqa: SLF001 - where it waits
    with pytest.raises(asyncio.CancelledError):
        await database.take()
    assert given.done == ["cut"]
    assert filled.done == ["acquire", ("release", given, 2.0)]
    assert database.waiting == 0


@pytest.mark.parametrize(
    ("idle", "said", "expected", "asked"),
    [
        (0.0, ConnectionResetError(), True, []),
        (9.99, ConnectionResetError(), True, []),
        (10.0, None, True, ["SELECT 1"]),
        (10.0, ConnectionResetError(), False, ["SELECT 1"]),
    ],
)
async def test_a_connection_is_asked_after_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
    idle: float,
    said: Any,
    expected: bool,  # noqa: FBT001 - the row
    asked: list[str],
) -> None:
    """One that has just been opened, or was in use lately, is not asked."""
    now = [100.0]
    monkeypatch.setattr(idle_check, "time", SimpleNamespace(monotonic=lambda: now[0]))
    check, given = IdleCheck(4), Connection(said)
    assert await check.answers(given)  # type: ignore[arg-type]
    check.given_back(given)  # type: ignore[arg-type]
    now[0] += idle
    assert await check.answers(given) is expected  # type: ignore[arg-type]
    assert given.done == asked


def call(database: Any, *, read_only: bool = False, remaining: float = 30.0) -> Any:
    """Return the context of a call, as far as a transaction needs it."""
    ctx = SimpleNamespace(
        database=database, connected=False, held=None, over=False, read_only=read_only, principal=SimpleNamespace()
    )
    ctx.here = lambda: ctx
    ctx.check = lambda: None
    ctx.remaining_seconds = lambda: remaining
    ctx.principal.id, ctx.principal.tenant = "api_key ann", "acme"
    return ctx


@pytest.mark.parametrize(("remaining", "milliseconds"), [(30.0, "30000"), (0.0004, "1"), (0.0, "1")])
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pgbouncer"])
async def test_a_transaction_says_who_is_calling_and_until_when(
    remaining: float,
    milliseconds: str,
    pooled: bool,  # noqa: FBT001 - the row
) -> None:
    """No time left is 1 ms, for 0 would be no end; behind PgBouncer the session is reset before the commit."""
    given = Connection()
    database, filled = database_of(given)
    database.pooled = pooled
    async with connection(ctx := call(database, remaining=remaining)) as db:
        assert db is given
        assert (ctx.connected, ctx.held) == (True, given)
    session = ["readonly=False", "begin", (milliseconds, "api_key ann", "acme")]
    assert given.done == [*session, *(["RESET"] if pooled else []), "commit"]
    assert filled.done == ["acquire", ("release", given, 2.0)]
    assert (ctx.connected, ctx.held) == (False, None)


async def test_a_call_that_was_answered_while_it_waited_gets_no_connection() -> None:
    """Nothing is begun, and what came is given back."""
    given = Connection()
    database, filled = database_of(given)
    ctx = call(database)
    ctx.over = True
    with pytest.raises(RuntimeError, match="await everything that it starts"):
        async with connection(ctx):
            raise AssertionError
    assert given.done == []
    assert filled.done == ["acquire", ("release", given, 2.0)]
    assert not ctx.connected


READ_ONLY = asyncpg.ReadOnlySQLTransactionError("x")
PREPARED = [asyncpg.InvalidSQLStatementNameError("x"), asyncpg.DuplicatePreparedStatementError("x")]


@pytest.mark.parametrize(
    ("error", "closed", "tool_reads", "database_reads", "expected", "done"),
    [
        # A fault of the tool, whatever it is of: it is undone, and told as it is.
        (KeyError("x"), False, False, False, None, ["rollback"]),
        (asyncpg.UniqueViolationError("x"), False, False, False, None, ["rollback"]),
        (asyncpg.InterfaceError("in use"), False, False, False, None, ["rollback"]),
        # The connection is gone.
        (asyncpg.InterfaceError("closed"), True, False, False, [], ["rollback"]),
        (asyncpg.InternalClientError("x"), False, False, False, [], ["rollback"]),
        # A fault of the tool on a connection that is gone as well.
        (KeyError("x"), True, False, False, None, ["rollback"]),
        # No writes: by the tool's own promise, by its own wish, or because a standby answers.
        (READ_ONLY, False, True, True, None, ["rollback"]),
        (READ_ONLY, False, False, False, None, ["rollback"]),
        (READ_ONLY, False, False, True, ["expire"], ["rollback", "cut"]),
        # A failure of another kind on a standby.
        (asyncpg.UniqueViolationError("x"), False, False, True, None, ["rollback"]),
        # A type was replaced under statements that are prepared.
        (asyncpg.InternalServerError("x"), False, False, False, ["expire"], ["rollback", "cut"]),
        (asyncpg.InternalServerError("x"), False, True, True, ["expire"], ["rollback", "cut"]),
        # PgBouncer without its setting.
        *(
            (error, False, reads, reads, [{"statement_cache_size": 0}, "expire"], ["rollback", "cut"])
            for error in PREPARED
            for reads in (False, True)
        ),
    ],
)
async def test_what_a_failure_in_a_transaction_means(  # noqa: PLR0913, PLR0917 - the row
    error: Exception,
    closed: bool,  # noqa: FBT001
    tool_reads: bool,  # noqa: FBT001
    database_reads: bool,  # noqa: FBT001
    expected: list[Any] | None,
    done: list[str],
) -> None:
    """Away or another server: try again, and connections are replaced. Everything else is what the tool has raised."""
    given = Connection(closed=closed, read_only=database_reads)
    database, filled = database_of(given)
    with pytest.raises((UpstreamUnavailable, type(error))) as raised:  # noqa: PT012 - what is done before is another matter
        async with connection(call(database, read_only=tool_reads)):
            given.done.clear()
            raise error

    assert isinstance(raised.value, UpstreamUnavailable) is (expected is not None)
    assert given.done == done
    assert filled.done == ["acquire", *(expected or []), ("release", given, 2.0)]


class Uncommitted(Connection):
    """A connection whose commit fails."""

    async def commit(self) -> None:
        """Fail."""
        raise self.said


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (ConnectionResetError(), True),
        (asyncpg.ConnectionDoesNotExistError("x"), True),
        (asyncpg.AdminShutdownError("x"), True),
        (asyncpg.CrashShutdownError("x"), True),
        (asyncpg.PostgresIOError("x"), True),
        (asyncpg.InternalServerError("x"), True),
        (asyncpg.InterfaceError("x"), True),
        (asyncpg.InternalClientError("x"), True),
        (asyncpg.QueryCanceledError("x"), False),
        (asyncpg.UniqueViolationError("x"), False),
        (asyncpg.SerializationError("x"), False),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_what_a_failure_of_the_commit_means(error: Exception, unknown: bool) -> None:  # noqa: FBT001 - the row
    """Where nobody knows whether the change was saved, the caller is told to look before it calls again."""
    database, _ = database_of(Uncommitted(error))
    with pytest.raises((UpstreamUnavailable, type(error))) as raised:
        async with connection(call(database)):
            pass
    assert isinstance(raised.value, UpstreamUnavailable) is unknown
    if isinstance(raised.value, UpstreamUnavailable):
        assert "Check whether it was, then call again." in raised.value.advice


@pytest.mark.parametrize(
    "error", [asyncpg.DiskFullError("x"), asyncpg.PostgresIOError("x"), asyncpg.InternalServerError("x")]
)
async def test_the_log_says_once_that_the_database_cannot_work(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full looks like a server that is away to callers; all is well with a change 5 s after the last."""
    now = [100.0]
    monkeypatch.setattr(availability, "time", SimpleNamespace(monotonic=lambda: now[0]))
    given = Connection()
    database, _ = database_of(given)

    async def fail(error: Exception) -> None:
        with pytest.raises((type(error), UpstreamUnavailable)):
            async with connection(call(database)):
                raise error

    async def work(*, read_only: bool = False) -> None:
        async with connection(call(database, read_only=read_only)):
            pass

    with captured(tmp_path / "log") as log:
        await fail(asyncpg.UniqueViolationError("x"))
        await fail(error)
        now[0] += 4.9
        await work()
        await fail(error)
        now[0] += 4.9
        await work()
        now[0] += 0.1
        await work(read_only=True)
        assert [line["msg"] for line in log.lines()] == ["database impaired"]
        await work()
        await work()
        said = [(line["msg"], line.get("error_type")) for line in log.lines()]
    assert said == [
        ("database impaired", f"asyncpg.exceptions.{type(error).__name__}"),
        ("database available", None),
    ]


async def test_a_connection_that_cannot_be_rolled_back_is_cut() -> None:
    """The reason to undo may be that nothing answers."""
    given = Connection(ConnectionResetError())
    database, _ = database_of(given)
    with pytest.raises(KeyError):
        async with connection(call(database)):
            raise KeyError
    assert given.done[-2:] == ["rollback", "cut"]
