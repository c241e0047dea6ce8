"""Authors hear of a release, and of what it cannot change for them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from support.author import TOOL
from support.harness import DEFAULT, NEXT_RELEASE, ROOT, git, run, tool
from support.installed import pretend
from support.releases import TAGS
from support.workflow import Run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template
    from updating.conftest import Project

WORKFLOW = ".github/workflows/template-update.yml"
# Keeps issues in a file, and notes how it was called.
GH = """#!/usr/bin/env bash
echo "$*" >> "$ISSUES.log"
case "$2" in
  list) cat "$ISSUES" ;;
  create) printf '[{"title": "%s"}]' "$6" > "$ISSUES" ;;
esac
"""


@pytest.fixture
def public(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The template behind an address that everybody can ask, for as long as the test runs."""
    git("clone", "--quiet", "--bare", repository, tmp_path / "forge/example/template.git", cwd=tmp_path)
    rewritten = f'[url "{tmp_path}/forge/"]\n    insteadOf = https://github.com/\n'
    (tmp_path / "gitconfig").write_text(
        f"[include]\n    path = {os.environ['GIT_CONFIG_GLOBAL']}\n{rewritten}", "utf-8"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    return "https://github.com/example/template.git"


def recorded(project: Path, **changes: str) -> None:
    """Change what the answers file says of the template."""
    answers = project / ".copier-answers.yml"
    answers.write_text(yaml.safe_dump(yaml.safe_load(answers.read_text("utf-8")) | changes), "utf-8")


def test_a_newer_version_is_one_issue(project: Project, public: str, tmp_path: Path) -> None:
    """However often it looks, by a clone over SSH too; nothing newer is no issue, an address of a folder a failure."""
    there = project(TAGS[-1])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH, "utf-8")
    (tmp_path / "bin/gh").chmod(0o755)
    issues = tmp_path / "issues"
    issues.write_text("[]", "utf-8")
    workflow = ROOT / "template" / WORKFLOW

    def look(name: str) -> str:
        seen = Run(workflow, "look", there, tmp_path / f"{name}-look")()
        assert seen.failed == [], seen.said
        return seen.outputs["latest"]

    def tell(latest: str, name: str) -> None:
        told, environment = {"needs.look.outputs.latest": latest}, {"ISSUES": str(issues), "GITHUB_REPOSITORY": "a/b"}
        done = Run(workflow, "tell", there, tmp_path / f"{name}-tell", (tmp_path / "bin",), told, environment)()
        assert done.failed == [], done.said

    private = Run(workflow, "look", there, tmp_path / "private-look")()
    addresses = {"https": public, "SSH": public.replace("https://github.com/", "git@github.com:")}
    addresses["SSH with a port"] = public.replace("https://", "ssh://git@").replace(".com/", ".com:2222/")
    for name, address in addresses.items():
        recorded(there, _src_path=address)
        tell(look(name), name)
    recorded(there, _commit=NEXT_RELEASE)
    current = look("current")

    assert private.failed == ["Ask for the latest version"]
    assert "nobody can look from here" in private.said
    assert current == ""
    title = f"Update to version {NEXT_RELEASE.removeprefix('v')} of the template"
    assert json.loads(issues.read_text("utf-8")) == [{"title": title}]
    calls = (tmp_path / "issues.log").read_text("utf-8").splitlines()
    assert [call.split()[1] for call in calls] == ["list", "create", "list", "list"]


def test_looking_can_change_nothing() -> None:
    """The job that runs Copier may read the repository; the one that may write writes issues, and has no files."""
    text = (ROOT / "template" / WORKFLOW).read_text("utf-8")
    loaded = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes texts only

    assert set(loaded["on"]) == {"schedule", "workflow_dispatch"}
    assert loaded["permissions"] == {}
    assert {name: job["permissions"] for name, job in loaded["jobs"].items()} == {
        "look": {"contents": "read"},
        "tell": {"issues": "write"},
    }
    assert loaded["jobs"]["look"]["steps"][0]["with"]["persist-credentials"] == "false"
    assert "checkout" not in json.dumps(loaded["jobs"]["tell"])
    assert "secrets." not in text
    assert "trust" not in text


def test_renovate_groups_and_labels(template: Template) -> None:
    """Pull requests for the template are one group with a label, and a person merges them."""
    file = template.render(DEFAULT) / "renovate.json"
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.renovate", file, cwd=ROOT)
    rules = json.loads(file.read_text("utf-8"))["packageRules"]
    (rule,) = [rule for rule in rules if rule.get("matchManagers") == ["copier"]]

    assert rule["groupName"]
    assert rule["labels"]
    assert rule["automerge"] is False


BROKEN = {
    "settings.py": "from pydantic_settings import BaseSettings\n\n\nclass Settings(BaseSettings):\n    pass\n",
    "server.py": "def build(settings):\n    return settings\n",
    "tools/__init__.py": "def undeclared(x):\n    return x\n\n\nTOOLS = (undeclared,)\n",
    "tools/forecast.py": TOOL,
}
LINE = "# Your own dependencies go below this line."
GROUP = '{ include-group = "hardening" }'
SENTENCES = [
    "In src/weather_server/settings.py, write: class Settings(HardeningSettings)",
    "In src/weather_server/server.py, let build(settings) return harden(settings, …)",
    "In src/weather_server/tools:\nundeclared: ",
    "Name in TOOLS, in src/weather_server/tools/__init__.py, or take @tool away: countdown, forecast",
    f"In pyproject.toml, below the template's dependencies, put back: {LINE}",
    f"In pyproject.toml, put into the group dev: {GROUP}",
]


def test_what_an_update_cannot_fix_is_told(template: Template, tmp_path: Path) -> None:
    """For each thing that is the author's and has to change, a test of the project fails and says what to write."""
    broken = template.project({"database": "none"}, tmp_path / "broken")
    for name, text in BROKEN.items():
        (broken / "src/weather_server" / name).write_text(text, "utf-8")
    metadata = (broken / "pyproject.toml").read_text("utf-8")
    kept = [line for line in metadata.splitlines() if line.strip() != LINE and GROUP not in line]
    (broken / "pyproject.toml").write_text("\n".join(kept) + "\n", "utf-8")

    environment = pretend(broken, tmp_path / "scratch")
    command = (sys.executable, "-m", "pytest", "--quiet", "tests/hardening/project/test_project.py")
    said = run(*command, cwd=broken, env=environment, check=False).stdout

    assert [sentence for sentence in SENTENCES if sentence not in said] == [], said
