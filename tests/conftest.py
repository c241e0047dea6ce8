"""What every test of the template stands on: a machine of its own, and projects made on it."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from plumbum import local
from support.harness import Template, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

GIT_CONFIG = """\
[user]
    name = Ada Lovelace
    email = ada@example.com
[init]
    defaultBranch = main
[safe]
    directory = *
[advice]
    detachedHead = false
"""
# Files of an author, for a project; its own tests run there.
collect_ignore = ["support/real_tools"]
# Of the person who runs the tests; none of it may reach a project under test.
PERSONAL = ("COPIER_", "GIT_", "MAKE", "MCP_", "MFLAGS", "OTEL_", "PYTHON")
NAMES = {"DATABASE_URL", "HOST", "PORT", "PYTEST_ADDOPTS", "REDIS_URL", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"}
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")


def _unordered(values: set[object] | frozenset[object]) -> bool:
    """Whether their order is another in each process: the hash of a text is, that of a number is not."""
    return len(values) > 1 and not all(isinstance(value, int) for value in values)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names of tests that are another in each process: the order of a set, an address in memory.

    Files are tested by two processes, which refuse to begin when their lists differ, and half the runs do not show it.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        sets = [value for value in call.params.values() if isinstance(value, set | frozenset)] if call else []
        if ADDRESS.search(item.name) or any(_unordered(value) and str(value) in item.name for value in sets):
            raise pytest.UsageError(f"{item.nodeid}: has another name in each process; use a tuple, or name the row")


@pytest.fixture(scope="session", autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give git and Copier a configuration of their own, and take the person's settings away."""
    # In the background (`nohup`, `&`) they are ignored, and so would they be by every server that a test starts.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    home = tmp_path_factory.mktemp("machine")
    (home / "gitconfig").write_text(GIT_CONFIG, "utf-8")
    (home / "copier.yml").write_text("{}\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in NAMES or name.startswith(PERSONAL):
                patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("COPIER_SETTINGS_PATH", str(home / "copier.yml"))
        patch.setenv("COPIER_CACHE_DIR", str(home / "cache"))
        patch.setenv("PATH", str(tool("python").parent), prepend=os.pathsep)
        # Copier starts git through a library that copied the environment when it was imported.
        local.env.clear()
        local.env.update(os.environ)
        yield


@pytest.fixture(scope="session")
def template(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Template:  # noqa: ARG001 - order
    """The working tree as a release."""
    return Template(tmp_path_factory.mktemp("projects"))
