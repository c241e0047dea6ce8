"""A project that exists becomes a served one by docs/adopting.md, from start to end, with what it has of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from support.author import commit
from support.dev_server import KEY, PROBE_KEY, free_port
from support.harness import ROOT, git, run, tool
from support.installed import pretend

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

pytestmark = pytest.mark.slow

METADATA = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "city-weather"
version = "1.4.2"
authors = [{{ name = "Ada Lovelace", email = "ada@example.com" }}]
keywords = ["weather"]
description = "Weather of cities."
requires-python = ">=3.11"
dependencies = ["{library}", "PyYAML>=6,<7"]

[project.scripts]
city-weather = "city_weather.server:main"

[dependency-groups]
dev = ["pytest>=8", "rich>=13"]
docs = ["mkdocs>=1"]

[tool.ruff]
line-length = 79

[tool.coverage.run]
branch = true
"""
TOOLS = '''

@mcp.tool{call}
def forecast(city: str, days: int = 3) -> dict:
    """Say what the weather of a city will be."""
    print("asked")
    return {{"city": city, "text": f"rain for {{days}} days", "by": os.environ["PROVIDER"]}}


@mcp.tool{call}
async def cities(prefix):
    return ["Rome"]


@mcp.tool{call}
async def now(city: Annotated[str, Field(max_length=40)]) -> str:
    """Say what the weather of a city is now."""
    return "rain"


def main():
    mcp.run()
'''
IMPORTS = "import os\nfrom typing import Annotated\n\nfrom pydantic import Field\n"
SERVERS = {
    "FastMCP": (
        "fastmcp>=4",
        f"{IMPORTS}from fastmcp import FastMCP\n\nmcp = FastMCP('weather')\n" + TOOLS.format(call=""),
    ),
    "the SDK": (
        "mcp>=2",
        f"{IMPORTS}from mcp.server.mcpserver import MCPServer\n\nmcp = MCPServer('weather')\n"
        + TOOLS.format(call="()"),
    ),
}
OWN = {
    "Makefile": "deploy:\n\techo deploy\n",
    "Dockerfile": "FROM python:3.13\nCOPY . .\n",
    ".github/workflows/ci.yml": "name: mine\non: [push]\njobs: {}\n",
    ".github/workflows/nightly.yml": "name: nightly\non: [push]\njobs: {}\n",
    "tests/test_old.py": "def test_adds():\n    assert 1 + 1 == 2\n",
    "README.md": "# City weather\n",
    "src/city_weather/__init__.py": "",
    "src/city_weather/units.py": '"""Units."""\n\n\ndef celsius(v: float) -> str:\n    """Say."""\n    return f"{v}"\n',
}
# What the person writes, following the list.
MOVED = {
    "src/city_weather/tools/__init__.py": (
        '"""The tools."""\n\nfrom .cities import cities\nfrom .forecast import forecast\nfrom .now import now\n\n'
        "TOOLS = (cities, forecast, now)\n"
    ),
    "src/city_weather/settings.py": (
        '"""Settings."""\n\nfrom __future__ import annotations\n\nfrom pydantic import Field\n\n'
        "from .hardening import HardeningSettings\n\n\nclass Settings(HardeningSettings):\n"
        '    """Everything that can be set."""\n\n'
        '    provider: str = Field(default="met", description="Who says what the weather is.")\n'
    ),
}
HEAD = (
    '"""A tool."""\n\nfrom typing import Annotated\n\n'
    "from pydantic import BaseModel, Field\n\nfrom ..hardening import tool\n"
)
CITY = 'Annotated[str, Field(max_length=40, description="The name of a city.")]'
for name in ("cities", "forecast", "now"):
    MOVED[f"src/city_weather/tools/{name}.py"] = (
        f'{HEAD}\n\nclass Told(BaseModel):\n    """What is told."""\n\n    text: str\n\n\n@tool(read_only=True)\n'
        f'async def {name}(city: {CITY}) -> Told:\n    """Tell something about the weather of a city."""\n'
        '    return Told(text=f"rain in {city}")\n'
    )


