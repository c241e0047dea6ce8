"""`connection(ctx)`: one connection and one transaction for one call.

The connection is returned on every way out, and at the call's end at the latest.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from ..calls.context import CallOverError
from ..database import DatabaseUnavailableError
from ..errors import UpstreamUnavailable
from .failures import FAULTS, UNKNOWN, lost
from .pool import RELEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from asyncpg.transaction import Transaction

    from ..calls.context import Context
    from .pool import Database, DatabaseConnection

log = structlog.get_logger()

# What the library says on a connection that is gone.
BROKEN = (asyncpg.InterfaceError, asyncpg.InternalClientError)
# What row-level security compares with: current_setting('mcp.tenant').
# A standby says that it takes no writes; asked afterwards, it may have been promoted meanwhile.
SESSION = (
    "SELECT set_config('statement_timeout', $1, true), set_config('mcp.principal', $2, true),"
    " set_config('mcp.tenant', $3, true), current_setting('transaction_read_only')::boolean AS read_only"
)
# What the server says to statements that were prepared on another of its connections.
PREPARED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
UNCERTAIN = "The database went away while the change was saved. Check whether it was, then call again."


class NestedConnectionError(RuntimeError):
    """A call asked for a second connection while holding one; with a full pool that never ends."""


@asynccontextmanager
async def connection(ctx: Context[Any, Any]) -> AsyncGenerator[DatabaseConnection]:
    """Take a connection for the rest of this block: one transaction, committed at its end.

    In it `current_setting('mcp.principal')` and `current_setting('mcp.tenant')` say who is calling.
    The transaction is read-only for a tool declared `read_only`, its statements end with the call's deadline,
    and an exception rolls it back.

    Raises:
        PoolExhausted: No connection within `MCP_POOL_ACQUIRE_TIMEOUT_SECONDS`; the caller is told to retry.
        UpstreamUnavailable: The database does not answer, or went away; the caller is told to retry.
        NestedConnectionError: This call holds one already; pass that one along.
        CallOverError: The call has been answered; await everything that a tool starts.
        OtherLoopError: The code runs in a thread, or in an event loop of its own.
    """
    ctx = ctx.here()
    database = ctx.database
    if database is None:
        raise DatabaseUnavailableError("DATABASE_URL: not set")
    ctx.check()
    if ctx.connected:
        raise NestedConnectionError("connection(ctx) is open in this call already: pass it along instead")
    ctx.connected = True
    try:
        taken = await database.take()
        try:
            if ctx.over:
                raise CallOverError("the call has been answered: await everything that it starts")
            ctx.held = taken
            async with _transaction(database, ctx, taken):
                yield taken
        finally:
            await database.give_back(taken)
            ctx.held = None
    finally:
        ctx.connected = False


@asynccontextmanager
async def _transaction(database: Database, ctx: Context[Any, Any], taken: DatabaseConnection) -> AsyncGenerator[None]:
    transaction = taken.transaction(readonly=ctx.read_only)
    takes_writes = True
    try:
        await transaction.start()
        # Zero would mean no end at all.
        milliseconds = max(1, int(ctx.remaining_seconds() * 1000))
        # For this transaction only, so that it holds behind PgBouncer too.
        session = await taken.fetchrow(SESSION, str(milliseconds), ctx.principal.id, ctx.principal.tenant)
        takes_writes = ctx.read_only or session is None or not session["read_only"]
        yield
        if database.pooled:
            # After an error that the tool has caught, nothing is set and nothing will be committed.
            with suppress(asyncpg.InFailedSQLTransactionError):
                await taken.execute(taken.get_reset_query())
    except BaseException as error:
        # Asked first, because undoing may cut it. On a connection that is there, it is used in a wrong way.
        database.impaired(error)
        gone = isinstance(error, asyncpg.InternalClientError) or (isinstance(error, BROKEN) and lost(taken))
        await _undo(database, taken, transaction)
        if gone or await _is_another(database, taken, error, takes_writes=takes_writes):
            raise UpstreamUnavailable from error
        raise
    try:
        await transaction.commit()
    except UNKNOWN as error:
        database.impaired(error)
        raise UpstreamUnavailable(UNCERTAIN) from error
    if not ctx.read_only:
        database.worked()


async def _is_another(
    database: Database, taken: DatabaseConnection, error: BaseException, *, takes_writes: bool
) -> bool:
    """Return whether what answers is not what this server needs: a standby, PgBouncer unannounced, another schema.

    Then every connection is replaced, so that it heals by itself when the name leads to the primary again.
    """
    if isinstance(error, PREPARED):
        await database.renew(pooled=True)
    elif isinstance(error, asyncpg.ReadOnlySQLTransactionError) and not takes_writes:
        log.warning("database read-only", backend="postgres", setting="DATABASE_URL")
        await database.renew()
    elif isinstance(error, asyncpg.InternalServerError):
        # So it is said of a type that was replaced since a statement was prepared, for as long as a connection lives.
        await database.renew()
    else:
        return False
    database.cut(taken)
    return True


async def _undo(database: Database, taken: DatabaseConnection, transaction: Transaction) -> None:
    """Roll back in time, or cut the connection: the reason to undo may be that nothing answers."""
    try:
        async with asyncio.timeout(RELEASE_SECONDS):
            await transaction.rollback()
    except FAULTS:
        database.cut(taken)
