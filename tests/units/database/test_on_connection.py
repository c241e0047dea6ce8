"""Each connection is prepared as the author says, before a call gets it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from captured import captured
from in_process import call
from live import ENVIRONMENT, KEY, PROBE_KEY, Live, settings_from
from queries import settings_for
from support.relay import Relay
from wire import ERAS, Wire

from hardening import Context, connection, harden, tool
from hardening.calls.failures import ERROR_META_KEY
from hardening.database import DatabaseUnavailableError
from hardening.database.pool import Database
from hardening.errors import UpstreamUnavailable
from hardening.lifecycle.startup import opened

if TYPE_CHECKING:
    from pathlib import Path


@tool(read_only=True)
async def document(ctx: Context) -> dict[str, int]:
    """Read a jsonb value as what it is."""
    async with connection(ctx) as db:
        await asyncio.sleep(0.05)
        return await db.fetchval("SELECT '{\"number\": 7}'::jsonb")


async def test_a_codec_holds_on_every_connection(database_url: str) -> None:
    """Calls at once, on connections that were opened later too, read jsonb as a mapping."""
    prepared: list[Any] = []

    async def prepare(db: Any) -> None:
        prepared.append(db)
        await db.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    settings = settings_from(ENVIRONMENT | {"DATABASE_URL": database_url, "MCP_POOL_MIN_SIZE": "1"})
    async with opened(server := harden(settings, tools=(document,), on_connection=prepare)):
        results = await asyncio.gather(*(call(server, "document", {}) for _ in range(4)))

    assert [result.structured_content for result in results] == [{"number": 7}] * 4
    assert len(prepared) >= 4


@pytest.mark.parametrize("error", [KeyError("secret"), ValueError("secret"), asyncpg.UndefinedTableError("secret")])
async def test_what_it_raises_is_told_from_a_database_that_is_away(
    database_url: str, tmp_path: Path, error: Exception
) -> None:
    """An extension that is missing is no mistake in the URL: exit 78 with the name of the function, and a line."""

    async def prepare(_: Any) -> None:
        raise error

    settings = settings_from(ENVIRONMENT | {"DATABASE_URL": database_url})
    with captured(tmp_path / "log") as log:
        with pytest.raises(DatabaseUnavailableError) as refused:
            async with opened(harden(settings, tools=(document,), on_connection=prepare)):
                pass
        (line,) = [line for line in log.lines() if line["msg"] == "on_connection failed"]
        logged = log.text()
    assert str(refused.value).startswith("on_connection: it raised ")
    assert not refused.value.away
    assert "prepare" in line["exception"][0]["frames"][-1]
    assert "secret" not in logged + str(refused.value)


async def test_what_it_raises_later_is_told_and_heals(database_url: str, tmp_path: Path) -> None:
    """Calls that need a new connection are told to try again, one line says where, and the metric says it too.

    Connections that are there go on, none is leaked, and nothing has to be restarted.
    """
    broken = False

    async def prepare(db: Any) -> None:
        if broken:
            raise KeyError("secret")
        await db.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def many(wire: Wire) -> list[str]:
        replies = await asyncio.gather(*(wire.call(era, "document") for era in ERAS * 4))
        failures = [reply.result.get("_meta", {}).get(ERROR_META_KEY) for reply in replies]
        assert all(failure is None or failure["retryable"] for failure in failures)
        return [failure["kind"] if failure else "ok" for failure in failures]

    settings, bearer = settings_for(database_url), {"authorization": f"Bearer {PROBE_KEY}"}
    with captured(tmp_path / "log") as log:
        built = Live(settings, lambda given: harden(given, tools=(document,), on_connection=prepare))
        with built as live:
            async with Wire(live.url, KEY) as wire, Wire(live.url, PROBE_KEY) as probe:
                broken = True
                failed = await many(wire)
                # As after a failover: no connection of before is used again.
                assert live.server.database is not None
                live.do(lambda: asyncio.ensure_future(live.server.database.renew()))
                down = (await probe.get("/metrics", **bearer)).body
                broken = False
                healed = await many(wire)
                up = (await probe.get("/metrics", **bearer)).body
        logged = log.text()
    lines = [line for line in map(json.loads, logged.splitlines()) if line["msg"] == "on_connection failed"]
    assert set(failed) == {"ok", "upstream_unavailable"}
    assert healed == ["ok"] * 8
    assert (b"mcp_database_up 0.0" in down, b"mcp_database_up 1.0" in up) == (True, True)
    assert len(lines) == 1
    assert "prepare" in lines[0]["exception"][0]["frames"][-1]
    assert "secret" not in logged
    assert "unhandled exception" not in logged


async def test_a_server_that_goes_silent_meanwhile_costs_the_time_for_a_connection(database_url: str) -> None:
    """A call waits no longer: its connection is cut, and nobody waits for a goodbye of a server that says nothing."""
    (folder,) = parse_qs(urlsplit(database_url).query)["host"]
    opened: list[Any] = []

    async def prepare(db: Any) -> None:
        opened.append(db)
        if len(opened) > 1:
            relay.partition()
        await db.execute("SELECT 1")

    bounds = {"MCP_POOL_MAX_SIZE": "2", "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "0.3"}
    async with Relay(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")) as relay:
        url = f"postgresql://postgres@127.0.0.1:{relay.port}/postgres?sslmode=disable"
        database = Database(settings_for(url, **bounds), on_connection=prepare)
        await database.open()
        try:
            taken = await database.take()
            async with asyncio.timeout(20):
                with pytest.raises(UpstreamUnavailable):
                    await database.take()
            assert opened[-1].is_closed()
            relay.heal()
            await database.give_back(taken)
        finally:
            await database.close()
