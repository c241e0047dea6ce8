"""Mistakes that coding agents make: each is made in a project, and caught as the table of docs/tools.md says."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, run, tool
from support.installed import pretend

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

MODULE = '''\
"""A tool with a mistake."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from ..hardening import Context, connection, log, tool
from ..settings import Settings
{above}
Text = Annotated[str, Field(max_length=100, description="A text.")]


@tool({declared}, timeout_seconds=5)
async def mine({text}, ctx: {context}) -> {returned}:
    """Do something with a text, and give it back."""
    {body}
    return {result}
'''
GOOD = {
    "above": "",
    "declared": "read_only=True",
    "text": "text: Text",
    "context": "Context[Settings]",
    "returned": "str",
    "body": "await asyncio.sleep(0)",
    "result": "text",
}
TOOLS = '"""The tools."""\n\nfrom .mine import mine\n\nTOOLS = (mine,)\n'
RUFF = (tool("ruff"), "check", "--no-cache", "--output-format=concise", "src")
SCHEMA = (sys.executable, "-m", "weather_server", "schema", "check")
UNEDITED = (sys.executable, "scripts/unedited.py")
TESTS = (sys.executable, "-m", "pytest", "--quiet", "tests/hardening/project/test_authors_code.py")
CANCELLATION = "try:\n        await asyncio.sleep(1)\n    except asyncio.CancelledError:\n        pass"
QUERY = "async with connection(ctx) as db:\n        await db.fetch(f\"SELECT id FROM notes WHERE body = '{text}'\")"
# What is written in place of the good, and the command that says so.
MISTAKES: dict[str, tuple[dict[str, str], tuple[object, ...]]] = {
    "a call that blocks": ({"above": "import time\n", "body": "time.sleep(1)"}, RUFF),
    "`requests`, `httpx`, `aiohttp`": ({"above": "import requests\n"}, RUFF),
    "a global client": ({"above": "import httpx2\n\nCLIENT = httpx2.AsyncClient()\n"}, RUFF),
    "a swallowed cancellation": ({"body": CANCELLATION}, RUFF),
    "a task that nobody waits for": ({"body": "asyncio.create_task(asyncio.sleep(1))"}, RUFF),
    "a thread": ({"body": "await asyncio.to_thread(print)"}, RUFF),
    "a signal handler": ({"above": "import signal\n", "body": "signal.signal(signal.SIGTERM, signal.SIG_DFL)"}, RUFF),
    "an end of the process": ({"above": "import sys\n", "body": "sys.exit(1)"}, RUFF),
    "the environment": ({"above": "import os\n", "body": 'os.environ["HOME"]'}, RUFF),
    "`print`": ({"body": "print(text)"}, RUFF),
    "SQL with a value in it": ({"body": QUERY}, RUFF),
    "an argument in a log line": ({"body": 'log.info("asked", text=text)'}, TESTS),
    "a message put together": ({"body": 'log.info(f"asked for {text}")'}, TESTS),
    "a list without a bound": ({"returned": "list[str]", "result": "[text]"}, TESTS),
    "an argument without a bound": ({"text": "text: str"}, SCHEMA),
    "consent not decided": ({"declared": "read_only=False, destructive=True"}, TESTS),
    "the wrong `Context`": (
        {"above": "from mcp.server.mcpserver import Context as SdkContext\n", "context": "SdkContext"},
        SCHEMA,
    ),
    "a word of the SDK's `Context`": ({"body": "await ctx.info(text)"}, SCHEMA),
    "a state that nobody opens": ({"context": "Context[Settings, int]"}, SCHEMA),
    "a forgotten contract": ({"text": "words: Text", "result": "words"}, SCHEMA),
    "an edit in `hardening/`": ({}, UNEDITED),
    "a secret as a default": ({}, TESTS),
}
# The same mistakes as others write them.
SPELLINGS: dict[str, list[tuple[str, str]]] = {
    "a call that blocks": [("from time import sleep\n", "sleep(1)"), ("import time as t\n", "t.sleep(1)")],
    "`requests`, `httpx`, `aiohttp`": [
        ("import requests as r\n", 'r.get("https://example.com", timeout=3)'),
        ("from requests import get\n", 'get("https://example.com", timeout=3)'),
        ("", "import requests"),
    ],
    "a global client": [
        (
            "from functools import lru_cache\n\nfrom httpx2 import AsyncClient\n\nCLIENT = lru_cache(AsyncClient)\n",
            "CLIENT()",
        ),
        ("import httpx2 as h\n\nCLIENT = None\n", "global CLIENT\n    CLIENT = CLIENT or h.AsyncClient()"),
    ],
    "a swallowed cancellation": [
        ("from contextlib import suppress\n", "with suppress(asyncio.CancelledError):\n        pass"),
        ("from asyncio import CancelledError as Over\n", "try:\n        pass\n    except Over:\n        pass"),
        (
            "from asyncio.exceptions import CancelledError\n",
            "try:\n        pass\n    except CancelledError:\n        pass",
        ),
        ("import anyio\n", "try:\n        pass\n    except anyio.get_cancelled_exc_class():\n        pass"),
    ],
    "a task that nobody waits for": [
        ("from asyncio import create_task\n", "create_task(asyncio.sleep(1))"),
        ("import asyncio as aio\n", "aio.ensure_future(aio.sleep(1))"),
    ],
    "a thread": [
        ("from threading import Thread\n", "Thread(target=len).start()"),
        ("import threading\n", "threading.Timer(1, len).start()"),
        ("from concurrent.futures import ThreadPoolExecutor\n", "ThreadPoolExecutor()"),
    ],
    "a signal handler": [
        ("from signal import SIGTERM, SIG_IGN, signal\n", "signal(SIGTERM, SIG_IGN)"),
        ("import signal as s\n", "s.signal(s.SIGTERM, s.SIG_IGN)"),
    ],
    "an end of the process": [
        ("from sys import exit as leave\n", "leave(1)"),
        ("import os\n", "os._exit(1)"),
    ],
    "the environment": [
        ("from os import environ\n", 'environ["HOME"]'),
        ("from os import getenv as get\n", 'get("HOME")'),
    ],
    "`print`": [("import builtins\n", "builtins.print(text)"), ("", "print(text, flush=True)")],
    "SQL with a value in it": [
        ("", "query = f\"SELECT id FROM notes WHERE body = '{text}'\"\n    await asyncio.sleep(len(query))"),
        ("", "await asyncio.sleep(len(\"SELECT id FROM notes WHERE body = '{}'\".format(text)))"),
        ("", 'await asyncio.sleep(len("DELETE FROM notes WHERE body = \'" + text + "\'"))'),
    ],
}
ROW = re.compile(r"^\| (?P<mistake>[^|]+) \| (?P<command>[^|]+): `(?P<said>[^|]+)` \| [^|]+ \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes Python find the project, whose contract is written."""
    found = pretend(project, tmp_path_factory.mktemp("installed"))
    run(*SCHEMA[:-1], "write", cwd=project, env=found)
    return found


@pytest.fixture(scope="module")
def project(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project, with one good tool of an author."""
    project = template.project(DEFAULT, tmp_path_factory.mktemp("mistakes") / "project")
    write(project)
    return project


def write(project: Path, **mistake: str) -> None:
    """Write the tool."""
    (project / "src/weather_server/tools/mine.py").write_text(MODULE.format(**GOOD | mistake), "utf-8")
    (project / "src/weather_server/tools/__init__.py").write_text(TOOLS, "utf-8")


def rows(project: Path) -> dict[str, tuple[str, str]]:
    """Return the table: the mistake, the command, and what it says."""
    page = (project / "docs/tools.md").read_text("utf-8")
    return {row["mistake"]: (row["command"], row["said"]) for row in ROW.finditer(page)}


def test_the_table_has_every_mistake(project: Path) -> None:
    """What is tried here stands in the page, and the other way round."""
    assert rows(project).keys() == MISTAKES.keys()


def test_the_good_tool_is_accepted(project: Path, environment: dict[str, str]) -> None:
    """Control: without a mistake nothing is said."""
    for command in (SCHEMA, TESTS):
        run(*map(str, command), cwd=project, env=environment)
    assert "unedited" in run(*UNEDITED, cwd=project).stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_caught(project: Path, environment: dict[str, str], mistake: str) -> None:
    """The command that the table names says what the table quotes."""
    change, command = MISTAKES[mistake]
    settings, app = project / "src/weather_server/settings.py", project / "src/weather_server/hardening/app.py"
    before = settings.read_text("utf-8"), app.read_text("utf-8")
    write(project, **change)
    if command is UNEDITED:
        app.write_text(before[1] + "# mine\n", "utf-8")
    elif "secret" in mistake:
        secret = '\n    token: SecretStr = Field(default=SecretStr("sk-live-0123456789"), description="A token.")\n'  # noqa: S105 - the mistake
        settings.write_text(f"{before[0]}{secret}".replace("import Field", "import Field, SecretStr"), "utf-8")
    try:
        done = run(*map(str, command), cwd=project, env=environment, check=False)
    finally:
        write(project)
        settings.write_text(before[0], "utf-8")
        app.write_text(before[1], "utf-8")

    named, said = rows(project)[mistake]
    assert done.returncode or command is UNEDITED
    assert said in done.stdout
    assert named == ("`make test`" if command is TESTS else "`make check`")


def test_other_spellings_are_caught_too(project: Path) -> None:
    """Under another name, imported from its module, or inside a function: the table's words are said of each line."""
    folder = project / "src/weather_server/tools"
    wanted = {}
    for mistake, spellings in SPELLINGS.items():
        for above, body in spellings:
            name = f"spelling_{len(wanted)}"
            (folder / f"{name}.py").write_text(MODULE.format(**GOOD | {"above": above, "body": body}), "utf-8")
            wanted[name] = rows(project)[mistake][1]
    try:
        said = run(*map(str, RUFF), cwd=project, check=False).stdout
    finally:
        for name in wanted:
            (folder / f"{name}.py").unlink()
    lines = {name: [line for line in said.splitlines() if f"/{name}.py:" in line] for name in wanted}

    assert {name for name, words in wanted.items() if not any(words in line for line in lines[name])} == set()
