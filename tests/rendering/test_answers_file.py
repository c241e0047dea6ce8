"""The answers file leads update bots and colleagues back to the template, and gives nothing away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import NEXT_RELEASE, git, run, tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

PUBLIC = "https://github.com/example/template"
CREDENTIALS = ("ada:secret", "secret", "ada:p@secret")


@pytest.fixture
def forge(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git find the template on this machine when it is asked for one on a forge."""
    git("clone", "--quiet", "--bare", template.repository, tmp_path / "forge/example/template.git", cwd=tmp_path)
    prefixes = [
        "https://github.com/",
        "https://gitlab.com/",
        "ssh://git:secret@github.com/",
        *(f"https://{one}@github.com/" for one in CREDENTIALS),
    ]
    rewritten = "".join(f"    insteadOf = {prefix}\n" for prefix in prefixes)
    (tmp_path / "gitconfig").write_text(f'[url "{tmp_path}/forge/"]\n{rewritten}', "utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.usefixtures("forge")
@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        ("gh:example/template", PUBLIC),
        (f"{PUBLIC}.git", f"{PUBLIC}.git"),
        ("gl:example/template", "https://gitlab.com/example/template"),
        *((f"https://{one}@github.com/example/template.git", f"{PUBLIC}.git") for one in CREDENTIALS),
        (f"git+https://{CREDENTIALS[0]}@github.com/example/template", f"git+{PUBLIC}"),
        ("ssh://git:secret@github.com/example/template.git", "ssh://git@github.com/example/template.git"),
    ],
)
def test_the_source_is_an_address_for_everybody(tmp_path: Path, typed: str, recorded: str) -> None:
    """Short forms are written out, because bots do not know them; credentials are left out."""
    run(tool("copier"), "copy", "--defaults", typed, "project", cwd=tmp_path)

    text = (tmp_path / "project/.copier-answers.yml").read_text("utf-8")
    assert yaml.safe_load(text)["_src_path"] == recorded
    assert yaml.safe_load(text)["_commit"] == NEXT_RELEASE
    assert "secret" not in text


@pytest.mark.usefixtures("forge")
def test_the_recorded_source_can_be_asked_for_updates(tmp_path: Path) -> None:
    """What is recorded is enough to look for a newer template."""
    project = tmp_path / "project"
    run(tool("copier"), "copy", "--defaults", "gh:example/template", project, cwd=tmp_path)
    git("init", "--quiet", cwd=project)

    found = json.loads(run(tool("copier"), "check-update", "--output-format", "json", cwd=project).stdout)
    assert found["update_available"] is False
