"""Migrations: one process at a time, all or nothing, behind a pooler too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from support.pgbouncer import PGBOUNCER, pgbouncer

from hardening.migrations import command

if TYPE_CHECKING:
    from pathlib import Path

FIRST = """\
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE pooled (name text)")
    op.execute("INSERT INTO pooled VALUES ('ada')")
"""


@pytest.fixture(autouse=True)
async def fresh(database_url: str) -> None:
    """Forget what ran."""
    db = await asyncpg.connect(database_url)
    await db.execute("DROP TABLE IF EXISTS alembic_version, pooled, whole, half")
    await db.close()


LATER = """\
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.execute("CREATE TABLE half (name text)")
    op.execute("no statement")
"""


async def test_one_waits_for_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second process begins when the first has ended, whichever it is."""
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    settings = command.MigrationSettings.model_validate({"DATABASE_URL": database_url})
    first = await asyncpg.connect(database_url)
    try:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("SELECT pg_advisory_xact_lock(728051)")
        second = asyncio.create_task(asyncio.to_thread(command.run, settings))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with asyncio.timeout(20):
            while not await first.fetchval(waiting):
                assert not second.done()
                await asyncio.sleep(0.05)
        await transaction.rollback()
        assert await second == 0
    finally:
        await first.close()
    assert "up to date: " in capsys.readouterr().out


def test_a_failure_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither what came before it in the same run nor a half of it stays."""
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    (tmp_path / "0001_first.py").write_text(FIRST.replace("pooled", "whole"), "utf-8")
    (tmp_path / "0002_later.py").write_text(LATER, "utf-8")
    code = command.run(command.MigrationSettings.model_validate({"DATABASE_URL": database_url}))

    async def tables() -> int:
        db = await asyncpg.connect(database_url)
        try:
            return await db.fetchval("SELECT count(*) FROM pg_tables WHERE tablename IN ('whole', 'half')")
        finally:
            await db.close()

    assert code == 1
    assert "nothing was changed" in capsys.readouterr().err
    assert asyncio.run(tables()) == 0


@pytest.mark.skipif(not PGBOUNCER, reason="the Debian package pgbouncer is missing")
def test_they_run_once_behind_pgbouncer(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In transaction mode, with statements that nobody may prepare under a name of another's."""
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    (tmp_path / "0001_first.py").write_text(FIRST, "utf-8")
    with pgbouncer(database_url) as url:
        settings = {"DATABASE_URL": url, "database_pgbouncer": True}
        codes = [command.run(command.MigrationSettings.model_validate(settings)) for _ in range(3)]

    assert codes == [0, 0, 0]
    assert capsys.readouterr().out.endswith("up to date: 0001, before 0001\n")
