"""Connection pool of PostgreSQL: one connection for one call, with a bounded wait (kind `busy`).

A session or a stream that waits between calls holds no connection.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import structlog

from ..database import DatabaseUnavailableError
from ..errors import PoolExhausted, UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg.pool import PoolConnectionProxy

    from ..settings import HardeningSettings

    DatabaseConnection = PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger()

# What giving a connection back may take before it is closed instead.
RELEASE_SECONDS = 2.0
PING_SECONDS = 1.0
IDLE_SECONDS = 300.0
RETRY_SECONDS = 1.0

# What says that the database is away, slow or unwilling, as opposed to a fault of this code.
# The last is what the library says of itself when the server ends a connection between two statements.
FAULTS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Database:
    """A pool of connections to PostgreSQL.

    Args:
        settings: URL, sizes, timeouts.
        on_acquired: Called with the seconds that a call has waited for its connection.
    """

    def __init__(self, settings: HardeningSettings, *, on_acquired: Callable[[float], object] = float) -> None:
        self.settings = settings
        self.waiting = 0
        # What the last look has seen; there is no pool without a first connection.
        self.up = False
        self._on_acquired = on_acquired
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            DatabaseUnavailableError: No answer within `MCP_DATABASE_START_TIMEOUT_SECONDS`.
        """
        settings = self.settings
        if settings.database_url is None:
            raise DatabaseUnavailableError("DATABASE_URL: not set")
        seconds = settings.database_start_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                self._pool = await asyncpg.create_pool(
                    settings.database_url.get_secret_value(),
                    min_size=max(1, settings.pool_min_size),
                    max_size=settings.pool_max_size,
                    timeout=seconds,
                    max_inactive_connection_lifetime=IDLE_SECONDS,
                    # PgBouncer gives each transaction another server connection, so nothing can be prepared there.
                    statement_cache_size=0 if settings.database_pgbouncer else 100,
                )
            self.up = True
        except TimeoutError:
            raise DatabaseUnavailableError(f"DATABASE_URL: no answer within {seconds:g} s") from None
        except (*FAULTS, ValueError) as error:
            raise DatabaseUnavailableError(f"DATABASE_URL: cannot connect ({type(error).__name__})") from None

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
            self.up = True
        except FAULTS:
            # Whoever waits with others for connections that are all in use has learnt nothing.
            self.up = self.up and connection is None and self.full
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
                return await self._pool.acquire()
        except FAULTS as error:
            failure = PoolExhausted if wait.expired() else UpstreamUnavailable
            self.up = self.up and wait.expired()
            raise failure(retry_after_seconds=RETRY_SECONDS) from error
        finally:
            self.waiting -= 1
            self._on_acquired(time.monotonic() - started)

    async def give_back(self, connection: DatabaseConnection) -> None:
        """Return a connection to the pool, or close it when the database does not let go of it in time."""
        if self._pool is not None:
            # In a task of its own: when the call is cancelled meanwhile, somebody still sees how this ends.
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


def lost(connection: DatabaseConnection) -> bool:
    """Return whether a connection is closed, or was taken back."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
