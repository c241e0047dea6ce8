"""One project with every deployment target, made as a user makes it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import copier
import pytest

from .containers import Engine
from .tools import find, run

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE = Path(__file__).parents[2]
TARGETS = ["kubernetes", "fly", "railway", "compose"]


def render(destination: Path, **answers: object) -> Path:
    """Render the template as it stands in the working tree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copier.run_copy(
            str(TEMPLATE),
            destination,
            data={"repository_url": "https://github.com/example/weather-server", **answers},
            vcs_ref="HEAD",
            defaults=True,
            quiet=True,
        )
    return destination


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with PostgreSQL and all four targets."""
    return render(tmp_path_factory.mktemp("project") / "weather-server", deploy_targets=TARGETS)


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a database, after the author's first `uv lock`."""
    folder = tmp_path_factory.mktemp("locked") / "weather-server"
    root = render(folder, deploy_targets=TARGETS, database="none")
    done = run(find("uv"), "lock", "--quiet", cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A container engine with a store of its own, and a base image made of this machine's parts."""
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine
