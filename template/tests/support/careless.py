"""A server whose author logs everything: each tool writes what it was given in every way there is.

`CARELESS_CONTROL=1` takes the walls of the log away, to show that the sweep sees what they hold back.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import dataclasses
import functools
import itertools
import json
import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import threading
import traceback
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import alias
import structlog
from pydantic import BaseModel, ConfigDict, Field

alias.install()

from hardening import Context, HardeningSettings, errors, harden, tool
from hardening.exchange import current

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from hardening.server import HardenedServer

ANSWER = "An5wer-of-a-tool"
LEFT: list[asyncio.Task[None]] = []
# In turn, so that every one of them meets every form of a value.
LOGGERS = itertools.cycle(
    ("", "author", "mcp.server", "sse_starlette.sse", "uvicorn.error", "uvicorn.access", "asyncpg")
)

Value = Annotated[str, Field(max_length=200_000, description="Any text.")]


class Nested(BaseModel):
    """Values inside values."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[Annotated[dict[str, Value], Field(max_length=10)]], Field(max_length=10, description="Any.")]


def write(value: str) -> None:
    """Write a value to every logger."""
    forms = (value, repr(value), json.dumps(value), quote(value), value.encode().hex(), value.upper())
    forms = (*forms, base64.b64encode(value.encode()).decode(), f"<{value}>", "_".join(value.split()))
    log = structlog.get_logger()
    for form in forms:
        log.info("looked up", text=form, kind=form, reference=form, arguments={"text": form})
        log.warning("looked up %s", form)
        log.warning(f"looked up {form}", **{form[:50]: 1})  # noqa: G004 - the point
        name = next(LOGGERS)
        logging.getLogger(name).debug("chunk %s", form)
        logging.getLogger("author").info("chunk %(text)s", {"text": form})
        logging.getLogger(name).error(f"failed for {form}")  # noqa: G004 - the point


def spill(value: str) -> None:
    """Write a value everywhere."""
    write(value)
    for form in (value, value.upper(), value.encode().hex()):
        print(form)  # noqa: T201 - the point
        print(form, file=sys.stderr)  # noqa: T201 - the point
        os.write(2, form[:4000].encode())
    log = structlog.get_logger()
    warnings.warn(f"deprecated {value}", UserWarning, stacklevel=1)
    name = value[:30].replace("\0", "")
    warnings.warn(value, type(name, (UserWarning,), {}), stacklevel=1)
    warnings.warn_explicit(value, UserWarning, name, 1)
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


def fail(value: str) -> None:
    """Write a value and fail with it."""
    write(value)
    raise LookupError(value)


class Last:
    """Fails with a value when it is freed, where nothing can be raised."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __del__(self) -> None:
        fail(self.value)


async def unfinished(value: str) -> AsyncGenerator[str]:
    """Yield once; the event loop closes it, whenever that is."""
    try:
        yield value
    finally:
        fail(value)


class Finalized:
    """What `weakref.finalize` looks after: its callback writes when this is freed."""


def write_in_a_child(value: str) -> None:
    """Write in a process that was forked, and that leaves at once."""
    child = os.fork()
    if not child:
        try:
            write(value)
            print(value, flush=True)  # noqa: T201 - the point
            fail(value)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


async def named_after(value: str) -> None:
    """Fail in a group, with notes, under a name that is the value; nobody waits for it."""
    error = LookupError(value)
    error.add_note(value)
    raise ExceptionGroup(value, [error, type(value[:20].replace("\0", ""), (ValueError,), {})(value)])


async def forever() -> None:
    """Stay until the process ends, which names what is lost."""
    await asyncio.Event().wait()


class Again(logging.Handler):
    """Logs in a thread of its own what was logged elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it again."""
        logging.getLogger("again").handle(record)


class Carriers:
    """What the first call starts and all later ones use: each writes what it is handed, long after its own call."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[tuple[str, asyncio.Future[None]]] = asyncio.Queue()
        self.thread_jobs: queue.Queue[tuple[str, threading.Event]] = queue.Queue()
        self.pool = ThreadPoolExecutor(1)
        self.worker = asyncio.create_task(self._work())
        self.context = contextvars.copy_context()
        threading.Thread(target=self._work_in_thread, daemon=True).start()
        # As libraries do that log without waiting.
        self.records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        logging.getLogger("queued").addHandler(logging.handlers.QueueHandler(self.records))
        logging.handlers.QueueListener(self.records, Again()).start()

    async def _work(self) -> None:
        while True:
            value, done = await self.jobs.get()
            write(value)
            done.set_result(None)

    def _work_in_thread(self) -> None:
        while True:
            value, done = self.thread_jobs.get()
            write(value)
            done.set()

    async def carry(self, value: str, ctx: Context) -> None:
        """Hand a value to each of them."""
        loop = asyncio.get_running_loop()
        logging.getLogger("queued").error("queued %s", value)
        logging.getLogger("queued").error(value)
        await ctx.thread(write, value)
        ctx.background(self._later(value))
        timer = threading.Timer(0, write, (value,))
        timer.start()
        self.pool.submit(str).add_done_callback(lambda _: write(value))
        # Each of these fails where nobody waits for it.
        loop.call_soon(fail, value)
        loop.call_later(0, fail, value)
        await asyncio.to_thread(loop.call_soon_threadsafe, fail, value)
        Last(value)
        held = Finalized()
        weakref.finalize(held, write, value)
        weakref.finalize(held, fail, value)
        del held
        threading.Thread(target=fail, args=(value,), name=value).start()
        coroutine = named_after(value)
        coroutine.__qualname__ = coroutine.__name__ = value
        LEFT.append(loop.create_task(coroutine, name=value))
        endless = forever()
        endless.__qualname__ = endless.__name__ = value
        LEFT.append(loop.create_task(endless, name=value))
        logging.LoggerAdapter(logging.getLogger("author"), {"reference": value}).warning(
            "adapted", extra={"text": value}
        )
        logging.getLogger(value).error("named after it")
        logging.getLogger("author").error("stack", stack_info=True, extra={"name_of": value})
        sys.excepthook(LookupError, LookupError(value), None)
        if hasattr(loop, "call_exception_handler"):
            loop.call_exception_handler({"message": value, "exception": LookupError(value), "task": value})
        write_in_a_child(value)
        await anext(unfinished(value))
        await asyncio.to_thread(timer.join)
        done = loop.create_future()
        self.jobs.put_nowait((value, done))
        await done
        handed = threading.Event()
        self.thread_jobs.put((value, handed))
        await asyncio.to_thread(handed.wait)
        await loop.run_in_executor(self.pool, write, value)
        context = self.context.copy()
        await loop.run_in_executor(self.pool, lambda: context.run(write, value))
        for context in (self.context, contextvars.Context()):
            called = loop.create_future()
            loop.call_soon(self._call_back, value, called, context=context)
            await called
            later = asyncio.create_task(self._later(value), context=context.copy())
            later.add_done_callback(lambda _: write(value), context=context.copy())
            await later
        await asyncio.sleep(0)

    def _call_back(self, value: str, called: asyncio.Future[None]) -> None:
        write(value)
        called.set_result(None)

    async def _later(self, value: str) -> None:
        await asyncio.sleep(0)
        write(value)


