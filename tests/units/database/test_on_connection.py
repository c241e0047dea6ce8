"""Each connection is prepared as the author says, before a call gets it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from captured import captured
from in_process import call
from live import ENVIRONMENT, settings_from

from hardening import Context, connection, harden, tool
from hardening.database import DatabaseUnavailableError
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
