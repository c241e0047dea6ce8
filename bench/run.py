"""Measure everything and write `docs/performance.md`; see `make bench`.

python bench/run.py [--rounds N] [--seconds S] [--only CASE[,…]] [--project FOLDER] [--node FOLDER] [--write]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cases
from messages import PROBE_KEY, opening
from project import Project, make, node
from servers import Server, others, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cases import Table

ALL = ("call", "list", "list50", "open", "start", "sessions", "hold", "replicas", "guards")
MANY = 50


def say(text: str) -> None:
    """Tell whoever waits; the results go elsewhere."""
    sys.stderr.write(f"  {text}\n")


def plain(table: Table) -> dict[str, Any]:
    """Return a table as data: the median, and the ratio to the base where there is one."""
    rows: dict[str, Any] = {}
    base = table.get(cases.BASE) or next(iter(table.values()))
    for server, numbers in table.items():
        rows[server] = {
            name: {"median": rounds.median(), "ratio": rounds.ratio(base[name])} for name, rounds in numbers.items()
        }
    return rows


def measure(project: Project, npm: Path | None, asked: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the results of the cases that were asked for, each as soon as it is there."""
    only, plan = asked.only, cases.Plan(asked.rounds, asked.seconds, say)
    without = render(project, "render without protections", off="all")
    one, many = [*others(npm), render(project), without], [*others(npm, MANY), render(project, tools=MANY)]
    loads = {"call": ("call", one), "list": ("list", one), "open": ("open", one), "list50": ("list", many)}
    for name, (kind, servers) in loads.items():
        for era in ("modern", "legacy") if name in only else ():
            yield f"{name} {era}", plain(cases.throughput(servers, kind, era, plan))
    if "start" in only:
        yield "start", plain(cases.cold_start([*others(npm), render(project)], plan))
        python = str(project.folder / ".venv/bin/python")
        yield "import", cases.beyond_import(render(project), [python, "-c", "import mcp"], plan)
    if "sessions" in only:
        many_sessions = {"MCP_MAX_SESSIONS": "5000", "MCP_MAX_SESSIONS_PER_PRINCIPAL": "5000"}
        stateful = render(project, "render, stateful", MCP_LEGACY="stateful", **many_sessions)
        keepers = [server for server in one if server.keeps]
        yield "sessions", plain(cases.session_memory([*keepers, stateful], 1000, plan))
    if "hold" in only:
        yield "hold", cases.longest_hold(render(project), plan)
    if "replicas" in only:
        yield "replicas", plain(cases.replicas(lambda name: render(project, name), plan))
    for era in ("modern", "legacy") if "guards" in only else ():
        # A small difference: two servers alone, and more rounds.
        pair = [render(project, "bare", off="all"), render(project)]
        yield f"guards {era}", plain(cases.throughput(pair, "call", era, replace(plan, rounds=3 * plan.rounds)))
    if project.steps:
        with render(project) as server:
            python, url = project.folder / ".venv/bin/python", f"http://127.0.0.1:{server.port}/mcp"
            project.steps["serve, to the first answer"] = server.started_seconds
            command = (python, "-m", project.package, "probe", url)
            project.step("probe, both eras", *command, cwd=project.folder, MCP_PROBE_KEY=PROBE_KEY)
        yield "steps", project.steps


def check(servers: list[Server]) -> int:
    """Say of each server that it answers, in each of its eras."""
    for server in servers:
        with server:
            for era in server.eras:
                reply = asyncio.run(server.ask(opening(era)))
                print(server.name, era, reply.status, *sorted(reply.result()))
    return 0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ALL), help=", ".join(ALL))
    parser.add_argument("--project", type=lambda text: Path(text).absolute(), help="a project that was made before")
    parser.add_argument(
        "--node", type=lambda text: Path(text).absolute(), help="a folder with the TypeScript servers, installed before"
    )
    parser.add_argument("--check", action="store_true", help="ask every server one thing and measure nothing")
    parser.add_argument("--results", type=Path, help="a file that keeps results, those of earlier cases too")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BENCH_SCRATCH"] = scratch
        project = Project(asked.project) if asked.project else make(Path(scratch))
        npm = asked.node or (None if asked.check else node(Path(scratch)))
        if asked.check:
            return check([*others(npm), render(project), render(project, "render without protections", off="all")])
        found = json.loads(asked.results.read_text()) if asked.results and asked.results.exists() else {}
        for case, numbers in measure(project, npm, asked):
            found[case] = numbers
            if asked.results:
                asked.results.write_text(json.dumps(found, indent=1))
    if asked.write:
        from report import write

        write(found)
    else:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
