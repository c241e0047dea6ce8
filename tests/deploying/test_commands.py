"""What a person copies from the pages of a project exists: commands, flags, variables of make, lines of the log."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
from support.programs import find, run

if TYPE_CHECKING:
    from pathlib import Path

PAGES = ("README.md", "docs/operations.md", "docs/first-deployment.md", "docs/elsewhere.md", "docs/tools.md")


@pytest.fixture(scope="module")
def pages(project: Path) -> str:
    """Every page, as one text; lines that go on are one line."""
    return "\n".join((project / page).read_text("utf-8") for page in PAGES).replace("\\\n", " ")


def commands(text: str, program: str) -> list[list[str]]:
    """Return the words of each command of a program, in blocks and in running text, up to a pipe or a comment."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    typed = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found: list[list[str]] = []
    for line in quoted + typed:
        for part in re.split(r"\|\s|\s#\s|;|&&", line):
            match = re.search(rf"(?:^|\s){re.escape(program)}\s+(.*)", part)
            found += [shlex.split(match[1].replace("…", "x"))] if match else []
    return found


@cache
def flags(*command: str) -> frozenset[str]:
    """Return the flags that a program says it has."""
    done = run(*command, "--help")
    assert done.returncode == 0, done.stderr
    return frozenset(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", done.stdout))


def test_every_command_of_kubectl_exists(pages: str) -> None:
    """Each with a flag that it has, or that all have."""
    kubectl = find("kubectl")
    everywhere = frozenset(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", run(kubectl, "options").stdout))
    groups = {"create", "rollout"}
    typed = commands(pages, "kubectl")
    wrong: list[str] = []
    for words in typed:
        names = [word for word in words if not word.startswith(("-", "$"))]
        sub = next(name for name in names if re.fullmatch("[a-z]+", name) and name not in {"gateway", "mcp-probe"})
        command = [sub]
        if sub in groups and names.index(sub) + 1 < len(names):
            command.append(names[names.index(sub) + 1])
        if command == ["create", "secret"]:
            command.append("generic")
        known = flags(kubectl, *command) | everywhere
        wrong += [
            f"kubectl {' '.join(words)}" for word in words if word.startswith("--") and word.split("=")[0] not in known
        ]

    assert len(typed) > 15
    assert wrong == []
    # The job of the probe lives elsewhere than the server, whose namespace the shell knows.
    of_the_probe = [words for words in typed if "mcp-server-probe" in " ".join(words)]
    assert [words for words in of_the_probe if "mcp-probe" not in words] == []
    assert len(of_the_probe) > 1


def test_every_command_of_the_project_exists(project: Path, pages: str) -> None:
    """`probe`, `migrate`, `stdio` and the others, with flags that they take."""
    main = (project / "src/weather_server/__main__.py").read_text("utf-8")
    typed = [
        words for name in ("weather-server", "-m your_server", "-m your_package") for words in commands(pages, name)
    ]
    probe = (project / "src/weather_server/hardening/probe.py").read_text("utf-8")

    assert len(typed) >= 4
    for words in typed:
        assert f'"{words[0]}"' in main, words
        assert [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in probe] == [], words


def test_every_variable_of_make_is_read(project: Path, pages: str) -> None:
    """`make probe URL=…` says something that the Makefile looks at."""
    makefile = (project / "Makefile").read_text("utf-8")
    given = {
        (words[0], word.split("=")[0])
        for words in commands(pages, "make")
        for word in words
        if re.match("[A-Z]+=", word)
    }

    assert len(given) > 4
    assert {pair for pair in given if not re.search(rf"\b{pair[1]}\b", makefile)} == set()


def test_every_word_of_the_log_is_written(project: Path, pages: str) -> None:
    """What the pages call a line is a line that some module writes."""
    source = "\n".join(path.read_text("utf-8") for path in (project / "src").rglob("*.py"))
    lines = set(re.findall(r"[Ll]ines? `([a-z][a-z :-]+)`", pages)) | set(
        re.findall(r"`([a-z][a-z :-]+)` in the log", pages)
    )

    assert len(lines) > 5
    assert {line for line in lines if f'"{line}' not in source} == set()


def test_a_propagator_that_is_not_installed_stops_no_command(project: Path) -> None:
    """Platforms set the variable for every workload; OpenTelemetry itself raises when it is imported."""
    given = {"PYTHONPATH": str(project / "src"), "OTEL_PROPAGATORS": "tracecontext,baggage,xray"}
    done = run(sys.executable, "-m", "weather_server", "settings", "--help", env=given)

    assert done.returncode == 0, done.stderr
    assert done.stderr == "OTEL_PROPAGATORS: not installed, left out: xray\n"


@pytest.mark.parametrize("signal", ["TRACER", "METER"])
@pytest.mark.parametrize("name", ["made_up", "sdk_tracer_provider"])
def test_a_provider_of_opentelemetry_stops_no_command(project: Path, signal: str, name: str) -> None:
    """One that is not installed is a traceback at OpenTelemetry's import; one that is would take the server's spans."""
    given = {"PYTHONPATH": str(project / "src"), f"OTEL_PYTHON_{signal}_PROVIDER": name}
    done = run(sys.executable, "-m", "weather_server", "settings", "--help", env=given)

    assert done.returncode == 0, done.stderr
    assert done.stderr == f"OTEL_PYTHON_{signal}_PROVIDER: left out, the server has its own\n"
