"""The benchmark starts its servers, and each answers; numbers are for `make bench`, not for a test."""

from __future__ import annotations

import json
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
    found |= {"guards modern": {"bare": numbers, "render": {"cpu_ms": {"median": 1.6, "ratio": 1.04}}}, "import": 0.2}
    found["hold"] = {"many keys, modern": 12.0, "long numbers, modern": 26.4}
    found["steps"] = {"import of Copier": 1.0, "copier copy": 3.0, "serve": 4.0}
    run(sys.executable, "-c", f"import report; report.write({found!r})", cwd=tmp_path / "bench")

    page = (tmp_path / "docs/performance.md").read_text("utf-8")
    assert "| call modern: requests per second | ≥ 2.5 | 2.60 | yes |" in page
    assert "| call modern: p99 | ≤ 0.5 | 2.60 | **no** |" in page
    assert "| copier copy, beyond its own import | ≤ 2.0 | 2.00 | yes |" in page
    assert "| from nothing to a probed server | ≤ 15 s | 7.0 s | yes |" in page
    assert "| all protections, CPU of a modern call that does nothing | ≤ 5 % | 4% | yes |" in page
    assert "| start of `serve`, CPU beyond `import mcp` | ≤ 15 % | +20% | **no** |" in page
    title = "longest hold of the event loop by one request (long numbers, modern)"
    assert f"| {title} | ≤ 50 ms | 26 ms | yes |" in page
    assert (tmp_path / "docs/performance.svg").read_text("utf-8").startswith("<svg ")


def test_what_grows_with_the_work_is_measured(tmp_path: Path) -> None:
    """Each amount of a case is asked for: callers with tokens, results of every size."""
    cases = {"callers": ["1", "100", "1000"], "bytes": ["1024", "10240", "102400", "1048576"]}
    command = (ROOT / "bench/growth.py", "--rounds", "1", "--only", ";".join(cases))
    said = run(sys.executable, *command, cwd=tmp_path).stdout
    found = json.loads(said[said.index("{") :])

    assert {case: list(row) for case, row in found.items()} == cases
    assert all(seen["per_second"] > 0 and seen["cpu_ms"] > 0 for row in found.values() for seen in row.values())
    assert found["bytes"]["1048576"]["cpu_ms"] > 2 * found["bytes"]["1024"]["cpu_ms"]


def test_what_grows_with_the_work_stays_on_the_page(tmp_path: Path) -> None:
    """It is the end of the page, with a plot; a page that is written again keeps it."""
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/performance.md"
    page.write_text("# Performance\n\nBefore.\n", "utf-8")
    program = (
        "import growth, messages, report\n"
        "seen = {name: [2.0] for name in ('per_second', 'cpu_ms', 'p50_ms', 'p99_ms', 'mib')}\n"
        "row = [growth.Point(amount, [], messages.call('modern'), seen=seen) for amount in (1, 1000)]\n"
        "growth.write({'callers': row, 'held': row})\n"
        "growth.write({'callers': row, 'held': row})\n"
    )
    run(sys.executable, "-c", program, cwd=tmp_path / "bench")
    grown = page.read_text("utf-8")
    run(sys.executable, "-c", "import report; report.write({})", cwd=tmp_path / "bench")

    assert grown.startswith("# Performance\n\nBefore.\n\n## Cost as work grows\n")
    assert grown.count("| 1,000 | 2.00 | 1.00 |") == 2
    assert page.read_text("utf-8").endswith(grown.partition("## Cost as work grows")[2])
    assert "Before." not in page.read_text("utf-8")
    assert (tmp_path / "docs/growth.svg").read_text("utf-8").count("<polyline") == 4
