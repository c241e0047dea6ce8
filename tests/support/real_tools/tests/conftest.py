"""What the administrator of the database does, before the migrations run."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest


@pytest.fixture(scope="session")
def database_url(database_url: str) -> str:
    """The database of the tests, with the extension that the tables need."""

    async def extend() -> None:
        db = await asyncpg.connect(database_url)
        await db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await db.close()

    asyncio.run(extend())
    return database_url
