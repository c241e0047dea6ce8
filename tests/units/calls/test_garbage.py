"""Nothing of an answered call waits for the garbage collector: memory follows the calls that run."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured
from live import KEY, live
from wire import ERAS, Era, Wire

if TYPE_CHECKING:
    from pathlib import Path

# The SDK's connection and runner of one request know each other; they hold nothing of it.
OF_THE_SDK = 9
CALLS = 5
DEEP: Any = [[[[]] * 20] * 20] * 5
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "an answer": ("echo", {"text": "a"}),
    "an answer after a while": ("wait", {"seconds": 0.06}),
    "a stream": ("stream", {"steps": 2, "seconds": 0.03}),
    "arguments that do not fit": ("echo", {"text": DEEP}),
    "an unknown argument": ("echo", {"text": "a", "more": DEEP}),
    "a failure": ("fail", {"text": "a"}),
    "a crash": ("crash", {"text": "a"}),
    "a deadline": ("too_slow", {"text": "a"}),
    "an exit": ("leave", {"text": "a"}),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answered_call_leaves_no_cycles(kind: str, era: Era, tmp_path: Path) -> None:
    """However it ended, at most 12 objects are left to the collector, its arguments not among them."""
    tool, arguments = KINDS[kind]
    with live() as server, captured(tmp_path / "log"):
        async with Wire(server.url, KEY) as wire:
            for _ in range(2):
                await wire.call(era, tool, arguments, rpc_id=7)
            # What the answer has left in timers and callbacks is over by then.
            await asyncio.sleep(0.1)
            server.do(gc.collect)
            gc.disable()
            try:
                for _ in range(CALLS):
                    await wire.call(era, tool, arguments, rpc_id=7)
                await asyncio.sleep(0.1)
                left = server.do(gc.collect)
            finally:
                gc.enable()

    assert left <= (OF_THE_SDK + 3) * CALLS
