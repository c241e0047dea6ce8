"""Run the official conformance suite of the Model Context Protocol, in both eras.

`python tests/conformance/run.py` starts this project's server and runs every scenario that needs no
fixtures, then starts the fixtures behind the same hardening and runs all that the protocol requires.
`python tests/conformance/run.py https://mcp.example.com/mcp` runs the first part against a running
server, with the key in `MCP_CONFORMANCE_KEY`; raise its `MCP_RATE_*` limits, the suite is in a hurry.

Needs Node 22 or later, which `make setup` brings; the suite itself comes through `npx`, in a fixed version.
The suite cannot send a key, so a small proxy on this machine adds it.
Exit code 0: all as expected, 1: not, 2: something is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = next(ROOT.glob("src/*/hardening")).parent.name
SUITE = shlex.join(["bash", str(ROOT / "scripts/npx.sh"), "@modelcontextprotocol/conformance@0.2.0-alpha.12"])
# Checks that need a tool of the suite's, which only the fixtures have.
EXPECTED_FAILURES = HERE / "expected-failures.yml"
START_SECONDS, RUN_SECONDS, HEAD_SECONDS = 60, 300, 30
AT_ONCE = 2
COLOR = re.compile(r"\x1b\[\d+m")

MODERN, LEGACY = "2026-07-28", "2025-11-25"
# The scenarios that call no fixture, and the capability without which one makes no sense.
SCENARIOS = {
    MODERN: {
        "server-stateless": (),
        "tools-list": (),
        "server-sse-multiple-streams": (),
        "dns-rebinding-protection": (),
        "http-header-validation": (),
        "resources-list": ("resources",),
        "sep-2164-resource-not-found": ("resources",),
        "prompts-list": ("prompts",),
        "caching": ("prompts", "resources"),
        "input-required-result-unsupported-methods": (),
        "input-required-result-validate-input": (),
    },
    LEGACY: {
        "server-initialize": (),
        "server-session-lifecycle": (),
        "ping": (),
        "tools-list": (),
        "dns-rebinding-protection": (),
        "resources-list": ("resources",),
        "prompts-list": ("prompts",),
    },
}
# What protects a server on this machine means nothing to one that has a name.
LOCAL_ONLY = "dns-rebinding-protection"
HURRY = {
    f"MCP_RATE_{name}": "1000000"
    for name in (
        *("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "INITIALIZE_PER_MINUTE", "DISCOVER_PER_MINUTE"),
        *("PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST", "TOOL_PER_MINUTE"),
    )
}


class MissingError(Exception):
    """Something that this needs is not there; the text says what to do."""


@asynccontextmanager
async def started(*command: str, key: str, **environment: str) -> AsyncGenerator[str]:
    """Start a server of this project with a key and without haste; give its URL."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={
            **os.environ,
            **HURRY,
            "MCP_AUTH": "api_key",
            "MCP_API_KEYS": f"conformance:{key}",
            "MCP_HOST": "127.0.0.1",
            "MCP_PORT": "0",
            "MCP_LOG_FORMAT": "json",
            "MCP_READINESS_DELAY_SECONDS": "0",
            **environment,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    lines: deque[str] = deque(maxlen=20)
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            port = await _port(child.stderr, lines)
        reading = asyncio.create_task(_port(child.stderr, lines))
        yield f"http://127.0.0.1:{port}/mcp"
    except TimeoutError:
        raise MissingError("The server did not start:\n" + "".join(lines)) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _port(stream: asyncio.StreamReader | None, lines: deque[str]) -> int:
    """Read log lines until the one that names the port."""
    while stream is not None and (line := await stream.readline()):
        lines.append(line.decode())
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["msg"] == "started":
                return int(record["port"])
    raise MissingError("The server has ended:\n" + "".join(lines))


