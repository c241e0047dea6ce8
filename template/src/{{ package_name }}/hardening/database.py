"""The pool: one connection for one call, given back on every way out.

A connection belongs to a call, never to a session or a process: whoever waits or sleeps between
calls holds nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from .errors import PoolExhausted, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from asyncpg.pool import PoolConnectionProxy
    from asyncpg.transaction import Transaction

    from .call import Context
    from .settings import HardeningSettings

    Connection = PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger()

# What giving a connection back may take before it is closed instead.
RELEASE_SECONDS = 2.0
PING_SECONDS = 1.0
IDLE_SECONDS = 300.0


class NestedConnectionError(RuntimeError):
    """A call asked for a second connection while holding one; with a full pool that never ends."""


class DatabaseUnavailableError(Exception):
    """The database did not answer at start; the message says what was tried, without the URL."""


class Database:
    """A pool of connections to PostgreSQL."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.settings = settings
        self.waiting = 0
        self.acquire_seconds: list[float] = []
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
        except TimeoutError:
            raise DatabaseUnavailableError(f"DATABASE_URL: no answer within {seconds:g} s") from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise DatabaseUnavailableError(f"DATABASE_URL: cannot connect ({type(error).__name__})") from None

    @property
    def size(self) -> int:
        """Connections open."""
        return self._pool.get_size() if self._pool else 0

    @property
    def idle(self) -> int:
        """Connections open and not in use."""
        return self._pool.get_idle_size() if self._pool else 0

    async def ping(self) -> bool:
        """Return whether the database answers; a pool in full use counts as an answer."""
        pool = self._pool
        if pool is None:
            return False
        if self.waiting or (not self.idle and self.size >= self.settings.pool_max_size):
            return True
        try:
            async with asyncio.timeout(PING_SECONDS), pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def take(self) -> Connection:
        """Wait for a connection.

        Raises:
            PoolExhausted: None was given back within `MCP_POOL_ACQUIRE_TIMEOUT_SECONDS`.
        """
        if self._pool is None:
            raise DatabaseUnavailableError("DATABASE_URL: not set")
        started = time.monotonic()
        self.waiting += 1
        wait = asyncio.timeout(self.settings.pool_acquire_timeout_seconds)
        try:
            async with wait:
                return await self._pool.acquire()
        except TimeoutError:
            if wait.expired():
                raise PoolExhausted(retry_after_seconds=1) from None
            raise
        finally:
            self.waiting -= 1
            self.acquired(time.monotonic() - started)

    def acquired(self, seconds: float) -> None:
        """Note how long a call waited; replaced by the metrics."""

    async def give_back(self, connection: Connection) -> None:
        """Return a connection to the pool, or close it when the database does not let go of it in time."""
        if self._pool is None:
            return
        try:
            await self._pool.release(connection, timeout=RELEASE_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("connection discarded", exc_info=error)

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


@asynccontextmanager
async def connection(ctx: Context[Any]) -> AsyncGenerator[Connection]:
    """Take a connection for the rest of this block: one transaction, committed at its end.

    The transaction is read-only for a tool declared `read_only`, its statements end with the call's deadline,
    and an exception rolls it back.

    Raises:
        PoolExhausted: No connection within `MCP_POOL_ACQUIRE_TIMEOUT_SECONDS`; the caller is told to retry.
        NestedConnectionError: This call holds one already; pass that one along.
    """
    if ctx.database is None:
        raise DatabaseUnavailableError("DATABASE_URL: not set")
    if ctx.connected:
        raise NestedConnectionError("connection(ctx) is open in this call already: pass it along instead")
    ctx.connected = True
    try:
        taken = await ctx.database.take()
        try:
            transaction = taken.transaction(readonly=ctx.read_only)
            await transaction.start()
            milliseconds = int(ctx.remaining_seconds() * 1000)
            if milliseconds <= 0:
                raise Timeout
            # For this transaction only, so that it holds behind PgBouncer too.
            await taken.execute(f"SET LOCAL statement_timeout = {milliseconds}")
            try:
                yield taken
            except BaseException:
                await _undo(taken, transaction)
                raise
            await transaction.commit()
        finally:
            await ctx.database.give_back(taken)
    finally:
        ctx.connected = False


async def _undo(taken: Connection, transaction: Transaction) -> None:
    """Roll back within two seconds, or cut the connection: the reason to undo may be that nothing answers."""
    try:
        async with asyncio.timeout(RELEASE_SECONDS):
            await transaction.rollback()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        taken.terminate()
