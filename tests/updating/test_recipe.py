"""The five commands under "When a release moves files": an author's edits in files that have moved since arrive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.author import commit, contents, update
from support.harness import NEXT_RELEASE, ROOT, git, run
from support.releases import TAGS
from support.rows import ROWS

if TYPE_CHECKING:
    from support.harness import Template
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


@pytest.mark.parametrize("release", [FLAT[0], FLAT[-1]])
def test_edits_in_moved_modules_arrive(template: Template, project: Project, release: str) -> None:
    """From the first and the last of them: each edit is at the end of the file in its new place.

    Nothing else of ours is different from a new project, nothing of the author's from before, and all is committed.
    A plain update loses such edits: `test_edits_can_be_given_up` holds it.
    """
    edited = project(release)
    for name in MOVED:
        with (edited / HERE / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{MARK}\n")
    with (edited / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mine]\n")
    commit(edited, "Edit three modules of the template")
    before = contents(edited, "yours")

    for command in recipe():
        if "make update" in command:
            # What `make update` of these releases runs, to this tree instead of to the newest release.
            update(edited, NEXT_RELEASE)
            command = command.partition("make update && ")[2]  # noqa: PLW2901 - the rest of it
        run("bash", "-ec", command, cwd=edited)

    fresh, carried = contents(template.render(ROWS["default"]), "ours"), contents(edited, "ours")
    different = {name for name in {*fresh, *carried} if fresh.get(name) != carried.get(name)}
    assert different == {f"{HERE}/{new}" for new in MOVED.values()}
    for name in different:
        assert carried[name].decode().rstrip().endswith(MARK), name
    assert contents(edited, "yours") == before
    assert "[tool.mine]" in (edited / "pyproject.toml").read_text("utf-8")
    assert git("status", "--porcelain", cwd=edited) == ""
