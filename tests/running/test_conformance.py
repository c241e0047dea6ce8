"""The official conformance suite on a project as it comes out, and on one with a protection taken out."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from support import node
from support.harness import run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

NO_DATABASE = {"database": "none"}
GUARD = "async def __call__(self, exchange: Exchange) -> Response | None:"


@pytest.fixture(scope="session")
def small(template: Template) -> Path:
    """A project that needs no database, set up; it is shared, so nobody changes it."""
    return template.prepared(NO_DATABASE)


def conformance(project: Path, python: Path) -> tuple[int, str]:
    """Run the project's own runner, with the suite in the version that it names."""
    script = project / "tests/conformance/run.py"
    named = re.search(r'npx\.sh"\), "(@[\w/-]+)@([\w.-]+)"', script.read_text("utf-8"))
    assert named is not None
    suite = " ".join(map(str, node.command(named[1], named[2], "conformance")))
    env = {"PATH": f"{node.NODE.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    done = run(python, script, "--suite", suite, cwd=project, env=env, check=False)
    return done.returncode, done.stdout


def test_every_required_scenario_passes(small: Path) -> None:
    """The server itself and the fixtures behind its hardening, of 2026-07-28 and of 2025-11-25."""
    code, said = conformance(small, small / ".venv/bin/python")

    assert code == 0, said
    assert "FAIL" not in said
    for revision in ("2026-07-28", "2025-11-25"):
        assert f"pass  {revision} dns-rebinding-protection" in said
        assert f"pass  {revision}, all that is required" in said


def test_a_protection_that_was_taken_out_is_found(small: Path, tmp_path: Path) -> None:
    """A server that answers under any name fails the run, and the run names the scenario."""
    copy = tmp_path / "copy"
    shutil.copytree(small, copy, ignore=shutil.ignore_patterns(".venv", ".git"))
    (hosts,) = copy.glob("src/*/hardening/edge/host_origin.py")
    text = hosts.read_text("utf-8")
    assert GUARD in text
    hosts.write_text(text.replace(GUARD, f"{GUARD}\n        return None"), "utf-8")

    code, said = conformance(copy, small / ".venv/bin/python")

    assert code == 1, said
    assert "FAIL  2026-07-28 dns-rebinding-protection" in said