def committed(project: Path, files: dict[str, str]) -> Path:
    """Return a project as it was before: these files, in a repository."""
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, "utf-8")
    git("init", "--quiet", cwd=project)
    commit(project, "As it was")
    return project


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with three tools, and its own metadata, Makefile, Dockerfile, tests and CI; on FastMCP, if not said."""
    library, server = SERVERS[getattr(request, "param", "FastMCP")]
    files = {**OWN, "pyproject.toml": METADATA.format(library=library), "src/city_weather/server.py": server}
    return committed(tmp_path / "city-weather", files)


def adopt(project: Path, template: Template, *options: str) -> str:
    """Run the command of the page, with the working tree as the template."""
    script = ROOT / "scripts/adopt.py"
    return run(sys.executable, script, project, "--template", template.repository, *options, cwd=ROOT).stdout


@pytest.mark.parametrize("old", SERVERS, indirect=True)
def test_everything_is_said_at_once_and_nothing_changed(old: Path, template: Template) -> None:
    """File by file and rule by rule, with the line of each; the project stays as it is."""
    said = adopt(old, template)

    for words in (
        "The package is src/city_weather.",
        "Makefile: the template has a file of this name, yours would be Makefile.before; move your targets into",
        "Dockerfile: the template has a file of this name",
        ".github/workflows/ci.yml: the template has a file of this name",
        "src/city_weather/server.py: the template has a file of this name",
        "the build backend becomes uv_build, in place of hatchling.build",
        "pyproject.toml: [tool.ruff] is read from ruff.toml",
        "forecast: make it async",
        "forecast: bound the argument city",
        "forecast: let it return a model",
        "cities: write a docstring",
        "cities: give the argument prefix a type",
        "print: use log of the hardening",
        "os.environ: becomes a field of Settings",
        "mcp.run: goes; the command of the server is serve",
        "copy what you need of it from pyproject.toml.before: dependency-groups.docs, project.keywords",
        "LICENSE: you name none, so all rights stay reserved",
    ):
        assert words in said, said
    assert "now: bound" not in said
    assert "now: make it async" not in said
    kept = said.partition("Yours, and kept")[2].partition("Yours, kept as")[0]
    assert "README.md" in kept
    assert "Nothing was changed" in said
    assert git("status", "--porcelain", cwd=old) == ""


def test_a_person_gets_to_a_served_project(old: Path, template: Template, tmp_path: Path) -> None:
    """The files come, what was there stays, the tools are moved by the list, tests pass, both eras are served."""
    adopt(old, template, "--write")

    for name in (".github/workflows/nightly.yml", "tests/test_old.py", "README.md", "src/city_weather/units.py"):
        assert (old / name).read_text("utf-8") == OWN[name]
    for name in ("Makefile", "Dockerfile", ".github/workflows/ci.yml"):
        assert (old / f"{name}.before").read_text("utf-8") == OWN[name]
    metadata = (old / "pyproject.toml").read_text("utf-8")
    assert 'version = "1.4.2"' in metadata
    assert "[tool.coverage.run]\nbranch = true\n" in metadata
    assert re.search(r'go below this line\.\n    "PyYAML>=6,<7",\n\]', metadata)
    assert re.search(r'tools go below this line\.\n    "rich>=13",\n\]', metadata)
    assert "fastmcp" not in metadata
    answers = yaml.safe_load((old / ".copier-answers.yml").read_text("utf-8"))
    assert (answers["package_name"], answers["author_name"]) == ("city_weather", "Ada Lovelace")
    # Nobody gets a license by a template.
    assert answers["license"] == "Proprietary"
    run(tool("ruff"), "check", "tests/test_old.py", "src/city_weather/units.py", cwd=old)
    run(tool("ruff"), "format", "--check", "tests/test_old.py", cwd=old)
    assert git("status", "--porcelain", cwd=old)

    (old / "src/city_weather/tools/countdown.py").unlink()
    (old / "tests/tools/test_countdown.py").unlink()
    for name, text in MOVED.items():
        (old / name).write_text(text, "utf-8")
    tests = ("tests/test_old.py", "tests/hardening/project/test_project.py", "tests/hardening/project/test_answers.py")
    is_served(old, "city_weather", tmp_path / "scratch", *tests)
    commit(old, "Adopt the template")


def is_served(project: Path, package: str, scratch: Path, *tests: str) -> None:
    """What is generated is written, these tests pass, and the server answers both eras with its contract."""
    environment = pretend(project, scratch)
    run("make", "RUN=", "settings", "schema", cwd=project, env=environment)
    run(sys.executable, "-m", "pytest", "-q", *tests, cwd=project, env=environment)
    port = str(free_port())
    environment |= {"MCP_AUTH": "api_key", "MCP_API_KEYS": f"test:{KEY}", "MCP_PROBE_KEY": PROBE_KEY, "PORT": port}
    command = (sys.executable, "-m", package)
    with subprocess.Popen([*command, "serve"], cwd=project, env={**os.environ, **environment}) as server:
        try:
            url = f"http://127.0.0.1:{port}/mcp"
            run(*command, "probe", url, "--wait", "60", "--schema", "schema/tools.json", cwd=project, env=environment)
        finally:
            server.terminate()
            server.wait(60)


def test_what_is_not_committed_is_read_too(old: Path, template: Template) -> None:
    """A project of the first hour has rules to keep as well, and a folder without tools is not one that is fine."""
    git("rm", "--quiet", "--cached", "src/city_weather/server.py", cwd=old)
    assert "forecast: make it async" in adopt(old, template)
    (old / "src/city_weather/server.py").unlink()
    assert "no function under @….tool was found" in adopt(old, template)


def test_what_clients_would_miss_is_said(old: Path, template: Template) -> None:
    """A tool that clients know by another name, words of the context, an HTTP client of its own: each has its rule."""
    (old / "src/city_weather/more.py").write_text(
        "import httpx\nfrom fastmcp import Context, FastMCP\n\nmcp = FastMCP('more')\n\n\n"
        "@mcp.tool(name='forget', description='Remove a city.')\n"
        "async def forget_city(city: str, ctx: Context) -> str:\n"
        "    await ctx.info('asked')\n    await ctx.elicit('Sure?')\n    await ctx.report_progress(1)\n"
        "    return (await httpx.AsyncClient().get(city)).text\n\n\n"
        "@mcp.tool('recall')\nasync def recall() -> str:\n    return ''\n",
        "utf-8",
    )

    said = adopt(old, template)

    for words in (
        "more.py:1 httpx: what tools ask of other systems goes through ctx.http",
        "forget_city: clients know it as forget: give the function that name",
        "forget_city: what description= says becomes the docstring",
        "forget_city: ctx.info: log.info(…) of .hardening tells the operator",
        "forget_city: ctx.elicit: ctx.sdk.elicit is the SDK's; see docs/tools.md for ours",
    ):
        assert words in said, said
    assert "report_progress" not in said
    assert "clients know it as recall" not in said


POETRY = """\
[tool.poetry]
name = "stock-mcp"
version = "3.1.0"
description = "Stock levels of our shops."
authors = ["Ada Lovelace <ada@example.com>"]
license = "Apache-2.0"

