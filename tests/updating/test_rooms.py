"""The release that moves the modules into rooms: an author's edits in them arrive, from every release before it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from support.author import commit
from support.harness import NEXT_RELEASE, ROOT, git, run, tool
from support.releases import TAGS

if TYPE_CHECKING:
    from pathlib import Path

    from updating.conftest import Project

pytestmark = pytest.mark.slow

MOVED = {"hosts.py": "edge/host_origin.py", "token_buckets.py": "limits/memory.py", "api_keys.py": "auth/api_keys.py"}
FLAT = [tag for tag in TAGS if tag in {"v1.0.0", "v1.0.1", "v1.1.0"}]
PACKAGE = "src/weather_server/hardening"
MINE = "\n\n# An edit of the author's.\n"


def recipe() -> list[str]:
    """Return the commands that the page tells projects to type whose `make update` does not know of moves."""
    page = (ROOT / "docs/updating.md").read_text("utf-8")
    (block,) = re.findall(r"type it:\n\n```console\n(.*?)```", page, re.DOTALL)
    return block.splitlines()


@pytest.mark.parametrize("release", FLAT)
def test_edits_in_moved_modules_arrive(project: Project, release: str, tmp_path: Path) -> None:
    """The typed commands carry edits of three modules to their new places, and nothing else is different."""
    edited, plain = project(release), project(release)
    for name in MOVED:
        path = edited / PACKAGE / name
        path.write_text(path.read_text("utf-8").rstrip("\n") + MINE, "utf-8")
    commit(edited, "Edit three modules of the template")
    update = f"{tool('copier')} update --quiet --skip-answered --context-lines 100000 --vcs-ref {NEXT_RELEASE}"
    script = "\n".join(recipe()).replace("make update", update)
    script = re.sub(r"^copier ", f"{shlex.quote(str(tool('copier')))} ", script, flags=re.MULTILINE)
    (tmp_path / "recipe.sh").write_text(script, "utf-8")
    run("bash", "-euo", "pipefail", tmp_path / "recipe.sh", cwd=edited)
    run("bash", "-euc", update, cwd=plain)
    commit(plain, "Update the template")

    for name in MOVED.values():
        assert (edited / PACKAGE / name).read_text("utf-8").endswith(MINE), name
    assert git("status", "--porcelain", cwd=edited) == ""
    fresh, carried = git("ls-tree", "-r", "HEAD", cwd=plain), git("ls-tree", "-r", "HEAD", cwd=edited)
    changed = {line.partition("\t")[2] for line in set(carried.splitlines()) ^ set(fresh.splitlines())}
    assert changed == {f"{PACKAGE}/{name}" for name in MOVED.values()}
