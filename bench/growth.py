"""Measure what grows with the work, and write it to the end of `docs/performance.md`, with a plot; three minutes.

python bench/growth.py [--rounds N] [--only CASE[;…]] [--project FOLDER] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import load
from messages import call, call_of, listing
from project import Project, make
from report import DOCS, number, table
from servers import Server, render
from text import GROWTH, GROWTH_HEAD, GROWTH_NOTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS = 32
TITLES = {
    "tools, a call": "calls, by number of tools",
    "tools, a listing": "listings, by number of tools",
    "callers": "calls, by number of callers with tokens",
    "processes": "calls, by number of processes",
    "bytes": "calls, by size of the result",
    "held": "calls that hold a connection to the database for 20 ms, by how many at once; the pool has 10",
}
# Run by the project's own interpreter: each prints one line, and lives until its input ends.
DATABASE = """
import json, sys
from pathlib import Path
from {package}.hardening.dev.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1], "data")) as url:
    print(json.dumps(url), flush=True)
    sys.stdin.read()
"""
ISSUER = """
import json, sys
from {package}.hardening.dev.issuer import LocalIssuer
with LocalIssuer() as issuer:
    tokens = [issuer.token("bench", subject=f"caller{{number}}") for number in range(1000)]
    print(json.dumps([issuer.environment("bench"), tokens]), flush=True)
    sys.stdin.read()
"""


@dataclass
class Point:
    """One amount of work: who is asked what, and what was seen, once a round."""

    amount: int
    servers: Sequence[Server]
    request: tuple[dict[str, str], str]
    connections: int = CONNECTIONS
    callers: Sequence[str] = ()
    seen: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def measure(self) -> None:
        """Ask every server for a second, all of them at once."""
        before = self.cpu()
        share = max(1, self.connections // len(self.servers))
        with ThreadPoolExecutor(len(self.servers)) as pool:
            asked = [pool.submit(self._ask, server, share) for server in self.servers]
            loads = [one.result() for one in asked]
        requests = sum(one.requests for one in loads)
        self._note("per_second", sum(one.per_second for one in loads))
        self._note("cpu_ms", (self.cpu() - before) / requests * 1e3)
        self._note("p50_ms", statistics.median(one.p50_ms for one in loads))
        self._note("p99_ms", max(one.p99_ms for one in loads))
        self._note("mib", sum(server.rss_mib() for server in self.servers))

    def cpu(self) -> float:
        """Return the seconds that the servers have used."""
        return sum(server.cpu_seconds() for server in self.servers)

    def median(self, column: str) -> float:
        """Return the middle one of the rounds."""
        return statistics.median(self.seen[column])

    def _ask(self, server: Server, connections: int) -> load.Load:
        return load.run(server.port, self.request, 1, connections, callers=self.callers)

    def _note(self, column: str, value: float) -> None:
        self.seen.setdefault(column, []).append(value)


@contextmanager
def beside(project: Project, program: str) -> Iterator[Any]:
    """Run a program beside the servers; give what it has printed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # Run by root, PostgreSQL becomes another user.
        Path(folder).chmod(0o755)
        command = [project.folder / ".venv/bin/python", "-c", program.format(package=project.package), folder]
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert running.stdout is not None  # noqa: S101 - for the types
            yield json.loads(running.stdout.readline())
        finally:
            running.communicate(timeout=60)


def points(case: str, project: Project, running: ExitStack) -> list[Point]:
    """Start what a case needs, and return its amounts of work."""

    def server(name: str, **environment: str) -> Server:
        return running.enter_context(render(project, name, BENCH_GROWTH="1", **environment))

    if case.startswith("tools"):
        request = listing("modern") if case.endswith("listing") else call("modern")
        return [
            Point(tools, [running.enter_context(render(project, f"{tools} tools", tools=tools))], request)
            for tools in (1, 50, 500)
        ]
    if case == "callers":
        environment, tokens = running.enter_context(beside(project, ISSUER))
        one = server("callers", **environment | {"MCP_AUTH": "api_key,jwt"})
        return [Point(amount, [one], call("modern"), callers=tokens[:amount]) for amount in (1, 100, 1000)]
    if case == "processes":
        many = [server(f"process {number}") for number in range(4)]
        return [Point(amount, many[:amount], call("modern")) for amount in (1, 2, 4)]
    if case == "bytes":
        one = server("results")
        sizes = (1024, 10_240, 102_400, 1_048_576)
        return [Point(size, [one], call_of("sized", size=size), connections=8) for size in sizes]
    url = running.enter_context(beside(project, DATABASE))
    one = server("database", DATABASE_URL=url, MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="100")
    return [Point(amount, [one], call_of("hold"), connections=amount) for amount in (1, 5, 10, 20, 40, 80)]


