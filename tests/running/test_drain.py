"""SIGTERM at any moment, under load: what the server has accepted is answered, and it ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from support.dev_server import KEY
from support.programs import find
from support.watched_server import message_in

if TYPE_CHECKING:
    from pathlib import Path

SIGNALS = int(os.environ.get("DRAIN_SIGNALS", "100"))
AT_ONCE = 2
WORKERS = 8
LOAD_SECONDS = 1.5
GRACE_SECONDS = 30
MODERN, LEGACY = "2026-07-28", "2025-11-25"
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("echo", {"text": "hello"}),
    ("wait", {"seconds": 0.2}),
    ("stream", {"steps": 4, "seconds": 0.05}),
    ("too_slow", {"text": "hello"}),
    ("crash", {"text": "hello"}),
)


@dataclass
class Seen:
    """What the clients of one server got."""

    answered: set[str] = field(default_factory=set)
    refused: int = 0
    broken: list[str] = field(default_factory=list)


def request(era: str, number: int, name: str, arguments: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call that asks for progress."""
    meta: dict[str, Any] = {"progressToken": number}
    headers = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN if era == "modern" else LEGACY,
    }
    if era == "modern":
        headers |= {"mcp-method": "tools/call", "mcp-name": name}
        meta |= {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return headers, json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def work(url: str, seed: int, seen: Seen) -> None:
    """Call one tool after the other until the server is gone."""
    chance = random.Random(seed)  # noqa: S311 - for variety, not for secrets
    async with httpx2.AsyncClient(timeout=GRACE_SECONDS) as http:
        for number in range(10_000):
            name, arguments = chance.choice(CALLS)
            headers, body = request(chance.choice(["modern", "legacy"]), number, name, arguments)
            try:
                async with http.stream("POST", f"{url}/mcp", headers=headers, content=body) as answer:
                    request_id = answer.headers["x-request-id"]
                    if answer.status_code == 503:
                        seen.refused += 1
                        return
                    text = (await answer.aread()).decode()
            except httpx2.ConnectError:
                return
            except httpx2.HTTPError as error:
                # Allowed only for a request that the server never took up: the log decides.
                seen.broken.append(type(error).__name__)
                return
            if answer.status_code == 200 and '"result"' in text:
                seen.answered.add(request_id)


async def one(project: Path, folder: Path, seed: int) -> tuple[int, Seen, list[dict[str, Any]]]:
    """Serve, load, send SIGTERM at some moment; return exit code, what clients saw, what was logged."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MCP_")},
        "PORT": "0",
        "MCP_AUTH": "api_key",
        "MCP_API_KEYS": f"test:{KEY}",
        "MCP_READINESS_DELAY_SECONDS": "0",
        "MCP_RATE_TOOL_PER_MINUTE": "1000000",
        "MCP_RATE_ADDRESS_PER_MINUTE": "1000000",
        "MCP_RATE_ADDRESS_BURST": "1000000",
        "MCP_RATE_PRINCIPAL_PER_MINUTE": "1000000",
        "MCP_RATE_PRINCIPAL_BURST": "1000000",
    }
    log = folder / f"{seed}.log"
    with log.open("w") as output:
        server = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [project / ".venv/bin/python", "tests/support/sample.py"],
            cwd=project,
            env=environment,
            stderr=output,
        )
    try:
        url = await asyncio.to_thread(started, log)
        seen = Seen()
        load = [asyncio.ensure_future(work(url, seed * WORKERS + number, seen)) for number in range(WORKERS)]
        await asyncio.sleep(random.Random(seed).uniform(0, LOAD_SECONDS))  # noqa: S311 - the moment is the test
        server.send_signal(signal.SIGTERM)
        await asyncio.gather(*load)
        code = await asyncio.to_thread(server.wait, GRACE_SECONDS)
    finally:
        server.kill()
        server.wait()
    return code, seen, [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]


def started(log: Path) -> str:
    """Wait for the line that names the port."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text("utf-8").splitlines():
            if '"msg":"started"' in line:
                return f"http://127.0.0.1:{json.loads(line)['port']}"
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_signal_to_the_group(project: Path, tmp_path: Path, era: str) -> None:
    """Below `uv run` each signal comes twice, once from uv: it is one, and loses no call.

    The same for SIGHUP, for a second SIGINT within a second, and for several of them at once.
    """
    groups = ((signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGHUP))
    ends = await asyncio.gather(
        *(signalled(project, tmp_path / str(number), era, signals) for number, signals in enumerate(groups))
    )

    assert ends == [(0, "waited", "stopped")] * len(groups)


async def signalled(project: Path, log: Path, era: str, signals: tuple[signal.Signals, ...]) -> tuple[int, str, str]:
    """Serve below `uv run`, signal the whole group during a call; return exit code, result and last line."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MCP_")},
        "PORT": "0",
        "MCP_AUTH": "api_key",
        "MCP_API_KEYS": f"test:{KEY}",
        "MCP_READINESS_DELAY_SECONDS": "0.2",
    }
    command = (find("uv"), "run", "--no-sync", "python", "tests/support/sample.py")
    with log.open("w") as output:
        server = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            command, cwd=project, env=environment, stderr=output, start_new_session=True
        )
    try:
        url = await asyncio.to_thread(started, log)
        headers, body = request(era, 1, "wait", {"seconds": 1.5})
        async with httpx2.AsyncClient(timeout=GRACE_SECONDS) as http:
            call = asyncio.ensure_future(http.post(f"{url}/mcp", headers=headers, content=body))
            await asyncio.sleep(0.5)
            for number in signals:
                os.killpg(server.pid, number)
                await asyncio.sleep(0.1)
            answer = await call
        code = await asyncio.to_thread(server.wait, GRACE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    return code, message_in(answer.text)["result"]["content"][0]["text"], last_message(log)


def last_message(log: Path) -> str:
    """Return what the last line of a log says."""
    return json.loads(log.read_text("utf-8").splitlines()[-1])["msg"]


@pytest.mark.slow
async def test_no_accepted_call_goes_unanswered(project: Path, tmp_path: Path) -> None:
    """Over both eras, plain and streaming, good calls and bad: each that began has reached its caller."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def limited(seed: int) -> tuple[int, Seen, list[dict[str, Any]]]:
        async with slots:
            return await one(project, tmp_path, seed)

    runs = await asyncio.gather(*(limited(seed) for seed in range(SIGNALS)))

    calls = 0
    for seed, (code, seen, lines) in enumerate(runs):
        began = {line["request_id"] for line in lines if line["msg"] == "tool call"}
        calls += len(began)
        assert code == 0, (seed, lines[-5:])
        assert not began - seen.answered, (seed, seen.broken, began - seen.answered)
        assert lines[-1]["msg"] == "stopped", (seed, lines[-5:])
    # A load that never met a drain would prove nothing.
    assert calls > SIGNALS * 5
    assert any(
        line["msg"] == "drain: refusing new work" and line["in_flight"] for _, _, lines in runs for line in lines
    )
    sys.stdout.write(f"{SIGNALS} signals, {calls} calls\n")