[tool.poetry.dependencies]
python = "^3.11"
mcp = "^1.9"
tenacity = "^9.1"
arrow = "~1.3"
pyyaml = { version = ">=6", extras = ["x"], optional = true }
mine = { git = "https://git.example.com/mine.git" }
attrs = "25.1.0"
toolz = "^0.12.1"

[tool.poetry.group.dev.dependencies]
freezegun = "*"

[tool.poetry.group.docs.dependencies]
mkdocs = "*"

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
LOW_LEVEL = """\
import mcp.types as types
from mcp.server.lowlevel import Server

server = Server("stock", on_read_resource=None)


@server.list_tools()
async def list_tools():
    return [types.Tool(name="stock_level", description="How many of an article there are.", inputSchema={})]


@server.call_tool()
async def call_tool(name, arguments):
    return []
"""


def test_a_low_level_server_with_poetry_in_a_flat_layout(template: Template, tmp_path: Path) -> None:
    """Its tools, its handlers and its package are named; its metadata, license and dependencies are taken over."""
    files = {"pyproject.toml": POETRY, "stock/__init__.py": "", "stock/server.py": LOW_LEVEL}
    project = committed(tmp_path / "low", files)

    said = adopt(project, template, "--write")

    for words in (
        "The package is src/stock_mcp.",
        "stock/server.py:9 stock_level: write it as a function in src/stock_mcp/tools/stock_level.py",
        "stock/server.py:8 list_tools: goes; each tool is a function",
        "stock/server.py:13 call_tool: its branches become those functions",
        "stock/server.py:4 on_read_resource=: becomes @server.resource(…)",
        "stock/: only src/stock_mcp is installed",
        "the dependency pyyaml is not taken over",
        "the dependency mine is not taken over",
        "not taken over of Poetry, copy what you need: group docs",
        "the build backend becomes uv_build, in place of poetry.core.masonry.api",
    ):
        assert words in said, said
    assert "no function under @" not in said
    metadata = (project / "pyproject.toml").read_text("utf-8")
    assert 'version = "3.1.0"' in metadata
    listed = '"tenacity>=9.1,<10",\n    "arrow>=1.3,<1.4",\n    "attrs==25.1.0",\n    "toolz>=0.12.1,<0.13",\n]'
    assert f"go below this line.\n    {listed}" in metadata
    assert 'tools go below this line.\n    "freezegun",\n]' in metadata
    assert "poetry" not in metadata
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))
    assert (answers["license"], answers["author_email"]) == ("Apache-2.0", "ada@example.com")
    assert answers["description"] == "Stock levels of our shops."
    assert (project / "pyproject.toml.before").read_text("utf-8") == POETRY


