"""Load from wrk: one fixed kind of request over so many connections; how many, how slow, with what errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from client import sessions
from messages import ID

SCRIPT = """
local sessions = { %(sessions)s }
local headers = { %(headers)s }
local before, after = %(before)s, %(after)s
local number = 0
function request()
  number = number + 1
  if #sessions > 0 then headers["Mcp-Session-Id"] = sessions[number %% #sessions + 1] end
  return wrk.format("POST", "/mcp", headers, before .. number .. after)
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""
LONGEST = 9.0


@dataclass(frozen=True)
class Load:
    """What one round of load saw."""

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int


def _lua(value: str) -> str:
    # A JSON string of ASCII is a string of Lua as well.
    return json.dumps(value)


def script(request: tuple[dict[str, str], str], names: list[str]) -> str:
    """Return the program for wrk; a session per connection where the server keeps sessions."""
    headers, body = request
    before, _, after = body.partition(ID)
    return SCRIPT % {
        "sessions": ", ".join(map(_lua, names)),
        "headers": ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()),
        "before": _lua(before),
        "after": _lua(after),
    }


def run(port: int, request: tuple[dict[str, str], str], seconds: float, connections: int, *, keeps: bool) -> Load:
    """Ask for so long.

    Args:
        port: Where the server listens, on the loopback address.
        request: Headers and body, with `ID` where a number goes.
        seconds: How long.
        connections: How many at once.
        keeps: Whether the server needs a session.

    Raises:
        RuntimeError: Something was not answered, or not with success.
    """
    names = asyncio.run(sessions(port, connections)) if keeps else []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "load.lua"
        program.write_text(script(request, names), "utf-8")
        # wrk counts in whole seconds, as do its rounds here.
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(program)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/mcp"], capture_output=True, text=True, check=True, timeout=60
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, took, p50, p99, errors = map(int, line.split()[1:])
    if not requests and seconds < LONGEST:
        # Still warming up, on a busy machine.
        return run(port, request, seconds * 3, connections, keeps=keeps)
    if errors or not requests:
        raise RuntimeError(f"{errors} errors in {requests} requests:\n{done.stdout}")
    return Load(requests / took * 1e6, p50 / 1e3, p99 / 1e3, requests)
