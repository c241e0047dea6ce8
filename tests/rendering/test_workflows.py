"""Workflows, here and in a project, pass the strictest tools there are for them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.harness import DEFAULT, ROOT, run, tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("template/.github/workflows/*.yml")])


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _load(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # noqa: S506 - `on` stays a word


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_workflows_are_valid(path: Path) -> None:
    """A workflow follows its schema."""
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path, cwd=ROOT)


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_workflows_are_secure(path: Path) -> None:
    """The strictest audit finds nothing: no injection, no wide permission, no credential that stays."""
    run(tool("zizmor"), "--offline", "--persona", "auditor", path, cwd=ROOT)


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_shell_is_sound(path: Path, tmp_path: Path) -> None:
    """Every step's script passes the linter of shell scripts, and no expression is pasted into one."""
    for job in _load(path)["jobs"].values():
        for number, step in enumerate(job["steps"]):
            if "run" in step:
                script = tmp_path / f"{number}.sh"
                script.write_text(step["run"], "utf-8")
                run(tool("shellcheck"), "--shell", "bash", script, cwd=tmp_path)
                assert "${{" not in step["run"]


def test_the_entry_point_is_sound() -> None:
    """What continuous integration calls passes the linter of shell scripts."""
    run(tool("shellcheck"), ".ci/run", cwd=ROOT)


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """Every action is a commit, with its version in a comment."""
    used = re.findall(r"uses: *(.+)", path.read_text("utf-8"))

    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_jobs_have_deadlines_and_names(path: Path) -> None:
    """No job runs for ever, and step names differ, so that an update patches the right one."""
    for job in _load(path)["jobs"].values():
        assert int(job["timeout-minutes"]) <= 90
        names = [step["name"] for step in job["steps"]]
        assert len(set(names)) == len(names)


def _step(project: Path, name: str) -> str:
    """Return what one step of a project's build runs."""
    steps = _load(project / ".github/workflows/ci.yml")["jobs"]["test"]["steps"]
    (found,) = (step["run"] for step in steps if step["name"] == name)
    return found


def test_leftover_conflicts_fail_the_build(template: Template, tmp_path: Path) -> None:
    """The first step of a project's workflow finds the markers that an update leaves, and only those."""
    project = template.project(DEFAULT, tmp_path / "project")
    look = _step(project, "Look for conflicts that an update left")

    run("bash", "-e", "-c", look, cwd=project)
    readme = project / "README.md"
    readme.write_text(readme.read_text("utf-8") + "<<<<<<< before updating\n", "utf-8")
    found = run("bash", "-e", "-c", look, cwd=project, check=False)

    assert found.returncode == 1
    assert "README.md" in found.stdout
    shutil.rmtree(project / ".git")
    blind = run("bash", "-e", "-c", look, cwd=project, check=False)
    assert blind.returncode == 1
    assert "::error::git cannot look for conflicts here" in blind.stdout


@pytest.mark.slow
def test_a_lock_that_does_not_fit_fails_the_build(template: Template, tmp_path: Path) -> None:
    """An update that nobody has looked at, as bots bring it, leaves the lock behind: the build says what to do."""
    project = template.project(DEFAULT, tmp_path / "project")
    insist = _step(project, "Insist on the lock file")

    missing = run("bash", "-e", "-c", insist, cwd=project, check=False)
    run("uv", "lock", "--quiet", cwd=project)
    run("bash", "-e", "-c", insist, cwd=project)
    metadata = project / "pyproject.toml"
    metadata.write_text(metadata.read_text("utf-8").replace('"asyncpg>=0.32,<1"', '"asyncpg>=0.32,<0.99"'), "utf-8")
    stale = run("bash", "-e", "-c", insist, cwd=project, check=False)

    for failed in (missing, stale):
        assert failed.returncode == 1
        assert "uv.lock is missing or does not fit pyproject.toml: run make setup, and commit uv.lock" in failed.stdout
