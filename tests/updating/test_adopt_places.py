"""What the command for adoption cannot read or bring is said before anything is written; a license stays what it is."""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.author import commit
from support.harness import ROOT, git, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

BSD = (ROOT / "template/{% if license == 'BSD-3-Clause' %}LICENSE{% endif %}.jinja").read_text("utf-8")
OWN = "Copyright Example. All rights reserved.\nREDISTRIBUTION IS NOT PERMITTED. LIMITATION OF LIABILITY.\n"
GRANT = "Copyright 2020 Ada\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\n"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3\nTHERE IS NO WARRANTY, TO THE EXTENT PERMITTED BY LAW.\n"
# Metadata, the files beside it, and the license of the project.
GIVEN: dict[str, tuple[Any, dict[str, str], str]] = {
    "a text of BSD": (None, {"LICENSE": BSD}, "BSD-3-Clause"),
    "a text of one's own, in capitals": (None, {"LICENSE.md": OWN}, "Proprietary"),
    "a text of MIT without its name": (None, {"LICENCE": GRANT}, "MIT"),
    "a text that the template does not know": (None, {"COPYING": GPL}, "Proprietary"),
    "two texts": (None, {"LICENSE-MIT": GRANT, "LICENSE-BSD": BSD}, "Proprietary"),
    "a folder of texts": (None, {"LICENSES/MIT.txt": GRANT}, "Proprietary"),
    "a name": ("Apache License 2.0", {"LICENSE": GPL}, "Apache-2.0"),
    "a table": ({"text": "MIT License"}, {}, "MIT"),
    "a name that says too little": ("BSD", {"LICENSE": BSD}, "BSD-3-Clause"),
    "two names": ("MIT OR GPL-2.0-only", {"LICENSE": GRANT}, "Proprietary"),
}


@pytest.fixture
def adopt(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of the command."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts/adopt.py"))


@pytest.mark.parametrize("case", GIVEN)
def test_nobody_is_given_a_right(adopt: dict[str, Any], tmp_path: Path, case: str) -> None:
    """The license is that of the metadata or of the one text; a word in capitals names none, two texts name none."""
    said, texts, wanted = GIVEN[case]
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")

    assert adopt["license_of"](tmp_path, {"license": said} if said else {}) == wanted


def test_an_expression_of_ones_own_stays(adopt: dict[str, Any]) -> None:
    """A license that the template has no text for is carried over as the metadata names it."""
    ours = 'license = "LicenseRef-Proprietary"\nversion = "0.1.0"\n'
    merged = adopt["merge_metadata"]({"project": {"license": "GPL-3.0-or-later"}}, "", ours)

    assert 'license = "GPL-3.0-or-later"' in merged


def test_what_the_server_needs_is_installed_where_it_is_served(adopt: dict[str, Any]) -> None:
    """A package that the template has for development or an extra alone is named again, and so is an extra."""
    ours = (ROOT / "template/pyproject.toml.jinja").read_text("utf-8")
    needed = ["requests>=2.31", "SQLAlchemy[asyncio]>=2", "redis[hiredis]>=5,<6", "structlog>=24", "mcp[cli]>=1"]
    document = {"project": {"dependencies": needed}, "dependency-groups": {"dev": ["pytest>=8", "rich"]}}
    text = adopt["merge_metadata"](document, "", ours)

    assert 'below this line.\n    "requests>=2.31",\n    "SQLAlchemy[asyncio]>=2",\n    "redis[hiredis]",\n]' in text
    assert 'tools go below this line.\n    "rich",\n]' in text


def test_lines_that_are_no_packages_are_named(adopt: dict[str, Any], tmp_path: Path) -> None:
    """Another file, an index, an address: what is not taken over is in the list."""
    lines = "# ours\nhttpx\n\n-r more.txt\n./local\ngit+https://example.com/x.git\nrich  # pretty\n"
    (tmp_path / "requirements.txt").write_text(lines, "utf-8")
    document, said = adopt["old_metadata"].read(tmp_path)

    assert document["project"]["dependencies"] == ["httpx", "rich"]
    left = [one.rpartition("uv add: ")[2] for one in said if "not taken over" in one]
    assert left == ["-r more.txt", "./local", "git+https://example.com/x.git"]


