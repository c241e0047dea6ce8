"""Projects with every deployment target, and the parts of this machine that run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.containers import Engine
from support.kubernetes import Manifest, build
from support.overlays import CLUSTERS, with_components
from support.programs import find, run
from support.projects import ANSWERS, WITHOUT_DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.harness import Template


@pytest.fixture(scope="session")
def project(template: Template) -> Path:
    """A project with PostgreSQL and all five targets; shared, so nobody changes it."""
    return template.render(ANSWERS)


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, project: Path) -> list[Manifest]:
    """Everything that is applied to one kind of cluster."""
    with with_components(project / "deploy/kubernetes", CLUSTERS[request.param]) as overlay:
        return build(overlay)


@pytest.fixture(scope="session")
def locked(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a database, after the author's first `uv lock`."""
    root = template.project(WITHOUT_DATABASE, tmp_path_factory.mktemp("locked") / "weather-server")
    done = run(find("uv"), "lock", "--quiet", cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A container engine with a store of its own, and a base image made of this machine's parts."""
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine
