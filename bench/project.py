"""The project that is measured: rendered from this working tree, with a tool that gives its text back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
IMPORT = "import of Copier"
NODE_PACKAGES = ("@modelcontextprotocol/sdk", "@modelcontextprotocol/server", "@modelcontextprotocol/node")
NODE_PACKAGES += ("express", "zod")

TOOLS = '''"""One tool, or as many as are asked for, all alike."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated

from pydantic import Field

from ..hardening import Context, connection, tool

LONG = "x" * 1_048_576


def _named(number: int) -> Callable[..., Awaitable[str]]:
    async def echo(text: Annotated[str, Field(max_length=1000, description="Text to give back.")]) -> str:
        """Give the text back, as it came."""
        return text

    echo.__name__ = f"echo_{number}" if number else "echo"
    return tool(read_only=True)(echo)


@tool(read_only=True)
async def sized(size: Annotated[int, Field(ge=1, le=1_048_576, description="Characters to return.")]) -> str:
    """Return a text of that size, for the measurement."""
    return LONG[:size]


@tool(read_only=True)
async def hold(ctx: Context) -> str:
    """Hold a connection to the database for 20 milliseconds."""
    async with connection(ctx) as db:
        await db.execute("select pg_sleep(0.02)")
    return "held"


TOOLS = tuple(_named(number) for number in range(int(os.environ.get("BENCH_TOOLS", "1"))))
if os.environ.get("BENCH_GROWTH"):
    TOOLS = (*TOOLS, sized, hold)
'''


@dataclass
class Project:
    """A render that is set up.

    Attributes:
        folder: Where it is.
        steps: How long each step of making it took, in seconds.
    """

    folder: Path
    steps: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def package(self) -> str:
        """Its Python package."""
        return next(path.parent.name for path in self.folder.glob("src/*/hardening"))

    def step(self, name: str, *command: str | Path, cwd: Path, **environment: str) -> None:
        """Run one command and note how long it took."""
        started = time.perf_counter()
        clean = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
        subprocess.run(list(map(str, command)), cwd=cwd, env=clean | environment, check=True, stdout=subprocess.DEVNULL)
        self.steps[name] = time.perf_counter() - started


def make(scratch: Path) -> Project:
    """Render the working tree, uncommitted changes included, and install it."""
    project = Project(scratch / "bench-server")
    # A copy without git: Copier takes a folder as it is, and a repository at its last tag.
    source = scratch / "template"
    source.mkdir()
    shutil.copy(HERE.parent / "copier.yml", source)
    shutil.copytree(HERE.parent / "template", source / "template")
    answers = ["--data", "project_name=Bench Server", "--data", "package_name=bench_server", "--data", "database=none"]
    project.step(IMPORT, BIN / "python", "-c", "import copier", cwd=scratch)
    project.step(
        "copier copy", BIN / "copier", "copy", "--quiet", "--defaults", *answers, source, project.folder, cwd=scratch
    )
    project.step("uv sync, with a warm cache", BIN / "uv", "sync", "--quiet", cwd=project.folder)
    (project.folder / "src" / project.package / "tools/__init__.py").write_text(TOOLS, "utf-8")
    return project


def node(scratch: Path) -> Path | None:
    """Install the TypeScript SDKs; None when there is no Node.js, or no network."""
    if not shutil.which("npm"):
        return None
    folder = scratch / "node"
    folder.mkdir()
    for app in (HERE / "apps").glob("*.mjs"):
        shutil.copy(app, folder)
    (folder / "package.json").write_text('{"private": true}\n', "utf-8")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PACKAGES]
    done = subprocess.run(command, cwd=folder, check=False, timeout=180)
    return folder if done.returncode == 0 else None