class Proxy:
    """Adds a key to every request; everything else passes as it is, as soon as it comes."""

    def __init__(self, url: str, key: str) -> None:
        self.target = urlsplit(url)
        self.key = key
        self.names: tuple[str, ...] = ()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[str]:
        """Listen on this machine; give the URL."""
        async with await asyncio.start_server(self._forward, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            self.names = (f"localhost:{port}", f"127.0.0.1:{port}")
            yield f"http://{self.names[0]}{self.target.path}"

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one request and its answer; whoever closes first ends both."""
        pumps: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                up_reader, up_writer = await self._connect()
            with contextlib.closing(up_writer):
                up_writer.write(self._with_key(head))
                pumps += [asyncio.create_task(_pump(reader, up_writer)), asyncio.create_task(_pump(up_reader, writer))]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = self.target.scheme == "https"
        return await asyncio.open_connection(
            self.target.hostname, self.target.port or (443 if secure else 80), ssl=secure or None
        )

    def _with_key(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        sent = [first]
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() in {"host", "origin"}:
                # Whoever calls this proxy by its name means the server; a foreign name stays foreign.
                for mine in self.names:
                    value = value.replace(mine, self.target.netloc)
            if name.lower() not in {"connection", "authorization"}:
                sent.append(f"{name}:{value}")
        # One request for each connection: then nothing but the head has to be understood.
        sent += [f"Authorization: Bearer {self.key}", "Connection: close", "", ""]
        return "\r\n".join(sent).encode("latin-1")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()


class Suite:
    """The suite as a command."""

    def __init__(self, command: str) -> None:
        self.command = shlex.split(command)
        if shutil.which(self.command[0]) is None:
            raise MissingError(f"{self.command[0]} is missing.")
        self.turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, title: str, url: str, *options: str) -> bool:
        """Run it once; say how it went, and what it said if it did not go well."""
        async with self.turns:
            with tempfile.TemporaryDirectory() as folder:
                child = await asyncio.create_subprocess_exec(
                    *(*self.command, "server", "--url", url, "-o", folder, *options),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
                try:
                    async with asyncio.timeout(RUN_SECONDS):
                        said, _ = await child.communicate()
                except TimeoutError:
                    child.kill()
                    said, _ = await child.communicate()
        lines = COLOR.sub("", said.decode()).splitlines()
        told = [line for line in lines if "FAILURE" in line or "✗" in line or "stale" in line.lower()] or lines
        passed = child.returncode == 0
        sys.stdout.write(
            "\n      ".join([f"{'pass' if passed else 'FAIL'}  {title}", *(told if not passed else ())]) + "\n"
        )
        sys.stdout.flush()
        return passed


def capabilities(url: str, key: str) -> set[str]:
    """Return what the server says it can do (2026-07-28, server/discover)."""
    meta = '{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
    body = f'{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{"_meta":{meta}}}}}'
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "server/discover",
    }
    request = Request(url, body.encode(), headers)  # noqa: S310 - the URL is the caller's own
    with urlopen(request, timeout=HEAD_SECONDS) as answer:  # noqa: S310 - the same
        return set(json.loads(answer.read())["result"]["capabilities"])


async def check_server(suite: Suite, url: str, key: str) -> bool:
    """Run the scenarios that need no fixtures."""
    able = await asyncio.to_thread(capabilities, url, key)
    on_this_machine = urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}
    async with Proxy(url, key).open() as local:
        runs = [
            suite.run(
                f"{revision} {scenario}",
                local,
                *("--spec-version", revision, "--scenario", scenario, "--expected-failures", str(EXPECTED_FAILURES)),
            )
            for revision, scenarios in SCENARIOS.items()
            for scenario, needed in scenarios.items()
            if able.issuperset(needed) and (on_this_machine or scenario != LOCAL_ONLY)
        ]
        return all(await asyncio.gather(*runs))


async def check_fixtures(suite: Suite, url: str, key: str) -> bool:
    """Run everything that the protocol requires, of both revisions."""
    async with Proxy(url, key).open() as local:
        runs = [
            suite.run(f"{revision}, all that is required", local, "--requirements", revision)
            for revision in (MODERN, LEGACY)
        ]
        return all(await asyncio.gather(*runs))


async def run(url: str | None, command: str) -> bool:
    """Run both parts, or the first one against a running server."""
    suite = Suite(command)
    if url is not None:
        return await check_server(suite, url, os.environ.get("MCP_CONFORMANCE_KEY", ""))
    key = secrets.token_urlsafe(32)
    async with started("-m", PACKAGE, "serve", key=key) as own:
        good = await check_server(suite, own, key)
    # Sampling and elicitation of 2025-11-25 exist in sessions only.
    async with started(str(HERE / "fixtures.py"), key=key, MCP_LEGACY="stateful") as own:
        return await check_fixtures(suite, own, key) and good


def main() -> int:
    """Read the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="a running server; without it, this project's own is started")
    parser.add_argument("--suite", default=SUITE, help="command of the suite (default: %(default)s)")
    chosen = parser.parse_args()
    try:
        return 0 if asyncio.run(run(chosen.url, chosen.suite)) else 1
    except (MissingError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
