"""What every test of this project can ask for: `server` and `call_tool`, as docs/tools.md shows them."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import alias
import pytest

alias.install()

from fixtures import database_url, postgres
from in_process import call, in_one_task

from hardening.lifecycle.startup import opened
from hardening.migrations.command import MigrationSettings, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mcp.types import CallToolResult

    from hardening import HardenedServer, HardeningSettings, Principal

__all__ = ["database_url", "postgres"]


@pytest.fixture(scope="session")
def migrated(request: pytest.FixtureRequest, database_url: str) -> str:
    """The database as the role of the server, which row-level security binds; with your migrations, if there are any."""
    if "TEST_DATABASE_URL" not in os.environ:
        database_url = request.getfixturevalue("postgres").confine(database_url)
    if (alias.HARDENING.parent / "migrations").is_dir():
        assert run(MigrationSettings.model_validate({"DATABASE_URL": database_url})) == 0
    return database_url


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> HardeningSettings:
    """Your settings; a fixture of this name in tests/tools/conftest.py takes its place.

    A database is started for a project whose settings require one.
    """
    settings_type = import_module(f"{alias.PACKAGE}.settings").Settings
    values: dict[str, Any] = {"auth": frozenset({"none"})}
    if settings_type.model_fields["database_url"].is_required():
        values["DATABASE_URL"] = request.getfixturevalue("migrated")
    return settings_type(**values)


@pytest.fixture
async def server(settings: HardeningSettings) -> AsyncIterator[HardenedServer]:
    """Your server, built as in production, with its database and its state open."""
    built = import_module(f"{alias.PACKAGE}.server").build(settings)
    async with in_one_task(opened(built)):
        yield built
        assert not built.services.state.lost, "a task of the lifespan has failed; the log says which"


@pytest.fixture
def call_tool(request: pytest.FixtureRequest) -> Callable[..., Awaitable[CallToolResult]]:
    """Return `call_tool(server, name, arguments, principal=…)`: a call inside the boundary, as a client makes it.

    `call_tool(name, arguments)` calls the fixture `server`.
    """
    own = request.getfixturevalue("server")

    async def call_tool(*target: Any, principal: Principal | None = None) -> CallToolResult:
        given, name, arguments = target if len(target) == 3 else (own, *target)
        return await call(given, name, arguments, principal)

    return call_tool
