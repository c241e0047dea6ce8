"""Migrations: one process at a time, all or nothing, behind a pooler too."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import ValidationError
from support.pgbouncer import PGBOUNCER, pgbouncer

from hardening.migrations import command, connecting

if TYPE_CHECKING:
    from pathlib import Path

    from hardening.settings.urls import DatabaseTarget

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


async def named(url: str) -> int:
    """Return how many connections have the name that this test gives."""
    db = await asyncpg.connect(url)
    try:
        return await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left open'")
    finally:
        await db.close()


def test_nothing_is_left_open(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The connection is closed, and with it goes the lock, whether the migrations work or not."""
    url = f"{database_url}{'&' if '?' in database_url else '?'}application_name=left%20open"
    settings = command.MigrationSettings.model_validate({"DATABASE_URL": url})
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    (tmp_path / "0001_first.py").write_text(FIRST, "utf-8")
    assert command.run(settings) == 0
    (tmp_path / "0002_later.py").write_text(LATER, "utf-8")
    assert command.run(settings) == 1
    deadline = time.monotonic() + 20
    while asyncio.run(named(database_url)):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("away", "code", "sentence"),
    [
        (True, 75, "DATABASE_URL: no answer within 0.2 s (ConnectionRefusedError)"),
        (False, 78, "DATABASE_URL: there is no database of this name (InvalidCatalogNameError)"),
    ],
    ids=["away", "wrong"],
)
def test_a_database_that_cannot_be_reached_ends_it(
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    away: bool,  # noqa: FBT001 - the row
    code: int,
    sentence: str,
) -> None:
    """75 for what is away, 78 for what a person mends; nothing of the URL is said."""
    url = "postgresql://ada:s3cret@127.0.0.1:1/name" if away else urlsplit(database_url)._replace(path="/no").geturl()
    settings = {"DATABASE_URL": url, "database_start_timeout_seconds": 0.2 if away else 20}
    with pytest.raises(SystemExit) as ended:
        command.run(command.MigrationSettings.model_validate(settings))

    assert ended.value.code == code
    assert capsys.readouterr().err == f"Cannot start: 1 problem(s) in the database.\n  {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "hidden", "said"),
    [
        ([], "", "in the settings.\n  DATABASE_URL: required, and not set\n"),
        (["new"], "", 'in the command.\n  say what it does: migrate new "add a table"\n'),
        (["new", "  "], "", 'in the command.\n  say what it does: migrate new "add a table"\n'),
        *((["list"], name, f"in the installation.\n  {command.MISSING}\n") for name in ("alembic", "sqlalchemy")),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(  # noqa: PLR0913, PLR0917 - the row
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    hidden: str,
    said: str,
) -> None:
    """78, before anything is connected to or written."""
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command.util, "find_spec", lambda name: None if name == hidden else "there")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        command.main(arguments, "weather-server")

    assert ended.value.code == 78
    assert capsys.readouterr().err == f"Cannot start: 1 problem(s) {said}"
    assert list(tmp_path.iterdir()) == []


def test_a_project_without_migrations_is_told_how_to_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is made with the first of them; each has the next number, and the list has all."""
    monkeypatch.setattr(command, "FOLDER", tmp_path / "a 100% new folder")
    for arguments in (["run"], ["list"]):
        with pytest.raises(SystemExit):
            command.main(arguments, "weather-server")
        sentence = 'there are no migrations; begin one with: migrate new "what it does"'
        assert capsys.readouterr().err == f"Cannot start: 1 problem(s) in the project.\n  {sentence}\n"
    for text in ("add users", "add notes"):
        assert command.main(["new", text], "weather-server") == 0
    assert sorted(path.name for path in command.FOLDER.glob("*.py")) == ["0001_add_users.py", "0002_add_notes.py"]
    capsys.readouterr()
    assert command.main(["list"], "weather-server") == 0
    assert capsys.readouterr().out.splitlines() == [
        "0001 -> 0002 (head), Add notes.",
        "<base> -> 0001, Add users.",
    ]


def test_a_database_has_ten_seconds_to_answer() -> None:
    """As at the start of the server; behind PgBouncer only where that is said."""
    settings = command.MigrationSettings.model_validate({"DATABASE_URL": "postgresql://h/d"})
    assert (settings.database_start_timeout_seconds, settings.database_pgbouncer) == (10.0, False)
    with pytest.raises(ValidationError):
        command.MigrationSettings.model_validate(
            {"DATABASE_URL": "postgresql://h/d", "database_start_timeout_seconds": 0}
        )


@pytest.mark.parametrize(
    ("url", "pgbouncer", "kept"),
    [
        ("postgresql://h/d", False, 100),
        ("postgresql://h/d", True, 0),
        ("postgresql://h/d?pgbouncer=true", False, 0),
        ("postgresql://h/d?pgbouncer=true", True, 0),
    ],
)
async def test_nothing_is_kept_prepared_behind_pgbouncer(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    pgbouncer: bool,  # noqa: FBT001 - the row
    kept: int,
) -> None:
    """Whether the setting or the URL says that it is there."""
    sizes: list[int] = []

    real = connecting.connect_arguments

    def connect_with(target: DatabaseTarget, *, pooled: bool, seconds: float) -> None:
        sizes.append(real(target, pooled=pooled, seconds=seconds)["statement_cache_size"])
        raise LookupError(seconds)

    monkeypatch.setattr(connecting, "connect_arguments", connect_with)
    settings = command.MigrationSettings.model_validate({"DATABASE_URL": url, "database_pgbouncer": pgbouncer})
    with pytest.raises(LookupError, match=r"10\.0"):
        await connecting.connected(settings, lambda connection: connection)

    assert sizes == [kept]
