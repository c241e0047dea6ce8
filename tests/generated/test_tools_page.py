"""The examples of docs/tools.md, together, are a project that passes its checks."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from support.harness import DEFAULT, run, tool
from support.installed import pretend
from support.postgres import Postgres

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

EXAMPLE = re.compile(r"^```python\n# (?P<path>\S+\.py)\n(?P<code>.+?\n)```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 60


def test_the_examples_are_a_project(template: Template, tmp_path: Path) -> None:
    """Format, lint and types are clean, the tests of the page pass, and the contract can be written."""
    project = template.project(DEFAULT, tmp_path / "project")
    (package,) = (path.parent for path in project.glob("src/*/hardening"))
    page = (project / "docs/tools.md").read_text("utf-8")
    found = {match["path"]: match["code"] for match in EXAMPLE.finditer(page)}
    assert len(found) == page.count("```python")
    for path, code in found.items():
        target = project / path if path.startswith("tests/") else package / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(code, "utf-8")
    for path in [*package.glob("tools/*.py"), *project.glob("tests/tools/*.py"), *package.glob("migrations/*.py")]:
        if path.name not in {name.rpartition("/")[2] for name in found}:
            path.unlink()

    mine = [
        package / "tools",
        package / "migrations",
        *(package / f"{name}.py" for name in ("server", "settings", "state")),
    ]
    mine.append(project / "tests/tools")
    run(tool("ruff"), "format", "--check", "--no-cache", *mine, cwd=project)
    run(tool("ruff"), "check", "--no-cache", *mine, cwd=project)
    run(tool("pyright"), "--pythonpath", sys.executable, *mine, cwd=project)
    run(sys.executable, "-m", "pytest", "--quiet", "tests/tools", cwd=project)
    environment = pretend(project, tmp_path / "about")
    with Postgres() as postgres:
        url = {"DATABASE_URL": postgres.url}
        said = run(sys.executable, "-m", "weather_server", "migrate", cwd=project, env=environment | url).stdout
    assert "up to date: 0001" in said


def test_the_page_for_agents_is_short(template: Template) -> None:
    """What is longer is not read."""
    assert len((template.render(DEFAULT) / "AGENTS.md").read_text("utf-8").splitlines()) <= MOST_LINES