def called(template: Template, project: Path | str, *options: str, **environment: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it said."""
    script = (sys.executable, ROOT / "scripts/adopt.py", project, *options)
    done = run(*script, "--template", template.repository, cwd=ROOT, check=False, env=environment)
    return done.returncode, done.stdout


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all", str(ROOT), str(ROOT / "docs")], ids=range(4))
def test_a_folder_that_is_no_project_is_refused(template: Template, folder: str) -> None:
    """Nothing, a folder that is not there, and the template itself are no projects that are fine."""
    code, said = called(template, folder)

    assert code == 1
    assert "make adopt PROJECT=/path/to/it" in said


@pytest.mark.slow
def test_names_that_clash_are_told_first(template: Template, tmp_path: Path) -> None:
    """A file for a folder, a link out of the project, a name in other letters: each is named, nothing is written."""
    outside, project = tmp_path / "outside", tmp_path / "project"
    outside.mkdir()
    for name in ("deploy", "Readme.md", "Makefile/own", "GNUmakefile", "docker-compose.yml", ".ruff.toml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x\n", "utf-8")
    (project / ".python-version").write_text("3.10\n", "utf-8")
    (project / "scripts").symlink_to(outside)
    (project / "ruff.toml").symlink_to(outside / "nothing")
    git("init", "--quiet", cwd=project)
    commit(project, "As it was")

    code, said = called(template, project)
    refused, why = called(template, project, "--write")

    for words in (
        "deploy: a file, and the template has a folder",
        "Readme.md: one file with README.md on macOS",
        "Makefile: a folder, and the template has a file",
        "scripts: a link, and the template has a folder",
    ):
        assert f"before the files can come: {words}" in said, said
        assert words in why
    for words in ("GNUmakefile: make reads it", "docker-compose.yml: compose.yaml", ".ruff.toml: ruff", '"3.10"'):
        assert words in said, said
    assert (code, refused) == (0, 1)
    assert git("status", "--porcelain", cwd=project) == ""
    assert list(outside.iterdir()) == []


@pytest.mark.slow
def test_what_cannot_be_read_or_written_is_said(template: Template, tmp_path: Path) -> None:
    """Metadata in another encoding, a folder of scratch files that is full or gone, a terminal for ASCII alone."""
    git("init", "--quiet", cwd=tmp_path)
    project = tmp_path / "services/one"
    project.mkdir(parents=True)
    (project / "server.py").write_text("@mcp.tool\ndef añadir(): ...\n", "utf-8")
    commit(tmp_path, "As it was")

    code, said = called(template, project, PYTHONIOENCODING="ascii")
    assert code == 0
    assert "a\\xf1adir: make it async" in said
    assert "renovate.json: read at the root of a repository only, and this project is in services/one/" in said

    script = (sys.executable, ROOT / "scripts/adopt.py", project)
    address = run(*script, "--template", "https://127.0.0.1:9/x", cwd=ROOT, check=False)
    assert (address.returncode, "begins with git+" in address.stdout) == (1, True)

    (project / "requirements.txt").write_bytes("httpx\n".encode("utf-16"))
    assert called(template, project)[1].startswith("The metadata of the project cannot be read (requirements.txt)")
    (project / "requirements.txt").write_text("httpx\n", "utf-8")
    commit(tmp_path, "Mend it")
    limited = ("bash", "-c", 'ulimit -f 8 && exec "$@"', "bash", *script, "--template", template.repository, "--write")
    full = run(*limited, cwd=ROOT, check=False)
    assert full.returncode == 1
    assert full.stdout.splitlines()[-1].endswith("git clean --force -d .")
    assert git("status", "--porcelain", cwd=project) == ""
