"""What goes wrong around the template ends in a sentence that helps, and changes nothing of the user's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, ROOT, files, git, run, tool

if TYPE_CHECKING:
    from support.harness import Template

OLD_COPIER = "9.16.0"


def _last_line(said: str) -> str:
    return said.strip().splitlines()[-1]


def _path_without(name: str, folder: Path) -> str:
    """Return a PATH with everything on it but one command."""
    folder.mkdir()
    for part in os.environ["PATH"].split(os.pathsep):
        if Path(part).is_dir():
            for entry in os.scandir(part):
                if not entry.name.startswith(name) and not (folder / entry.name).exists():
                    (folder / entry.name).symlink_to(entry.path)
    return str(folder)


def test_a_file_in_the_way_stays_as_it_is(template: Template, tmp_path: Path) -> None:
    """Copying over somebody's file asks first; without a terminal it stops, and the file is untouched."""
    (tmp_path / "Makefile").write_text("mine\n", "utf-8")

    ended = run(
        tool("copier"), "copy", "--quiet", "--defaults", template.repository, tmp_path, cwd=tmp_path, check=False
    )

    assert ended.returncode == 1
    assert _last_line(ended.stdout) == "Interactive session required: Consider using `--overwrite`"
    assert (tmp_path / "Makefile").read_text("utf-8") == "mine\n"


@pytest.mark.slow
def test_an_old_copier_is_told_what_is_needed(template: Template, tmp_path: Path) -> None:
    """A Copier that is too old says so, and writes nothing."""
    ended = run(
        "uvx", "--quiet", "--from", f"copier=={OLD_COPIER}", "copier", "copy", "--defaults", template.repository,
        "project", cwd=tmp_path, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert _last_line(ended.stdout) == (
        f"This template requires Copier version >= 9.17.2, while your version of Copier is {OLD_COPIER}."
    )
    assert list(tmp_path.iterdir()) == []


def test_no_uv(template: Template, tmp_path: Path) -> None:
    """Without uv, every command says how to get it."""
    project = template.project(DEFAULT, tmp_path / "project")
    path = _path_without("uv", tmp_path / "bin")

    for command in ("setup", "check", "test", "dev", "update"):
        ended = run("make", command, cwd=project, env={"PATH": path}, check=False)

        assert ended.returncode == 2
        assert ended.stdout.splitlines()[0] == (
            "This needs uv: install it with 'pipx install uv', or as https://docs.astral.sh/uv/ says"
        )
    assert git("status", "--porcelain", cwd=project) == ""


def test_no_network(template: Template, tmp_path: Path) -> None:
    """Without a network, `make setup` says what to check, and changes nothing that git sees."""
    project = template.project(DEFAULT, tmp_path / "project")
    away = {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_OFFLINE": "1"}

    ended = run("make", "setup", cwd=project, env=away, check=False)

    assert ended.returncode == 2
    assert (
        "make setup could not install the dependencies: check the network and the proxy, then run it again\n"
        in ended.stdout
    )
    assert git("status", "--porcelain", cwd=project) == ""


def test_update_of_a_dirty_project_is_refused(template: Template, tmp_path: Path) -> None:
    """An update never mixes with edits that are not committed."""
    project = template.project(DEFAULT, tmp_path / "project")
    (project / "README.md").write_text("mine\n", "utf-8")

    ended = run(tool("copier"), "update", "--defaults", cwd=project, check=False)

    assert ended.returncode == 1
    assert "dirty" in _last_line(ended.stdout)
    assert git("status", "--porcelain", cwd=project) == " M README.md\n"


def test_update_without_git_is_refused(template: Template, tmp_path: Path) -> None:
    """A project that was never put under git says so at its first update."""
    project = tmp_path / "project"
    shutil.copytree(template.render(DEFAULT), project)
    before = files(project)

    ended = run(tool("copier"), "update", "--defaults", cwd=project, check=False)

    assert ended.returncode == 1
    assert _last_line(ended.stdout) == "Updating is only supported in git-tracked subprojects."
    assert files(project) == before


def test_the_repository_says_what_it_needs(tmp_path: Path) -> None:
    """`make` here ends in one sentence when Python is too old or the network is away."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    old.chmod(0o755)

    too_old = run("make", "check", f"PYTHON={old}", cwd=tmp_path, check=False).stdout
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    offline = run("make", "check", cwd=tmp_path, env=nowhere, check=False).stdout

    assert "This needs Python 3.11 or newer: run it with PYTHON=/path/to/python3.13\n" in too_old
    assert "pip could not install uv: check the network and the proxy, then run it again\n" in offline
