"""Load from wrk: one fixed kind of request over so many connections; how many, how slow, with what errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client import sessions
from messages import ID

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = """
local values, header = { %(values)s }, %(header)s
local headers = { %(headers)s }
local before, after = %(before)s, %(after)s
local number = 0
function request()
  number = number + 1
  if #values > 0 then headers[header] = values[number %% #values + 1] end
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


def script(request: tuple[dict[str, str], str], header: str, values: Sequence[str]) -> str:
    """Return the program for wrk; each request has the next of the values in that header, where there are any."""
    headers, body = request
    before, _, after = body.partition(ID)
    return SCRIPT % {
        "header": _lua(header),
        "values": ", ".join(map(_lua, values)),
        "headers": ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()),
        "before": _lua(before),
        "after": _lua(after),
    }


def run(  # noqa: PLR0913 - each is one part of a load
    port: int,
    request: tuple[dict[str, str], str],
    seconds: float,
    connections: int,
    *,
    keeps: bool = False,
    callers: Sequence[str] = (),
) -> Load:
    """Ask for so long.

    Args:
        port: Where the server listens, on the loopback address.
        request: Headers and body, with `ID` where a number goes.
        seconds: How long.
        connections: How many at once.
        keeps: Whether the server needs a session.
        callers: Keys of the callers who ask in turn; default: the one of the request.

    Raises:
        RuntimeError: Something was not answered, or not with success.
    """
    header, values = "Authorization", [f"Bearer {key}" for key in callers]
    if keeps:
        header, values = "Mcp-Session-Id", asyncio.run(sessions(port, connections))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "load.lua"
        program.write_text(script(request, header, values), "utf-8")
        # wrk counts in whole seconds, as do its rounds here.
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(program)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/mcp"], capture_output=True, text=True, check=True, timeout=60
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, took, p50, p99, errors = map(int, line.split()[1:])
    if not requests and seconds < LONGEST:
        # Still warming up, on a busy machine.
        return run(port, request, seconds * 3, connections, keeps=keeps, callers=callers)
    if errors or not requests:
        raise RuntimeError(f"{errors} errors in {requests} requests:\n{done.stdout}")
    return Load(requests / took * 1e6, p50 / 1e3, p99 / 1e3, requests)
