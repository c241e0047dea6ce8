"""Nothing of an answered call waits for the garbage collector: memory follows the calls that run."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest
import sample
from captured import captured
from live import ENVIRONMENT, KEY, Live, settings_from
from mcp import MCPError
from wire import Era, Wire, opening, request

from hardening import HardenedServer, HardeningSettings, harden, tool

if TYPE_CHECKING:
    from pathlib import Path

# What the SDK leaves of a request, with nothing of a message in it: connection and runner that know each other, and in
# a session the tasks of an event stream, which keep how they were cancelled. Measured: 14 and 121.
OF_THE_SDK = {"modern": 18, "legacy": 18, "session": 125}
# In a session the stream of a client that has left ends before the one of its call.
OF_A_CLIENT_THAT_HAS_LEFT = 110
CALLS = 5
MARK = "needle"
DEEP: Any = [[[[MARK]] * 20] * 20] * 5
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "an answer": ("echo", {"text": MARK}),
    "an answer after a while": ("wait", {"seconds": 0.06}),
    "a stream": ("stream", {"steps": 2, "seconds": 0.03}),
    "arguments that do not fit": ("echo", {"text": DEEP}),
    "an unknown argument": ("echo", {"text": MARK, "more": DEEP}),
    "an unknown tool": ("nobody", {"text": MARK, "more": DEEP}),
    "a failure": ("fail", {"text": MARK}),
    "a crash": ("crash", {"text": MARK}),
    "an error of the protocol": ("refuse", {"text": MARK}),
    "a deadline": ("too_slow", {"text": MARK}),
    "an exit": ("leave", {"text": MARK}),
    "a client that leaves": ("wait", {"seconds": 0.2}),
    "a cancelled call": ("wait", {"seconds": 0.2}),
}
PATHS: dict[str, Era] = {"modern": "modern", "legacy": "legacy", "session": "legacy"}


@tool(read_only=True)
async def refuse(text: sample.Text) -> str:
    """Refuse with an error of the protocol, which goes out as it is."""
    raise MCPError(-32000, "No.", {"length": len(text)})


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with one more tool."""
    return harden(settings, tools=(*sample.TOOLS, refuse))


async def opened_session(wire: Wire) -> dict[str, str]:
    """Open a session; return the header that names it."""
    reply = await wire.ask("legacy", *opening("legacy"))
    return {"mcp-session-id": reply.headers["mcp-session-id"]}


async def end_early(wire: Wire, path: str, number: int, headers: dict[str, str], *, cancels: bool) -> None:
    """Leave in the middle of a call, or cancel it as a client of a session does."""
    usual, body = request(PATHS[path], "tools/call", {"name": "wait", "arguments": {"seconds": 0.2}}, key=wire.key)
    body = body.replace(b'"id": 1', f'"id": {number}'.encode(), 1)
    call = asyncio.create_task(wire.send(body, {**usual, **headers}))
    await asyncio.sleep(0.05)
    if cancels:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        await wire.send(json.dumps(note).encode(), {**request("legacy", "ping", key=wire.key)[0], **headers})
    else:
        call.cancel()
    await asyncio.wait([call])
    # In a session the call goes on.
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answered_call_leaves_no_cycles(kind: str, path: str, tmp_path: Path) -> None:
    """However it ended, a known number of objects of the SDK is left to the collector, and nothing of its arguments."""
    tool, arguments = KINDS[kind]
    early = kind in {"a client that leaves", "a cancelled call"}
    if kind == "a cancelled call" and path != "session":
        # Without a session a call is cancelled by leaving.
        kind = "a client that leaves"
    settings = settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful" if path == "session" else ""})
    with Live(settings, build) as server, captured(tmp_path / "log"):
        async with Wire(server.url, KEY) as wire:
            headers = await opened_session(wire) if path == "session" else {}

            async def ended(number: int) -> None:
                if early:
                    await end_early(wire, path, number, headers, cancels=kind == "a cancelled call")
                else:
                    await wire.call(PATHS[path], tool, arguments, rpc_id=number, headers=headers)

            for number in range(2):
                await ended(number)
            # What the answer has left in timers and callbacks is over by then.
            await asyncio.sleep(0.1)
            server.do(gc.collect)
            gc.disable()
            try:
                for number in range(CALLS):
                    await ended(10 + number)
                await asyncio.sleep(0.1)
                gc.set_debug(gc.DEBUG_SAVEALL)
                left = server.do(gc.collect)
                told = [text for each in gc.garbage for text in gc.get_referents(each) if isinstance(text, str | bytes)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()

    assert not [text for text in told if MARK in str(text)]
    leaves = path == "session" and kind == "a client that leaves"
    assert left <= (OF_THE_SDK[path] + OF_A_CLIENT_THAT_HAS_LEFT * leaves) * CALLS
