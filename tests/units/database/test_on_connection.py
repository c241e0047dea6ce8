"""Each connection is prepared as the author says, before a call gets it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from in_process import call
from live import ENVIRONMENT, settings_from

from hardening import Context, connection, harden, tool
from hardening.lifecycle.startup import opened


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
