"""What every test of this project can ask for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import alias
import pytest

alias.install()

from fixtures import database_url, postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mcp.types import CallToolResult

__all__ = ["call_tool", "database_url", "postgres"]


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
    if server.database is not None:
        await server.database.open()

    async def call(name: str, arguments: dict[str, Any]) -> CallToolResult:
        return await server.call_tool(name, arguments)

    yield call
    if server.database is not None:
        await server.database.close()
