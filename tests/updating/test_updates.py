"""From every release, a project gets to the working tree: no conflict, and no byte of its author lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from dev_server import KEY, PROBE_KEY, free_port
from harness import NEXT_RELEASE, ROOT, git, run, tool
from rows import ROWS
from updating.author import ENVIRONMENT, commit, contents, edit_metadata, update
from updating.releases import TAGS

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Template
    from updating.conftest import Project

pytestmark = pytest.mark.slow

ROW_NAMES = ["default", "shortest", "awkward"]
OLDEST_COPIER = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))["_min_copier_version"]
TEMPLATES = ("ours", "shared", "Copier's")


def no_conflict(project: Path) -> None:
    """Both of these print nothing, as the closing message says."""
    assert git("ls-files", "--unmerged", cwd=project) == ""
    assert git("diff", "--check", cwd=project) == ""


def boots(project: Path, scratch: Path) -> None:
    """The server starts and serves both eras, as its own probe sees it."""
    (hardening,) = project.glob("src/*/hardening")
    package = hardening.parent.name
    # What an installation would leave, without the installation.
    installed = scratch / f"{package}-2.4.1.dist-info"
    installed.mkdir()
    about = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 2.4.1\nSummary: Forecasts.\n"
    (installed / "METADATA").write_text(about, "utf-8")
    port = str(free_port())
    environment = {
        **os.environ,
        "PYTHONPATH": f"{project / 'src'}{os.pathsep}{scratch}",
        "MCP_AUTH": "api_key",
        "MCP_API_KEYS": f"test:{KEY}",
        "MCP_PROBE_KEY": PROBE_KEY,
        "PORT": port,
    }
    command = (sys.executable, "-m", package)
    with subprocess.Popen([*command, "serve"], cwd=scratch, env=environment, stderr=subprocess.PIPE) as server:
        try:
            probe = (*command, "probe", f"http://127.0.0.1:{port}/mcp", "--wait", "60")
            run(*probe, cwd=scratch, env=environment)
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0


@pytest.mark.parametrize("row", ROW_NAMES)
@pytest.mark.parametrize("release", TAGS)
def test_an_author_keeps_everything_and_gets_everything(
    template: Template, project: Project, tmp_path: Path, release: str, row: str
) -> None:
    """No conflict; an author's files stay as they are, deleted ones away; files of ours are those of a new project."""
    worked = project(release, row, author=True)
    before = contents(worked, "yours")
    assert before[".env"] == ENVIRONMENT.encode()

    update(worked)

    fresh = template.render(ROWS[row])
    no_conflict(worked)
    assert contents(worked, "yours") == before
    assert contents(worked, "ours") == contents(fresh, "ours")
    metadata = (fresh / "pyproject.toml").read_text("utf-8")
    assert (worked / "pyproject.toml").read_text("utf-8") == edit_metadata(metadata)
    assert (worked / ".copier-answers.yml").read_bytes() == (fresh / ".copier-answers.yml").read_bytes()
    run(tool("ruff"), "check", "--no-cache", cwd=worked)
    run(tool("ruff"), "format", "--check", "--no-cache", cwd=worked)
    run(sys.executable, "-m", "compileall", "-q", "src", "tests", cwd=worked)
    if release == TAGS[0] or row == "default":
        (tmp_path / "scratch").mkdir()
        boots(worked, tmp_path / "scratch")


@pytest.mark.parametrize("row", ROW_NAMES)
def test_an_untouched_project_becomes_a_new_one(template: Template, project: Project, row: str) -> None:
    """What is not the author's is what `copier copy` gives today; what is the author's did not move."""
    untouched = project(TAGS[0], row)
    before = contents(untouched, "yours")

    update(untouched)

    assert contents(untouched, *TEMPLATES) == contents(template.render(ROWS[row]), *TEMPLATES)
    assert contents(untouched, "yours") == before


def test_step_by_step_is_one_step(project: Project) -> None:
    """Somebody who takes every release has the tree of somebody who skipped them."""
    often, once = project(TAGS[0], author=True), project(TAGS[0], author=True)

    for release in [*TAGS[1:], NEXT_RELEASE]:
        update(often, release)
        no_conflict(often)
        commit(often, f"Update to {release}")
    update(once)
    commit(once, "Update")

    assert git("ls-tree", "-r", "HEAD", cwd=often) == git("ls-tree", "-r", "HEAD", cwd=once)


@pytest.mark.parametrize("context", ["our command", "Copier's default"])
def test_a_fix_reaches_a_file_that_was_edited(project: Project, context: str) -> None:
    """An author who had to change a file of ours gets the fix in it all the same."""
    name = "src/weather_server/hardening/envelope.py"
    edited = project("v1.0.0")
    (edited / name).write_text((edited / name).read_text("utf-8") + "# mine\n", "utf-8")
    commit(edited, "Edit a file of the template")

    update(edited, "v1.0.1", context_lines=100_000 if context == "our command" else 3)

    fixed = (project("v1.0.1") / name).read_text("utf-8")
    assert "key: value for key, value in exchange.params" not in fixed
    assert (edited / name).read_text("utf-8") == fixed + "# mine\n"
    no_conflict(edited)


def test_the_oldest_copier_updates_as_the_newest(template: Template, project: Project) -> None:
    """The command of `make update`, with the oldest version that is allowed, gives the tree of the newest."""
    worked = project(TAGS[0], author=True)
    before = contents(worked, "yours")
    command = ("uvx", "--quiet", "--from", f"copier=={OLDEST_COPIER}", "copier", "update", "--quiet")

    run(*command, "--defaults", "--skip-answered", "--context-lines", "100000", cwd=worked)

    no_conflict(worked)
    assert contents(worked, "yours") == before
    assert contents(worked, "ours") == contents(template.render(ROWS["default"]), "ours")


def test_what_an_author_builds_on_passes(project: Project) -> None:
    """After the steps of docs/updating.md: lint, types and contract, and every test that looks at an author's files.

    The other tests look at files of ours alone; those are the bytes of a new project, where all tests run.
    """
    worked = project(TAGS[0], author=True)
    (worked / "uv.lock").unlink()
    commit(worked, "The lock is written again")
    update(worked)

    run("make", "setup", "settings", "schema", cwd=worked)
    run("make", "check", cwd=worked)
    theirs = sorted((worked / "tests/hardening").glob("*.py"))
    looking = [
        path for path in theirs if re.search(r"alias\.(ROOT|PACKAGE)|^ROOT", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert worked / "tests/hardening/test_project.py" in looking
    run("uv", "run", "pytest", "--quiet", "tests/tools", *looking, cwd=worked)
