"""Tools that misbehave in every way there is, on the project's own hardening."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import alias
from pydantic import BaseModel, ConfigDict, Field

alias.install()

from hardening import Context, HardeningSettings, connection, errors, harden, tool

if TYPE_CHECKING:
    from hardening.server import HardenedServer

Text = Annotated[str, Field(max_length=1000, description="Any text.")]


class Echo(BaseModel):
    """What came in."""

    model_config = ConfigDict(extra="forbid")

    text: str
    number: int


@tool(read_only=True)
async def echo(text: Text, number: Annotated[int, Field(ge=0, le=100)] = 1) -> Echo:
    """Give back what came in, for the tests."""
    return Echo(text=text, number=number)


@tool(read_only=True, scopes=("notes:admin",))
async def scoped(text: Text) -> Echo:
    """Give back what came in, to callers with a scope."""
    return Echo(text=text, number=0)


@tool(read_only=True)
async def crash(text: Text) -> Echo:
    """Raise an exception that holds the argument."""
    raise RuntimeError(f"secret detail about {text}")


@tool(read_only=True)
async def fail(text: Text, kind: Annotated[str, Field(max_length=30)] = "NotFound") -> Echo:
    """Raise a failure of the taxonomy whose advice holds the argument."""
    failure: type[errors.ToolFailure] = getattr(errors, kind)
    raise failure(f"There is no {text} here.", retry_after_seconds=7)


@tool(read_only=True)
async def stray_cancel(text: Text) -> Echo:
    """Raise a cancellation that nobody asked for."""
    raise asyncio.CancelledError(text)


@tool(read_only=True)
async def leave(text: Text) -> Echo:
    """Try to end the process."""
    sys.exit(text)


@tool(read_only=True, timeout_seconds=0.3)
async def too_slow(text: Text) -> Echo:
    """Sleep beyond its own deadline."""
    await asyncio.sleep(3600)
    return Echo(text=text, number=0)


@tool(read_only=True)
async def wrong_result(text: Text) -> Echo:
    """Return what its output schema forbids."""
    return Echo.model_construct(text=text, number="many")  # type: ignore[arg-type] - the point of it


@tool(read_only=True)
async def huge_result(size: Annotated[int, Field(ge=1, le=10_000_000)]) -> str:
    """Return a text of that size."""
    return "x" * size


@tool(read_only=True, streams=True)
async def stream(
    steps: Annotated[int, Field(ge=1, le=1000)], seconds: Annotated[float, Field(ge=0, le=60)], ctx: Context
) -> int:
    """Report progress after each step."""
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds)
        await ctx.report_progress(step, steps, "step")
    return steps


RUNNING = asyncio.Event()
CANCELLED = asyncio.Event()


@tool(read_only=True)
async def wait(seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Wait, and note when the caller goes away."""
    RUNNING.set()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        CANCELLED.set()
        raise
    return "waited"


@tool(read_only=True)
async def stuck() -> str:
    """Never return by itself, for the tests of the drain."""
    await asyncio.sleep(3600)
    return "never"


@tool(read_only=True)
async def block(seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Stop the whole event loop, as no tool should."""
    time.sleep(seconds)  # noqa: ASYNC251 - the point of it
    return "blocked"


@tool(read_only=True)
async def leave_a_thread() -> str:
    """Leave a thread behind that never returns."""
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    return "left"


@tool(read_only=True)
async def who(ctx: Context) -> dict[str, str]:
    """Say who is calling, as the server sees it."""
    return {"id": ctx.principal.id, "name": ctx.principal.name, "request_id": ctx.request_id}


@tool(read_only=False)
async def query(sql: Annotated[str, Field(max_length=500)], ctx: Context) -> list[str]:
    """Run a statement on the call's own connection."""
    async with connection(ctx) as db:
        return [str(row[0]) for row in await db.fetch(sql)]


@tool(read_only=True)
async def query_read_only(sql: Annotated[str, Field(max_length=500)], ctx: Context) -> list[str]:
    """Run a statement as a tool that promised to change nothing."""
    async with connection(ctx) as db:
        return [str(row[0]) for row in await db.fetch(sql)]


@tool(read_only=True)
async def nested(ctx: Context) -> str:
    """Ask for a second connection while holding one."""
    async with connection(ctx), connection(ctx):
        return "two"


TOOLS = (
    echo,
    scoped,
    crash,
    fail,
    stray_cancel,
    leave,
    too_slow,
    wrong_result,
    huge_result,
    stream,
    wait,
    stuck,
    block,
    leave_a_thread,
    who,
    query,
    query_read_only,
    nested,
)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with all of them, a prompt and two resources."""
    server = harden(settings, tools=TOOLS, instructions="For tests.")

    @server.prompt()
    def greet(name: str) -> str:
        """Greet somebody."""
        if name == "crash":
            raise RuntimeError(f"secret detail about {name}")
        return f"Hello {name}"

    @server.resource("sample://text")
    def text() -> str:
        """A text."""
        return "text"

    @server.resource("sample://crash/{name}")
    def broken(name: str) -> str:
        """A resource that crashes."""
        raise RuntimeError(f"secret detail about {name}")

    _ = (greet, text, broken)
    return server


def build_cut(settings: HardeningSettings) -> HardenedServer:
    """Return them with a drain of half a second, shorter than their deadlines, which no start accepts."""
    server = build(settings)
    server.hardening_settings = settings.model_copy(update={"drain_timeout_seconds": 0.5})
    return server


def settings_of(environment: dict[str, Any]) -> HardeningSettings:
    """Return settings as the environment would give them."""
    return HardeningSettings.model_validate(environment)


if __name__ == "__main__":
    from hardening.lifecycle.startup import serve

    raise SystemExit(serve(HardeningSettings, build_cut if sys.argv[1:] == ["cut"] else build))
