"""The `schema` command: the contract as the server itself would publish it, against the committed one."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import logs
from .schema import canonical, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .server import HardenedServer
    from .settings import HardeningSettings

SettingsT = TypeVar("SettingsT", bound="HardeningSettings")


def main(arguments: Sequence[str], settings_type: type[SettingsT], build: Callable[[SettingsT], HardenedServer]) -> int:
    """Write, check or compare the published contract; 0 same, 4 differs."""
    parser = argparse.ArgumentParser(prog="schema", description=main.__doc__)
    parser.add_argument("action", choices=("write", "check", "diff"), help="what to do with schema/tools.json")
    parser.add_argument("--against", metavar="REF", help="a git revision to compare with")
    chosen = parser.parse_args(arguments)
    logs.configure(level="warning", fmt="console")
    # Defaults without a check: a contract must be the same wherever it is written, and needs no secret.
    server = build(settings_type.model_construct())
    return run(chosen.action, current=asyncio.run(published(server)), root=Path.cwd(), against=chosen.against)


async def published(server: HardenedServer) -> dict[str, Any]:
    """Return the contract of a server, asked for as a client would."""
    from mcp import Client

    async with Client(server) as client:
        listed = await client.list_tools()
        discovery = {
            "capabilities": _wire(client.server_capabilities),
            "instructions": client.instructions,
        }
    return canonical(
        [_wire(tool) for tool in listed.tools],
        discovery,
        None,
        scopes={tool.name: tool.declaration.scopes for tool in server.declared.values()},
        version=server.version,
    )


def _wire(model: Any) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
