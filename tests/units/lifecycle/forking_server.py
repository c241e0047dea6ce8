"""A server whose tools start what outlives them, a process and a task: not a test."""

from __future__ import annotations

import asyncio
import os
import signal

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


async def never_delivered() -> None:
    """Take longer than there is."""
    await asyncio.sleep(3600)


FORGOTTEN: list[asyncio.Task[None]] = []


if __name__ == "__main__":
    raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(fork, forget))))
