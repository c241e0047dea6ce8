"""The servers that are compared: how each is started, what it speaks, what it costs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from client import once
from messages import KEY, PROBE_KEY, listing

if TYPE_CHECKING:
    from client import Reply
    from project import Project

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_SECONDS = 60.0
# The default limits per caller are far below what one load client asks for; everything else is default.
RATES = ("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "INITIALIZE_PER_MINUTE", "DISCOVER_PER_MINUTE")
RATES += ("PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST", "TOOL_PER_MINUTE")


@dataclass
class Server:
    """One server of the comparison.

    Attributes:
        name: As the table shows it.
        command: How it is started; `{port}` is filled in.
        eras: What it speaks.
        keeps: Whether its legacy side keeps sessions.
    """

    name: str
    command: list[str]
    eras: tuple[str, ...] = ("modern", "legacy")
    keeps: bool = False
    environment: dict[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    started_seconds: float = 0.0
    started_cpu_seconds: float = 0.0
    log: Path = HERE
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [part.format(port=self.port) for part in self.command]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "PYTHON"))}
        self.log = Path(os.environ["BENCH_SCRATCH"]) / f"{self.name.replace(' ', '-')}.log"
        started = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**clean, "PORT": str(self.port), **self.environment}, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            # Nobody leaves a block that was not entered.
            self.__exit__()
            raise
        self.started_seconds = time.perf_counter() - started
        self.started_cpu_seconds = self.cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None  # noqa: S101 - for the types
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _wait(self) -> None:
        """Wait for the first answered listing."""
        until = time.perf_counter() + START_SECONDS
        while time.perf_counter() < until and self._process and self._process.poll() is None:
            try:
                # Cheap, so that asking takes nothing from who is starting.
                socket.create_connection(("127.0.0.1", self.port)).close()
                reply = asyncio.run(self.ask(listing(self.eras[0])))
            except (OSError, EOFError):
                time.sleep(0.01)
                continue
            # A server with sessions refuses a listing without one; that is an answer too.
            if reply.status == 200 or self.keeps:  # noqa: PLR2004
                return
            raise RuntimeError(f"{self.name} answered with {reply.status}: {reply.body!r}")
        raise RuntimeError(f"{self.name} did not answer:\n{self.log.read_text()[-2000:]}")

    async def ask(self, request: tuple[dict[str, str], str]) -> Reply:
        """Ask one thing."""
        return await once(self.port, request)

    def cpu_seconds(self) -> float:
        """Return what the process has used, user and system."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        """Return the memory it holds."""
        return int(self._stat()[21]) * PAGE / 2**20

    def _stat(self) -> list[str]:
        assert self._process is not None  # noqa: S101 - for the types
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()


def render(project: Project, name: str = "render", off: str = "", tools: int = 1, **environment: str) -> Server:
    """Return the render, whole or without some of its protections."""
    python = str(project.folder / ".venv/bin/python")
    command = [python, "-m", project.package, "serve"]
    if off:
        command = [python, str(HERE / "apps/variant.py"), project.package, off]
    own = {"MCP_AUTH": "api_key", "MCP_API_KEYS": f"bench:{KEY}", "MCP_PROBE_KEY": PROBE_KEY}
    own |= {f"MCP_RATE_{rate}": "1000000" for rate in RATES}
    own |= {"BENCH_TOOLS": str(tools)}
    keeps = environment.get("MCP_LEGACY") == "stateful"
    return Server(name, command, environment=own | environment, keeps=keeps)


def others(node: Path | None, tools: int = 1) -> list[Server]:
    """Return the other servers; those of TypeScript when they are installed."""
    app = str(HERE / "apps/bare.py")
    servers = [
        Server("bare", [sys.executable, app, "bare", "{port}", str(tools)], keeps=True),
        Server("fastmcp", [sys.executable, app, "fastmcp", "{port}", str(tools)], keeps=True),
        Server("raw", [sys.executable, app, "raw", "{port}", "0"]),
    ]
    if node is not None:
        command = ["node", str(node / "v1.mjs"), "{port}", str(tools)]
        servers.append(Server("typescript v1", command, eras=("legacy",)))
        servers.append(Server("typescript v2", ["node", str(node / "v2.mjs"), "{port}", str(tools)]))
    return servers
