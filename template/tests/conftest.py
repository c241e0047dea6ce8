"""What every test of this project can ask for."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import alias
import pytest

alias.install()

from live import PROBE_KEY, Live, live
from wire import Wire

from hardening.database import Database
from hardening.embedded_postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from mcp.types import CallToolResult


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL that these tests may stop and start."""
    # Not below pytest's own folder: run by root, each run closes it to the user that PostgreSQL runs as.
    with TemporaryDirectory(prefix="postgres-") as folder:
        embedded = EmbeddedPostgres(Path(folder))
        with embedded:
            yield embedded


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> str:
    """A real PostgreSQL: the one of `TEST_DATABASE_URL`, or one started for these tests."""
    given = os.environ.get("TEST_DATABASE_URL")
    return given or request.getfixturevalue("postgres").server.get_uri()


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """The sample tools behind the whole stack, on a socket."""
    with live() as running:
        yield running


@pytest.fixture
async def wire(server: Live) -> AsyncIterator[Wire]:
    """A raw client with a good key."""
    from live import KEY

    async with Wire(server.url, KEY) as client:
        yield client


@pytest.fixture
async def probe(server: Live) -> AsyncIterator[Wire]:
    """A raw client with the probe key."""
    async with Wire(server.url, PROBE_KEY) as client:
        yield client


@pytest.fixture
async def call_tool(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Awaitable[CallToolResult]]]:
    """Return what calls the project's own tools; use it as in tests/tools.

    A database is started for a project whose settings require one.
    """
    settings_type = import_module(f"{alias.PACKAGE}.settings").Settings
    values: dict[str, Any] = {"auth": frozenset({"none"})}
    if settings_type.model_fields["database_url"].is_required():
        values["DATABASE_URL"] = request.getfixturevalue("database_url")
    server = import_module(f"{alias.PACKAGE}.server").build(settings_type(**values))
    if server.hardening.database_url is not None:
        server.database = Database(server.hardening)
        await server.database.open()

    async def call(name: str, arguments: dict[str, Any]) -> CallToolResult:
        return await server.call_tool(name, arguments)

    yield call
    if server.database is not None:
        await server.database.close()
