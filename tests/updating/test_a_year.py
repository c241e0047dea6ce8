"""A year of updates: an author works on, release after release; nothing conflicts, nothing is lost."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from support.author import commit, contents, update, work
from support.harness import NEXT_RELEASE, git, run
from support.installed import pretend
from support.releases import TAGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from updating.conftest import Project

pytestmark = pytest.mark.slow


def first_weeks(project: Path) -> None:
    """Tools, settings, dependencies, workflows, lint rules and commands of one's own."""
    work(project)


def adds_dependencies(project: Path) -> None:
    """`uv add` writes below the lines, for the server and for development."""
    run("uv", "add", "--frozen", "--quiet", "tenacity>=9", cwd=project)
    run("uv", "add", "--frozen", "--quiet", "--dev", "freezegun>=1.5", cwd=project)
    commit(project, "Add dependencies")


def leaves_a_target(project: Path) -> None:
    """Railway is given up: the answer is changed, and the file that is one's own deleted."""
    update(project, copier.VcsRef.CURRENT, data={"deploy_targets": ["kubernetes", "fly", "compose"]})
    git("rm", "--quiet", "--ignore-unmatch", "railway.json", cwd=project)
    commit(project, "Leave Railway")


def changes_the_license(project: Path) -> None:
    """The metadata follows the answer; the text is one's own."""
    update(project, copier.VcsRef.CURRENT, data={"license": "Apache-2.0"})
    commit(project, "Change the license")


def a_bot_raises_the_lock(project: Path) -> None:
    """What a bot does with the rules of `renovate.json`: the lock moves, pins of ours do not."""
    with (project / "uv.lock").open("a", encoding="utf-8") as file:
        file.write("# raised\n")
    commit(project, "Update the lock")


def deletes_what_is_not_used(project: Path) -> None:
    """Neither nginx nor the board of Grafana is in use."""
    git("rm", "--quiet", "-r", "deploy/nginx", "deploy/grafana", cwd=project)
    commit(project, "Delete what is not used")


def comes_back_to_a_target(project: Path) -> None:
    """Railway again, much later."""
    update(project, copier.VcsRef.CURRENT, data={"deploy_targets": ["kubernetes", "fly", "railway", "compose"]})
    commit(project, "Deploy to Railway again")


def gives_up_the_database(project: Path) -> None:
    """The tools that needed it are gone since the first weeks."""
    update(project, copier.VcsRef.CURRENT, data={"database": "none"})
    commit(project, "Give up the database")


# What is done between the updates, in order; the last update is the one to this tree.
YEAR: dict[str, list[Callable[[Path], None]]] = {
    TAGS[0]: [first_weeks, adds_dependencies, leaves_a_target],
    TAGS[1]: [changes_the_license, a_bot_raises_the_lock],
    TAGS[2]: [deletes_what_is_not_used],
}
AFTER = [comes_back_to_a_target, gives_up_the_database]


def said_by_tests(project: Path, scratch: Path) -> str:
    """Return what the project's tests say of its answers and of its files."""
    tests = ("tests/hardening/project/test_answers.py", "tests/hardening/project/test_deployment.py")
    return run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=line",
        *tests,
        cwd=project,
        env=pretend(project, scratch),
        check=False,
    ).stdout


def test_a_year(project: Project, tmp_path: Path) -> None:
    """From the first release to this tree: no marker, no byte of the author lost, the rest said with a command."""
    lived = project(TAGS[0])
    for release in [*TAGS, NEXT_RELEASE]:
        if release != TAGS[0]:
            before = contents(lived, "yours")
            update(lived, release)
            assert git("ls-files", "--unmerged", cwd=lived) == "", release
            assert git("diff", "--check", cwd=lived) == "", release
            assert contents(lived, "yours") == before, release
            commit(lived, f"Update to {release}")
        for act in YEAR.get(release, AFTER if release == NEXT_RELEASE else []):
            act(lived)
            assert git("diff", "--check", "HEAD~1", "--", ":!schema", cwd=lived) == "", act.__name__

    metadata = (lived / "pyproject.toml").read_text("utf-8")
    for kept in (
        'version = "2.4.1"',
        '"arrow>=1.4,<2"',
        '"tenacity>=9"',
        '"rich>=14"',
        '"freezegun>=1.5"',
        "Apache-2.0",
    ):
        assert kept in metadata
    for own in (".github/workflows/mine.yml", ".ruff.toml", "local.mk", "src/weather_server/tools/forecast.py"):
        assert (lived / own).is_file()
    assert not (lived / "deploy/nginx").exists()
    assert not (lived / "deploy/grafana").exists()
    answers = yaml.safe_load((lived / ".copier-answers.yml").read_text("utf-8"))
    assert (answers["_commit"], answers["database"]) == (NEXT_RELEASE, "none")

    said = said_by_tests(lived, tmp_path / "scratch-1")
    commands = sorted(set(re.findall(r"To bring \S+(?: \S+)?: (.+?)(?:\. If you|$)", said, re.MULTILINE)))
    assert commands == ["git rm LICENSE && make restore FILE=LICENSE", "make restore FILE='railway.json'"], said
    for command in commands:
        run("bash", "-ec", command, cwd=lived)
    said = said_by_tests(lived, tmp_path / "scratch-2")
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said
