"""What comes out is text as a careful person would have written it."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import tokenize
import tomllib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.harness import AWKWARD, DEFAULT, ROOT, files, questions, run, tool
from support.ownership import owners
from support.rows import EVERY_ROW, ROWS

if TYPE_CHECKING:
    from support.harness import Template

TEMPLATE = ROOT / "template"
OF_COPIER = re.compile(
    r"\{%|\{\{-?\s*(_copier|" + "|".join(questions()) + r")\b",
)
ILLEGAL_ON_WINDOWS = re.compile(r'[<>:"|?*\\]|[ .]$')
WINDOW = 7


@pytest.fixture(params=EVERY_ROW)
def project(request: pytest.FixtureRequest, template: Template) -> Path:
    """One project for each row of answers."""
    return template.render(ROWS[request.param])


def test_formatters_change_nothing(project: Path) -> None:
    """A first run of the formatter leaves the pristine project as it is."""
    run(tool("ruff"), "format", "--check", "--no-cache", cwd=project)


def test_lines_are_clean(project: Path) -> None:
    """Lines end with a line feed and without blanks; a file ends with one line feed, or is empty."""
    unclean = []
    for name in files(project):
        text = (project / name).read_bytes().decode("utf-8")
        bad_end = text and (not text.endswith("\n") or text.endswith("\n\n") or text.startswith("\n"))
        if bad_end or "\r" in text or re.search(r"[ \t]+$", text, re.MULTILINE):
            unclean.append(name)

    assert unclean == []


def test_no_jinja_is_left(project: Path) -> None:
    """Neither a file nor a path holds a tag or an answer that was not filled in."""
    left = [
        name
        for name in files(project)
        if OF_COPIER.search(name) or OF_COPIER.search((project / name).read_text("utf-8"))
    ]

    assert left == []


def test_paths_are_legal_everywhere(project: Path) -> None:
    """No path holds a character that Windows refuses, and none differs from another by case only."""
    names = files(project)

    assert [name for name in names if any(map(ILLEGAL_ON_WINDOWS.search, PurePosixPath(name).parts))] == []
    assert len({name.lower() for name in names}) == len(names)


def test_no_text_is_repeated(project: Path) -> None:
    """No seven lines occur twice in a file of ours: an update could patch the wrong ones."""
    repeated = []
    for name in files(project):
        # Examples of a page are whole files, which begin alike.
        if owners(name) == ["ours"] and name != "docs/tools.md":
            lines = (project / name).read_text("utf-8").splitlines()
            windows = Counter(tuple(lines[at : at + WINDOW]) for at in range(len(lines) - WINDOW + 1))
            repeated += [(name, window) for window, count in windows.items() if count > 1 and any(window)]

    assert repeated == []


def test_every_format_parses(project: Path) -> None:
    """TOML, YAML, JSON and Python are valid, whatever was answered."""
    parsers: dict[str, Any] = {
        ".json": json.loads,
        ".py": ast.parse,
        ".toml": tomllib.loads,
        ".yaml": lambda text: list(yaml.safe_load_all(text)),
        ".yml": lambda text: list(yaml.safe_load_all(text)),
    }
    seen = set()
    for name in files(project):
        parse = parsers.get(PurePosixPath(name).suffix)
        # A template of Helm's is YAML only when it is rendered; tests/deploying/test_helm.py does.
        if parse and not name.startswith("deploy/helm/templates/"):
            parse((project / name).read_text("utf-8"))
            seen.add(PurePosixPath(name).suffix)

    assert {".json", ".py", ".toml", ".yml"} <= seen


@pytest.mark.parametrize("row", EVERY_ROW)
def test_metadata_says_what_was_answered(template: Template, row: str) -> None:
    """Names, text and addresses arrive in the metadata letter for letter; empty ones are left out."""
    answers = yaml.safe_load((template.render(ROWS[row]) / ".copier-answers.yml").read_text("utf-8"))
    metadata = tomllib.loads((template.render(ROWS[row]) / "pyproject.toml").read_text("utf-8"))["project"]
    name, package = answers["package_name"].replace("_", "-"), answers["package_name"]
    author = {"name": answers["author_name"], "email": answers["author_email"]}
    given = {key: value for key, value in author.items() if value}

    assert metadata["name"] == name
    assert metadata["description"] == answers["description"]
    assert metadata["scripts"] == {name: f"{package}.__main__:main"}
    assert metadata.get("authors", []) == ([given] if given else [])
    assert metadata.get("urls", {}).get("Repository", "") == answers["repository_url"]


@pytest.mark.parametrize("license_name", ["MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"])
def test_one_license_without_a_year(template: Template, license_name: str) -> None:
    """There is one license text, with its owner; no year, which would differ at the next rendering."""
    text = (template.render({"license": license_name, "author_name": "Ada O'Brien"}) / "LICENSE").read_text("utf-8")

    assert license_name == "Apache-2.0" or "Copyright (c) Ada O'Brien" in text
    assert not re.search(r"20[2-9]\d", text)


def test_awkward_answers_are_at_their_limits() -> None:
    """The row of awkward answers goes to the edge of what is legal."""
    assert len(AWKWARD["package_name"]) == 40
    assert len(AWKWARD["description"]) == 100


def test_python_is_plain() -> None:
    """No Jinja and no suffix in Python, workflows, Kubernetes bases and Lua: they are linted as they are."""
    plain = [
        path
        for path in TEMPLATE.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (
            {".py", ".lua"} & set(path.suffixes)
            or "workflows" in path.parts
            or {"base", "components"} & set(path.parts)
        )
    ]

    assert plain
    assert [path for path in plain if path.suffix == ".jinja"] == []
    assert [path for path in plain if OF_COPIER.search(path.read_text("utf-8"))] == []


def test_few_files_are_templated() -> None:
    """A dozen files need Jinja, licences apart; every other one is what it looks like."""
    templated = [path.name for path in TEMPLATE.rglob("*.jinja") if "LICENSE" not in path.name]

    assert len(templated) <= 12


def test_names_in_the_template_are_legal_on_windows() -> None:
    """Conditions in file names use nothing that Windows refuses, so the template can be cloned there."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout.split("\0")

    assert [name for name in names if any(map(ILLEGAL_ON_WINDOWS.search, PurePosixPath(name).parts))] == []


