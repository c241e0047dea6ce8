"""Draw docs/probe.svg: the probe's live table on a terminal, while a real server is well, changed, gone, and back.

`python docs/picture.py [FILE]` renders a project, serves it, and watches it with `probe --every` in a
pseudo-terminal. What is drawn is what the terminal showed, colours included.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Generator

TEMPLATE = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PICTURE = TEMPLATE / "docs/probe.svg"
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.5
LOOKS = 6

LINE, CHARACTER, MARGIN, GAP = 18, 8.4, 16, 14
COLUMNS, ROWS = 100, 40
COLORS = {"0": "#d4d4d4", "31": "#f87171", "32": "#4ade80", "33": "#facc15"}
ESCAPES = re.compile(r"\x1b\[(\d*)([A-Za-z])")


class PictureError(Exception):
    """There is nothing to draw; the message says why."""


def run(*command: str | Path) -> None:
    """Run a command to its end."""
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - of this file


def render(folder: Path, name: str) -> Path:
    """Make a project without a database, and install it beside itself."""
    project = folder / name
    answers = ("--defaults", "--data", "database=none")
    run(BIN / "copier", "copy", "--quiet", *answers, "--vcs-ref=HEAD", TEMPLATE, project)
    return project


def install(project: Path) -> None:
    """Install the project into its folder `site`; what it depends on is there already."""
    options = ("--quiet", "--no-deps", "--python", sys.executable, "--target", project / "site")
    run(BIN / "uv", "pip", "install", *options, project)


class Watched:
    """A server that can be replaced, and the terminal on which the probe shows what it sees."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.probe_key = secrets.token_hex(16)
        self.server: subprocess.Popen[bytes] | None = None
        self.screen = b""

    def serve(self, project: Path) -> None:
        """Serve another project in place of the one before."""
        self.stop()
        self.server = subprocess.Popen(
            [sys.executable, "-m", "weather_server", "serve"],
            env={
                **os.environ,
                "PYTHONPATH": str(project / "site"),
                "PORT": str(self.port),
                "MCP_AUTH": "api_key",
                "MCP_API_KEYS": f"picture:{secrets.token_hex(16)}",
                "MCP_PROBE_KEY": self.probe_key,
                "MCP_RATE_PROBE_PER_MINUTE": "10000",
                "MCP_READINESS_DELAY_SECONDS": "0",
            },
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port)):
                    return
            except OSError:
                time.sleep(0.05)
        raise PictureError("the server does not start")

    def stop(self) -> None:
        """Drain what serves."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(PATIENCE_SECONDS)
            self.server = None

    @contextmanager
    def terminal(self, project: Path) -> Generator[None]:
        """Watch the server on a terminal of its own."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        arguments = [f"http://127.0.0.1:{self.port}/mcp", "--every", str(PAUSE_SECONDS)]
        probe = subprocess.Popen(  # noqa: S603 - the project's own probe
            [sys.executable, "-m", "weather_server", "probe", *arguments, "--schema", project / "schema/tools.json"],
            env={**os.environ, "PYTHONPATH": str(project / "site"), "MCP_PROBE_KEY": self.probe_key},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.output = ours
        try:
            yield
        finally:
            probe.send_signal(signal.SIGINT)
            probe.wait(PATIENCE_SECONDS)
            os.close(ours)

    def page(self, verdict: str, looks: int = 1) -> list[str]:
        """Return the lines of the first page that has shown this verdict for so many looks."""
        deadline, seen, told = time.monotonic() + PATIENCE_SECONDS, 0, "nothing"
        while time.monotonic() < deadline:
            if select.select([self.output], [], [], 1)[0]:
                self.screen += os.read(self.output, 65_536)
            # A page begins at the first cell, and is whole when the rest of the screen is wiped.
            *whole, self.screen = self.screen.split(b"\x1b[J")
            for shown in whole:
                page = shown.decode().rpartition("\x1b[H")[2].replace("\r", "").splitlines()
                told = "".join(ESCAPES.sub("", line) + "\n" for line in page)
                seen = seen + 1 if re.search(rf"^{verdict}.* looks found it serving$", told, re.MULTILINE) else 0
                if seen >= looks:
                    return page
        raise PictureError(f"the probe never said {verdict}, but:\n{told}")


def free_port() -> int:
    """Return the port that people expect, or any other when it is taken."""
    for port in (8000, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return server.getsockname()[1]
        except OSError:
            continue
    raise PictureError("there is no free port")


def look() -> list[list[str]]:
    """Return two pages: of a server that offers something else, and of one that was gone and is back."""
    with tempfile.TemporaryDirectory() as scratch:
        project = render(Path(scratch), "released")
        changed = shutil.copytree(project, Path(scratch) / "changed")
        tool = changed / "src/weather_server/tools/countdown.py"
        text = tool.read_text("utf-8")
        tool.write_text(text.replace("Count down in steps", "Count down slowly, in steps,"), "utf-8")
        for one in (project, changed):
            install(one)
        watched = Watched(free_port())
        try:
            watched.serve(project)
            with watched.terminal(project):
                watched.page("healthy", LOOKS)
                watched.serve(changed)
                drifted = watched.page("drifted", LOOKS)
                watched.stop()
                watched.page("down", LOOKS)
                watched.serve(project)
                return [drifted, watched.page("healthy", LOOKS)]
        finally:
            watched.stop()


def drawn(line: str) -> str:
    """Return a line with its colours as SVG."""
    spans, color, at = [], COLORS["0"], 0
    for found in [*ESCAPES.finditer(line), None]:
        if text := line[at : found.start() if found else None]:
            spans.append(f'<tspan fill="{color}">{escape(text)}</tspan>')
        if found:
            at = found.end()
            color = COLORS.get(found[1] or "0", color) if found[2] == "m" else color
    return "".join(spans)


def picture(pages: list[list[str]]) -> str:
    """Return the pages, one below the other, as SVG."""
    columns = max(len(ESCAPES.sub("", line)) for page in pages for line in page)
    width = round(columns * CHARACTER + 2 * MARGIN)
    parts, top = [], 0
    for page in pages:
        height = LINE * len(page) + 2 * MARGIN
        parts.append(f'<rect y="{top}" width="{width}" height="{height}" rx="8" fill="#1e1e1e"/>')
        for number, line in enumerate(page, 1):
            y = top + MARGIN + LINE * number - 4
            parts.append(f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{drawn(line)}</text>')
        top += height + GAP
    font = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - GAP}" '
        f'width="{width}" height="{top - GAP}" font-family="{font}" font-size="14">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> None:
    """Draw the picture."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    file.write_text(picture(look()), "utf-8")
    print(f"{file} is drawn")


if __name__ == "__main__":
    main()
