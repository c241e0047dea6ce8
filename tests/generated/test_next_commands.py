"""What Copier says at the end is what to type next, executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.harness import git, run, tool

if TYPE_CHECKING:
    from support.harness import Template


def _said(template: Template, folder: Path) -> list[str]:
    said = run(tool("copier"), "copy", "--defaults", template.repository, "my server's", cwd=folder).stdout
    return [line.strip() for line in said.partition("is ready. The next three commands:")[2].splitlines() if line]


def test_three_commands_are_next(template: Template, tmp_path: Path) -> None:
    """The closing message holds three commands that can be pasted, whatever the folder is called."""
    cd, start, serve = _said(template, tmp_path)[:3]

    assert run("bash", "-c", f"{cd} && pwd", cwd=tmp_path).stdout == f"{tmp_path}/my server's\n"
    assert start == (
        "make setup && (git rev-parse 2>/dev/null || git init -b main) && "
        'git add . && git commit -m "Start from the template" .'
    )
    assert serve == "make dev"


def _master(folder: Path) -> Path:
    """Return a configuration of git that calls the first branch as it did for years."""
    config = folder / "gitconfig"
    text = Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text("utf-8")
    config.write_text(text.replace("defaultBranch = main", "defaultBranch = master"), "utf-8")
    return config


@pytest.mark.slow
def test_the_first_commit_holds_the_lock(template: Template, tmp_path: Path) -> None:
    """After the first two commands everything is committed, the lock file included."""
    cd, start = _said(template, tmp_path)[:2]

    run("bash", "-c", f"{cd} && {start}", cwd=tmp_path, env={"GIT_CONFIG_GLOBAL": str(_master(tmp_path))})

    project = tmp_path / "my server's"
    assert git("status", "--porcelain", cwd=project) == ""
    assert "uv.lock" in git("ls-files", cwd=project).splitlines()
    # The workflows run on pushes to this branch, whatever git is told to call the first one on a machine.
    assert git("branch", "--show-current", cwd=project) == "main\n"


def test_a_folder_of_a_repository_stays_one(template: Template, tmp_path: Path) -> None:
    """Below another project's repository no second one is made, and nothing else of it is committed."""
    git("init", "--quiet", "--initial-branch", "trunk", cwd=tmp_path)
    (tmp_path / "theirs.txt").write_text("half a sentence\n", "utf-8")
    git("add", "theirs.txt", cwd=tmp_path)
    cd, start = _said(template, tmp_path)[:2]

    run("bash", "-c", f"{cd} && {start.removeprefix('make setup && ')}", cwd=tmp_path)

    assert not (tmp_path / "my server's/.git").exists()
    assert git("status", "--porcelain", cwd=tmp_path) == "A  theirs.txt\n"
    assert set(git("ls-tree", "--name-only", "HEAD", cwd=tmp_path).splitlines()) == {"my server's"}
