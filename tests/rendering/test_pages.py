"""Every page speaks of files, tests, settings and commands that exist; the runbook has tests of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
DECISIONS = sorted((ROOT / "docs/decisions").iterdir())
PAGES += [f"docs/decisions/{path.name}" for path in DECISIONS]
OF_A_PROJECT = ["README.md", "docs/settings.md"]
TESTS = (ROOT / "template/tests/hardening", ROOT / "tests")
HARDENING = ROOT / "template/src/{{ package_name }}/hardening"
# What stands for a name that the reader knows, and files that authors add.
EXAMPLES = re.compile(r"[<*…]|my_server|path/to|greet")
ADDED = {".env", ".ruff.toml", "compose.override.yaml", "local.mk", "uv.lock"}
# What a project that adopts the template had before, and files of a target that is not among the default ones.
ADDED |= {"requirements.txt", "setup.py", "deploy/helm/", "deploy/helm/values.production.yaml"}
PATH = re.compile(r"(?<![\w/.])(?:[\w.-]+/)*[\w.-]+(?:\.(?:py|yaml|yml|json|md|toml|lua|ini|sh|txt)|/)(?![\w/])")


def prose(text: str) -> str:
    """Return a page without its blocks of code, and without releases of the past, whose files have moved since."""
    text = re.split(r"^## \d", text, maxsplit=1, flags=re.MULTILINE)[0] if text.startswith("# Changelog") else text
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return where the links to files lead."""
    found = re.findall(r"\]\(<?([^)>]+)>?\)", prose(page.read_text("utf-8")))
    return [link.partition("#")[0] for link in found if not re.match(r"https?:|#", link)]


def named(page: Path) -> set[str]:
    """Return the paths that a page names as code."""
    quoted = re.findall(r"`([^`]+)`", prose(page.read_text("utf-8")))
    return {path for code in quoted if not EXAMPLES.search(code) and " " not in code for path in PATH.findall(code)}


def wrong(page: Path, *places: Path) -> list[str]:
    """Return the links and the paths of a page that lead nowhere."""
    dead = [link for link in links(page) if not (page.parent / link).exists()]
    return dead + sorted(path for path in named(page) - ADDED if not any((place / path).exists() for place in places))


@pytest.mark.parametrize("name", PAGES)
def test_links_and_paths_exist(template: Template, name: str) -> None:
    """A link leads to a file; a path is one of this repository, or of a project made from it."""
    project = template.render(DEFAULT)
    (package,) = (path.parent for path in project.glob("src/*/hardening"))
    inside = ("", ".github/workflows", "tests/hardening", package, package / "hardening")
    own = (ROOT, ROOT / "docs", ROOT / "tests", ROOT / "tests/rendering")

    assert wrong(ROOT / name, *own, *(project / path for path in inside)) == []


@pytest.mark.parametrize("name", OF_A_PROJECT)
def test_links_and_paths_of_a_project_exist(template: Template, name: str) -> None:
    """A project's pages speak of the project alone."""
    project = template.render(DEFAULT)
    (package,) = (path.parent for path in project.glob("src/*/hardening"))

    assert wrong(project / name, project, package, ROOT / "tests") == []


@pytest.mark.parametrize("name", [*PAGES, "template/README.md.jinja", "template/docs/operations.md"])
def test_commands_exist(name: str) -> None:
    """What is typed after `make` is a target, here or in a project."""
    makefiles = [(ROOT / folder / "Makefile").read_text("utf-8") for folder in (".", "template")]
    targets = {target for text in makefiles for target in re.findall(r"^([a-z]+):", text, re.MULTILINE)}
    lines = re.findall(r"(?:`|\$ |^|&& )make ((?:[a-z]+ ?)+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)

    assert {target for line in lines for target in line.split()} - targets == set()


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_the_form_of_all_decisions(page: Path) -> None:
    """Number and title, date, status, context, decision, consequences: in this order, and nothing else."""
    number = DECISIONS.index(page) + 1
    form = (
        rf"# {number}\. [A-Z].+\n\nDate: 20\d\d-\d\d-\d\d\n\nStatus: (?:accepted|superseded).*\n"
        r"\n## Context\n\n(?:[^#\n].*\n|\n)+## Decision\n\n(?:[^#\n].*\n|\n)+## Consequences\n\n(?:[^#\n].*\n|\n)+"
    )

    assert page.name.startswith(f"{number:04}-")
    assert re.fullmatch(form, page.read_text("utf-8"))
