"""The template with all its releases, and projects that come from them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

import pytest
from support.author import commit, work
from support.harness import git
from support.releases import add_tags
from support.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template


class Project(Protocol):
    """Makes a project of one release in a folder of the test's own, committed."""

    def __call__(self, release: str, row: str = "default", *, author: bool = False) -> Path:
        """Return the project; with `author`, somebody has worked on it."""
        ...


@pytest.fixture(scope="session")
def repository(template: Template) -> Path:
    """The working tree as the next release, with a tag for every earlier one."""
    assert add_tags(template.repository) == []
    return template.repository


@pytest.fixture(scope="session")
def originals() -> dict[tuple[str, str], Path]:
    """Projects that were made already."""
    return {}


@pytest.fixture
def project(
    template: Template,
    repository: Path,  # noqa: ARG001 - its tags
    originals: dict[tuple[str, str], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    """Make projects; each release and row is rendered once."""

    def make(release: str, row: str = "default", *, author: bool = False) -> Path:
        if (release, row) not in originals:
            made = template.copy(tmp_path_factory.mktemp("original") / "project", ROWS[row], release=release)
            git("init", "--quiet", cwd=made)
            commit(made, "Start from the template")
            originals[release, row] = made
        to = tmp_path / f"project-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(originals[release, row], to)
        if author:
            work(to)
        return to

    return make
