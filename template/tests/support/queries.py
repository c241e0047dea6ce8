"""A server with tools that use the database well and badly, and what its pool looks like."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any

import alias
import asyncpg
from pydantic import Field

alias.install()

import sample
from live import ENVIRONMENT, KEY, SECONDS, Live, settings_from
from wire import Wire

from hardening import Context, connection, harden, tool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from hardening import HardeningSettings
    from hardening.server import HardenedServer

Seconds = Annotated[float, Field(ge=0, le=3600)]
Sql = Annotated[str, Field(max_length=500)]

# Many calls at once from one caller are the point of these tests.
ROOM = {
    "MCP_MAX_IN_FLIGHT": "1000",
    "MCP_MAX_IN_FLIGHT_PER_PRINCIPAL": "1000",
    "MCP_RATE_ADDRESS_PER_MINUTE": "1000000",
    "MCP_RATE_ADDRESS_BURST": "1000000",
    "MCP_RATE_PRINCIPAL_PER_MINUTE": "1000000",
    "MCP_RATE_PRINCIPAL_BURST": "1000000",
    "MCP_RATE_TOOL_PER_MINUTE": "1000000",
}


class Seen:
    """What the tools below have done, for the test's own thread."""

    holding = threading.Event()
    late: list[BaseException] = []  # noqa: RUF012 - shared on purpose
    kept: list[Any] = []  # noqa: RUF012 - the same
    reached: Counter[str] = Counter()  # noqa: RUF012 - the same
    held: ContextVar[asyncio.Event] = ContextVar("held")


@tool(read_only=False)
async def hold(seconds: Seconds, ctx: Context) -> int:
    """Hold a connection for a while; return its process in the database."""
    async with connection(ctx) as db:
        process = await db.fetchval("SELECT pg_backend_pid()")
        Seen.holding.set()
        await asyncio.sleep(seconds)
        return process


@tool(read_only=False, timeout_seconds=0.5)
async def hasty(sql: Sql, ctx: Context) -> str:
    """Run a statement with little time for it."""
    async with connection(ctx) as db:
        Seen.holding.set()
        return str(await db.fetchval(sql))


@tool(read_only=False)
async def statement(sql: Sql, ctx: Context) -> str:
    """Run a statement that takes as long as it likes."""
    async with connection(ctx) as db:
        Seen.holding.set()
        return str(await db.fetchval(sql))


@tool(read_only=True)
async def two_at_once(ctx: Context) -> str:
    """Run two statements on one connection at the same time, which it cannot."""
    async with connection(ctx) as db:
        await asyncio.gather(db.fetchval("SELECT pg_sleep(0.1)"), db.fetchval("SELECT 1"))
    return "both"


@tool(read_only=False)
async def write_then_fail(table: Annotated[str, Field(max_length=30)], ctx: Context) -> str:
    """Write, and fail afterwards."""
    async with connection(ctx) as db:
        await db.execute(f"INSERT INTO {table} VALUES (1)")  # noqa: S608 - the table is the test's own
        raise RuntimeError(table)


@tool(read_only=False)
async def keep(table: Annotated[str, Field(max_length=30)], ctx: Context) -> str:
    """Enter by hand, write, and never leave."""
    manager = connection(ctx)
    db = await manager.__aenter__()
    await db.execute(f"INSERT INTO {table} VALUES (1)")  # noqa: S608 - the table is the test's own
    Seen.kept += [manager, db]
    return "kept"


@tool(read_only=False, timeout_seconds=0.3)
async def keep_and_stay(ctx: Context) -> str:
    """Hold a connection and go on after being told to end."""
    async with connection(ctx) as db:
        for _ in range(2):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError as error:
                Seen.late.append(error)
        return str(await db.fetchval("SELECT 1"))


@tool(read_only=False)
async def leave_a_task(ctx: Context) -> str:
    """Leave a task behind that wants a connection after the end of the call."""

    async def later() -> None:
        while not ctx.over:
            await asyncio.sleep(0)
        try:
            async with connection(ctx):
                Seen.kept.append("connected")
        except RuntimeError as error:
            Seen.late.append(error)
        Seen.holding.set()

    Seen.kept.append(asyncio.create_task(later()))
    return "left"


@tool(read_only=False)
async def passing(ctx: Context) -> str:
    """Run a short statement, and note how far the call has come when it ends."""
    reached = "waiting"
    try:
        async with connection(ctx) as db:
            reached = "holding"
            if event := Seen.held.get(None):
                event.set()
            await db.execute("SELECT pg_sleep(0.002)")
            reached = "saving"
        reached = "done"
    finally:
        Seen.reached[reached] += 1
    return reached


@tool(read_only=False)
async def twice(ctx: Context) -> list[int]:
    """Use two connections one after the other."""
    processes: list[int] = []
    for _ in range(2):
        async with connection(ctx) as db:
            processes.append(await db.fetchval("SELECT pg_backend_pid()"))
    return processes


TOOLS = (
    *(sample.query, sample.query_read_only, sample.nested),
    *(hold, hasty, statement, two_at_once, write_then_fail, keep, keep_and_stay, leave_a_task, passing, twice),
)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with these tools."""
    return harden(settings, tools=TOOLS)


def settings_for(url: str, **environment: str) -> HardeningSettings:
    """Return settings with a small pool and room for many calls."""
    small = {"MCP_POOL_MIN_SIZE": "1", "MCP_POOL_MAX_SIZE": "3"}
    return settings_from({**ENVIRONMENT, **ROOM, **small, "DATABASE_URL": url, **environment})


@contextmanager
def serving(url: str, **environment: str) -> Generator[Live]:
    """Serve these tools on a socket."""
    with Live(settings_for(url, **environment), build) as running:
        yield running


@asynccontextmanager
async def in_process(url: str, **environment: str) -> AsyncGenerator[HardenedServer]:
    """Return a server in this process, with its pool open."""
    server = build(settings_for(url, **environment))
    database = server.database
    assert database is not None
    await database.open()
    try:
        yield server
    finally:
        await database.close()


@asynccontextmanager
async def client(server: Live) -> AsyncGenerator[Wire]:
    """Return a raw client with a good key."""
    async with Wire(server.url, KEY) as wire:
        yield wire


@asynccontextmanager
async def direct(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """Return a connection that the server does not know of."""
    db = await asyncpg.connect(url)
    try:
        yield db
    finally:
        await db.close()


def whole(server: Live) -> bool:
    """Return whether every connection of the server is back in its pool."""
    database = server.server.database
    assert database is not None
    return server.do(lambda: database.idle == database.size and not database.waiting)


async def eventually(holds: Any, seconds: float = SECONDS) -> None:
    """Wait until something holds; for what no event tells of."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if (await found) if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)
