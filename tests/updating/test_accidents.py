"""What goes wrong for people, and the way out that docs/updating.md names."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from harness import NEXT_RELEASE, ROOT, git, run, tool
from updating.author import commit, contents, update
from updating.releases import TAGS

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Template
    from updating.conftest import Project

LAST = TAGS[-1]
COMMAND = ("update", "--quiet", "--defaults", "--skip-answered", "--context-lines", "100000")
DOCUMENTED = (ROOT / "docs/updating.md").read_text("utf-8")


def refused(project: Path, *options: str) -> str:
    """Run the update; return what was said when it changed nothing."""
    before = contents(project, "yours", "ours", "shared", "Copier's")
    done = run(tool("copier"), *COMMAND, *options, cwd=project, check=False)
    assert done.returncode != 0
    assert contents(project, "yours", "ours", "shared", "Copier's") == before
    return done.stdout


def recorded(project: Path) -> dict[str, object]:
    """Return the answers file."""
    return yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))


def test_uncommitted_work_is_safe(project: Project) -> None:
    """An update waits until everything is committed."""
    dirty = project(LAST)
    (dirty / "README.md").write_text("# half a sentence\n", "utf-8")

    assert "is dirty" in refused(dirty)
    assert (dirty / "README.md").read_text("utf-8") == "# half a sentence\n"


def test_a_folder_without_git_is_refused(project: Project) -> None:
    """Without history there is no way back, so there is no way forward."""
    plain = project(LAST)
    shutil.rmtree(plain / ".git")

    assert "git" in refused(plain)


def test_a_lost_answers_file_comes_back_from_git(project: Project) -> None:
    """Without it nobody knows what to update from; the documented command brings it back."""
    lost = project(LAST)
    (lost / ".copier-answers.yml").unlink()
    commit(lost, "Lose it")

    refused(lost)
    restore = 'git checkout "$(git rev-list -n 1 HEAD -- .copier-answers.yml)^" -- .copier-answers.yml'
    assert restore in DOCUMENTED
    run("bash", "-c", restore, cwd=lost)

    assert recorded(lost)["_commit"] == LAST


def test_there_is_no_way_back(project: Project) -> None:
    """Copier refuses a downgrade; git reverts an update."""
    newer = project(LAST)

    assert "Downgrades are not supported" in refused(newer, "--vcs-ref", TAGS[0])


@pytest.mark.slow
def test_an_answer_is_changed_by_the_command(project: Project) -> None:
    """Edited by hand, an answer never reaches the files; given to the command, it does."""
    by_hand, by_command = project(LAST), project(LAST)
    answers = by_hand / ".copier-answers.yml"
    answers.write_text(answers.read_text("utf-8").replace("license: MIT", "license: Proprietary"), "utf-8")
    commit(by_hand, "Edit the answers")

    update(by_hand, copier.VcsRef.CURRENT)
    update(by_command, copier.VcsRef.CURRENT, {"license": "Proprietary"})

    assert 'license = "MIT"' in (by_hand / "pyproject.toml").read_text("utf-8")
    assert 'license = "LicenseRef-Proprietary"' in (by_command / "pyproject.toml").read_text("utf-8")
    assert recorded(by_hand)["license"] == recorded(by_command)["license"] == "Proprietary"


@pytest.mark.slow
def test_a_package_can_be_renamed(template: Template, project: Project) -> None:
    """Files of ours move with the answer; yours are moved by the documented command, and everything is in place."""
    renamed = project(LAST)

    update(renamed, data={"package_name": "climate"})
    run("bash", "-c", "cp -r src/weather_server/. src/climate/ && rm -r src/weather_server", cwd=renamed)

    fresh = template.render({"package_name": "climate"})
    assert "cp -r src/old_name/. src/new_name/ && rm -r src/old_name" in DOCUMENTED
    assert contents(renamed, "ours", "shared") == contents(fresh, "ours", "shared")
    assert contents(renamed, "yours").keys() <= contents(fresh, "yours").keys()


@pytest.mark.slow
def test_a_template_can_move(project: Project, repository: Path, tmp_path: Path) -> None:
    """The address is the one line of the answers file that is edited by hand."""
    moved = project(LAST)
    git("clone", "--quiet", "--bare", repository, tmp_path / "elsewhere.git", cwd=tmp_path)
    answers = moved / ".copier-answers.yml"
    old = str(recorded(moved)["_src_path"])
    answers.write_text(answers.read_text("utf-8").replace(old, f"file://{tmp_path}/elsewhere.git"), "utf-8")
    commit(moved, "The template moved")

    update(moved)

    assert recorded(moved)["_commit"] == NEXT_RELEASE
    assert recorded(moved)["_src_path"] == f"file://{tmp_path}/elsewhere.git"


@pytest.mark.slow
def test_a_conflict_is_told_and_can_be_undone(project: Project) -> None:
    """Both sides stand in the file, git and the build know of it, and one command takes everything back."""
    name = "src/weather_server/hardening/envelope.py"
    edited = project("v1.0.0")
    text = (edited / name).read_text("utf-8")
    line = next(line for line in text.splitlines() if "key: value for key, value in exchange.params" in line)
    (edited / name).write_text(text.replace(line, f"{line}  # mine"), "utf-8")
    commit(edited, "Edit the line that a fix changes")

    update(edited, "v1.0.1")

    assert "<<<<<<< before updating" in (edited / name).read_text("utf-8")
    assert name in git("ls-files", "--unmerged", cwd=edited)
    assert run("git", "diff", "--check", cwd=edited, check=False).returncode != 0
    undo = "git reset --hard && git clean --force -d"
    assert undo in DOCUMENTED
    run("bash", "-c", undo, cwd=edited)
    assert git("status", "--porcelain", cwd=edited) == ""
    assert recorded(edited)["_commit"] == "v1.0.0"


@pytest.mark.slow
def test_a_deleted_file_comes_back_by_command(project: Project) -> None:
    """An update leaves it away; the documented command brings that file and nothing else."""
    name = "src/weather_server/hardening/envelope.py"
    poorer = project(LAST)
    (poorer / name).unlink()
    (poorer / "ruff.toml").write_text("# mine\n", "utf-8")
    commit(poorer, "Delete a file of the template, edit another")

    restore = "copier recopy --defaults --overwrite --vcs-ref=:current: --exclude '*' --exclude '!/path/to/file'"
    assert restore in DOCUMENTED
    run("bash", "-c", restore.replace("path/to/file", name), cwd=poorer)

    assert git("status", "--porcelain", "--untracked-files=all", cwd=poorer) == f"?? {name}\n"


@pytest.mark.slow
def test_a_repository_that_exists_can_adopt_the_template(repository: Path, tmp_path: Path) -> None:
    """An author's files of the same name are kept; every file that is replaced shows in the difference."""
    there = tmp_path / "there"
    there.mkdir()
    for name, text in {"README.md": "# Ours\n", "Makefile": "all:\n", "src/there/tools/mine.py": "X = 1\n"}.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(text, "utf-8")
    git("init", "--quiet", cwd=there)
    commit(there, "Before the template")

    options = ("--defaults", "--overwrite", "--quiet", "--data", "package_name=there")
    run(tool("copier"), "copy", *options, repository, ".", cwd=there)

    assert (there / "README.md").read_text("utf-8") == "# Ours\n"
    assert (there / "src/there/tools/mine.py").read_text("utf-8") == "X = 1\n"
    assert git("diff", "--name-only", cwd=there) == "Makefile\n"
    assert recorded(there)["_commit"] == NEXT_RELEASE


@pytest.mark.parametrize("command", ["make update", "make drift", "copier update --context-lines 100000"])
def test_the_commands_are_documented(command: str) -> None:
    """The page names the commands that these tests run."""
    assert command in DOCUMENTED
