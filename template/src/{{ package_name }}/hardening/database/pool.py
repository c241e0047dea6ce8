"""Connection pool of PostgreSQL: one connection for one call, with a bounded wait (kind `busy`).

A session or a stream that waits between calls holds no connection.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from ..database import DatabaseUnavailableError
from ..errors import PoolExhausted, UpstreamUnavailable
from ..settings.urls import database_target
from .availability import Availability
from .connecting import connect_arguments, connect_in_time, in_turn, of_the_author
from .failures import FAULTS
from .idle_check import PING_SECONDS, IdleCheck
from .session_reset import ResetConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg.pool import PoolConnectionProxy

    from ..settings import HardeningSettings
    from . import OnConnection

    DatabaseConnection = PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger()

# What giving a connection back may take before it is closed instead.
RELEASE_SECONDS = 2.0
RETRY_SECONDS = 1.0


class Database(Availability):
    """A pool of connections to PostgreSQL.

    Args:
        settings: URL, sizes, timeouts.
        on_acquired: Called with the seconds that a call has waited for its connection.
        on_connection: Awaited with each new connection: codecs, extensions.
    """

    def __init__(
        self,
        settings: HardeningSettings,
        *,
        on_acquired: Callable[[float], object] = float,
        on_connection: OnConnection | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._on_acquired = on_acquired
        # The types of the driver want a function, not whatever can be awaited.
        self._on_connection: Any = on_connection and of_the_author(on_connection, settings)
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.pooled, self.waiting = False, 0
        self._target: dict[str, Any] = {}
        self._idle_check = IdleCheck(4 * settings.pool_max_size)

    async def open(self) -> None:
        """Connect.

        Raises:
            DatabaseUnavailableError: No answer within `MCP_DATABASE_START_TIMEOUT_SECONDS`.
        """
        settings = self.settings
        if settings.database_url is None:
            raise DatabaseUnavailableError("DATABASE_URL: not set")
        url = settings.database_url.get_secret_value()
        self._pool = await connect_in_time(lambda: self._connect(url), settings.database_start_timeout_seconds)
        self.answered()

    def _connect(self, url: str) -> asyncpg.Pool[asyncpg.Record]:
        settings = self.settings
        # A call waits no longer for a connection, nor a start for the database.
        seconds = min(settings.pool_acquire_timeout_seconds, settings.database_start_timeout_seconds)
        target = database_target(url)
        self.pooled = self.pooled or settings.database_pgbouncer or target.pooled
        self._target = connect_arguments(target, pooled=self.pooled, seconds=settings.database_start_timeout_seconds)
        return asyncpg.create_pool(
            connect=in_turn(target.dsn, seconds),
            min_size=max(1, settings.pool_min_size),
            max_size=settings.pool_max_size,
            init=self._on_connection,
            connection_class=ResetConnection,
            max_inactive_connection_lifetime=settings.pool_idle_seconds,
            **self._target,
        )

    async def renew(self, *, pooled: bool = False) -> None:
        """Let every connection be replaced before its next use: what answers is not what this server needs.

        Args:
            pooled: Whether PgBouncer was found in between; then nothing is prepared any more.
        """
        if (pool := self._pool) is None or not (pooled or self.may_renew()):
            return
        if pooled and not self.pooled:
            log.warning("database behind PgBouncer", backend="postgres", setting="MCP_DATABASE_PGBOUNCER")
            self.pooled = True
            self._target["statement_cache_size"] = 0
            pool.set_connect_args(**self._target)
        await pool.expire_connections()

    @property
    def size(self) -> int:
        """Connections open."""
        return self._pool.get_size() if self._pool else 0

    @property
    def idle(self) -> int:
        """Connections open and not in use."""
        return self._pool.get_idle_size() if self._pool else 0

    @property
    def full(self) -> bool:
        """Whether every connection there may be is open and in use."""
        return not self.idle and self.size >= self.settings.pool_max_size

    async def ping(self) -> bool:
        """Return, within a second, whether the database answers; of a pool in full use, what was last seen."""
        pool = self._pool
        if pool is None:
            return False
        if self.full:
            return self.up
        connection: DatabaseConnection | None = None
        try:
            async with asyncio.timeout(PING_SECONDS):
                connection = await pool.acquire()
                await connection.fetchval("SELECT 1")
            self.answered()
        except FAULTS as error:
            # A wait for connections that are all in use says nothing about the database.
            self.failed(error, counts=connection is not None or not self.full)
            if connection is not None:
                self.cut(connection)
        finally:
            if connection is not None:
                await self.give_back(connection)
        return self.up

    async def take(self) -> DatabaseConnection:
        """Wait for a connection.

        Raises:
            PoolExhausted: None was given back within `MCP_POOL_ACQUIRE_TIMEOUT_SECONDS`.
            UpstreamUnavailable: A new one was needed, and the database does not answer.
        """
        if self._pool is None:
            raise DatabaseUnavailableError("DATABASE_URL: not set")
        started = time.monotonic()
        self.waiting += 1
        wait = asyncio.timeout(self.settings.pool_acquire_timeout_seconds)
        try:
            async with wait:
                while True:
                    connection = await self._pool.acquire()
                    if await self._answers(connection):
                        self.answered()
                        return connection
        except FAULTS as error:
            # Where connections can still be opened, one was, and nothing answers.
            busy = wait.expired() and self.full
            self.failed(error, counts=not busy)
            raise (PoolExhausted if busy else UpstreamUnavailable)(retry_after_seconds=RETRY_SECONDS) from error
        finally:
            self.waiting -= 1
            self._on_acquired(time.monotonic() - started)

    async def _answers(self, connection: DatabaseConnection) -> bool:
        answers = False
        try:
            answers = await self._idle_check.answers(connection)
        finally:
            if not answers:
                self.cut(connection)
                await self.give_back(connection)
        return answers

    async def give_back(self, connection: DatabaseConnection) -> None:
        """Return a connection to the pool, or close it when the database does not let go of it in time."""
        if self._pool is not None:
            self._idle_check.given_back(connection)
            # In a task of its own: when the call is cancelled meanwhile, the release is completed all the same.
            await asyncio.shield(asyncio.ensure_future(self._release(self._pool, connection)))

    async def _release(self, pool: asyncpg.Pool[asyncpg.Record], connection: DatabaseConnection) -> None:
        try:
            await pool.release(connection, timeout=RELEASE_SECONDS)
        except FAULTS as error:
            log.warning("connection discarded", exc_info=error)

    def cut(self, connection: DatabaseConnection) -> None:
        """Close a connection at once, which rolls back what it did; the pool opens another when needed."""
        # It may have been closed, and so given back, a moment ago.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()

    async def close(self) -> None:
        """Close every connection; those still in use after two seconds are cut."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()
