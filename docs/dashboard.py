"""Draw docs/dashboard.svg: what the shipped Grafana dashboard shows of a live server, asked of a real Prometheus.

`python docs/dashboard.py [FILE]` renders a project with a database, serves it and calls its tools in both eras,
while its database is away for a moment, and asks Prometheus each query of `deploy/grafana/mcp-server.json`.
It needs the Debian package prometheus.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import httpx2
from support.mcp_client import ERAS, post, tool_call
from support.postgres import Postgres
from support.programs import KEY, PROBE_KEY
from support.proxies import free_port
from support.servers import Server, install

# A series is a name and its points; a panel is a title and its series.
Points = list[tuple[float, float]]
Series = list[tuple[str, Points]]
Panels = list[tuple[str, Series]]

TEMPLATE = Path(__file__).parent.parent
PICTURE = TEMPLATE / "docs/dashboard.svg"
SECONDS, STEP = 60, 2
AWAY = (24, 36)
# Together below the rate that each of the two tools declares.
CALLERS = 2
COUNT: tuple[str, dict[str, Any]] = ("countdown", {"steps": 2, "step_seconds": 0.1})
NOTE: tuple[str, dict[str, Any]] = ("keep_note", {"body": "a note"})
WRONG: tuple[str, dict[str, Any]] = ("keep_note", {"body": 5})
CALLS = (NOTE, COUNT, NOTE, NOTE, COUNT, WRONG)

COLUMNS, CELL_WIDTH, CELL_HEIGHT, GAP, MARGIN = 4, 290, 132, 12, 16
COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f")
LEGEND_LETTERS = 42
GENEROUS = {
    "MCP_TRUSTED_PROXY_HOPS": "0",
    "MCP_RATE_ADDRESS_PER_MINUTE": "100000",
    "MCP_RATE_PRINCIPAL_PER_MINUTE": "100000",
    "MCP_BUDGET_UNITS": "100000",
    "MCP_POOL_ACQUIRE_TIMEOUT_SECONDS": "1",
}


def render(folder: Path) -> Path:
    """Make a project, and install it beside itself."""
    project = folder / "weather"
    copier = Path(sys.executable).parent / "copier"
    command = [str(copier), "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", str(TEMPLATE), str(project)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - of this file
    install(project)
    return project


class Exported(SimpleHTTPRequestHandler):
    """What node_exporter would hand on."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Say nothing."""


async def call(url: str, until: float) -> None:
    """Call both tools, now and then a wrong way, until a time."""
    number = 0
    async with httpx2.AsyncClient(timeout=30) as client:
        while time.monotonic() < until:
            number += 1
            era = ERAS[number % 2]
            tool, arguments = CALLS[number % len(CALLS)]
            headers, body = tool_call(era, KEY if number % 20 else "wrong", tool, arguments)
            await post(client, url, (headers, body))
            await asyncio.sleep(1.4)


async def trouble(database: Postgres) -> None:
    """Take the database away for a moment."""
    await asyncio.sleep(AWAY[0])
    await asyncio.to_thread(database.stop)
    await asyncio.sleep(AWAY[1] - AWAY[0])
    await asyncio.to_thread(database.start)


async def watch(folder: Path) -> Panels:
    """Serve, call, scrape; return each panel with its series."""
    project = render(folder)
    (exported := folder / "exported").mkdir()
    textfile = exported / "metrics"
    handler = partial(Exported, directory=str(exported))
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    with Postgres() as database:
        async with Server(project, proxy="http://127.0.0.1", DATABASE_URL=database.url, **GENEROUS) as server:
            url = f"http://{server.address}/mcp"
            probe = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "weather_server", "probe", url, "--every", "5"),
                *("--schema", "schema/tools.json", "--textfile", textfile),
                env=server.environment,
                cwd=project,
                stdout=asyncio.subprocess.DEVNULL,
            )
            prometheus, port = await scraping(project, folder, server.address, exporter.server_port)
            started = time.time()
            end = time.monotonic() + SECONDS
            try:
                await asyncio.gather(trouble(database), *(call(url, end) for _ in range(CALLERS)))
                return await ask(project, port, started)
            finally:
                for process in (probe, prometheus):
                    process.terminate()
                    await process.wait()
                exporter.shutdown()


