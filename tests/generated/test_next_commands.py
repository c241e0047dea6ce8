"""What Copier says at the end is what to type next, executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.harness import git, run, tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template


def _said(template: Template, folder: Path) -> list[str]:
    said = run(tool("copier"), "copy", "--defaults", template.repository, "my server's", cwd=folder).stdout
    return [line.strip() for line in said.partition("is ready. The next three commands:")[2].splitlines() if line]


def test_three_commands_are_next(template: Template, tmp_path: Path) -> None:
    """The closing message holds three commands that can be pasted, whatever the folder is called."""
    cd, start, serve = _said(template, tmp_path)[:3]

    assert run("bash", "-c", f"{cd} && pwd", cwd=tmp_path).stdout == f"{tmp_path}/my server's\n"
    assert start == 'make setup && git init && git add -A && git commit -m "Start from the template"'
    assert serve == "make dev"


@pytest.mark.slow
def test_the_first_commit_holds_the_lock(template: Template, tmp_path: Path) -> None:
    """After the first two commands everything is committed, the lock file included."""
    cd, start = _said(template, tmp_path)[:2]

    run("bash", "-c", f"{cd} && {start}", cwd=tmp_path)

    project = tmp_path / "my server's"
    assert git("status", "--porcelain", cwd=project) == ""
    assert "uv.lock" in git("ls-files", cwd=project).splitlines()
