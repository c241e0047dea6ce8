"""One connection for the migrations, opened as the server opens its own, and a lock that only one process holds.

The lock ends with the transaction, so it holds behind PgBouncer too.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from ..database.connecting import connect_arguments, connect_in_time, in_turn
from ..settings.urls import database_target

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

# Any number: the name of this lock in the database.
LOCK = text("SELECT pg_advisory_xact_lock(728051)")


async def connected(settings: Any, work: Callable[[Any], Result]) -> Result:
    """Return what `work` returns, in one transaction.

    Raises:
        DatabaseUnavailableError: No answer within `MCP_DATABASE_START_TIMEOUT_SECONDS`, or the URL is wrong.
    """
    seconds = settings.database_start_timeout_seconds
    target = database_target(settings.database_url.get_secret_value(), pgbouncer=settings.database_pgbouncer)
    given = connect_arguments(target, pooled=settings.database_pgbouncer or target.pooled, seconds=seconds)
    dsn = given.pop("dsn")
    # Waits for a database that starts at the same time.
    connect_to = in_turn(target.dsn, seconds) or asyncpg.connect
    opened: Any = await connect_in_time(lambda: connect_to(dsn, **given), seconds)

    async def given_out() -> Any:
        return opened

    def connect() -> Any:
        return engine.dialect.dbapi.connect(
            async_creator_fn=given_out,
            # Behind PgBouncer another connection may have prepared something of the same name.
            prepared_statement_name_func=lambda: f"migrate_{uuid.uuid4().hex}",
            prepared_statement_cache_size=0,
        )

    engine: Any = create_async_engine("postgresql+asyncpg://", creator=connect, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(LOCK)
        return await connection.run_sync(work)
