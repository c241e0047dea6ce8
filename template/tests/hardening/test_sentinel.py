"""A value that a caller sends comes out nowhere but in the answer that the tool gives on purpose."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import careless
import httpx2
import pytest
from live import KEY, PROBE_KEY, SECONDS, Process, free_port
from wire import ERAS, Era, Wire

TOOLS = tuple(function.__name__ for function in careless.TOOLS)
SCRIPT = str(Path(careless.__file__))
LEVELS = ["debug", "info", "warning", "error"]

# The parts that are looked for, so that a value can be long, and cut, and still be found.
PLAIN = "S3ntinel-of-a-call"
ODD = 'Ωentinel ß 💥 "quoted" \\ 100%&<b>'
VALUES = {
    "plain": PLAIN,
    "odd": f"{ODD} {PLAIN}",
    "binary": f"\x01\x02{PLAIN}\x7f\x80",
    "huge": f"{PLAIN}-" * 5000,
}
TOKEN = "t0ken-that-is-no-key-0123456789-0123456789"  # noqa: S105 - to be refused
CLIENT = f"client-{PLAIN}"


def forms(value: str) -> set[str]:
    """Return the ways in which a value may come out."""
    raw = value.encode()
    found = {value, value.upper(), value.lower(), repr(value)[1:-1], json.dumps(value)[1:-1], quote(value), raw.hex()}
    found |= {html.escape(value), quote(value, safe=""), raw.hex().upper()}
    for pad in range(3):
        coded = base64.b64encode(b"x" * pad + raw).decode()
        found.add(coded[4 : len(coded) - 4])
    return found


SOUGHT = {form for value in (PLAIN, ODD, TOKEN) for form in forms(value)}


def found_in(output: str) -> list[str]:
    """Return what is found of any value."""
    return sorted(form for form in SOUGHT if form in output)


def arguments(tool: str, value: str) -> dict[str, Any]:
    """Return arguments that hold the value."""
    return {"nested": {"items": [{value[:60]: value}]}} if tool == "nest" else {"text": value}


async def provoke(wire: Wire, era: Era) -> list[str]:
    """Send values through every path; return what the caller was told of failures."""
    told: list[str] = []
    meta = (
        {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": CLIENT, "version": PLAIN}}} if era == "modern" else {}
    )
    headers = {"user-agent": CLIENT, "x-note": quote(ODD), "cookie": f"a={PLAIN}"}

    async def ask(method: str, params: dict[str, Any], sent: dict[str, str] = headers, key: str | None = None) -> None:
        reply = await wire.ask(era, method, params | meta, headers=sent, key=key)
        if not reply.messages or "error" in reply.message or reply.message["result"].get("isError"):
            told.append(reply.body.decode())

    for tool in TOOLS:
        for value in VALUES.values():
            await ask("tools/call", {"name": tool, "arguments": arguments(tool, value)})
        # Invalid in three ways: of another type, unknown, and beside what is known.
        for wrong in ({"text": [PLAIN], "nested": PLAIN}, {PLAIN: ODD}, arguments(tool, PLAIN) | {PLAIN: PLAIN}):
            await ask("tools/call", {"name": tool, "arguments": wrong})
    await ask("tools/call", {"name": PLAIN, "arguments": {"text": ODD}})
    await ask("prompts/get", {"name": PLAIN, "arguments": {"a": ODD}})
    await ask("resources/read", {"uri": f"sample://{PLAIN}"})
    await ask("tools/list", {"cursor": PLAIN}, sent={"x-note": quote(ODD)})
    # What belongs to no call: here the name that a client claims is written as it is.
    await ask("tools/list", {}, key=TOKEN, sent={"x-note": quote(ODD)})
    await ask("tools/list", {}, sent={"host": f"{PLAIN}.example.com", "cookie": f"a={PLAIN}"})
    await ask("tools/list", {}, sent={"origin": f"https://{PLAIN}.example.com"})
    for path in (f"/{PLAIN}", f"/mcp?token={PLAIN}"):
        reply = await wire.send(b"{" + PLAIN.encode(), {"x-note": quote(ODD)}, path=path)
        told += [reply.body.decode()]
    return told


async def listening(url: str) -> None:
    """Wait until the server takes requests; below info it does not say so."""
    async with Wire(url) as wire, asyncio.timeout(SECONDS):
        while True:
            try:
                await wire.get("/livez")
            except httpx2.ConnectError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("level", LEVELS)
async def test_no_value_of_a_call_comes_out(level: str) -> None:
    """Both eras, every path: nothing of it on standard output or error, in what callers are told, or in metrics."""
    told: list[str] = []
    url = f"http://127.0.0.1:{(port := free_port())}"
    with Process(SCRIPT, MCP_LOG_LEVEL=level, MCP_RATE_TOOL_PER_MINUTE="10000", PORT=str(port)) as server:
        await listening(url)
        async with Wire(url, KEY) as wire:
            for era in ERAS:
                told += await provoke(wire, era)
            metrics = await wire.get("/metrics", authorization=f"Bearer {PROBE_KEY}")
        assert server.stop() == 0
    output = "\n".join(server.lines)
    assert found_in(output) == []
    assert found_in("\n".join(told)) == []
    assert found_in(metrics.body.decode()) == []
    assert len(told) > 40
    # It is silent about the values, not about the calls.
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert len(lines) == len(server.lines)
    if level in {"debug", "info"}:
        calls = [line for line in lines if line["msg"] == "tool call"]
        assert {(line["tool_name"], line["era"]) for line in calls} >= {(tool, era) for tool in TOOLS for era in ERAS}
        assert {line["outcome"] for line in calls} >= {"ok", "error"}
    assert level == "error" or any(line["msg"] == "stray output" for line in lines)


async def test_the_sweep_sees_a_leak() -> None:
    """Control: the same server without the walls of the log leaks, and the sweep finds it."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with Process(SCRIPT, CARELESS_CONTROL="1", PORT=str(port)) as server:
        await listening(url)
        async with Wire(url, KEY) as wire:
            await wire.call("modern", "succeed", {"text": PLAIN})
        server.stop()
    assert {PLAIN, PLAIN.upper(), PLAIN.encode().hex()} <= set(found_in("\n".join(server.lines)))
