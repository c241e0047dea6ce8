"""A year of updates: an author works on, release after release; nothing conflicts, nothing is lost."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from support.author import commit, contents, edit_metadata, update, work
from support.harness import NEXT_RELEASE, Answers, git, run
from support.installed import pretend
from support.releases import TAGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.harness import Template
    from updating.conftest import Project

pytestmark = pytest.mark.slow

BAD_CONFIGURATION = 78
SERVER = '''\
"""Our server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel, Field

from .hardening import HardenedServer, harden
from .tools import TOOLS

if TYPE_CHECKING:
    from .settings import Settings


class Length(BaseModel):
    """What a person says."""

    days: int


async def ask() -> Elicit[Length]:
    """Ask the person."""
    return Elicit("For how many days?", Length)


def build(settings: Settings) -> HardenedServer:
    """Return the server with a prompt."""
    server = harden(settings, tools=TOOLS)

    @server.prompt()
    async def trip(place: Annotated[str, Field(max_length=40)], length: Annotated[Length, Resolve(ask)]) -> str:
        """Plan a trip by the weather of a place."""
        return f"Plan a trip to {place}."

    return server
'''


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


def a_bot_raises_the_lock(project: Path) -> None:
    """What a bot does with the rules of `renovate.json`: the lock moves, pins of ours do not."""
    with (project / "uv.lock").open("a", encoding="utf-8") as file:
        file.write("# raised\n")
    commit(project, "Update the lock")


def deletes_what_is_not_used(project: Path) -> None:
    """Neither nginx nor the board of Grafana is in use."""
    git("rm", "--quiet", "-r", *UNUSED, cwd=project)
    commit(project, "Delete what is not used")


def asks_in_a_prompt(project: Path) -> None:
    """What 2.0.0 served, although it filled nothing, and a caller could answer in place of the person."""
    (project / "src/weather_server/server.py").write_text(SERVER, "utf-8")
    commit(project, "Add a prompt")


# What is done after each update, in order, and the answers that come with it; the last one is the update to this tree.
YEAR: dict[str, list[Callable[[Path], None]]] = {
    TAGS[0]: [first_weeks, adds_dependencies, leaves_a_target],
    TAGS[1]: [a_bot_raises_the_lock],
    TAGS[2]: [deletes_what_is_not_used],
    TAGS[3]: [asks_in_a_prompt],
}
CHANGED: dict[str, Answers] = {
    TAGS[2]: {"license": "Apache-2.0"},
    # Railway again, much later; the tools that needed the database are gone since the first weeks.
    NEXT_RELEASE: {"deploy_targets": ["kubernetes", "fly", "railway", "compose"], "database": "none"},
}
UNUSED = ("deploy/nginx", "deploy/grafana")


def said_by_tests(project: Path, environment: dict[str, str], *more: str) -> str:
    """Return what the project's tests say of its answers and of its files."""
    tests = ("tests/hardening/project/test_answers.py", "tests/hardening/project/test_deployment.py", *more)
    command = (sys.executable, "-m", "pytest", "-q", "--tb=line", *tests)
    return run(*command, cwd=project, env=environment, check=False).stdout


def test_a_year(template: Template, project: Project, tmp_path: Path) -> None:
    """From the first release to this tree: no marker, no byte of the author lost, the rest said with a command.

    One step after the other ends where one step over all of them does: at the files of a new project.
    """
    lived = project(TAGS[0])
    answers: Answers = {}
    for release in [*TAGS, NEXT_RELEASE]:
        changed = CHANGED.get(release, {})
        answers |= changed
        if release != TAGS[0]:
            before = contents(lived, "yours")
            update(lived, release, data=changed)
            assert git("ls-files", "--unmerged", cwd=lived) == "", release
            assert git("diff", "--check", cwd=lived) == "", release
            assert contents(lived, "yours") == before, release
            commit(lived, f"Update to {release}")
        for act in YEAR.get(release, []):
            act(lived)
            assert git("diff", "--check", "HEAD~1", "--", ":!schema", cwd=lived) == "", act.__name__

    fresh = template.render(answers)
    ours = contents(fresh, "ours")
    assert contents(lived, "ours") == {name: ours[name] for name in ours if not name.startswith(UNUSED)}
    metadata = (lived / "pyproject.toml").read_text("utf-8")
    added = {'    "tenacity>=9",', '    "freezegun>=1.5",'}
    as_new = edit_metadata((fresh / "pyproject.toml").read_text("utf-8"))
    assert [line for line in metadata.splitlines() if line not in added] == as_new.splitlines()
    assert added <= set(metadata.splitlines())
    for own in (".github/workflows/mine.yml", ".ruff.toml", "local.mk", "src/weather_server/tools/forecast.py"):
        assert (lived / own).is_file()
    recorded = yaml.safe_load((lived / ".copier-answers.yml").read_text("utf-8"))
    assert (recorded["_commit"], recorded["license"], recorded["database"]) == (NEXT_RELEASE, "Apache-2.0", "none")

    environment = pretend(lived, tmp_path / "scratch")
    said = said_by_tests(lived, environment)
    commands = sorted(set(re.findall(r"To bring \S+(?: \S+)?: (.+?)(?:\. If you|$)", said, re.MULTILINE)))
    assert commands == ["git rm LICENSE && make restore FILE=LICENSE", "make restore FILE='railway.json'"], said
    for command in commands:
        run("bash", "-ec", command, cwd=lived)
    does_what_the_changelog_says(lived, environment)
    said = said_by_tests(lived, environment, "tests/hardening/project/test_project.py::test_the_server_is_hardened")
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said


def does_what_the_changelog_says(lived: Path, environment: dict[str, str]) -> None:
    """What was served and is refused now is named, with the cure: in code by `make check`, in settings at the start."""
    command = (sys.executable, "-m", "weather_server")
    checked = run(*command, "schema", "check", cwd=lived, env=environment, check=False)
    assert "python -m $(SERVER) schema check" in (lived / "Makefile").read_text("utf-8")
    assert checked.returncode == BAD_CONFIGURATION, checked.stdout
    assert "trip: length: Resolve(…) fills parameters of tools alone; return InputRequiredResult" in checked.stdout

    url = {"MCP_AUTH": "none", "DATABASE_URL": "postgresql://ada:hard@guess@127.0.0.1/weather"}
    started = run(*command, "serve", cwd=lived, env=environment | url, check=False)
    assert started.returncode == BAD_CONFIGURATION, started.stdout
    assert re.search(r"DATABASE_URL: .*@ is %40", started.stdout), started.stdout
    assert "guess" not in started.stdout

    server = lived / "src/weather_server/server.py"
    server.write_text(SERVER.replace(", length: Annotated[Length, Resolve(ask)]", ""), "utf-8")
