"""Connecting at start, again and again until a deadline (exit 75); what waiting cannot mend ends it at once (exit 78).

The sentence says what was tried, without the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog

from ..database import DatabaseUnavailableError
from ..logs.origin import type_name
from .failures import AWAY, FAULTS, OnConnectionError, is_wrong, what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..settings import HardeningSettings
    from ..settings.urls import DatabaseTarget
    from . import OnConnection

log = structlog.get_logger()

START_AGAIN_SECONDS = 0.5
Connected = TypeVar("Connected")


def of_the_author(prepare: OnConnection, settings: HardeningSettings) -> OnConnection:
    """Return `on_connection` as the pool calls it: what it raises is told from a database that cannot be reached.

    One line says where it has failed, and no more follow until it has worked again.

    Args:
        prepare: The author's.
        settings: How long it may take, as long as a start waits for the database.
    """
    failed = False

    async def prepared(connection: Any) -> None:
        nonlocal failed
        try:
            async with asyncio.timeout(settings.database_start_timeout_seconds):
                await prepare(connection)
            failed = False
        except BaseException as error:
            # The pool would say goodbye, and wait for a server that may not answer any more.
            connection.terminate()
            # Otherwise the connection went away meanwhile, or the call that wanted it has ended.
            if not isinstance(error, Exception) or isinstance(error, AWAY):
                raise
            if not failed:
                failed = True
                log.error("on_connection failed", exc_info=error)  # noqa: TRY400 - once
            raise OnConnectionError from error

    return prepared


async def connect_in_time(connect: Callable[[], Awaitable[Connected]], seconds: float) -> Connected:
    """Return the connection, or the pool with its first connections.

    Args:
        connect: Makes what is not connected yet; called for each attempt.
        seconds: For all attempts together.

    Raises:
        DatabaseUnavailableError: No answer in time, or one that says that the URL is wrong.
    """
    reason = ""
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await connect()
                except OnConnectionError as error:
                    sentence = f"on_connection: it raised {type_name(error.__cause__ or error)}; the log says where"
                    raise DatabaseUnavailableError(sentence) from None
                except (*FAULTS, ValueError) as error:
                    if is_wrong(error):
                        raise DatabaseUnavailableError(f"DATABASE_URL: {what_is_wrong(error)}") from None
                    # Away, and not wrong: what starts at the same time may need a moment.
                    if not reason:
                        log.info("waiting for the database", error_type=type_name(error), timeout_seconds=seconds)
                    reason = f" ({type(error).__name__})"
                    await asyncio.sleep(START_AGAIN_SECONDS)
    except TimeoutError:
        raise DatabaseUnavailableError(f"DATABASE_URL: no answer within {seconds:g} s{reason}", away=True) from None


def in_turn(dsn: str, seconds: float) -> Any:
    """Return what connects to the first address of a URL that is there, beginning with the one that was there last.

    The driver would wait for an address that says nothing until no time is left for the next one.
    None for a URL of one address, and where the driver has to see them all to prefer one.

    Args:
        dsn: The URL.
        seconds: For all addresses together; each gets its share.
    """
    parts = urlsplit(dsn)
    user, at, where = parts.netloc.rpartition("@")
    order = [parts._replace(netloc=f"{user}{at}{address}").geturl() for address in where.split(",")]
    if len(order) == 1 or "prefer-standby" in parts.query:
        return None
    share = seconds / (len(order) + 1)

    async def connect(_: str, **options: Any) -> Any:
        failure: Exception | None = None
        for url in tuple(order):
            try:
                async with asyncio.timeout(share):
                    connection = await asyncpg.connect(url, **options)
            except (OSError, asyncpg.InternalClientError, asyncpg.CannotConnectNowError) as error:
                failure = error
                continue
            order.remove(url)
            order.insert(0, url)
            return connection
        raise failure or OSError

    return connect


def connect_arguments(target: DatabaseTarget, *, pooled: bool, seconds: float) -> dict[str, Any]:
    """Return what each connection is opened with, within so many seconds.

    Args:
        target: What the URL says.
        pooled: Whether PgBouncer is in between.
        seconds: For one attempt.
    """
    return {
        "dsn": target.dsn,
        "timeout": seconds,
        # PgBouncer gives each transaction another server connection, so nothing can be prepared there.
        "statement_cache_size": 0 if pooled else 100,
        "server_settings": target.session or None,
    } | ({"ssl": ssl.create_default_context()} if target.system_roots else {})