async def scraping(project: Path, folder: Path, server: str, exporter: int) -> tuple[asyncio.subprocess.Process, int]:
    """Start Prometheus with the shipped configuration, its pace and targets aside."""
    configuration = shutil.copytree(project / "deploy/prometheus", folder / "prometheus")
    text = (configuration / "prometheus.yaml").read_text("utf-8")
    text = text.replace("server:8000", server).replace("_interval: 15s", "_interval: 1s")
    text += f"  - job_name: mcp-probe\n    static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]\n"
    (configuration / "prometheus.yaml").write_text(text, "utf-8")
    (configuration / "mcp-probe-key").write_text(PROBE_KEY, "ascii")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={configuration / 'prometheus.yaml'}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    return process, port


async def ask(project: Path, port: int, started: float) -> Panels:
    """Return each panel with the series that its queries give."""
    panels = json.loads((project / "deploy/grafana/mcp-server.json").read_text("utf-8"))["panels"]
    found: Panels = []
    span = {"start": started + 5, "end": started + SECONDS, "step": STEP}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
        for panel in panels:
            series: Series = []
            for target in panel.get("targets", ()):
                query = re.sub(r'=~"\$\w+"', '=~".*"', target["expr"]).replace("$__rate_interval", "10s")
                said = (await client.get("/query_range", params={"query": query, **span})).json()
                for each in said["data"]["result"]:
                    points = [(at, float(value)) for at, value in each["values"]]
                    series.append((legend(target["legendFormat"], each["metric"]), points))
            if panel["type"] != "row":
                found.append((panel["title"], series))
    return found


def legend(text: str, labels: dict[str, Any]) -> str:
    """Return the name of a series, without what is the same for all of them here."""
    same = {"job", "namespace", "instance", "url"}
    shown = re.sub(r"{{(\w+)}}", lambda name: "" if name[1] in same else labels.get(name[1], "")[:16], text)
    return " ".join(shown.split())


def cell(number: int, title: str, series: Series) -> str:
    """Return one panel."""
    x, y = MARGIN + number % COLUMNS * (CELL_WIDTH + GAP), MARGIN + number // COLUMNS * (CELL_HEIGHT + GAP)
    # What is not a number is nothing to draw: no call in that moment.
    drawn = [(name, [(at, value) for at, value in points if value == value]) for name, points in series]  # noqa: PLR0124
    times = [at for _, points in drawn for at, _ in points] or [0.0]
    top = max([value for _, points in drawn for _, value in points] or [0.0]) or 1.0
    first, width = min(times), max(max(times) - min(times), 1.0)
    left, right, high, low = x + 10, x + CELL_WIDTH - 10, y + 44, y + CELL_HEIGHT - 24
    parts = [
        f'<rect x="{x}" y="{y}" width="{CELL_WIDTH}" height="{CELL_HEIGHT}" rx="4" fill="#181b1f"/>',
        f'<text x="{left}" y="{y + 20}" fill="#d8d9da" font-weight="600">{escape(title)}</text>',
        f'<text x="{right}" y="{y + 38}" fill="#8e8e8e" font-size="10" text-anchor="end">{top:.3g}</text>',
        f'<line x1="{left}" y1="{low}" x2="{right}" y2="{low}" stroke="#33363b"/>',
    ]
    for index, (_, points) in enumerate(drawn):
        line = " ".join(
            f"{left + (at - first) / width * (right - left):.0f},{low - max(value, 0) / top * (low - high):.0f}"
            for at, value in points
        )
        color = COLORS[index % len(COLORS)]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    names, letters = "", 0
    for index, (name, _) in enumerate(drawn):
        letters += len(name) + 2
        if letters <= LEGEND_LETTERS:
            names += f'<tspan fill="{COLORS[index % len(COLORS)]}">{escape(name)}</tspan>  '
    parts.append(f'<text x="{left}" y="{y + CELL_HEIGHT - 8}" font-size="10">{names}</text>')
    return "\n".join(parts)


def picture(panels: Panels) -> str:
    """Return all panels as SVG."""
    rows = -(-len(panels) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * CELL_WIDTH + (COLUMNS - 1) * GAP
    height = 2 * MARGIN + rows * CELL_HEIGHT + (rows - 1) * GAP
    cells = [cell(number, title, series) for number, (title, series) in enumerate(panels)]
    font = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{font}" font-size="12">\n<rect width="{width}" height="{height}" fill="#0b0c0e"/>\n'
        + "\n".join(cells)
        + "\n</svg>\n"
    )


def main() -> None:
    """Draw the picture."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    with tempfile.TemporaryDirectory(prefix="dashboard-") as folder:
        file.write_text(picture(asyncio.run(watch(Path(folder)))), "utf-8")
    print(f"{file} is drawn")


if __name__ == "__main__":
    main()
