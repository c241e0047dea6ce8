"""A server whose author logs everything: each tool writes what it was given in every way there is.

`CARELESS_CONTROL=1` takes the walls of the log away, to show that the sweep sees what they hold back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import alias
import structlog
from pydantic import BaseModel, ConfigDict, Field

alias.install()

from hardening import HardeningSettings, errors, harden, tool

if TYPE_CHECKING:
    from hardening.server import HardenedServer

Value = Annotated[str, Field(max_length=200_000, description="Any text.")]


class Nested(BaseModel):
    """Values inside values."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Annotated[dict[str, Value], Field(max_length=10)]], Field(max_length=10, description="Any.")]


def spill(value: str) -> None:
    """Write a value everywhere."""
    forms = (value, repr(value), json.dumps(value), quote(value), value.encode().hex(), value.upper())
    forms = (*forms, base64.b64encode(value.encode()).decode(), f"<{value}>")
    log = structlog.get_logger()
    for form in forms:
        print(form)  # noqa: T201 - the point
        print(form, file=sys.stderr)  # noqa: T201 - the point
        os.write(2, form[:4000].encode())
        log.info("looked up", text=form, kind=form, reference=form, arguments={"text": form})
        log.warning(f"looked up {form}", **{form[:50]: 1})  # noqa: G004 - the point
        for name in ("", "author", "mcp.server", "sse_starlette.sse", "uvicorn.error", "uvicorn.access", "asyncpg"):
            logging.getLogger(name).debug("chunk %s", form)
            logging.getLogger(name).error(f"failed for {form}")  # noqa: G004 - the point
    warnings.warn(f"deprecated {value}", UserWarning, stacklevel=1)
    try:
        int(value)
    except ValueError:
        log.exception("failed")
        logging.getLogger("author").exception("failed for %s", value)
        traceback.print_exc()
    subprocess.run(["echo", value[:4000].replace("\0", "")], check=False)  # noqa: S607


async def spill_everywhere(value: str) -> None:
    """Write a value from a task and from three kinds of thread."""
    spill(value)

    async def task() -> None:
        spill(value)
        raise LookupError(value)

    forgotten = asyncio.create_task(task())
    await asyncio.wait([forgotten])
    await asyncio.to_thread(spill, value)
    await asyncio.get_running_loop().run_in_executor(None, spill, value)
    thread = threading.Thread(target=fail_in_thread, args=(value,))
    thread.start()
    await asyncio.to_thread(thread.join)


def fail_in_thread(value: str) -> None:
    """Write a value and die of it."""
    spill(value)
    raise LookupError(value)


@tool(read_only=True)
async def succeed(text: Value) -> str:
    """Write the value, and say nothing of it."""
    await spill_everywhere(text)
    return "done"


@tool(read_only=True)
async def nest(nested: Nested) -> str:
    """Write values from inside."""
    for item in nested.items:
        for key, value in item.items():
            spill(key)
            spill(value)
    return "done"


@tool(read_only=True)
async def crash(text: Value) -> str:
    """Write the value, then fail with it in the message."""
    spill(text)
    raise RuntimeError(f"cannot look up {text}") from KeyError(text)


@tool(read_only=True)
async def refuse(text: Value) -> str:
    """Fail on purpose, with the value in the advice."""
    spill(text)
    raise errors.NotFound(f"There is no {text}.")


@tool(read_only=True, timeout_seconds=0.2)
async def dawdle(text: Value) -> str:
    """Write the value when the deadline has passed."""
    try:
        await asyncio.sleep(60)
    finally:
        spill(text)
    return "done"


class Unguarded:
    """What `logs.configure` returns, without walls."""

    def __init__(self, *_: Any, **__: Any) -> None:
        logging.basicConfig(level=logging.DEBUG)
        logging.captureWarnings(capture=True)

    def __getattr__(self, _: str) -> Any:
        return lambda *_: True


TOOLS = (succeed, nest, crash, refuse, dawdle)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return the server."""
    return harden(settings, tools=TOOLS)


if __name__ == "__main__":
    from hardening import serve

    if os.environ.get("CARELESS_CONTROL"):
        serve.logs.configure = Unguarded  # type: ignore[assignment]
        serve.TakeOver = Unguarded  # type: ignore[assignment]
    raise SystemExit(serve.serve(HardeningSettings, build))
