"""Render a server, start it, talk to it in both eras, say what happened; `ONCE=1` ends after that."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Generator

TEMPLATE = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
READY_SECONDS = 60
CALL_SECONDS = 30
NOTE = "Bring an umbrella"


class DemoError(Exception):
    """A step failed; the message says which and shows what it printed."""


@contextmanager
def step(what: str) -> Generator[None]:
    """Say what is being done, and how long it took."""
    started = time.monotonic()
    if sys.stdout.isatty():
        print(f"  … {what}", end="\r", flush=True)
    yield
    print(f"  ✓ {what}  ({time.monotonic() - started:.1f} s)", flush=True)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command to its end; raise what it printed when it fails."""
    done = subprocess.run(  # noqa: S603 - the commands of this file
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"{Path(str(command[0])).name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def render(folder: Path) -> Path:
    """Make a project with default answers."""
    project = folder / "weather-server"
    run(BIN / "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", TEMPLATE, project, cwd=folder)
    return project


@contextmanager
def serving(project: Path, key: str, probe_key: str) -> Generator[tuple[str, str]]:
    """Run `dev` in the project; give its URL and what it printed, and leave nothing running."""
    environment = {**os.environ, "MCP_API_KEYS": f"demo:{key}", "MCP_PROBE_KEY": probe_key}
    log = project / "demo.log"
    with log.open("w") as output:
        server = subprocess.Popen(  # noqa: S603 - the project's own interpreter
            [project / ".venv/bin/python", "-m", "weather_server", "dev", "--no-reload"],
            cwd=project,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield wait_until_ready(server, log), log.read_text("utf-8")
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_until_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """Return the URL once the server says it is ready for traffic."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"serves (http://\S+)/mcp", log.read_text("utf-8"))
        if found:
            try:
                with urlopen(f"{found[1]}/readyz", timeout=1):  # noqa: S310 - our own server
                    return f"{found[1]}/mcp"
            except (URLError, OSError):
                pass
        time.sleep(0.1)
    raise DemoError(f"The server did not get ready:\n{log.read_text('utf-8')}")


async def talk(url: str, key: str, mode: str) -> tuple[str, list[str], dict[str, Any]]:
    """Call both example tools with the official client; return version, progress events, the note."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    events: list[str] = []

    async def progress(done: float, total: float | None, _: str | None) -> None:
        events.append(f"{done:g}/{total or 0:g}")

    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=CALL_SECONDS)
    async with http, Client(streamable_http_client(url, http_client=http), mode=mode) as client:  # type: ignore[arg-type]
        version = client.protocol_version
        await client.call_tool("countdown", {"steps": 5, "step_seconds": 0.2}, progress_callback=progress)
        kept = await client.call_tool("keep_note", {"body": NOTE})
    return str(version), events, dict(kept.structured_content or {})


def demo(folder: Path, *, once: bool) -> None:
    """Do everything, and tell it."""
    key, probe_key = f"demo-{secrets.token_hex(24)}", f"probe-{secrets.token_hex(24)}"
    print("\nFrom one command to a server that answers:\n")
    with ExitStack() as stack:
        with step("render a project with default answers (copier copy)"):
            project = render(folder)
        with step("install what it needs (uv sync)"):
            run(BIN / "uv", "sync", "--quiet", cwd=project)
        with step("start PostgreSQL and the server (weather-server dev)"):
            url, printed = stack.enter_context(serving(project, key, probe_key))
        for era in ("modern", "legacy"):
            with step(f"probe it from outside, {era} era (weather-server probe)"):
                command = (project / ".venv/bin/python", "-m", "weather_server", "probe", url, "--era", era, "--json")
                verdict = json.loads(run(*command, cwd=project, MCP_PROBE_KEY=probe_key))["verdict"]
        for mode in ("auto", "legacy"):
            with step(f"call both example tools with the official client, mode {mode}"):
                version, events, note = asyncio.run(talk(url, key, mode))
            print(f"      protocol {version}: progress {', '.join(events)}; note {note['id']}: {note['body']!r}")
        print(f"\nThe probe says {verdict}. The project is in {project}.")
        if once:
            return
        print(printed[printed.index("\nweather-server serves") :], end="", flush=True)
        signal.pause()


def main() -> int:
    """Run the demo; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="mcp-demo-") as folder:
        # The embedded PostgreSQL runs as a user of its own when root starts it.
        Path(folder).chmod(0o755)
        try:
            demo(Path(folder), once=bool(os.environ.get("ONCE")))
        except DemoError as failed:
            print(f"\n\nThe demo stopped: {failed}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nEverything is stopped.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
