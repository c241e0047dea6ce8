"""Faults around a server under load: the table of what they may come to, and how a load is judged by its row."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
from support.programs import find, have
from support.watched_server import OPEN, Watched, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from pathlib import Path

    from support.postgres import Postgres
    from support.steady_load import Load

SETTINGS = {
    **OPEN,
    "MCP_TOOL_TIMEOUT_SECONDS": "2",
    "MCP_DRAIN_TIMEOUT_SECONDS": "25",
    "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "1",
    "MCP_BODY_TIMEOUT_SECONDS": "2",
}
# The deadline of a call, what a discarded connection may take, and what a busy machine is late with.
SLOWEST_SECONDS = 9.0


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        sees: What a call may come to besides its result.
        logged: The lines that tell of it.
        seconds: Bound on the time from the end of the fault until every client is well again.
    """

    sees: frozenset[str]
    logged: frozenset[str]
    seconds: int


def row(seconds: int, sees: str = "", logged: str = "") -> Row:
    """Return a row; several words are separated by commas."""
    return Row(frozenset(filter(None, sees.split(", "))), frozenset(filter(None, logged.split(", "))), seconds)


DATABASE = "upstream_unavailable, timeout, busy"
AWAY = "database unavailable, database available"
LIMITS = "rate limits degraded, limits shared again"
KEYS = "issuer keys unavailable, issuer keys available"
TABLE = {
    "PostgreSQL is shut down": row(5, DATABASE, f"tool call, {AWAY}"),
    "PostgreSQL is killed": row(5, DATABASE, f"tool call, {AWAY}"),
    "PostgreSQL does not answer": row(5, DATABASE, "tool call"),
    "PostgreSQL is slow": row(5, DATABASE),
    "PostgreSQL has no room on its disk": row(10, DATABASE, "tool call, database impaired, database available"),
    "Redis is killed": row(5, "", LIMITS),
    "Redis does not answer": row(5, "", LIMITS),
    "Redis is slow": row(5, "", LIMITS),
    "Redis is full": row(5, "", LIMITS),
    "Redis refuses the password": row(5, "", LIMITS),
    "PostgreSQL fails over to a standby": row(5, DATABASE, "tool call, database read-only"),
    "the first host of PostgreSQL goes silent": row(5, DATABASE, "tool call"),
    "PostgreSQL is away at the start": row(5, "", "waiting for the database"),
    "PostgreSQL ends every connection": row(5, DATABASE, "tool call"),
    "PostgreSQL takes no more connections": row(5, DATABASE, f"tool call, {AWAY}"),
    "PostgreSQL refuses the role of the server": row(5, DATABASE, f"tool call, {AWAY}"),
    "PostgreSQL is made read-only": row(5, DATABASE, "tool call, database read-only"),
    "a column is added to a table": row(5, "busy"),
    "a type of a column is replaced": row(5, DATABASE, "tool call, database impaired"),
    "the certificate of PostgreSQL is not trusted": row(5, DATABASE, f"tool call, {AWAY}"),
    "the network forgets every connection to PostgreSQL": row(5, DATABASE, "tool call"),
    "the network loses a part of what is sent to PostgreSQL": row(5, DATABASE),
    "the name of PostgreSQL leads to another program": row(5, DATABASE, f"tool call, {AWAY}"),
    "PgBouncer is restarted, in session mode": row(5, DATABASE, "tool call"),
    "PgBouncer is restarted, in transaction mode": row(5, DATABASE, "tool call"),
    "PgBouncer is paused": row(5, DATABASE, "tool call"),
    "PgBouncer takes no more clients": row(5, DATABASE, f"tool call, {AWAY}"),
    "PgBouncer comes between, and no setting says so": row(5, DATABASE, "database behind PgBouncer"),
    "Redis fails over to a replica": row(5, "", LIMITS),
    "Redis becomes a replica": row(5, "", LIMITS),
    "Redis is away at the start": row(5, "", LIMITS),
    "the certificate of Redis is not trusted": row(5, "", LIMITS),
    "PostgreSQL and Redis are 20 ms away": row(5),
    "a library that a tool calls does not return": row(5, "timeout, busy", "tool call"),
    "the issuer is away, its keys are known": row(5),
    "the issuer signs with another key": row(5),
    "the issuer is away at the start": row(25, "auth_unavailable", KEYS),
    "the issuer does not answer at the start": row(25, "auth_unavailable", KEYS),
    "Caddy is killed": row(15, "connection lost, unavailable, interrupted"),
    "standard error is closed": row(5),
    "standard error is read slowly": row(5, "", "log lines dropped"),
    "the disk of the log is full": row(5, "", "log lines dropped"),
    "the clock is set back": row(5),
    "the clock is set forward": row(5),
    "no descriptors are left": row(5, "connection lost, upstream_unavailable"),
    "the process is stopped for a while": row(5, "timeout, too_slow, busy"),
}
measured: dict[str, float] = {}


