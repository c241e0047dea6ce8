"""From every release, a project gets to the working tree: no conflict, and no byte of its author lost."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from support.author import ENVIRONMENT, commit, contents, edit_metadata, update
from support.dev_server import KEY, PROBE_KEY, free_port
from support.harness import NEXT_RELEASE, ROOT, files, git, run, tool
from support.installed import pretend
from support.releases import TAGS
from support.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.harness import Template
    from updating.conftest import Project

pytestmark = pytest.mark.slow

# Every release with the answers that most projects have; the first and the last one with answers at both limits.
RELEASES_AND_ROWS = [
    *((release, "default") for release in TAGS),
    *((release, row) for release in (TAGS[0], TAGS[-1]) for row in ("shortest", "awkward")),
]
OLDEST_COPIER = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))["_min_copier_version"]
TEMPLATES = ("ours", "shared", "Copier's")


@pytest.fixture(scope="module")
def proven() -> set[str]:
    """The results that passed."""
    return set()


@pytest.fixture
def prove(proven: set[str], tmp_path: Path) -> Callable[[Path], None]:
    """Lint, test and serve a project; one that equals another is not proven twice."""

    def once(project: Path) -> None:
        if (result := digest(project)) not in proven:
            run(tool("ruff"), "check", "--no-cache", cwd=project)
            run(tool("ruff"), "format", "--check", "--no-cache", cwd=project)
            serves(project, tmp_path / "scratch")
            proven.add(result)

    return once


def no_conflict(project: Path) -> None:
    """Both of these print nothing, as the closing message says."""
    assert git("ls-files", "--unmerged", cwd=project) == ""
    assert git("diff", "--check", cwd=project) == ""


def digest(project: Path) -> str:
    """Return one value for all that is in the project, but for what no test of it reads."""
    found = hashlib.sha256()
    for name in sorted({*files(project)} - {"README.md", "renovate.json"}):
        found.update(b"\0".join([name.encode(), (project / name).read_bytes(), b""]))
    return found.hexdigest()


def looking(project: Path) -> list[Path]:
    """Return the tests of ours that look at an author's files; all others look at files of ours alone."""
    return [
        path
        for path in sorted((project / "tests/hardening").rglob("test_*.py"))
        if re.search(r"\bPACKAGE\b|\bROOT\b|import_module", path.read_text("utf-8"))
    ]


def serves(project: Path, scratch: Path) -> None:
    """What is generated is written again, the tests pass, and the server answers both eras and ends cleanly."""
    environment = pretend(project, scratch)
    run("make", "RUN=", "settings", "schema", cwd=project, env=environment)
    run(sys.executable, "-m", "pytest", "--quiet", "tests/tools", *looking(project), cwd=project, env=environment)
    (hardening,) = project.glob("src/*/hardening")
    port = str(free_port())
    environment |= {
        "MCP_AUTH": "api_key",
        "MCP_API_KEYS": f"test:{KEY}",
        "MCP_PROBE_KEY": PROBE_KEY,
        "MCP_READINESS_DELAY_SECONDS": "0",
        "PORT": port,
    }
    command = (sys.executable, "-m", hardening.parent.name)
    everything = {**os.environ, **environment}
    with subprocess.Popen([*command, "serve"], cwd=scratch, env=everything, stderr=subprocess.PIPE) as server:
        try:
            probe = (*command, "probe", f"http://127.0.0.1:{port}/mcp", "--wait", "60")
            run(*probe, cwd=scratch, env=environment)
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0


