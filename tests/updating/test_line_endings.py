"""Line endings stay those that shells, containers and checksums need, whatever git is told on a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.author import commit
from support.harness import NEXT_RELEASE, files, git, run, tool
from support.ownership import owners

UPDATE = (tool("copier"), "update", "--quiet", "--defaults", "--skip-answered", "--context-lines", "100000")


@pytest.fixture
def converting(machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:  # noqa: ARG001 - order
    """Have git write CRLF into every working copy, and refuse what cannot be converted there and back."""
    config = tmp_path / "gitconfig"
    config.write_text(
        Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text("utf-8") + "[core]\n    autocrlf = true\n", "utf-8"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    return config


def with_carriage_returns(project: Path) -> list[str]:
    """Return the files that hold a carriage return."""
    return [name for name in files(project) if b"\r" in (project / name).read_bytes()]


def test_a_new_project_has_the_line_endings_of_the_template(repository: Path, converting: Path, tmp_path: Path) -> None:
    """`core.autocrlf` reaches neither the files nor the first commit; `core.safecrlf` has nothing to refuse, ever."""
    git("config", "--file", converting, "core.safecrlf", "true", cwd=tmp_path)
    clone = tmp_path / "template"
    git("clone", "--quiet", repository, clone, cwd=tmp_path)
    project = tmp_path / "project"

    run(tool("copier"), "copy", "--quiet", "--defaults", "--vcs-ref", NEXT_RELEASE, clone, project, cwd=tmp_path)
    git("init", "--quiet", cwd=project)
    commit(project, "Start")

    assert with_carriage_returns(project) == []
    assert git("status", "--porcelain", cwd=project) == ""
    (project / "ruff.toml").write_text("# mine\n", "utf-8")
    assert run("bash", "scripts/drift.sh", "--moved", cwd=project).stdout == ""
    assert "ruff.toml" in run("bash", "scripts/drift.sh", cwd=project).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("converting")
def test_an_update_brings_line_endings_back(repository: Path, tmp_path: Path) -> None:
    """A tree that git had turned to CRLF merges without a conflict, and files of ours end as everywhere."""
    made = tmp_path / "project"
    # The last release without a .gitattributes.
    run(tool("copier"), "copy", "--quiet", "--defaults", "--vcs-ref", "v1.1.0", repository, made, cwd=tmp_path)
    git("init", "--quiet", cwd=made)
    commit(made, "Start")
    assert "Makefile" in with_carriage_returns(made)

    run(*UPDATE, cwd=made)

    assert git("ls-files", "--unmerged", cwd=made) == ""
    assert [name for name in with_carriage_returns(made) if owners(name) != ["yours"]] == []
    commit(made, "Update")
    assert "\r" not in git("show", "HEAD:Makefile", cwd=made)
