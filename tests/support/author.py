"""A realistic author: what somebody does to a project in its first weeks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import copier
from support.harness import NEXT_RELEASE, Answers, files, git
from support.ownership import owners

if TYPE_CHECKING:
    from pathlib import Path

TOOL = '''\
"""Forecasts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from ..hardening import tool


class Forecast(BaseModel):
    """What the weather will be."""

    text: str


@tool(read_only=True, timeout_seconds=5)
async def forecast(place: Annotated[str, Field(max_length=40, description="Where.")]) -> Forecast:
    """Say what the weather will be at a place."""
    return Forecast(text=f"Rain in {place}.")
'''
TOOLS = '''\
"""The tools."""

from .countdown import countdown
from .forecast import forecast

TOOLS = (countdown, forecast)
'''
SETTINGS = '''\
"""Our settings."""

from __future__ import annotations

from pydantic import Field

from .hardening import HardeningSettings


class Settings(HardeningSettings):
    """Everything that can be set."""

    forecast_url: str = Field(default="https://forecast.example.com", description="Where forecasts come from.")
'''
TEST = '''\
"""The forecast names the place."""

from __future__ import annotations

from typing import Any


async def test_names_the_place(call_tool: Any) -> None:
    """The place that was asked for."""
    result = await call_tool("forecast", {"place": "Rome"})

    assert result.structured_content == {"text": "Rain in Rome."}
'''
ADDED = {
    ".github/workflows/mine.yml": "name: mine\non: [push]\njobs: {}\n",
    ".ruff.toml": 'extend = "ruff.toml"\n\n[lint]\nextend-ignore = ["FIX002"]\n',
    "CHANGELOG.md": "# Changes\n",
    "compose.override.yaml": "services: {}\n",
    "deploy/caddy/sites/mine.caddy": "# mine\n",
    "deploy/kubernetes/overlays/production/mine.yaml": "# mine\n",
    "deploy/kubernetes/overlays/staging/kustomization.yaml": "resources: [../../base]\n",
    "docs/mine.md": "# Mine\n",
    "local.mk": "hello: ## say hello\n\t@echo hello\n",
    "schema/tools.json": "{}\n",
    "tests/tools/test_forecast.py": TEST,
}
ENVIRONMENT = "MCP_API_KEY=a-secret-that-git-does-not-have\n"


def edit_metadata(text: str) -> str:
    """Change `pyproject.toml` as an author does: version, description, dependencies, tools."""
    text = text.replace('version = "0.1.0"', 'version = "2.4.1"')
    text = re.sub(r"^description = .*$", 'description = "Forecasts, by us."', text, flags=re.MULTILINE)
    text = re.sub(r"( +# Your own dependencies go below this line\.\n)", r'\1    "arrow>=1.4,<2",\n', text)
    return re.sub(r"( +# Your own development tools go below this line\.\n)", r'\1    "rich>=14",\n', text)


def work(project: Path) -> None:
    """Do what an author does, and commit it."""
    (hardening,) = project.glob("src/*/hardening")
    package = hardening.parent
    for path in [*package.glob("tools/notes.py"), *project.glob("tests/tools/test_notes.py")]:
        path.unlink()
    (package / "tools/forecast.py").write_text(TOOL, "utf-8")
    (package / "tools/__init__.py").write_text(TOOLS, "utf-8")
    (package / "settings.py").write_text(SETTINGS, "utf-8")
    for name, text in ADDED.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, "utf-8")
    for name in ("README.md", ".env.example", "uv.lock"):
        with (project / name).open("a", encoding="utf-8") as file:
            file.write("# mine\n")
    metadata = project / "pyproject.toml"
    metadata.write_text(edit_metadata(metadata.read_text("utf-8")), "utf-8")
    (project / ".env").write_text(ENVIRONMENT, "utf-8")
    commit(project, "Our first weeks")


def commit(project: Path, message: str) -> None:
    """Commit everything."""
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--allow-empty", "--message", message, cwd=project)


def contents(project: Path, *whose: str) -> dict[str, bytes]:
    """Return the files with one of these owners; what an author has added is of the author."""
    return {name: (project / name).read_bytes() for name in files(project) if _owner(name) in whose}


def _owner(name: str) -> str:
    return "yours" if name in ADDED else (owners(name) or ["yours"])[0]


def update(
    project: Path, to: str | copier.VcsRef = NEXT_RELEASE, data: Answers | None = None, context_lines: int = 100_000
) -> None:
    """Run the update that `make update` runs; never with trust."""
    copier.run_update(
        project,
        vcs_ref=to,
        data=data,
        defaults=True,
        skip_answered=True,
        overwrite=True,
        quiet=True,
        context_lines=context_lines,
    )
