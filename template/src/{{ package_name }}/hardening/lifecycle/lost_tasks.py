"""Orphaned asyncio tasks (`asyncio.create_task` in tools): found by a set difference at shutdown, logged as a warning.

What is lost with the process is named by its function, in one line, and never silently.
Work after the answer that shall not be lost belongs to `ctx.background`. What was there before the port was open
belongs to the state, which ends it by itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from ..logs.origin import OURS, is_library

log = structlog.get_logger()


def of_the_author() -> set[asyncio.Task[Any]]:
    """Return the tasks that run code of the author's."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and _of_the_author(task)}


def _of_the_author(task: asyncio.Task[Any]) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    module = str(frame.f_globals.get("__name__", "")) if frame else ""
    return not is_library(frame) and not f"{module}.".startswith(f"{OURS}.")


def warn_of_lost(before: set[asyncio.Task[Any]]) -> None:
    """Write one line with the names of the functions whose tasks are lost.

    Args:
        before: The tasks that were there before the port was open.
    """
    # Of the code, which nobody can name after a value.
    codes = [getattr(task.get_coro(), "cr_code", None) for task in of_the_author() - before]
    names = {str(code.co_qualname) for code in codes if code is not None}
    if names:
        log.warning("tasks lost at the end", calls=sorted(names))