@pytest.mark.parametrize(("release", "row"), RELEASES_AND_ROWS)
def test_an_author_keeps_everything_and_gets_everything(
    template: Template, project: Project, prove: Callable[[Path], None], release: str, row: str
) -> None:
    """No conflict; an author's files stay as they are, deleted ones away; files of ours are those of a new project.

    The result's tests pass; a result that equals that of another release is tested once.
    """
    worked = project(release, row, author=True)
    before = contents(worked, "yours")
    assert before[".env"] == ENVIRONMENT.encode()

    update(worked)

    fresh = template.render(ROWS[row])
    no_conflict(worked)
    assert (worked / ".gitattributes").read_bytes() == (fresh / ".gitattributes").read_bytes()
    assert contents(worked, "yours") == before
    assert contents(worked, "ours") == contents(fresh, "ours")
    metadata = (fresh / "pyproject.toml").read_text("utf-8")
    assert (worked / "pyproject.toml").read_text("utf-8") == edit_metadata(metadata)
    assert (worked / ".copier-answers.yml").read_bytes() == (fresh / ".copier-answers.yml").read_bytes()
    prove(worked)


@pytest.mark.parametrize(("release", "row"), [(TAGS[0], "awkward"), (TAGS[-1], "default")])
def test_an_untouched_project_becomes_a_new_one(template: Template, project: Project, release: str, row: str) -> None:
    """What is not the author's is what `copier copy` gives today; what is the author's did not move."""
    untouched = project(release, row)
    before = contents(untouched, "yours")

    update(untouched)

    assert contents(untouched, *TEMPLATES) == contents(template.render(ROWS[row]), *TEMPLATES)
    assert contents(untouched, "yours") == before


STEPS = "".join(f"  - step {number}\n" for number in range(1, 10))
ALIKE = {"v1.0.0": ["first", "last"], "v1.1.0": ["new", "first", "last"]}


@pytest.mark.parametrize(
    ("context_lines", "place"), [(100_000, "last"), (3, "first")], ids=["our command", "Copier's default"]
)
def test_an_edit_stays_where_it_was_made(tmp_path: Path, context_lines: int, place: str) -> None:
    """In a file with equal parts, Copier's default moves an edit to another one without a word; our option does not."""
    template = tmp_path / "template"
    template.mkdir()
    git("init", "--quiet", cwd=template)
    (template / "{{ _copier_conf.answers_file }}.jinja").write_text("{{ _copier_answers | to_nice_yaml }}", "utf-8")
    for version, jobs in ALIKE.items():
        (template / "jobs.yml").write_text("".join(f"{job}:\n{STEPS}" for job in jobs), "utf-8")
        commit(template, version)
        git("tag", "--annotate", version, "--message", version, cwd=template)
    edited = tmp_path / "edited"
    copier.run_copy(str(template), edited, vcs_ref="v1.0.0", quiet=True)
    before, _, after = (edited / "jobs.yml").read_text("utf-8").rpartition("step 5")
    (edited / "jobs.yml").write_text(f"{before}mine{after}", "utf-8")
    git("init", "--quiet", cwd=edited)
    commit(edited, "Edit the last job")

    update(edited, "v1.1.0", context_lines=context_lines)

    no_conflict(edited)
    jobs = yaml.safe_load((edited / "jobs.yml").read_text("utf-8"))
    assert [job for job, steps in jobs.items() if "mine" in steps] == [place]


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


def test_the_steps_of_the_page_end_well(project: Project) -> None:
    """Every command under "Update" in docs/updating.md, in that order; of the tests, those of an author's files.

    The other tests look at files of ours alone; those are the bytes of a new project, where all tests run.
    """
    worked = project(TAGS[0], author=True)
    (worked / "uv.lock").unlink()
    commit(worked, "The lock is written again")

    page = (ROOT / "docs/updating.md").read_text("utf-8")
    block = re.search(r"^## Update\n.*?```console\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert block
    steps = [line.partition("  #")[0].strip() for line in block[1].splitlines()]
    said = {}
    for step in steps:
        mine = f"make check && uv run pytest --quiet tests/tools {' '.join(map(str, looking(worked)))}"
        said[step] = run("bash", "-ec", mine if step == "make check test" else step, cwd=worked).stdout

    assert {"make update", "make check test"} <= set(steps)
    assert said["git diff --check && git ls-files --unmerged"] == ""
    assert git("status", "--porcelain", cwd=worked) == ""
    answers = yaml.safe_load((worked / ".copier-answers.yml").read_text("utf-8"))
    assert answers["_commit"] == NEXT_RELEASE
