"""Writes `docs/performance.md` and its plot from what was measured; the numbers are never typed by hand."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from project import IMPORT
from text import GROWTH, HEAD, NOTES, REASONS
from versions import versions

DOCS = Path(__file__).parent.parent / "docs"
Found = dict[str, Any]
LOADED = {"call": "tools/call", "open": "discover or initialize, then tools/list", "list": "tools/list, one tool"}
LOADED |= {"list50": "tools/list, 50 tools"}
# What the project is measured against: (case, column, goal, whether more is better).
GOALS = (
    ("call modern", "per_second", 2.5, True),
    ("call legacy", "per_second", 3.5, True),
    ("open modern", "per_second", 2.5, True),
    ("open legacy", "per_second", 2.0, True),
    ("list50 modern", "per_second", 6.0, True),
    ("list50 legacy", "per_second", 6.0, True),
    ("call modern", "p99_ms", 0.5, False),
    ("call legacy", "p99_ms", 0.3, False),
    ("start", "seconds", 0.8, False),
    ("start", "rss_mib", 1.1, False),
    ("sessions", "kib", 1.0, False),
    ("replicas", "per_second", 1.8, True),
)
FROM_NOTHING_SECONDS = 15
COPYING = 2.0
HOLD_MS = 50
NAMES = {
    "per_second": "requests per second",
    "p99_ms": "p99",
    "seconds": "cold start",
    "rss_mib": "memory at rest",
    "kib": "memory each",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits say enough


def _loaded(rows: Found) -> str:
    head = ["server", "× bare", "requests/s", "p50 ms", "p99 ms", "CPU ms a request", "CPU × bare"]
    order = sorted(rows, key=lambda name: rows[name]["per_second"]["ratio"])
    lines: list[list[str]] = []
    for name in order:
        row = rows[name]
        shown = [number(row[column]["median"]) for column in ("per_second", "p50_ms", "p99_ms", "cpu_ms")]
        lines.append([name, f"**{row['per_second']['ratio']:.2f}**", *shown, f"{row['cpu_ms']['ratio']:.2f}"])
    return table(head, lines)


def _plain(rows: Found, head: str, columns: dict[str, str]) -> str:
    titles = [title for column, title in columns.items() for title in (title, f"× {next(iter(rows))}")]
    lines = [
        [
            name,
            *(text for column in columns for text in (number(row[column]["median"]), f"{row[column]['ratio']:.2f}")),
        ]
        for name, row in rows.items()
    ]
    return table([head, *titles], lines)


def _goals(found: Found) -> str:
    lines: list[list[str]] = []
    for case, column, goal, more in GOALS:
        if case not in found:
            continue
        rows = found[case]
        name = next(name for name in ("render", "render, stateful", "two processes") if name in rows)
        ratio = rows[name][column]["ratio"]
        reached = ratio >= goal if more else ratio <= goal
        sign = "≥" if more else "≤"
        lines.append([f"{case}: {NAMES[column]}", f"{sign} {goal}", f"{ratio:.2f}", "yes" if reached else "**no**"])
    for era in ("modern", "legacy"):
        rows = found.get(f"call {era}", {})
        if "typescript v2" in rows:
            ratio = rows["render"]["per_second"]["ratio"] / rows["typescript v2"]["per_second"]["ratio"]
            lines.append([f"call {era}: × TypeScript SDK v2", "> 1", f"{ratio:.2f}", "yes" if ratio > 1 else "**no**"])
    for era in ("modern", "legacy"):
        if rows := found.get(f"guards {era}"):
            cost = rows["render"]["cpu_ms"]["ratio"] - 1
            reached = "yes" if cost <= 0.05 else "**no**"  # noqa: PLR2004 - the goal
            lines.append([f"all protections, CPU of a {era} call that does nothing", "≤ 5 %", f"{cost:.0%}", reached])
    if (beyond := found.get("import")) is not None:
        reached = "yes" if beyond <= 0.15 else "**no**"  # noqa: PLR2004 - the goal
        lines.append(["start of `serve`, CPU beyond `import mcp`", "≤ 15 %", f"{beyond:+.0%}", reached])
    if holds := found.get("hold"):
        longest = max(holds, key=lambda name: holds[name])
        reached = "yes" if holds[longest] <= HOLD_MS else "**no**"
        title = f"longest hold of the event loop by one request ({longest})"
        lines.append([title, f"≤ {HOLD_MS} ms", f"{holds[longest]:.0f} ms", reached])
    if steps := found.get("steps"):
        added = steps["copier copy"] / steps[IMPORT] - 1
        reached = "yes" if added <= COPYING else "**no**"
        lines.append(["copier copy, beyond its own import", f"≤ {COPYING}", f"{added:.2f}", reached])
        reached = "yes" if _whole(steps) <= FROM_NOTHING_SECONDS else "**no**"
        lines.append(
            ["from nothing to a probed server", f"≤ {FROM_NOTHING_SECONDS} s", f"{_whole(steps):.1f} s", reached]
        )
    return table(["goal, against bare", "goal", "measured", "reached"], lines)


def _whole(steps: dict[str, float]) -> float:
    # Copying contains the import, which is measured once more by itself.
    return sum(steps.values()) - steps[IMPORT]


def _guards(found: Found) -> str:
    eras = [era for era in ("modern", "legacy") if f"guards {era}" in found]
    lines: list[list[str]] = []
    for era in eras:
        rows = found[f"guards {era}"]
        medians = [number(rows[name]["cpu_ms"]["median"]) for name in ("render", "bare")]
        lines.append([era, *medians, f"{rows['render']['cpu_ms']['ratio'] - 1:+.1%}"])
    return table(["era", "CPU ms, whole", "without protections", "what they add"], lines)


def plot(found: Found) -> str:
    """Return bars of the calls in both eras, as SVG."""
    cases = [case for case in ("call modern", "call legacy") if case in found]
    bars = [
        (case, name, row["per_second"]["ratio"]) for case in cases for name, row in found[case].items() if name != "raw"
    ]
    widest = max((ratio for _, _, ratio in bars), default=1)
    parts: list[str] = []
    y = 0
    for case in cases:
        y += 34
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{LOADED["call"]}, {case.split()[1]}, × bare</text>')
        for _, name, ratio in sorted((bar for bar in bars if bar[0] == case), key=lambda bar: bar[2]):
            y += 22
            colour = "#2563eb" if name == "render" else "#94a3b8"
            width = round(400 * ratio / widest)
            parts.append(f'<text x="200" y="{y}" text-anchor="end">{name}</text>')
            parts.append(f'<rect x="208" y="{y - 12}" width="{width}" height="15" fill="{colour}"/>')
            parts.append(f'<text x="{214 + width}" y="{y}">{ratio:.2f}</text>')
    style = 'font-family="ui-sans-serif, system-ui, sans-serif" font-size="13" fill="#334155"'
    back = f'<rect width="680" height="{y + 16}" fill="#ffffff"/>'
    size = f'viewBox="0 0 680 {y + 16}" width="680" height="{y + 16}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{back}\n' + "\n".join(parts) + "\n</svg>\n"


def page(found: Found) -> str:
    """Return the whole page."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    parts = [HEAD.format(machine=machine, versions=versions()), "## Goals\n", _goals(found), REASONS]
    for kind, title in LOADED.items():
        for era in ("modern", "legacy"):
            if f"{kind} {era}" in found:
                parts += [f"## {title}, {era}\n", _loaded(found[f"{kind} {era}"])]
    start = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "rss_mib": "MiB at rest"}
    tables = (
        ("start", "Cold start, and memory at rest", "server", start),
        ("replicas", "Two processes", "", {"per_second": "requests/s"}),
    )
    tables += (("sessions", "Memory of an idle legacy session", "server", {"kib": "KiB a session"}),)
    for case, title, head, columns in tables:
        if case in found:
            parts += [f"## {title}\n", _plain(found[case], head, columns), NOTES[case]]
    if any(case.startswith("guards") for case in found):
        parts += ["## All protections\n", NOTES["guards"], _guards(found)]
    if steps := found.get("steps"):
        rows = [[name, f"{seconds:.1f}"] for name, seconds in steps.items()]
        rows.append(["all of it, the import counted once", f"{_whole(steps):.1f}"])
        parts += ["## From nothing to a probed server\n", NOTES["steps"], table(["step", "seconds"], rows)]
    return "\n".join(parts)


def write(found: Found) -> None:
    """Write the page and the plot; what `growth.py` has written at the end of the page stays."""
    place = DOCS / "performance.md"
    _, heading, grown = (place.read_text("utf-8") if place.exists() else "").partition(GROWTH)
    place.write_text(page(found) + ("\n" + heading + grown if heading else ""), "utf-8")
    (DOCS / "performance.svg").write_text(plot(found), "utf-8")