CARRIERS: list[Carriers] = []


async def act(*values: str) -> None:
    """Write values everywhere, then end as the request says in a header of its own."""
    exchange = current.get()
    outcome = exchange.header(b"x-outcome") if exchange else ""
    for value in values:
        spill(value)
    text = " ".join(values)
    if outcome == "crash":
        raise RuntimeError(f"cannot look up {text}") from KeyError(text)
    if outcome == "refuse":
        raise errors.NotFound(f"There is no {text}.")
    if outcome not in {"late", "hold"}:
        return
    if outcome == "late":
        # No other call runs, so this is the deadline of this one.
        for deadline in SERVED[0].deadlines.running:
            deadline.reschedule(asyncio.get_running_loop().time())
    else:
        structlog.get_logger().error("holding")
    try:
        await asyncio.sleep(60)
    finally:
        for value in values:
            spill(value)


@tool(read_only=True)
async def sweep_text(text: Value) -> str:
    """Take one value, and write it."""
    await act(text)
    return "done"


@tool(read_only=True)
async def sweep_everywhere(text: Value) -> str:
    """Take one value, and write it in tasks and threads too."""
    await spill_everywhere(text)
    await act(text)
    return "done"


@tool(read_only=True)
async def sweep_nested(nested: Nested) -> str:
    """Take values inside values, and write them."""
    await act(*(part for item in nested.items for pair in item.items() for part in pair))
    return "done"


@tool(read_only=True)
async def sweep_carried(text: Value, ctx: Context) -> str:
    """Take one value, and have it written by what an earlier call has started."""
    if not CARRIERS:
        CARRIERS.append(Carriers())
    await CARRIERS[0].carry(text, ctx)
    await act(text)
    return "done"


class Told(BaseModel):
    """What a tool finds, and nobody has sent."""

    found: str


@tool(read_only=True)
async def sweep_answer(ctx: Context) -> Told:
    """Write the headers of the request, and the answer when it has been given."""
    exchange = current.get()
    await act(*(value.decode("latin-1") for value in (exchange.headers if exchange else {}).values()))

    async def afterwards() -> None:
        while not ctx.over:
            await asyncio.sleep(0)
        spill(ANSWER)

    LEFT.append(asyncio.create_task(afterwards()))
    return Told(found=ANSWER)


def careless(function: Any) -> Any:
    """Return a tool that looks like `function`, and writes what it is given in place of doing its work."""

    @functools.wraps(function)
    async def instead(**arguments: Any) -> str:
        await act(*(str(value) for value in arguments.values() if not isinstance(value, Context)))
        return "done"

    # Neither the author's settings nor the author's state are there.
    plain = {
        name: "Context" if str(kind).startswith("Context[") else kind for name, kind in function.__annotations__.items()
    }
    instead.__annotations__ = {**plain, "return": "str"}
    declared = dataclasses.replace(function.__tool__, timeout_seconds=None, rate_per_minute=None, cost=0, scopes=())
    instead.__tool__ = declared  # type: ignore[attr-defined] - as the decorator does
    return instead


class Unguarded:
    """What `logs.configure` returns, without walls."""

    def __init__(self, *_: Any, **__: Any) -> None:
        logging.basicConfig(level=logging.DEBUG)
        logging.captureWarnings(capture=True)

    def __getattr__(self, _: str) -> Any:
        return lambda *_: True


TOOLS = (sweep_text, sweep_everywhere, sweep_nested, sweep_carried, sweep_answer)
# None where the template tests itself.
AUTHORS = tuple(map(careless, getattr(import_module(f"{alias.PACKAGE}.tools"), "TOOLS", ())))
SERVED: list[HardenedServer] = []


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with these tools, and with all of the project."""
    SERVED.append(harden(settings, tools=(*TOOLS, *AUTHORS)))
    return SERVED[0]


if __name__ == "__main__":
    from hardening.lifecycle import startup as serve

    if os.environ.get("CARELESS_CONTROL"):
        serve.logs.configure = Unguarded  # type: ignore[assignment]
        serve.StdioCapture = Unguarded  # type: ignore[assignment]
        serve.otlp.scrubbing = lambda exporter, _: exporter
    raise SystemExit(serve.serve(HardeningSettings, build))
