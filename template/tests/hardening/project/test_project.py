"""What an update cannot change in your own files, because it never opens them: each failure says what to do."""

from __future__ import annotations

import inspect
import pkgutil
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import alias
import pytest

from hardening import HardeningSettings
from hardening.calls.declaration import Declaration
from hardening.calls.tool import InvalidDeclarationError, read_tools
from hardening.contract.command import published, run
from hardening.server import HardenedServer
from hardening.settings.reference import as_env_file, as_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = f"src/{alias.PACKAGE}"
LINE = "# Your own dependencies go below this line."


def declared() -> Iterator[Any]:
    """Import every module below `tools`, and return the functions that are declared there."""
    package = import_module(f"{alias.PACKAGE}.tools")
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for module in map(import_module, names):
        for _, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and isinstance(getattr(function, "__tool__", None), Declaration):
                yield function


def test_settings_stand_on_the_hardening() -> None:
    """A protection reads its settings from yours, so yours inherit them."""
    settings_type = import_module(f"{alias.PACKAGE}.settings").Settings

    assert issubclass(settings_type, HardeningSettings), (
        f"In {HERE}/settings.py, write: class Settings(HardeningSettings)"
    )


def test_the_server_is_hardened() -> None:
    """What is served went through the one call that puts every protection on."""
    settings_type = import_module(f"{alias.PACKAGE}.settings").Settings
    server = import_module(f"{alias.PACKAGE}.server").build(settings_type.model_construct())

    assert isinstance(server, HardenedServer), f"In {HERE}/server.py, let build(settings) return harden(settings, …)"


def test_every_tool_says_what_it_does() -> None:
    """A tool without a declaration, a type or a return type has no limits and no contract."""
    try:
        read_tools(import_module(f"{alias.PACKAGE}.tools").TOOLS)
    except InvalidDeclarationError as problems:
        pytest.fail(f"In {HERE}/tools:\n{problems}", pytrace=False)


def test_every_declared_tool_is_served() -> None:
    """A tool that was written and then forgotten is found here, not by a user."""
    served = {function.__name__ for function in import_module(f"{alias.PACKAGE}.tools").TOOLS}
    forgotten = sorted(function.__name__ for function in declared() if function.__name__ not in served)

    assert not forgotten, f"Name in TOOLS, in {HERE}/tools/__init__.py, or take @tool away: {', '.join(forgotten)}"


async def test_the_contract_is_the_published_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What clients and models were told changes on purpose only, in a file that somebody has looked at."""
    settings_type = import_module(f"{alias.PACKAGE}.settings").Settings
    server = import_module(f"{alias.PACKAGE}.server").build(settings_type.model_construct())
    code = run("check", current=await published(server), root=alias.ROOT)

    assert code == 0, f"Run make schema, and look at the difference:\n{capsys.readouterr().out}"


def test_dependencies_can_be_merged() -> None:
    """The line between the template's dependencies and yours is what keeps updates free of conflicts."""
    text = (alias.ROOT / "pyproject.toml").read_text("utf-8")

    assert text.count(LINE) == 1, f"In pyproject.toml, below the template's dependencies, put back: {LINE}"


def test_the_tests_have_their_tools() -> None:
    """What the hardening's tests need comes with an update, through a group of its own."""
    groups = tomllib.loads((alias.ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]

    assert {"include-group": "hardening"} in groups.get("dev", []), (
        'In pyproject.toml, put into the group dev: { include-group = "hardening" }'
    )


@pytest.mark.parametrize(
    ("path", "generate"),
    [
        pytest.param(path, generate, marks=pytest.mark.skipif(not (alias.ROOT / path).exists(), reason="deleted here"))
        for path, generate in ((".env.example", as_env_file), ("docs/settings.md", as_markdown))
    ],
)
def test_the_committed_files_are_up_to_date(path: str, generate: Callable[[Any], str]) -> None:
    """Run `make settings` when this fails."""
    assert (alias.ROOT / path).read_text("utf-8") == generate(import_module(f"{alias.PACKAGE}.settings").Settings)
