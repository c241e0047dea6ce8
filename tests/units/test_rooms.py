"""Rooms of the package: imports go one way, and `serve` loads only what it serves with."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import alias
import pytest
from live import KEY, Process
from wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# At run time a module imports from its own room and from rooms that stand before it here.
ORDER = (
    *("errors", "exchange", "http_answers", "response", "routes"),
    *("logs", "auth", "settings", "telemetry", "limits", "edge", "calls", "database", "outbound", "protocol"),
    *("services", "entry_points", "guarded_resources", "primitives", "server", "stack", "app", "harden", "lifecycle"),
    *("contract", "migrations", "dev", "probe", "__init__"),
)
OFF_THE_SERVING_PATH = ("contract", "migrations", "dev", "probe")
MODULES = sorted(alias.HARDENING.rglob("*.py"))
REPORT = """
import sys
import sample
from hardening import HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve

@tool(read_only=True)
async def loaded() -> list[str]:
    '''List the modules that this process has loaded.'''
    return sorted(sys.modules)

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(loaded,))))
"""


def room(parts: tuple[str, ...]) -> str:
    """Return the room of a module, given its path below the package; a module of the root is one by itself."""
    return parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yield the rooms that a module imports from at run time."""
    own = path.relative_to(alias.HARDENING).parts
    tree = ast.parse(path.read_text("utf-8"))
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    typing = {inner for node in guarded for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in typing:
            above = own[: len(own) - node.level]
            for name in node.names:
                yield room((*above, *(node.module or name.name).split(".")))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(alias.HARDENING).as_posix())
def test_imports_between_rooms_go_one_way(path: Path) -> None:
    """No room imports a later one, so there is no circle, and each can be read without those after it."""
    own = room(path.relative_to(alias.HARDENING).parts)
    later = {other for other in imported(path) if other != own and ORDER.index(other) > ORDER.index(own)}

    assert later == set()


def test_each_room_says_what_it_is_for() -> None:
    """Line 1 of a room is one sentence of purpose."""
    for path in alias.HARDENING.rglob("*/__init__.py"):
        first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]

        assert first.endswith(".") and len(first.split()) > 2, path  # noqa: PT018 - one line, one sentence


async def test_serve_loads_nothing_of_the_other_commands() -> None:
    """A running server holds no code that writes contracts, signs tokens, starts databases or probes."""
    with Process("-c", REPORT) as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call("modern", "loaded", {})
        process.stop()
    package = f"{alias.PACKAGE}.hardening."
    loaded = {name.removeprefix(package) for name in reply.result["structuredContent"]["result"] if package in name}

    assert "lifecycle.startup" in loaded
    assert {name for name in loaded if name.partition(".")[0] in OFF_THE_SERVING_PATH} == set()
