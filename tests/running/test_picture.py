"""The pictures in the README are drawn from the real thing: what the probe says, and what the dashboard shows."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from support.harness import ROOT, run
from support.programs import find

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = "docs/probe.svg"


def text(file: Path) -> str:
    """Return what can be read in a picture."""
    root = ET.fromstring(file.read_text("utf-8"))  # noqa: S314 - of this repository
    lines = ["".join(line.itertext()) for line in root.iter("{http://www.w3.org/2000/svg}text")]
    return "\n".join(lines)


def check(shown: str) -> None:
    """Fail unless both eras, the drift with its reason, and the way back can be read."""
    for line in (
        r"modern  drifted",
        r"legacy  drifted",
        r"  FAIL  tools/list +\d+ ms  changed countdown \(description\)",
        r"drifted for \d+ seconds; \d+ of \d+ looks found it serving",
        r"  ok    server/discover +\d+ ms  weather-server \S+, protocol 2026-07-28",
        r"  ok    initialize +\d+ ms  weather-server \S+, protocol 2025-11-25",
        r"healthy for \d+ seconds; \d+ of \d+ looks found it serving",
        # Well, not well, well again.
        r"▁+█+▁+",
    ):
        assert re.search(f"^{line}$", shown, re.MULTILINE), f"{line}\n{shown}"


def test_the_readme_shows_it() -> None:
    """The picture that is shown is the one that is committed, and its text holds the verdicts."""
    assert f"]({PICTURE})" in (ROOT / "README.md").read_text("utf-8")
    check(text(ROOT / PICTURE))


@pytest.mark.slow
def test_the_script_draws_it(tmp_path: Path) -> None:
    """A project is served, changed, stopped and served again; what its probe shows is what is drawn."""
    run(sys.executable, "docs/picture.py", tmp_path / "probe.svg", cwd=ROOT)

    check(text(tmp_path / "probe.svg"))


DASHBOARD = "docs/dashboard.svg"


def panels() -> list[str]:
    """Return the titles of the panels that are shipped."""
    shipped = json.loads((ROOT / "template/deploy/grafana/mcp-server.json").read_text("utf-8"))["panels"]
    return [panel["title"] for panel in shipped if panel["type"] != "row"]


def test_the_picture_of_the_dashboard_has_each_panel() -> None:
    """Run `python docs/dashboard.py` when this fails."""
    shown = text(ROOT / DASHBOARD).splitlines()

    assert f"]({DASHBOARD})" in (ROOT / "README.md").read_text("utf-8")
    assert [title for title in panels() if title not in shown] == []


@pytest.mark.slow
def test_the_script_draws_the_dashboard(tmp_path: Path) -> None:
    """A project is served, called, probed and scraped, its database goes and comes: each panel is drawn from that."""
    find("prometheus")

    run(sys.executable, "docs/dashboard.py", tmp_path / "dashboard.svg", cwd=ROOT)

    drawn = ET.fromstring((tmp_path / "dashboard.svg").read_text("utf-8"))  # noqa: S314 - drawn above
    shown = text(tmp_path / "dashboard.svg").splitlines()
    assert [title for title in panels() if title not in shown] == []
    # A server without tokens and without TLS has nothing that ends; all others have a line at least.
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) >= len(panels()) - 1