@asynccontextmanager
async def under(name: str, server: Watched, clients: Load, *, well: bool = True) -> AsyncGenerator[Load]:
    """Judge what clients get during a fault, which begins and ends in the block, by its row."""
    async with clients as load:
        before = len(load.ended)
        yield load
        await _judge(name, server, load, before, well=well)


async def _judge(name: str, server: Watched, load: Load, before: int, *, well: bool) -> None:
    expected = TABLE[name]
    started = time.monotonic()
    for message in expected.logged - {"tool call"}:
        await asyncio.to_thread(server.line, message)
    await load.recovered()
    measured[name] = time.monotonic() - started
    ended = load.ended[before:]
    kinds = {one.kind for one in ended} - {"ok"}
    sys.stdout.write(f"{name}: {kinds or 'nothing'}, well after {measured[name]:.1f} s\n")
    assert kinds <= expected.sees
    assert kinds or not expected.sees or not well
    assert max(one.seconds for one in ended) < SLOWEST_SECONDS
    if "tool call" in expected.logged:
        assert {line["error_code"] for line in server.lines() if line["msg"] == "tool call"} & expected.sees
    assert measured[name] < expected.seconds


def ends_well(server: Watched) -> None:
    """Fail unless nothing unforeseen happened, nothing is held, and SIGTERM ends the server."""
    assert not server.faults()
    until(lambda: not server.metrics()["mcp_in_flight"])
    said = server.metrics()
    assert said.get("mcp_pool_waiting", 0) == 0
    assert server.end() == 0


def hello(number: int) -> dict[str, Any]:
    """Return arguments of `echo`."""
    return {"text": f"hello {number}"}


ECHO = (("echo", hello),)
PUT = (("put", lambda number: {"number": number}),)


# Of a role that is not the owner, as a server's own role should be.
CREATE = "CREATE TABLE put (number bigint); GRANT ALL ON put TO public"


async def run(url: str, sql: str) -> list[Any]:
    """Run statements as somebody else than the server, and return the rows of a single one."""
    db = await asyncpg.connect(url)
    try:
        return await (db.fetch(sql) if sql.startswith("SELECT") else db.execute(sql)) or []
    finally:
        await db.close()


async def answered_are_kept(url: str, load: Load) -> None:
    """Fail when an answered number is not in the table."""
    kept = {found[0] for found in await run(url, "SELECT number FROM put")}
    answered = {one.number for one in load.ended if one.kind == "ok"}
    assert answered
    assert answered <= kept


@asynccontextmanager
async def numbers(postgres: Postgres) -> AsyncGenerator[Callable[[Load], Awaitable[None]]]:
    """Make the table that `put` writes to; yields what fails when an answered number is not in it."""
    await run(postgres.url, CREATE)
    yield lambda load: answered_are_kept(postgres.url, load)
    await run(postgres.url, "DROP TABLE put")


@contextmanager
def redis(folder: Path, port: int, *options: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a Redis; it is killed with the block."""
    binary = have("valkey-server") or find("redis-server")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        try:
            until(lambda: _accepts(port))
            yield child
        finally:
            child.kill()


def _accepts(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
