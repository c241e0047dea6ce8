"""What the fuzz and the soak are aimed at: the project's own tools, and further ones with every shape of schema.

Run it with the Python of a project, in the project's folder; the environment holds its settings.
"""

from __future__ import annotations

import asyncio
import datetime as dt  # noqa: TC003 - the schema is made from it
import enum
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

(HARDENING,) = Path.cwd().glob("src/*/hardening")
PACKAGE = HARDENING.parent.name
hardening: Any = import_module(f"{PACKAGE}.hardening")
serve: Any = import_module(f"{PACKAGE}.hardening.lifecycle.startup").serve
Settings: Any = import_module(f"{PACKAGE}.settings").Settings
Context = hardening.Context
Text = Annotated[str, Field(max_length=200, description="Any text.")]


class Unit(enum.Enum):
    """Of a length."""

    METRE = "m"
    MILE = "mi"


class Point(BaseModel):
    """A place."""

    model_config = ConfigDict(extra="forbid")

    x: float = Field(ge=-180, le=180, description="To the east.")
    y: float = Field(ge=-90, le=90, description="To the north.")
    label: str | None = Field(default=None, max_length=20, description="Its name.")


class Line(BaseModel):
    """Several places."""

    model_config = ConfigDict(extra="forbid")

    points: list[Point] = Field(min_length=1, max_length=5, description="In their order.")
    unit: Unit = Field(default=Unit.METRE, description="What lengths are given in.")
    closed: bool = Field(default=False, description="Whether the end is the start.")


@hardening.tool(read_only=True)
async def echo(text: Text, number: Annotated[int, Field(ge=0, le=100, description="Any.")] = 1) -> str:
    """Give back the text, so many times."""
    return text * number


@hardening.tool(read_only=True)
async def scalars(  # noqa: PLR0913, PLR0917 - one of each kind
    integer: Annotated[int, Field(ge=-5, le=5, description="A small one.")],
    number: Annotated[float, Field(gt=0, lt=1, description="A part of one.")],
    flag: Annotated[bool, Field(description="Yes or no.")],
    code: Annotated[str, Field(pattern="^[A-Z]{2,4}$", max_length=4, description="Letters.")],
    choice: Annotated[Literal["a", "b", 3], Field(description="One of these.")],
    nothing: Annotated[int | None, Field(description="A number, or none.")] = None,
) -> int:
    """Take one value of each kind, and count those that are set."""
    return sum(value is not None for value in (integer, number, flag, code, choice, nothing))


@hardening.tool(read_only=True)
async def shapes(
    line: Annotated[Line, Field(description="A line.")],
    weights: Annotated[dict[str, int], Field(max_length=3, description="By name.")],
    either: Annotated[int | Annotated[str, Field(max_length=5)], Field(description="One or the other.")],
    names: Annotated[list[Annotated[str, Field(max_length=9)]], Field(max_length=4, description="Names.")],
) -> int:
    """Take values inside values, and count them."""
    return len(line.points) + len(weights) + len(names) + (either is not None)


@hardening.tool(read_only=True)
async def days(day: Annotated[dt.date, Field(description="A day.")]) -> str:
    """Take a day, and say which of the week it is."""
    return day.strftime("%A")


@hardening.tool(read_only=True, timeout_seconds=1)
async def slow(seconds: Annotated[float, Field(ge=0, le=60, description="How long.")]) -> str:
    """Take some time, and more than there is now and then."""
    await asyncio.sleep(seconds)
    return "done"


@hardening.tool(read_only=True, streams=True)
async def steps(count: Annotated[int, Field(ge=1, le=20, description="How many.")], ctx: Context) -> int:
    """Report each of so many steps."""
    for step in range(count):
        await ctx.report_progress(step + 1, count, "step")
    return count


@hardening.tool(read_only=False)
async def through(text: Text, ctx: Context) -> str:
    """Give back the text, by way of the database."""
    async with hardening.connection(ctx) as db:
        return str(await db.fetchval("SELECT $1::text", text))


@hardening.tool(read_only=False)
async def sleeper(seconds: Annotated[float, Field(ge=0, le=5, description="How long.")], ctx: Context) -> str:
    """Let the database wait."""
    async with hardening.connection(ctx) as db:
        await db.execute("SELECT pg_sleep($1::float8)", seconds)
    return "slept"


@hardening.tool(read_only=False)
async def put(number: Annotated[int, Field(ge=0, description="Any.")], ctx: Context) -> int:
    """Keep a number, in a table that the caller has made."""
    async with hardening.connection(ctx) as db:
        await db.execute("INSERT INTO put (number) VALUES ($1)", number)
    return number


@hardening.tool(read_only=True)
async def newest(ctx: Context) -> int:
    """Read whatever columns the table has."""
    async with hardening.connection(ctx) as db:
        found = await db.fetchrow("SELECT * FROM put ORDER BY number DESC LIMIT 1")
    return found["number"] if found else 0


@hardening.tool(read_only=True)
async def blocking(seconds: Annotated[float, Field(ge=0, le=5, description="How long.")], ctx: Context) -> str:
    """Wait in a thread, as a library does that blocks."""
    await ctx.thread(time.sleep, seconds)
    return "done"


@hardening.tool(read_only=True)
async def tasks() -> int:
    """Count what runs on the event loop."""
    return len(asyncio.all_tasks())


@hardening.tool(read_only=True)
async def bare() -> str:
    """Take nothing at all."""
    return "bare"


def build(settings: Any) -> Any:
    """Return a server with all of them, a prompt, resources and completions."""
    own = import_module(f"{PACKAGE}.tools").TOOLS
    tools = (*own, echo, scalars, shapes, days, slow, steps, through, sleeper, put, newest, blocking, tasks, bare)
    server = hardening.harden(settings, tools=tools, instructions="For tests.")

    @server.prompt()
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}"

    @server.resource("fuzz://text")
    def text() -> str:
        """A text."""
        return "text"

    @server.resource("fuzz://of/{name}")
    def of(name: str) -> str:
        """A text of each name."""
        return name

    @server.completion()
    async def complete(*_: Any) -> None:
        """Suggest nothing."""

    _ = (greet, text, of, complete)
    return server


if __name__ == "__main__":
    sys.exit(serve(Settings, build))
