"""The five commands under "When a release moves files": an author's edits in files that have moved since arrive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.author import commit, update
from support.harness import NEXT_RELEASE, ROOT, git, run
from support.releases import TAGS

if TYPE_CHECKING:
    from updating.conftest import Project

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/updating.md").read_text("utf-8")
HERE = "src/weather_server/hardening"
MARK = "# An edit of ours, at the end of the file."
# Modules that are elsewhere since the releases that had no rooms, with the same last lines.
MOVED = {
    "api_keys.py": "auth/api_keys.py",
    "hosts.py": "edge/host_origin.py",
    "token_buckets.py": "limits/memory.py",
}

FLAT = [tag for tag in TAGS if tag in {"v1.0.0", "v1.0.1", "v1.1.0"}]


def recipe() -> list[str]:
    """Return the commands of the page, one a line."""
    (block,) = re.findall(r"does not know this yet; type it:\n\n```console\n(.*?)```", PAGE, re.DOTALL)
    return block.strip().splitlines()


@pytest.mark.parametrize("release", FLAT)
def test_edits_in_moved_modules_arrive(project: Project, release: str) -> None:
    """From every release: each edit is at the end of the file in its new place, and nothing is left of the old one."""
    edited = project(release)
    for name in MOVED:
        with (edited / HERE / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{MARK}\n")
    with (edited / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mine]\n")
    commit(edited, "Edit three modules of the template")

    for command in recipe():
        if "make update" in command:
            # What `make update` of these releases runs, to this tree instead of to the newest release.
            update(edited, NEXT_RELEASE)
            command = command.partition("make update && ")[2]  # noqa: PLW2901 - the rest of it
        run("bash", "-ec", command, cwd=edited)

    for old, new in MOVED.items():
        assert not (edited / HERE / old).exists()
        assert (edited / HERE / new).read_text("utf-8").rstrip().endswith(MARK), new
    assert "[tool.mine]" in (edited / "pyproject.toml").read_text("utf-8")
    assert git("status", "--porcelain", cwd=edited) == ""


def test_a_plain_update_loses_them(project: Project) -> None:
    """The reason for the recipe; when this fails, Copier has learnt to follow files, and the recipe can go."""
    edited = project(FLAT[-1])
    for name in MOVED:
        with (edited / HERE / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{MARK}\n")
    commit(edited, "Edit three modules of the template")

    update(edited)

    assert [new for new in MOVED.values() if MARK in (edited / HERE / new).read_text("utf-8")] == []
