"""What linter, type checker, tests and packaging of a project are told: everything is on but what is listed here."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.harness import DEFAULT, run, tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

# What no file is asked for.
IGNORED = {"ANN401", "CPY001", "PLC0415", "COM812", "D105", "D107", "EM101", "EM102", "TRY003", "TID252"}
# What some files are not asked for. None of it is about security but three: processes, `assert`, an address.
OF_FILES = {
    "src/*/__main__.py": {"E501"},
    "tests/conftest.py": {"E501"},
    "scripts/**": {"TID251", "INP001", "S603"},
    "src/**": {"TC001", "TC002", "TC003"},
    "src/*/migrations/**": {"INP001"},
    "tests/**": {
        *("TID251", "TC001", "TC002", "TC003", "ASYNC110", "S104"),
        *("E402", "S603", "INP001", "PLR2004", "S101"),
    },
}
# What escapes the deadline, the drain or the limits of a call, as an author would write it, and the cure.
BANNED = {
    "import _thread": "ctx.thread",
    "import aiohttp": "ctx.http",
    "import anyio.from_thread": "ctx.thread",
    "import anyio.to_thread": "ctx.thread",
    "import concurrent.futures": "ctx.thread",
    "import httpx": "ctx.http",
    "import multiprocessing": "ctx.thread",
    "import psycopg": "connection(ctx)",
    "import requests": "ctx.http",
    "import urllib.request": "ctx.http",
    "import urllib3": "ctx.http",
    "anyio.get_cancelled_exc_class": "finally",
    "asyncio.CancelledError": "finally",
    "asyncio.create_task": "ctx.background",
    "asyncio.ensure_future": "ctx.background",
    "asyncio.exceptions.CancelledError": "finally",
    "asyncio.to_thread": "ctx.thread",
    "asyncpg.connect": "connection(ctx)",
    "asyncpg.create_pool": "connection(ctx)",
    "http.client.HTTPConnection": "ctx.http",
    "http.client.HTTPSConnection": "ctx.http",
    "httpx2.AsyncClient": "ctx.http",
    "httpx2.Client": "ctx.http",
    "logging.basicConfig": "log.info",
    "logging.disable": "MCP_LOG_LEVEL",
    "os._exit": "errors",
    "os.abort": "errors",
    "os.environ": "settings.py",
    "os.environb": "settings.py",
    "os.getenv": "settings.py",
    "signal.signal": "lifespan",
    "sys.exit": "errors",
    "threading.Thread": "ctx.thread",
    "threading.Timer": "ctx.thread",
    "time.sleep": "asyncio.sleep",
}
MODULES = (
    "anyio",
    "asyncio",
    "asyncio.exceptions",
    "asyncpg",
    "http.client",
    "httpx2",
    "logging",
    "os",
    "signal",
    "sys",
    "threading",
    "time",
)
IMPORTS = "".join(f"import {name}\n" for name in MODULES)
PYTEST = {
    "testpaths": "tests",
    "pythonpath": "src tests/support",
    "addopts": "--import-mode=importlib --strict-markers --strict-config",
    "asyncio_mode": "auto",
    "asyncio_default_fixture_loop_scope": "function",
    "timeout": "300",
}
PYTHON = ["python", "pyi"]
HOOKS = {
    "ruff format": "uv run ruff format --force-exclude",
    "ruff check": "uv run ruff check --fix --force-exclude",
    "pyright": "uv run pyright",
    "no conflict markers": "git diff --cached --check",
}


@pytest.fixture(scope="module")
def project(template: Template) -> Path:
    """A project to look at."""
    return template.render(DEFAULT)


@pytest.fixture(scope="module")
def lint(project: Path) -> dict[str, Any]:
    """What the linter is told."""
    return tomllib.loads((project / "ruff.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def metadata(project: Path) -> dict[str, Any]:
    """What the package says of itself."""
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))


def test_every_rule_is_on_but_those_that_are_listed(lint: dict[str, Any]) -> None:
    """No rule more is left out, for all files or for some, and no folder is."""
    rules = lint["lint"]

    assert rules["select"] == ["ALL"]
    assert set(rules["ignore"]) == IGNORED
    assert {files: set(codes) for files, codes in rules["per-file-ignores"].items()} == OF_FILES
    assert (lint["line-length"], lint["target-version"]) == (120, "py311")
    assert lint["format"] == {"exclude": ["src/*/__main__.py", "tests/conftest.py"]}
    assert lint.keys() == {"line-length", "target-version", "lint", "format"}
    assert rules["flake8-type-checking"] == {
        "runtime-evaluated-base-classes": ["pydantic.BaseModel", "pydantic_settings.BaseSettings"]
    }
    assert rules["isort"] == {"known-first-party": ["hardening"]}
    assert rules["pydocstyle"] == {"convention": "google"}


@pytest.mark.parametrize("written", BANNED)
def test_what_escapes_a_call_is_named_with_its_cure(project: Path, written: str) -> None:
    """The linter refuses it in a tool, and says what to write."""
    line = written if written.startswith("import ") else f"{IMPORTS}print({written})"
    given = ("--config", project / "ruff.toml", "--no-cache", "--select", "TID251", "--output-format", "json")
    name = project / "src/weather_server/tools/mine.py"

    done = run(
        tool("ruff"), "check", *given, "--stdin-filename", name, "-", cwd=project, given=f"{line}\n", check=False
    )

    messages = [found["message"] for found in json.loads(done.stdout)]
    assert len(messages) == 1
    assert BANNED[written] in messages[0]


def test_nothing_is_banned_without_a_row(lint: dict[str, Any]) -> None:
    """Each name of the list is tried above."""
    banned = lint["lint"]["flake8-tidy-imports"]["banned-api"]

    assert banned.keys() == {written.removeprefix("import ") for written in BANNED}
    assert lint["lint"]["flake8-tidy-imports"].keys() == {"banned-api"}


def test_types_are_strict_where_the_author_writes(project: Path) -> None:
    """The package is checked strictly, its tests as usual, for the oldest Python that is supported."""
    told = json.loads((project / "pyrightconfig.json").read_text("utf-8"))

    assert told == {
        "include": ["src", "tests"],
        "extraPaths": ["src", "src/weather_server", "tests/support"],
        "strict": ["src"],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.11",
    }


def test_a_warning_fails_a_test_and_a_hanging_one_ends(project: Path) -> None:
    """All warnings are errors but two that blame a test for another's; unknown marks and options are refused."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((project / "pytest.ini").read_text("utf-8"))
    told = dict(parser["pytest"])
    first, *others = [line for line in told.pop("filterwarnings").splitlines() if line and not line.startswith("#")]

    assert told == PYTEST
    assert first == "error"
    assert [other.split(":")[:2] for other in others] == [
        ["default", ""],
        ["ignore", "Exception ignored in. <posix.ScandirIterator"],
    ]
    assert [other.rpartition(":")[2] for other in others] == ["pytest.PytestUnraisableExceptionWarning"] * 2


