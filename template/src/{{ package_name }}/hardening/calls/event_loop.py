"""Event loop of a call: what belongs to it raises `OtherLoopError` in another one, e.g. `asyncio.run` in a thread.

It would wait for ever there, or leave connections and threads behind that no other call can use.
"""

from __future__ import annotations

import asyncio


class OtherLoopError(RuntimeError):
    """Code in a thread, or in an event loop of its own, used what belongs to the call; give it plain values."""


def running() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that this code runs in; None in a thread without one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check(loop: asyncio.AbstractEventLoop | None) -> None:
    """Let pass what runs in `loop`.

    Raises:
        OtherLoopError: It runs elsewhere.
    """
    if loop is not None and running() is not loop:
        raise OtherLoopError("await it in the tool itself, and give the thread what it has returned")
