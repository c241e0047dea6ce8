"""What a changed answer cannot bring is said by a test in the project, with the command that brings it."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING

import copier
import pytest
from support.author import commit, update
from support.harness import NEXT_RELEASE, git, run
from support.installed import pretend

if TYPE_CHECKING:
    from pathlib import Path

    from updating.conftest import Project

pytestmark = pytest.mark.slow

SETTING = re.compile(r"    # The notes tool needs.*?\n    \)\n", re.DOTALL)


def told(project: Path, scratch: Path, *tests: str) -> str:
    """Run the project's tests of its answers; return what they say when they fail, and nothing when they pass."""
    environment = pretend(project, scratch)
    named = [f"tests/hardening/project/{test}.py" for test in tests or ("test_answers",)]
    done = run(sys.executable, "-m", "pytest", "-q", "--tb=short", *named, cwd=project, env=environment, check=False)
    shutil.rmtree(scratch, ignore_errors=True)
    return "" if done.returncode == 0 else done.stdout


def change(project: Path, **answers: object) -> None:
    """Change answers as the page says, and commit."""
    update(project, copier.VcsRef.CURRENT, data=answers)
    commit(project, "Change an answer")


def follow(project: Path, said: str) -> list[str]:
    """Run every command that a failure names; return them."""
    commands = sorted(set(re.findall(r"To bring \S+(?: \S+)?: (.+?)(?:\. If you|$)", said, re.MULTILINE)))
    for command in commands:
        run("bash", "-ec", command, cwd=project)
    return commands


def test_targets_that_were_added(project: Project, tmp_path: Path) -> None:
    """Workflows and manifests come, platform files and overlays do not: each is named, and the commands bring them."""
    made = project(NEXT_RELEASE, "shortest")
    assert told(made, tmp_path / "scratch") == ""
    change(made, deploy_targets=["compose", "fly", "helm", "kubernetes", "railway"])

    said = told(made, tmp_path / "scratch")
    commands = follow(made, said)

    assert commands == [
        "make restore FILE='deploy/helm/values.production.yaml'",
        "make restore FILE='deploy/kubernetes/overlays/**'",
        "make restore FILE='fly.toml'",
        "make restore FILE='railway.json'",
    ]
    assert told(made, tmp_path / "scratch", "test_answers", "test_grace_chain", "test_deployment") == ""
    assert (made / "deploy/kubernetes/overlays/production/settings.env").is_file()


def test_a_database_that_was_taken_away(project: Project, tmp_path: Path) -> None:
    """The setting that still requires one is named, and the server starts without it."""
    made = project(NEXT_RELEASE)
    change(made, database="none")

    said = told(made, tmp_path / "scratch")
    settings = made / "src/weather_server/settings.py"
    text = SETTING.sub("", settings.read_text("utf-8")) + '\n    """Nothing of our own."""\n'
    settings.write_text(text, "utf-8")

    assert "take out the field database_url: the answer `database` is none" in said
    assert told(made, tmp_path / "scratch") == ""


def test_a_license_that_was_changed(project: Project, tmp_path: Path) -> None:
    """The text of the old one is yours and stays; the command brings the new one."""
    made = project(NEXT_RELEASE)
    change(made, license="Apache-2.0")

    said = told(made, tmp_path / "scratch")
    commands = follow(made, said)

    assert commands == ["git rm LICENSE && make restore FILE=LICENSE"]
    assert "Apache License" in (made / "LICENSE").read_text("utf-8")
    assert told(made, tmp_path / "scratch") == ""


def test_a_package_that_was_renamed(project: Project, tmp_path: Path) -> None:
    """Files of ours move, yours stay: the test says where they are and how they get there."""
    made = project(NEXT_RELEASE)
    change(made, package_name="climate")

    said = told(made, tmp_path / "scratch")

    assert "src/climate/server.py is missing. To bring it: cp -r " in said
    follow(made, next(line for line in said.splitlines() if "server.py is missing" in line))
    assert told(made, tmp_path / "scratch") == ""


DELETED = {
    "GitHub is not used, and another proxy": [".github", "deploy/caddy", "deploy/nginx"],
    "nothing is deployed": ["deploy", "fly.toml", "railway.json", "compose.yaml", ".github/workflows/deploy-fly.yml"],
    "no container, no registry, no bot, no pages": [
        "Dockerfile",
        ".dockerignore",
        "compose.yaml",
        "server.json",
        "renovate.json",
        "docs",
        ".env.example",
        ".pre-commit-config.yaml",
    ],
}


@pytest.mark.parametrize("why", DELETED)
def test_what_was_deleted_on_purpose_is_not_missed(project: Project, tmp_path: Path, why: str) -> None:
    """No test and no command of the project asks for it, and an update does not bring it back."""
    made = project(NEXT_RELEASE)
    also = [".github/workflows/deploy-railway.yml"] if "railway.json" in DELETED[why] else []
    git("rm", "--quiet", "-r", *DELETED[why], *also, cwd=made)
    commit(made, "Delete")

    tests = ("test_answers", "test_deployment", "test_grace_chain", "test_project")
    assert told(made, tmp_path / "scratch", *tests) == ""
    environment = pretend(made, tmp_path / "scratch")
    run("make", "RUN=", "settings", "schema", "workflows", cwd=made, env=environment)
    commit(made, "Write again what is generated")
    update(made, copier.VcsRef.CURRENT)
    assert [name for name in DELETED[why] if (made / name).exists() and name != ".env.example"] == []


def test_restore_says_what_it_cannot_bring(project: Project) -> None:
    """A name that the template does not have, and a file that is there, are refused with a sentence."""
    made = project(NEXT_RELEASE, "shortest")

    absent = run("make", "restore", "FILE=fly.toml", cwd=made, check=False)
    there = run("make", "restore", "FILE=Makefile", cwd=made, check=False)
    nothing = run("make", "restore", cwd=made, check=False)

    assert "The template has no fly.toml for the answers of this project" in absent.stdout
    assert "Makefile is here already" in there.stdout
    assert "Name what to bring: make restore FILE=fly.toml" in nothing.stdout
    assert all(done.returncode != 0 for done in (absent, there, nothing))
    assert git("status", "--porcelain", cwd=made) == ""