HATCH = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "clock-mcp"
dynamic = ["version"]
description = "The time at a place."
requires-python = ">=3.11"
dependencies = ["mcp>=1.9", "shared", "tzlocal>=5"]

[project.scripts]
clock-mcp = "clock_mcp:main"

[tool.hatch.version]
path = "src/clock_mcp/__about__.py"

[tool.hatch.envs.default]
dependencies = ["freezegun", "common @ {root:uri}/../common"]

[tool.uv.sources]
shared = { workspace = true }
"""
CLOCK = """\
import argparse
import asyncio
from enum import Enum

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import TextContent, Tool


class Names(str, Enum):
    NOW = "now"


async def serve():
    clock = Server("clock")

    @clock.list_tools()
    async def list_tools():
        return [Tool(name=Names.NOW.value, description="Say what time it is.", inputSchema={})]

    @clock.call_tool()
    async def call_tool(name, arguments):
        return [TextContent(type="text", text="noon")]

    async with stdio_server() as (read, write):
        await clock.run(read, write, clock.create_initialization_options())


def main():
    argparse.ArgumentParser().parse_args()
    asyncio.run(serve())
"""
NOW = """\
\"\"\"Tells the time.\"\"\"

from ..hardening import tool


@tool(read_only=True)
async def now() -> str:
    \"\"\"Say what time it is at this place.\"\"\"
    return "noon"
"""
GRANT = "MIT License\n\nCopyright 2020 Ada\n\nPermission is hereby granted, free of charge, to any person …\n"


def test_a_low_level_server_with_hatch_in_a_monorepo(template: Template, tmp_path: Path) -> None:
    """From start to served, in a folder of a workspace whose rules of git hide files: what would stop is named first.

    The version is in a module, the names of the tools in an enum, and two files import what is replaced.
    """
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["services/*", "shared"]\n',
        ".gitignore": ".env.*\ndeploy/\n",
        "services/clock/pyproject.toml": HATCH,
        "services/clock/pdm.lock": "",
        "services/clock/LICENSE": GRANT,
        "services/clock/src/clock_mcp/__init__.py": "from .server import main\n",
        "services/clock/src/clock_mcp/__about__.py": '__version__ = "3.2.1"\n',
        "services/clock/src/clock_mcp/server.py": CLOCK,
        "services/clock/tests/test_clock.py": "from clock_mcp import server\n",
    }
    top = committed(tmp_path / "all", files)
    project = top / "services/clock"

    said = adopt(project, template, "--write")

    for words in (
        "The package is src/clock_mcp.",
        "pyproject.toml: its uv workspace has this project, so uv.lock would be there",
        'add "services/clock" to exclude in [tool.uv.workspace]',
        "read at the root of a repository only, and this project is in services/clock/",
        ".gitignore:2 deploy/: git would not see deploy/caddy/Caddyfile, ",
        "pdm.lock: uv.lock takes its place",
        "src/clock_mcp/__about__.py: its version 3.2.1 is in pyproject.toml now",
        "shared is not taken over, because the image is built from this folder alone",
        "common @ {root:uri}/../common is not taken over",
        "not taken over, copy what you need of it from pyproject.toml.before: tool.hatch.envs",
        "src/clock_mcp/__init__.py:1 clock_mcp.server: the template's takes its place",
        "tests/test_clock.py:1 clock_mcp.server: the template's takes its place",
        "src/clock_mcp/server.py:1 argparse: what the command line said becomes a field of Settings",
        "src/clock_mcp/server.py:19 now: write it as a function in src/clock_mcp/tools/now.py",
        "src/clock_mcp/server.py:25 stdio_server: goes; the command of the server is serve, and stdio for",
        "src/clock_mcp/server.py:26 clock.run: goes",
    ):
        assert words in said, said
    assert ".env.*" not in said
    metadata = (project / "pyproject.toml").read_text("utf-8")
    assert 'version = "3.2.1"' in metadata
    assert 'go below this line.\n    "tzlocal>=5",\n]' in metadata
    assert 'tools go below this line.\n    "freezegun",\n]' in metadata
    assert yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["license"] == "MIT"
    assert (project / "LICENSE").read_text("utf-8") == GRANT

    package = project / "src/clock_mcp"
    for path in (package / "tools/countdown.py", project / "tests/tools/test_countdown.py"):
        path.unlink()
    (package / "__init__.py").write_text('"""Tells the time."""\n', "utf-8")
    (package / "tools/now.py").write_text(NOW, "utf-8")
    (package / "tools/__init__.py").write_text('"""The tools."""\n\nfrom .now import now\n\nTOOLS = (now,)\n', "utf-8")
    (project / "tests/test_clock.py").unlink()
    is_served(project, "clock_mcp", tmp_path / "scratch", "tests/hardening/project/test_project.py")


SETUP_CFG = """\
[metadata]
name = orders-mcp
version = 0.9.2
description = Orders of our customers.
author = Grace Hopper
author_email = grace@example.com
license = MIT

