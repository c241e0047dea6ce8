"""A server whose tool starts a process that outlives it: not a test."""

from __future__ import annotations

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


if __name__ == "__main__":
    raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(fork,))))
