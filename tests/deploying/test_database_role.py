"""The role that Compose and the documentation give to the server owns its schema, and nothing more."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from support.postgres import Postgres
from support.programs import find, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Postgres]:
    """A PostgreSQL on which the shipped file was run, as its image runs it at the first start."""
    with Postgres() as postgres:
        assert psql(postgres, "postgres", "postgres", "CREATE DATABASE mcp", "CREATE DATABASE other") == ""
        done = run(
            *(find("psql"), f"postgresql://postgres@/mcp?host={postgres.folder}", "--no-psqlrc"),
            *("--set", "ON_ERROR_STOP=1", "--file", project / "deploy/postgres/role.sql"),
            env={"MCP_ROLE_PASSWORD": 'it\'s a "secret" $1'},
        )
        assert done.returncode == 0, done.stderr
        yield postgres


def psql(server: Postgres, user: str, database: str, *statements: str) -> str:
    """Run statements as a user; return what was refused, if anything."""
    commands = [part for statement in statements for part in ("--command", statement)]
    done = run(
        *(find("psql"), f"postgresql://{user}@/{database}?host={server.folder}", "--no-psqlrc", "--quiet"),
        *("--set", "ON_ERROR_STOP=1", *commands),
    )
    return done.stderr


def test_it_does_what_tools_and_migrations_need(server: Postgres) -> None:
    """Tables, indexes, functions and temporary tables in its schema; nothing has to be granted later."""
    said = psql(
        *(server, "mcp", "mcp", "CREATE TABLE notes (id bigserial PRIMARY KEY, text text)"),
        *(
            "INSERT INTO notes (text) VALUES ('one')",
            "CREATE INDEX ON notes (text)",
            "CREATE TEMPORARY TABLE t (x int)",
        ),
        *("CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN 1", "SELECT one()", "DROP FUNCTION one"),
    )

    assert said == ""


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("COPY (SELECT 1) TO PROGRAM 'id'", "permission denied to COPY to or from an external program"),
        ("COPY (SELECT 1) TO '/tmp/stolen'", "permission denied to COPY to a file"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
        ("SELECT lo_import('/etc/passwd')", "permission denied for function lo_import"),
        ("SELECT pg_ls_dir('/')", "permission denied for function pg_ls_dir"),
        ("SELECT * FROM pg_authid", "permission denied for table pg_authid"),
        ("CREATE ROLE other SUPERUSER", "permission denied to create role"),
        ("ALTER ROLE mcp SUPERUSER", "permission denied|must be superuser"),
        ("SET ROLE postgres", "permission denied to set role"),
        ("CREATE DATABASE more", "permission denied to create database"),
        ("CREATE SCHEMA more", "permission denied for database mcp"),
        ("CREATE EXTENSION file_fdw", "permission denied to create extension|is not available|must be superuser"),
        ("ALTER SYSTEM SET log_statement = 'all'", "permission denied|must be superuser"),
        ("LOAD '/tmp/library.so'", "access to library|permission denied"),
    ],
)
def test_what_a_tool_is_tricked_into_does_not_work(server: Postgres, statement: str, refused: str) -> None:
    """No program, no file, no other role, no other schema: each is refused, by name."""
    said = psql(server, "mcp", "mcp", statement)

    assert any(words in said for words in refused.split("|")), said


def test_a_transaction_that_only_reads_writes_nothing(server: Postgres) -> None:
    """An injected statement in a tool that only reads changes nothing, whatever it is."""
    assert psql(server, "mcp", "mcp", "CREATE TABLE IF NOT EXISTS kept (x int)") == ""
    for statement in (
        "INSERT INTO kept VALUES (1)",
        "DROP TABLE kept",
        "CREATE TABLE more (x int)",
        "SELECT lo_creat(-1)",
    ):
        said = psql(server, "mcp", "mcp", f"BEGIN READ ONLY; SELECT 1; {statement}")
        assert "in a read-only transaction" in said, statement


def test_a_backup_comes_back(server: Postgres, project: Path, tmp_path: Path) -> None:
    """The commands of the page as they stand, with a PostgreSQL of this machine in place of the container's."""
    page = (project / "docs/operations.md").read_text("utf-8")
    shell = re.findall(r"^docker compose --env-file \.env\.compose exec -T postgres (pg_\w+ .+)", page, re.MULTILINE)
    assert psql(server, "mcp", "mcp", "CREATE TABLE saved (x int)", "INSERT INTO saved VALUES (7)") == ""

    given = {"PGHOST": str(server.folder), "PATH": f"{server.binaries}:{os.environ['PATH']}"}
    for command, lost in zip(shell, ("DROP TABLE saved", "SELECT 1 / (SELECT count(*) FROM saved)"), strict=True):
        done = run("bash", "-euc", command, cwd=tmp_path, env=given)
        assert done.returncode == 0, done.stderr
        # After the dump the table is lost; after the way back its owner finds the row.
        assert psql(server, "mcp", "mcp", lost) == ""


def test_nobody_else_gets_in_and_it_gets_in_nowhere_else(server: Postgres) -> None:
    """Its database is closed for other roles; the default databases hold nothing of anybody."""
    assert psql(server, "postgres", "postgres", "CREATE ROLE stranger LOGIN") == ""

    assert "permission denied for database" in psql(server, "stranger", "mcp", "SELECT 1")