[options.extras_require]
dev =
    pytest
    freezegun
"""
FASTMCP = """\
from fastmcp import FastMCP

mcp = FastMCP("Orders", auth=object(), lifespan=None, instructions="Use me.")


def plain(number: int) -> int:
    "Add one to a number, and give it back."
    return number + 1


mcp.tool(plain)
mcp.mount(FastMCP("Sub"))
mcp.add_middleware(object())


@mcp.custom_route("/health", methods=["GET"])
async def health(request):
    return None


@mcp.tool
async def find(ctx: Context) -> int:
    \"""Find the number of an order.\"""
    return ctx.request_context.lifespan_context.find()
"""


def test_a_fastmcp_server_with_setup_cfg(template: Template, tmp_path: Path) -> None:
    """What its constructor was given and what was called on it is named, with the place where it goes."""
    files = {
        "setup.cfg": SETUP_CFG,
        "setup.py": "from setuptools import setup\nsetup()\n",
        "requirements.txt": "fastmcp>=2.9\n# pins\nattrs==25.1.0  # why\n-r more.txt\n",
        "src/orders/__init__.py": "",
        "src/orders/app.py": FASTMCP,
    }
    project = committed(tmp_path / "fast", files)

    said = adopt(project, template, "--write")

    for words in (
        "The package is src/orders_mcp.",
        "setup.cfg: pyproject.toml takes its place",
        "app.py:3 auth=: callers are let in by settings",
        "app.py:3 lifespan=: goes to harden(…, lifespan=…) in src/orders_mcp/server.py",
        "app.py:3 instructions=: become INSTRUCTIONS in src/orders_mcp/server.py",
        "app.py:6 plain: move it into src/orders_mcp/tools/plain.py",
        "app.py:12 mcp.mount: name the tools of the other server in TOOLS",
        "app.py:13 mcp.add_middleware: has no place",
        "app.py:16 mcp.custom_route: has no place",
        "find: ctx.request_context: ctx.state has what the lifespan yields",
        "src/orders/: only src/orders_mcp is installed",
    ):
        assert words in said, said
    metadata = (project / "pyproject.toml").read_text("utf-8")
    assert 'version = "0.9.2"' in metadata
    assert 'go below this line.\n    "attrs==25.1.0",\n]' in metadata
    assert 'tools go below this line.\n    "freezegun",\n]' in metadata
    assert yaml.safe_load((project / ".copier-answers.yml").read_text("utf-8"))["license"] == "MIT"
    assert git("status", "--porcelain", "setup.cfg", "setup.py", "requirements.txt", "src/orders", cwd=project) == ""


def test_metadata_that_the_template_refuses_stops_nothing(old: Path, template: Template) -> None:
    """A description that is too long gets the default, and the list says the rule; a name has to be given."""
    metadata = (old / "pyproject.toml").read_text("utf-8")
    (old / "pyproject.toml").write_text(metadata.replace("Weather of cities.", "Weather of cities. " * 9), "utf-8")
    assert "description: the default is taken, or name another: --data description=…; A description has" in adopt(
        old, template
    )

    (old / "pyproject.toml").write_text(metadata.replace('"city-weather"', '"redis"'), "utf-8")
    options = ("--template", template.repository)
    done = run(sys.executable, ROOT / "scripts/adopt.py", old, *options, cwd=ROOT, check=False)
    assert done.returncode != 0
    assert "Give another answer: --data package_name=…" in done.stdout


def test_what_is_not_committed_is_not_touched(old: Path, template: Template) -> None:
    """Files come only where git can take them back."""
    (old / "half.md").write_text("half\n", "utf-8")

    refused = run(
        sys.executable,
        ROOT / "scripts/adopt.py",
        old,
        "--write",
        "--template",
        template.repository,
        cwd=ROOT,
        check=False,
    )
    shutil.rmtree(old / ".git")
    blind = run(
        sys.executable, ROOT / "scripts/adopt.py", old, "--template", template.repository, cwd=ROOT, check=False
    )

    assert "Commit everything first" in refused.stdout
    assert not (old / "ruff.toml").exists()
    assert blind.returncode != 0
    assert "git cannot read" in blind.stdout
