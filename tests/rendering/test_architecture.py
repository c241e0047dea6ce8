"""The page of the architecture speaks of the rooms that there are, and its picture is drawn from the code."""

from __future__ import annotations

import re
import runpy
from typing import Any

from support.harness import ROOT

HARDENING = ROOT / "template/src/{{ package_name }}/hardening"
DRAWING: dict[str, Any] = runpy.run_path(str(ROOT / "docs/architecture.py"))


def test_the_picture_is_up_to_date() -> None:
    """Run `python docs/architecture.py` when this fails."""
    rows = [*DRAWING["BEFORE"], *DRAWING["guards"](), *DRAWING["BEHIND"]]

    assert (ROOT / "docs/architecture.svg").read_text("utf-8") == DRAWING["picture"](rows)


def test_the_picture_has_each_guard_in_its_room() -> None:
    """In the order of the stack: addresses are limited first, then credentials are checked, then a body is read."""
    rows = [(room, name) for room, name, _ in DRAWING["guards"]()]

    assert len(rows) == (HARDENING / "stack.py").read_text("utf-8").count('        ("')
    assert rows[0][0] == "edge"
    assert (
        rows.index(("limits", "address_rate")) < rows.index(("auth", "authentication")) < rows.index(("edge", "body"))
    )


def test_each_room_is_in_the_table() -> None:
    """A room that is added, or that is gone, changes the page."""
    rooms = {path.parent.name for path in HARDENING.glob("*/__init__.py")}
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page[page.index("| room |") : page.index("What all rooms speak of")]
    named = {
        name for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }

    assert named == rooms
