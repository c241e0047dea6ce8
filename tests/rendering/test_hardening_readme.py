"""The page about the guards is what the code says, and fits on two screens."""

from __future__ import annotations

import re
import sys

from support.harness import ROOT, run

PAGE = ROOT / "template/src/{{ package_name }}/hardening/README.md"


def test_the_page_is_up_to_date() -> None:
    """Run `python scripts/hardening_readme.py` when this fails."""
    printed = run(sys.executable, "scripts/hardening_readme.py", "--print", cwd=ROOT).stdout

    assert PAGE.read_text("utf-8") == printed
    assert len(printed.splitlines()) <= 80


def test_each_row_names_files_that_there_are() -> None:
    """A reviewer finds module and test of each guard."""
    text = PAGE.read_text("utf-8")
    tests = re.findall(r"`(units/[^`]+)`", text)
    modules = re.findall(r"\]\(([^)]+)\)", text)

    assert len(modules) >= 16
    assert [name for name in modules if not (PAGE.parent / name).is_file()] == []
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
