"""A project is good before its author has written a line: lint, types, tests and commands pass."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, files, git, run, tool
from support.rows import EVERY_ROW, ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

# The full run of a project's own tests takes longest: both databases, the default and the awkward names.
TESTED = ["default", "awkward"]


def _sources(project: Path) -> str:
    """Return the digest of what a type checker would read; the package may have any name."""
    (package,) = (project / "src").iterdir()
    digest = hashlib.sha256()
    for name in files(project):
        if name.endswith(".py"):
            anonymous = name.replace(f"src/{package.name}/", "src/package/", 1)
            digest.update(anonymous.encode() + b"\0" + (project / name).read_bytes() + b"\0")
    return digest.hexdigest()


@pytest.mark.parametrize("row", EVERY_ROW)
def test_lint_is_clean(template: Template, row: str) -> None:
    """Every rule of the shipped lint holds in the pristine project."""
    run(tool("ruff"), "check", "--no-cache", cwd=template.render(ROWS[row]))


def test_types_are_strict_in_the_default_project(template: Template) -> None:
    """The strictest type checking finds nothing."""
    project = template.render(DEFAULT)
    run(tool("pyright"), "--pythonpath", sys.executable, "--project", project, cwd=project)


@pytest.mark.slow
def test_types_are_strict(template: Template) -> None:
    """Every project has the sources of one in which `make check` runs, strict types included."""
    checked = {_sources(template.render(ROWS[row])) for row in TESTED}

    assert [row for row in ROWS if _sources(template.render(ROWS[row])) not in checked] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("row", TESTED)
def test_commands_pass(template: Template, row: str) -> None:
    """`make setup check test` passes as it stands, what is generated is up to date, and only the lock is new."""
    project = template.prepared(ROWS[row])

    run("make", "schema", "settings", cwd=project)
    run("make", "check", cwd=project)
    run("make", "test", cwd=project, deadline=1200)
    # Types take longest, and were checked a moment ago: once more in one project is enough for the hook.
    run(tool("pre-commit"), "run", "--all-files", cwd=project, env={} if row == "default" else {"SKIP": "types"})

    assert git("status", "--porcelain", cwd=project) == "?? uv.lock\n"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_oldest_versions_in_range_pass(template: Template, tmp_path: Path) -> None:
    """The floor of every range is a version that the hardening's tests pass with."""
    project = template.project(DEFAULT, tmp_path / "project")

    run("uv", "sync", "--quiet", "--resolution", "lowest-direct", cwd=project)
    run("uv", "run", "--no-sync", "pytest", "--quiet", cwd=project, deadline=1200)


def test_commands_are_listed(template: Template) -> None:
    """`make` alone says what there is."""
    said = run("make", cwd=template.render(DEFAULT)).stdout

    for command in ("setup", "check", "test", "dev", "probe", "schema", "settings", "image", "update", "drift"):
        assert f"  make {command} " in said


def test_own_targets_are_read(template: Template, tmp_path: Path) -> None:
    """An author's targets go into local.mk, without an edit in our Makefile."""
    project = template.project(DEFAULT, tmp_path / "project")
    (project / "local.mk").write_text("hello: ## say hello\n\t@echo from $(SERVER)\n", "utf-8")

    assert run("make", "hello", cwd=project).stdout == "from weather_server\n"
    assert "  make hello " in run("make", cwd=project).stdout


def test_own_lint_rules_are_read(template: Template, tmp_path: Path) -> None:
    """An author's rules go into .ruff.toml, without an edit in ours."""
    project = template.project(DEFAULT, tmp_path / "project")
    mine = "src/weather_server/tools/mine.py"
    (project / mine).write_text('"""Mine."""\n\nprint("hello")\n', "utf-8")
    refused = run(tool("ruff"), "check", "--no-cache", mine, cwd=project, check=False)
    (project / ".ruff.toml").write_text('extend = "ruff.toml"\n[lint]\nextend-ignore = ["T201"]\n', "utf-8")

    assert "T201" in refused.stdout
    run(tool("ruff"), "check", "--no-cache", mine, cwd=project)


def test_own_dependencies_go_below_the_line(template: Template, tmp_path: Path) -> None:
    """`uv add` writes below the constant comment, where an update of ours does not reach."""
    project = template.project(DEFAULT, tmp_path / "project")
    run("uv", "add", "--frozen", "--quiet", "arrow>=1.4", cwd=project)
    run("uv", "add", "--frozen", "--quiet", "--dev", "allpairspy>=2.5", cwd=project)

    lines = [line.strip() for line in (project / "pyproject.toml").read_text("utf-8").splitlines()]
    assert lines[lines.index('"arrow>=1.4",') - 1] == "# Your own dependencies go below this line."
    assert lines[lines.index('"allpairspy>=2.5",') - 1] == "# Your own development tools go below this line."


@pytest.mark.slow
def test_drift_shows_edits_in_files_of_ours(template: Template, tmp_path: Path) -> None:
    """`make drift` names each file of ours that was edited here, committed or not, and nothing else."""
    project = template.project(DEFAULT, tmp_path / "project")
    pristine = run("make", "drift", cwd=project).stdout
    for name in ("ruff.toml", "src/weather_server/hardening/app.py", "src/weather_server/server.py"):
        path = project / name
        path.write_text(path.read_text("utf-8") + "# mine\n", "utf-8")

    said = run("make", "drift", cwd=project).stdout

    assert "|" not in pristine
    assert [line.split("|")[0].strip() for line in said.splitlines() if "|" in line] == [
        "ruff.toml",
        "src/weather_server/hardening/app.py",
    ]
    assert git("status", "--porcelain", cwd=project).count(" M ") == 3
