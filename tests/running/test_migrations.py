"""`migrate` brings a real PostgreSQL up to date: once, all or nothing, one process at a time, as the job runs it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest
import yaml
from support.harness import DEFAULT, run
from support.installed import pretend
from support.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.harness import Template

SLOW = '''\
"""Takes its time."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add a table and a row, slowly."""
    op.execute("SELECT pg_sleep(0.5)")
    op.execute("CREATE TABLE users (name text)")
    op.execute("INSERT INTO users VALUES ('ada')")
'''
SECONDS = 60


class Project:
    """A project, and the commands that are run in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.migrations = folder / "src/weather_server/migrations"
        self.environment = {**os.environ, **environment}

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "weather_server", "migrate", *arguments],
            cwd=self.folder,
            env=self.environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def migrate(self, *arguments: str, **settings: str) -> tuple[int, str]:
        """Run the command; return its exit code, and what it said."""
        running = self.start(*arguments, **settings)
        said, _ = running.communicate(timeout=SECONDS)
        return running.returncode, said


@pytest.fixture
def project(template: Template, tmp_path: Path) -> Project:
    """The default project, which has one migration."""
    return Project(template.project(DEFAULT, tmp_path / "project"), pretend(tmp_path / "project", tmp_path / "about"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A database for these tests."""
    with Postgres() as running:
        yield running


@pytest.fixture
def url(postgres: Postgres) -> str:
    """The database, empty."""
    look(postgres.url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return postgres.url


def look(url: str, statement: str) -> object:
    """Return the first value of a statement."""

    async def ask() -> object:
        db = await asyncpg.connect(url)
        try:
            return await db.fetchval(statement) if statement.startswith("SELECT") else await db.execute(statement)
        finally:
            await db.close()

    return asyncio.run(ask())


def test_they_run_once(project: Project, url: str) -> None:
    """The first run changes the database, the second one nothing; a new one is run after those before it."""
    assert project.migrate(DATABASE_URL=url) == (0, "The database is up to date: 0001\n")
    assert look(url, "SELECT count(*) FROM notes") == 0
    code, said = project.migrate("new", "add users")
    assert (code, (project.migrations / "0002_add_users.py").is_file()) == (0, True), said
    assert project.migrate(DATABASE_URL=url) == (0, "The database is up to date: 0002, before 0001\n")
    assert project.migrate(DATABASE_URL=url) == (0, "The database is up to date: 0002, before 0002\n")
    code, said = project.migrate("list")
    assert "0001 -> 0002 (head), Add users." in said


def test_a_failure_changes_nothing(project: Project, url: str) -> None:
    """Neither what came before it in the same run nor a half of it stays."""
    bad = SLOW.replace("VALUES ('ada')", "VALUES (1, 2)")
    (project.migrations / "0002_bad.py").write_text(bad, "utf-8")
    code, said = project.migrate(DATABASE_URL=url)
    assert code == 1
    assert "The migrations failed, and nothing was changed" in said
    assert look(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


def test_of_several_at_once_one_runs_them(project: Project, url: str) -> None:
    """The others wait, and find nothing to do."""
    (project.migrations / "0002_slow.py").write_text(SLOW, "utf-8")
    running = [project.start(DATABASE_URL=url) for _ in range(3)]
    said = [one.communicate(timeout=SECONDS)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0, 0], said
    assert look(url, "SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ({}, 78, "DATABASE_URL: required, and not set"),
        ({"DATABASE_URL": "mysql://ada:s3cret@host/name"}, 78, "DATABASE_URL: "),
        ({"DATABASE_URL": "postgresql://ada:s3cret@127.0.0.1:1/name"}, 75, "no answer within 1 s"),
    ],
    ids=["missing", "wrong", "away"],
)
def test_what_it_cannot_do_is_one_sentence(
    project: Project, settings: dict[str, str], code: int, sentence: str
) -> None:
    """As the server does: 78 for what a person mends, 75 for what is away; nothing of the URL is said."""
    ended, said = project.migrate(**settings, MCP_DATABASE_START_TIMEOUT_SECONDS="1")
    assert ended == code
    assert sentence in said
    assert "s3cret" not in said
    assert "Traceback" not in said


def test_the_job_runs_it(project: Project, url: str) -> None:
    """The command of the Kubernetes job, in a folder as the image has it; it needs no name of the project."""
    file = project.folder / "deploy/kubernetes/components/migrations/job.yaml"
    (container,) = yaml.safe_load(file.read_text("utf-8"))["spec"]["template"]["spec"]["containers"]
    _, *rest = [part.replace("/app/project", str(project.folder / "src")) for part in container["command"]]
    run(sys.executable, *rest, cwd=project.folder, env={**project.environment, "DATABASE_URL": url})
    assert look(url, "SELECT version_num FROM alembic_version") == "0001"


def test_the_tests_of_a_project_have_them(project: Project) -> None:
    """The database of the fixtures has the tables before the first tool is called."""
    (project.folder / "tests/tools/test_tables.py").write_text(
        '"""The tables are there."""\n\n\nasync def test_tables(server):\n    """As migrated."""\n'
        "    db = await server.database.take()\n"
        '    assert await db.fetchval("SELECT version_num FROM alembic_version") == "0001"\n'
        "    await server.database.give_back(db)\n",
        "utf-8",
    )
    run(sys.executable, "-m", "pytest", "--quiet", "tests/tools/test_tables.py", cwd=project.folder)
