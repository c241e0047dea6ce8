"""What goes wrong for people, and the way out that docs/updating.md names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from support.author import commit, contents, edit_metadata, update
from support.harness import DEFAULT, NEXT_RELEASE, ROOT, git, run, tool
from support.releases import TAGS

if TYPE_CHECKING:
    from support.harness import Template
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


def documented(command: str, project: Path, **names: str) -> None:
    """Run a command of docs/updating.md, with names of this project in place of those of the page."""
    assert command in DOCUMENTED
    for ours, here in names.items():
        command = command.replace(ours, here)
    run("bash", "-ec", command, cwd=project)


def recorded(project: Path) -> dict[str, object]:
    """Return the answers file."""
    return yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))


@pytest.mark.parametrize("name", ["README.md", "half-a-thought.md"], ids=["edited", "untracked"])
def test_uncommitted_work_is_safe(project: Project, name: str) -> None:
    """An update waits until everything is committed, new files included."""
    dirty = project(LAST)
    (dirty / name).write_text("# half a sentence\n", "utf-8")

    assert "is dirty" in refused(dirty)
    assert (dirty / name).read_text("utf-8") == "# half a sentence\n"
    assert "the repository is dirty" in DOCUMENTED
    assert "untracked files count" in DOCUMENTED


@pytest.mark.slow
def test_a_folder_without_git_is_refused(project: Project) -> None:
    """Without history there is no way back, so there is no way forward; the documented command begins one."""
    plain = project(LAST)
    shutil.rmtree(plain / ".git")

    assert "Updating is only supported in git-tracked subprojects" in refused(plain)
    documented("git init -b main && git add -A && git commit -m Start", plain)
    update(plain)
    assert recorded(plain)["_commit"] == NEXT_RELEASE


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_a_lost_answers_file_comes_back_from_git(template: Template, tmp_path: Path, *, committed: bool) -> None:
    """Without it nobody knows what to update from; `make` says so, and names the documented way back."""
    lost = template.project(DEFAULT, tmp_path / "lost")
    (lost / ".copier-answers.yml").unlink()
    if committed:
        commit(lost, "Lose it")

    assert "Template not found" in refused(lost)
    said = run("make", "update", cwd=lost, check=False)
    restore = 'git checkout "$(git log -1 --format=%H --diff-filter=AM -- .copier-answers.yml)" -- .copier-answers.yml'
    assert said.returncode != 0
    assert said.stdout.startswith("There is no .copier-answers.yml, so no template either")
    assert restore in said.stdout
    documented(restore, lost)

    assert recorded(lost)["_commit"] == NEXT_RELEASE


def test_leaving_is_for_good(template: Template, tmp_path: Path) -> None:
    """After the documented commands nothing of the project needs the template, and the two commands for it say so."""
    left = template.project(DEFAULT, tmp_path / "left")

    leave = "git rm .copier-answers.yml .github/workflows/template-update.yml"
    documented(leave, left)
    documented('git commit -m "Leave the template"', left)

    # Each of these says what is so without the file, or looks no further.
    naming = {"Makefile", "scripts/drift.sh", "scripts/unedited.py", "tests/hardening/project/test_answers.py"}
    assert set(git("grep", "--files-with-matches", "copier-answers", cwd=left).split()) == naming
    for command in ("update", "drift"):
        said = run("make", command, cwd=left, check=False)
        assert said.returncode != 0
        assert said.stdout.startswith("There is no .copier-answers.yml, so no template either")


@pytest.mark.slow
def test_a_version_can_be_pinned_and_an_update_taken_back(project: Project) -> None:
    """The documented option goes to that version and no further; Copier refuses to go back, and git does not."""
    pinned = project(TAGS[0])
    documented("copier update --context-lines 100000 --skip-answered --vcs-ref v1.0.1", pinned)
    commit(pinned, "Update")

    assert recorded(pinned)["_commit"] == "v1.0.1"
    assert "Downgrades are not supported" in refused(pinned, "--vcs-ref", TAGS[0])
    git("revert", "--no-edit", "HEAD", cwd=pinned)
    assert git("diff", "HEAD~2", cwd=pinned) == ""


@pytest.mark.slow
def test_an_answer_is_changed_by_the_command(project: Project) -> None:
    """Edited by hand, an answer never reaches the files; given to the command, it does."""
    by_hand, by_command = project(LAST), project(LAST)
    answers = by_hand / ".copier-answers.yml"
    answers.write_text(answers.read_text("utf-8").replace("license: MIT", "license: Proprietary"), "utf-8")
    commit(by_hand, "Edit the answers")

    update(by_hand, copier.VcsRef.CURRENT)
    documented(
        "copier update --context-lines 100000 --skip-answered --vcs-ref=:current: --data license=Proprietary",
        by_command,
    )

    assert 'license = "MIT"' in (by_hand / "pyproject.toml").read_text("utf-8")
    assert 'license = "LicenseRef-Proprietary"' in (by_command / "pyproject.toml").read_text("utf-8")
    assert recorded(by_hand)["license"] == recorded(by_command)["license"] == "Proprietary"


@pytest.mark.slow
def test_a_package_can_be_renamed(template: Template, project: Project) -> None:
    """Files of ours move with the answer, yours by the documented command; one conflict is left, as the page says."""
    renamed = project(LAST, author=True)
    before = contents(renamed, "yours")

    update(renamed, data={"package_name": "climate"})
    move = "cp -r src/old_name/. src/new_name/ && rm -r src/old_name"
    documented(move, renamed, old_name="weather_server", new_name="climate")

    fresh = template.render({"package_name": "climate"})
    expected = edit_metadata((fresh / "pyproject.toml").read_text("utf-8"))
    merged = (renamed / "pyproject.toml").read_text("utf-8")
    ours = re.search(
        r"^<<<<<<< [^\n]*\n(?P<yours>.*\n)=======\n(?P<ours>.*\n)>>>>>>> [^\n]*\n", merged, re.DOTALL | re.MULTILINE
    )
    assert ours
    assert ours["ours"].startswith('name = "climate"\n')
    kept = ours["yours"].replace('name = "weather-server"', 'name = "climate"')
    assert merged.replace(ours[0], kept) == expected
    assert set(git("diff", "--name-only", "--diff-filter=U", cwd=renamed).split()) == {"pyproject.toml"}
    assert contents(renamed, "ours") == contents(fresh, "ours")
    assert contents(renamed, "yours") == {
        name.replace("src/weather_server/", "src/climate/"): text for name, text in before.items()
    }


@pytest.mark.slow
def test_a_template_that_was_named_by_a_relative_path(repository: Path, tmp_path: Path) -> None:
    """It is found from one place only; with the absolute path, which is one line, it is found from everywhere."""
    relative = Path(os.path.relpath(repository, tmp_path))
    run(tool("copier"), "copy", "--defaults", "--quiet", "--vcs-ref", LAST, relative, "project", cwd=tmp_path)
    made = tmp_path / "project"
    git("init", "--quiet", cwd=made)
    commit(made, "Start")

    assert "Local template must be a directory" in refused(made)
    assert "Local template must be a directory" in DOCUMENTED
    answers = made / ".copier-answers.yml"
    answers.write_text(answers.read_text("utf-8").replace(str(relative), str(repository)), "utf-8")
    newer = run(tool("copier"), "check-update", "--quiet", cwd=made, check=False)

    assert newer.returncode == 2, newer.stdout


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
    documented("git reset --hard && git clean --force -d", edited)
    assert git("status", "--porcelain", cwd=edited) == ""
    assert recorded(edited)["_commit"] == "v1.0.0"


@pytest.mark.slow
def test_a_deleted_file_comes_back_by_command(project: Project) -> None:
    """An update leaves it away; the documented command brings that file and nothing else."""
    name = "src/weather_server/hardening/__init__.py"
    poorer = project(LAST)
    (poorer / name).unlink()
    (poorer / "ruff.toml").write_text("# mine\n", "utf-8")
    commit(poorer, "Delete a file of the template, edit another")

    restore = "copier recopy --defaults --overwrite --vcs-ref=:current: --exclude '*' --exclude '!/path/to/file'"
    documented(restore, poorer, **{"path/to/file": name})

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
