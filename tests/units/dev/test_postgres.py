"""What `dev` gives to tools is what production gives: a role that owns its schema and no more."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import asyncpg
import pytest

from hardening.dev.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A folder that an earlier version has used as the superuser, and is used again."""
    folder = Path(mkdtemp(prefix="dev-"))
    with EmbeddedPostgres(folder) as embedded:
        assert "//postgres:" in embedded
    earlier = EmbeddedPostgres(folder)
    with earlier:
        earlier.server.psql("CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
    with EmbeddedPostgres(folder, confined=True):
        pass
    with EmbeddedPostgres(folder, confined=True) as confined:
        yield confined
    shutil.rmtree(folder, ignore_errors=True)


async def test_what_was_made_before_still_works(url: str) -> None:
    """Tables of an earlier version can be read, changed and dropped, and new ones made."""
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT x FROM kept") == 1
        await connection.execute("ALTER TABLE kept ADD COLUMN y int; CREATE TABLE more (x int); DROP TABLE more")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    ["COPY (SELECT 1) TO PROGRAM 'id'", "SELECT pg_read_file('/etc/passwd')", "CREATE ROLE other SUPERUSER"],
)
async def test_a_tool_on_this_machine_can_do_no_more_than_in_production(url: str, statement: str) -> None:
    """No program, no file, no role."""
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()
