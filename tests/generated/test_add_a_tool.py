"""The steps of the README that an author follows first, executed."""

from __future__ import annotations

import json
import re
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from support.harness import git, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

STEP_1 = re.compile(r"for example `(?P<path>src/\S+\.py)`:\n\n(?P<code> +```python\n.+?\n) +```\n", re.DOTALL)
STEP_2 = re.compile(r"2\. Name it in `TOOLS`, in `(?P<path>src/\S+)`\.")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgres", "none"])
def test_the_steps_give_a_tool(template: Template, tmp_path: Path, database: str) -> None:
    """One file, one line in the tuple, one command: the tool is published, linted, typed and tested."""
    project = template.project({"database": database}, tmp_path / "project")
    run("make", "setup", cwd=project)
    readme = (project / "README.md").read_text("utf-8")
    first, second = STEP_1.search(readme), STEP_2.search(readme)
    assert first
    assert second

    code = dedent(first["code"]).removeprefix("```python\n")
    (project / first["path"]).write_text(code, "utf-8")
    tools = project / second["path"]
    text = tools.read_text("utf-8")
    imports, declared = re.subn(
        r"^(from \.countdown .+)$", r"\1\nfrom .greet import greet", text, count=1, flags=re.MULTILINE
    )
    listed, named = re.subn(r"^(TOOLS\b.*= \()", r"\1greet, ", imports, count=1, flags=re.MULTILINE)
    assert (declared, named) == (1, 1)
    tools.write_text(listed, "utf-8")
    run("uv", "run", "ruff", "format", "--quiet", cwd=project)
    refused = run("make", "check", cwd=project, check=False)
    run("make", "schema", cwd=project)

    contract = json.loads((project / "schema/tools.json").read_text("utf-8"))
    assert refused.returncode
    assert "greet" in json.dumps(contract)
    assert "schema/tools.json" in git("status", "--porcelain", cwd=project)
    run("make", "check", cwd=project)
    # Of the hardening's tests, those that read the author's files.
    ours = ["tests/hardening/project"]
    run("uv", "run", "pytest", "--quiet", "tests/tools", *ours, cwd=project)