def measure(case: str, project: Project, rounds: int) -> list[Point]:
    """Return the points of a case, each measured once in each round."""
    with ExitStack() as running:
        found = points(case, project, running)
        for at in range(rounds + 1):
            for point in found if at % 2 else reversed(found):
                point.measure()
                if not at:
                    # The first round fills caches.
                    point.seen.clear()
    return found


def tables(found: dict[str, list[Point]]) -> str:
    """Return the section of the page."""
    parts = [GROWTH, GROWTH_HEAD]
    for case, row in found.items():
        first = row[0]
        lines = [
            [
                f"{point.amount:,}",
                number(point.median("per_second")),
                f"{point.median('per_second') / first.median('per_second'):.2f}",
                number(point.median("cpu_ms")),
                f"{point.median('cpu_ms') / first.median('cpu_ms'):.2f}",
                number(point.median("p50_ms")),
                number(point.median("p99_ms")),
                number(point.median("mib")),
            ]
            for point in row
        ]
        head = [
            case.partition(",")[0],
            "requests/s",
            "× first",
            "CPU ms a request",
            "× first",
            "p50 ms",
            "p99 ms",
            "MiB",
        ]
        parts += [f"### {TITLES[case].partition(';')[0].capitalize()}\n", table(head, lines), GROWTH_NOTES[case]]
    return "\n".join(parts)


def plot(found: dict[str, list[Point]]) -> str:
    """Return one small picture for each case: requests per second and CPU a request against the first, both by log."""
    parts: list[str] = []
    for at, (case, row) in enumerate(found.items()):
        left, top = 30 + at % 3 * 250, 40 + at // 3 * 190
        parts.append(f'<text x="{left}" y="{top - 14}" font-weight="bold">{TITLES[case].partition(";")[0][:36]}</text>')
        parts.append(f'<path d="M{left} {top}v120h200" fill="none" stroke="#94a3b8"/>')
        low, high = log10(row[0].amount), log10(row[-1].amount)
        for column, colour in (("per_second", "#2563eb"), ("cpu_ms", "#dc2626")):
            corners: list[str] = []
            for point in row:
                x = left + 10 + 180 * (log10(point.amount) - low) / (high - low)
                grown = log10(point.median(column) / row[0].median(column))
                y = top + 60 - max(-58.0, min(58.0, grown * 29))
                corners.append(f"{x:.0f},{y:.0f}")
                parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>')
                if column == "cpu_ms":
                    parts.append(
                        f'<text x="{x:.0f}" y="{top + 136}" text-anchor="middle">{_short(point.amount)}</text>'
                    )
            parts.append(f'<polyline points="{" ".join(corners)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    style = 'font-family="ui-sans-serif, system-ui, sans-serif" font-size="11" fill="#334155"'
    height = 40 + (len(found) + 2) // 3 * 190
    legend = (
        f'<text x="30" y="{height - 8}"><tspan fill="#2563eb">requests per second</tspan>, '
        '<tspan fill="#dc2626">CPU a request</tspan>: each against the first point, in the middle; '
        "one hundredfold is at the top, a hundredth at the bottom</text>"
    )
    size = f'viewBox="0 0 780 {height}" width="780" height="{height}"'
    back = f'<rect width="780" height="{height}" fill="#ffffff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join([back, *parts, legend]) + "\n</svg>\n"
    )


def _short(amount: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if amount >= size:
            return f"{amount // size}{unit}"
    return str(amount)


def write(found: dict[str, list[Point]]) -> None:
    """Write the end of the page, and the plot."""
    page = DOCS / "performance.md"
    before = page.read_text("utf-8").partition(GROWTH)[0].rstrip()
    page.write_text(f"{before}\n\n{tables(found).rstrip()}\n", "utf-8")
    (DOCS / "growth.svg").write_text(plot(found), "utf-8")


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(";"), default=list(TITLES), help="; ".join(TITLES))
    parser.add_argument("--project", type=lambda text: Path(text).absolute(), help="a project that was made before")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and docs/growth.svg")
    asked = parser.parse_args()
    found: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BENCH_SCRATCH"] = scratch
        project = Project(asked.project) if asked.project else make(Path(scratch))
        for case in asked.only:
            found[case] = measure(case, project, asked.rounds)
            sys.stderr.write(f"  {case}: measured\n")
    if asked.write:
        write(found)
    else:
        shown = {
            case: {point.amount: {name: point.median(name) for name in point.seen} for point in row}
            for case, row in found.items()
        }
        print(json.dumps(shown, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