@pytest.mark.parametrize(
    "path", sorted((TEMPLATE / "src").rglob("hardening/**/*.py")), ids=lambda path: "/".join(path.parts[-2:])
)
def test_a_protection_fits_on_a_few_screens(path: Path) -> None:
    """A module of the hardening has at most 150 lines of code: neither blank nor docstring nor comment."""
    # The probe imports nothing of the server and runs as one file on any machine, so it cannot be split.
    longest = 700 if path.name == "probe.py" else 150

    assert lines_of_code(path.read_text("utf-8")) <= longest


def lines_of_code(text: str) -> int:
    """Count the lines that hold code; imports count."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        for number in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    kinds = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {number for token in tokens if token.type not in kinds for number in range(token.start[0], token.end[0] + 1)}
    return len(code - prose)


def test_the_template_itself_is_formatted() -> None:
    """The plain Python in the template passes the rules that it ships."""
    run(tool("ruff"), "format", "--check", "--no-cache", "template", cwd=ROOT)
    # Only rendering gives the package its name, and its tools an __init__.py.
    run(tool("ruff"), "check", "--no-cache", "--extend-ignore", "INP001,N999", "template", cwd=ROOT)


def test_dependencies_here_are_those_of_a_project(template: Template) -> None:
    """The hardening's tests run in place with the very ranges that a project gets."""
    here = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["render"]
    there = tomllib.loads((template.render(DEFAULT) / "pyproject.toml").read_text("utf-8"))

    assert here == there["project"]["dependencies"] + there["dependency-groups"]["hardening"]


def test_every_dependency_has_a_floor_and_a_ceiling(template: Template) -> None:
    """A range starts at a version that was tested and ends before the next major one."""
    loaded = tomllib.loads((template.render(DEFAULT) / "pyproject.toml").read_text("utf-8"))
    entries = [*loaded["project"]["dependencies"], *loaded["dependency-groups"]["hardening"]]
    for extra in loaded["project"]["optional-dependencies"].values():
        entries += extra
    entries += loaded["build-system"]["requires"]

    assert [entry for entry in entries if not re.fullmatch(r"[^<>=]+>=[\d.]+,<\d+(; .+)?", entry)] == []


def test_no_package_host_is_named() -> None:
    """No file names the host that packages come from: an author's organisation may have its own."""
    hosts = re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs|npmjs\.org")
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout.split("\0")
    named = [
        name
        for name in filter(None, tracked)
        if (ROOT / name).is_file() and name != "tests/rendering/test_text.py" and hosts.search(_text(ROOT / name))
    ]

    assert named == []


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


def test_tools_leave_nothing_behind(template: Template, tmp_path: Path) -> None:
    """What linters and tests write is ignored by git, so `git status` stays clean after `make check`."""
    project = template.project(DEFAULT, tmp_path / "project")
    for name in (".venv", ".ruff_cache", ".pytest_cache", ".hypothesis", "src/weather_server/__pycache__", "dist"):
        (project / name).mkdir()
        shutil.copy(project / "README.md", project / name)

    assert run("git", "status", "--porcelain", cwd=project).stdout == ""
