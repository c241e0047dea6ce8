"""A server whose tools start what outlives them, or end what is not theirs: not a test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Literal

import alias

alias.install()

from hardening import HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve


@tool(read_only=True)
async def fork() -> int:
    """Start a process that does not end by itself, as a pool of processes does."""
    child = os.fork()
    if not child:
        for number in range(1, 3):
            os.close(number)
        signal.pause()
    return child


@tool(read_only=True)
async def forget() -> str:
    """Start a task that nobody waits for, and one of a library, which ends by itself or not."""
    FORGOTTEN.extend([asyncio.create_task(never_delivered()), asyncio.create_task(asyncio.sleep(3600))])
    return "started"


@tool(read_only=True)
async def leave(by: Literal["child", "task", "callback", "stop", "cancel"]) -> str:
    """Stop the event loop, or this task, for everybody who waits there."""
    loop = asyncio.get_running_loop()
    match by:
        case "child":
            async with asyncio.TaskGroup() as group:
                group.create_task(exits())
        case "task":
            FORGOTTEN.append(asyncio.create_task(exits()))
        case "callback":
            loop.call_soon(sys.exit, 3)
        case "stop":
            loop.stop()
        case "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return "in its last step"
    await asyncio.sleep(0.05)
    return "went on"


async def exits() -> None:
    """Leave, as a script would."""
    sys.exit(3)


async def never_delivered() -> None:
    """Take longer than there is."""
    await asyncio.sleep(3600)


FORGOTTEN: list[asyncio.Task[None]] = []


if __name__ == "__main__":
    raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(fork, forget, leave))))