def test_a_commit_is_looked_at_by_commands_of_the_project(project: Path) -> None:
    """No hook comes from somewhere else, and each sees what it needs."""
    (repository,) = yaml.safe_load((project / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]

    assert repository["repo"] == "local"
    assert {hook["name"]: hook["entry"] for hook in repository["hooks"]} == HOOKS
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert {hook["id"]: hook.get("types_or") for hook in repository["hooks"]} == {
        "format": PYTHON,
        "lint": PYTHON,
        "types": PYTHON,
        "conflicts": None,
    }
    whole = {hook["id"] for hook in repository["hooks"] if hook.get("pass_filenames") is False}
    assert whole == {"types", "conflicts"}


def test_each_range_ends_below_the_next_major_version(metadata: dict[str, Any]) -> None:
    """What has not been tried is not installed: not the next major version, and no version without a floor."""
    groups = metadata["dependency-groups"]
    declared = [
        *metadata["project"]["dependencies"],
        *(entry for group in metadata["project"]["optional-dependencies"].values() for entry in group),
        *(entry for entry in groups["hardening"]),
        *metadata["build-system"]["requires"],
    ]
    wrong: list[str] = []
    for entry in declared:
        found = re.match(r"[\w-]+(?:\[\w+\])?>=(\d+)\.[\d.]+,<(\d+)(?:;|$)", entry)
        if not found or int(found[2]) != int(found[1]) + 1:
            wrong.append(entry)

    assert wrong == []
    assert groups["dev"] == [{"include-group": "hardening"}]
    assert sorted(metadata["project"]["optional-dependencies"]) == ["migrations", "otel"]


def test_the_package_says_what_it_is(metadata: dict[str, Any]) -> None:
    """One command, one build back end, the Pythons that are tested, the files of the licence."""
    project = metadata["project"]

    assert project["requires-python"] == ">=3.11"
    assert project["readme"] == "README.md"
    assert project["license-files"] == ["LICENSE"]
    assert project["version"] == "0.1.0"
    assert project["scripts"] == {"weather-server": "weather_server.__main__:main"}
    assert metadata["build-system"]["build-backend"] == "uv_build"
