"""A release that moves files of the template: edits in them are named before they are lost, and can be carried."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml
from support.author import commit
from support.harness import NEXT_RELEASE, git, run, tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

pytestmark = pytest.mark.slow

MOVED = {"ruff.toml": "lint/ruff.toml", "pytest.ini": "lint/tests.ini", "docs/operations.md": "docs/runbook.md"}
LATER = "v9999.1.0"


@pytest.fixture(scope="module")
def later(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with one more release, in which three files are elsewhere and changed, and one file is gone."""
    clone = tmp_path_factory.mktemp("later") / "template"
    git("clone", "--quiet", template.repository, clone, cwd=template.repository)
    for old, new in MOVED.items():
        (clone / "template" / new).parent.mkdir(exist_ok=True)
        git("mv", f"template/{old}", f"template/{new}", cwd=clone)
        path = clone / "template" / new
        path.write_text("# moved\n" + path.read_text("utf-8"), "utf-8")
    commit(clone, "Move")
    git("tag", "--annotate", LATER, "--message", LATER, cwd=clone)
    return clone


@pytest.fixture(scope="module")
def original(later: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the release before, with an edit at the end of four files of the template, and two deleted ones."""
    project = tmp_path_factory.mktemp("original") / "project"
    run(tool("copier"), "copy", "--quiet", "--defaults", "--vcs-ref", NEXT_RELEASE, later, project, cwd=later)
    git("init", "--quiet", cwd=project)
    commit(project, "Start")
    for name in MOVED:
        append(project / name)
    append(project / ".dockerignore")
    shutil.rmtree(project / "deploy/nginx")
    (project / "src/weather_server/tools/countdown.py").unlink()
    with (project / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mine]\n")
    commit(project, "Edit")
    return project


@pytest.fixture
def edited(original: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    return shutil.copytree(original, tmp_path / "project")


def append(path: Path) -> None:
    """Add a line."""
    path.write_text(path.read_text("utf-8") + "# mine\n", "utf-8")


def make(project: Path, *arguments: str) -> tuple[int, str]:
    """Run a command of the project; return its exit code and what it said."""
    done = run("make", *arguments, cwd=project, check=False)
    return done.returncode, done.stdout


def version(project: Path) -> str:
    """Return the template's version that the project is on."""
    return yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["_commit"]


def test_an_edit_that_would_be_lost_stops_the_update(edited: Path) -> None:
    """The files are named, nothing is changed, and both ways on are named."""
    code, said = make(edited, "update")

    assert code != 0
    named = {line.strip() for line in said.splitlines() if line.startswith("  ")}
    assert set(MOVED) == named
    assert "make update EDITS=carry" in said
    assert "make update EDITS=lose" in said
    assert git("status", "--porcelain", cwd=edited) == ""
    assert version(edited) == NEXT_RELEASE


def test_edits_are_carried_over(edited: Path) -> None:
    """Every edit is in the file's new place, beside what the release has changed; what was deleted stays deleted."""
    code, said = make(edited, "update", "EDITS=carry")

    assert code == 0, said
    assert version(edited) == LATER
    for old, new in {**MOVED, ".dockerignore": ".dockerignore"}.items():
        text = (edited / new).read_text("utf-8")
        assert text.endswith("# mine\n"), new
        assert new == old or not (edited / old).exists()
        assert new == old or text.startswith("# moved\n")
    assert not (edited / "deploy/nginx").exists()
    assert not (edited / "src/weather_server/tools/countdown.py").exists()
    assert "[tool.mine]" in (edited / "pyproject.toml").read_text("utf-8")
    assert git("status", "--porcelain", cwd=edited) == ""


def test_edits_can_be_given_up(edited: Path) -> None:
    """Who says so gets the plain update."""
    code, said = make(edited, "update", "EDITS=lose")

    assert code == 0, said
    assert not (edited / "ruff.toml").exists()
    assert "# mine" not in (edited / "lint/ruff.toml").read_text("utf-8")
    assert (edited / ".dockerignore").read_text("utf-8").endswith("# mine\n")


def test_what_is_not_committed_is_not_carried(edited: Path) -> None:
    """Nothing begins before everything is committed."""
    (edited / "half.md").write_text("half\n", "utf-8")

    code, said = make(edited, "update", "EDITS=carry")

    assert code != 0
    assert "Commit everything first" in said
    assert (edited / "half.md").read_text("utf-8") == "half\n"


def test_an_edit_in_a_file_that_stays_is_merged_as_ever(edited: Path) -> None:
    """Without an edit in a moved file the update runs at once."""
    git("checkout", "--quiet", "HEAD~1", "--", *MOVED, cwd=edited)
    commit(edited, "Take the edits back")

    code, said = make(edited, "update")

    assert code == 0, said
    assert version(edited) == LATER
    assert (edited / ".dockerignore").read_text("utf-8").endswith("# mine\n")


def test_the_version_to_go_to_decides(edited: Path) -> None:
    """With a version that moves nothing there is nothing to lose."""
    code, said = make(edited, "update", f"VERSION={NEXT_RELEASE}")

    assert code == 0, said
    assert version(edited) == NEXT_RELEASE
