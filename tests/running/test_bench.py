"""The benchmark starts its servers, and each answers; numbers are for `make bench`, not for a test."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from support.harness import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

COMPARED = ("bare", "fastmcp", "raw", "render", "render without protections")


def test_every_server_answers_in_every_era(template: Template, tmp_path: Path) -> None:
    """What is compared speaks the protocol, the render with its protections taken out too."""
    project = template.prepared({"database": "none"})
    done = run(sys.executable, ROOT / "bench/run.py", "--check", "--project", project, cwd=tmp_path)

    for name in COMPARED:
        for era in ("modern", "legacy"):
            line = next(line for line in done.stdout.splitlines() if line.startswith(f"{name} {era} "))
            assert line.split()[len(name.split()) + 1] == "200"
            assert name == "raw" or "capabilities" in line


def test_a_page_comes_out(tmp_path: Path) -> None:
    """The page is made from what was measured: tables, goals with their verdict, and a plot."""
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    (tmp_path / "docs").mkdir()
    numbers = {name: {"median": 1.5, "ratio": 2.6} for name in ("per_second", "p50_ms", "p99_ms", "cpu_ms")}
    found: dict[str, Any] = {f"call {era}": {"bare": numbers, "render": numbers} for era in ("modern", "legacy")}
    found["steps"] = {"import of Copier": 1.0, "copier copy": 3.0, "serve": 4.0}
    run(sys.executable, "-c", f"import report; report.write({found!r})", cwd=tmp_path / "bench")

    page = (tmp_path / "docs/performance.md").read_text("utf-8")
    assert "| call modern: requests per second | ≥ 2.5 | 2.60 | yes |" in page
    assert "| call modern: p99 | ≤ 1.0 | 2.60 | **no** |" in page
    assert "| copier copy, beyond its own import | ≤ 1.0 | 2.00 | **no** |" in page
    assert "| from nothing to a probed server | ≤ 15 s | 7.0 s | yes |" in page
    assert (tmp_path / "docs/performance.svg").read_text("utf-8").startswith("<svg ")
