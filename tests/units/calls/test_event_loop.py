"""What belongs to a call raises at once in a thread or in another event loop: nothing hangs, and nothing is kept."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from live import ENVIRONMENT, KEY, Live, settings_from
from pydantic import BaseModel, Field
from wire import ERAS, Era, Wire, opening

from hardening import Context, HardeningSettings, connection, harden, tool
from hardening.calls.asking_session import AskingSession
from hardening.calls.event_loop import OtherLoopError
from hardening.exchange import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Name = Annotated[str, Field(max_length=20)]
URL = "http://127.0.0.1:9/"


class Sure(BaseModel):
    """What a person is asked."""

    ok: bool


async def _nothing() -> None:
    """Do nothing."""


async def _database(ctx: Context) -> None:
    async with connection(ctx) as db:
        await db.fetchval("SELECT 1")


async def _background(ctx: Context) -> None:
    work = _nothing()
    try:
        ctx.background(work)
    finally:
        work.close()


WAYS: dict[str, Callable[[Context], Coroutine[Any, Any, Any]]] = {
    "http": lambda ctx: ctx.http.get(URL),
    "database": _database,
    "background": _background,
    "thread": lambda ctx: ctx.thread(_nothing),
    "progress": lambda ctx: ctx.report_progress(1),
    "question": lambda ctx: ctx.sdk.elicit("Sure?", Sure),
}


async def _raised(way: Callable[[Context], Coroutine[Any, Any, Any]], ctx: Context) -> str:
    try:
        await way(ctx)
    except BaseException as error:  # noqa: BLE001 - its name is the result
        return type(error).__name__
    return "nothing"


@tool(read_only=True, timeout_seconds=5)
async def elsewhere(way: Name, ctx: Context) -> str:
    """Use a part of the call in an event loop of a thread, and say what it raised."""
    return await ctx.thread(lambda: asyncio.run(_raised(WAYS[way], ctx)))


@tool(read_only=True, timeout_seconds=5)
async def without_loop(way: Name, ctx: Context) -> str:
    """Use a part of the call in a thread without an event loop."""

    def step() -> str:
        work = _raised(WAYS[way], ctx)
        try:
            work.send(None)
        except StopIteration as result:
            return str(result.value)
        finally:
            work.close()
        return "waits"

    return await ctx.thread(step)


@tool(read_only=True, timeout_seconds=5)
async def kept(ctx: Context) -> str:
    """Use a client of the call in an event loop of a thread."""
    client = ctx.http
    return await ctx.thread(lambda: asyncio.run(_raised(lambda _: client.get(URL), ctx)))


@tool(read_only=True, timeout_seconds=5)
async def uncaught(ctx: Context) -> str:
    """Let the error go through."""
    await ctx.thread(lambda: asyncio.run(_database(ctx)))
    return "never"


LEFT: dict[str, asyncio.Task[str]] = {}


@tool(read_only=True, timeout_seconds=5)
async def leave(way: Name, ctx: Context) -> str:
    """Leave code behind that uses a part of the call after the answer."""

    async def late() -> str:
        while not ctx.over:
            await asyncio.sleep(0)
        return await _raised(WAYS[way], ctx)

    LEFT[way] = asyncio.create_task(late())
    return "left"


@tool(read_only=True, timeout_seconds=5)
async def left(way: Name) -> str:
    """Say what it has raised."""
    return await LEFT.pop(way)


TOOLS = (elsewhere, without_loop, kept, uncaught, leave, left)


@pytest.mark.parametrize("era", ERAS)
async def test_each_part_says_at_once_that_it_belongs_to_the_call(era: Era, database_url: str) -> None:
    """`asyncio.run` in a thread, a coroutine in a thread without a loop, and code that the call has left behind.

    No connection, thread, task or place in a queue stays taken, and an older client's session is asked nothing.
    """
    environment = {"DATABASE_URL": database_url, "MCP_LEGACY": "stateful", "MCP_RATE_TOOL_PER_MINUTE": "1000"}
    with Live(settings_from(ENVIRONMENT | environment), lambda settings: harden(settings, tools=TOOLS)) as live:
        async with Wire(live.url, KEY) as wire:
            headers = {}
            if era == "legacy":
                method, params = opening(era)
                reply = await wire.ask(era, method, {**params, "capabilities": {"elicitation": {}}})
                headers = {"mcp-session-id": reply.headers["mcp-session-id"]}

            async def call(name: str, **arguments: str) -> Any:
                params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}}
                return (await wire.ask(era, "tools/call", params, rpc_id=2, headers=headers)).result

            async with asyncio.timeout(30):
                found = {
                    (name, way): (await call(name, way=way))["structuredContent"]["result"]
                    for name in ("elsewhere", "without_loop")
                    for way in WAYS
                }
                found["kept", "http"] = (await call("kept"))["structuredContent"]["result"]
                internal = await call("uncaught")
                late: dict[str, str] = {}
                for way in ("http", "database", "background", "thread", "progress"):
                    await call("leave", way=way)
                    late[way] = (await call("left", way=way))["structuredContent"]["result"]
            services = live.server.services
            database = services.database
            assert database is not None
            taken = live.do(
                lambda: (services.threads.busy, services.background.count(), database.waiting, database.size)
            )
            idle = live.do(lambda: database.idle)

    if era == "modern":
        # Refused before, as nobody can be asked in the middle of a call.
        assert {found.pop((name, "question")) for name in ("elsewhere", "without_loop")} == {"NoBackChannelError"}
    assert set(found.values()) == {"OtherLoopError"}
    assert internal["_meta"]["hardening/error"]["kind"] == "internal"
    assert late == {
        **dict.fromkeys(("http", "database", "background", "thread"), "CallOverError"),
        "progress": "nothing",
    }
    assert taken[:3] == (0, 0, 0)
    assert idle == taken[3]


class Session:
    """Holds nothing of a session: a question in the wrong event loop is refused before it is looked at."""


async def test_each_entrance_refuses_another_event_loop() -> None:
    """Alone, because two threads in one event loop end the process when nothing refuses them."""
    other = asyncio.new_event_loop()
    other.close()
    caller = Principal("api_key", "alice")
    settings = HardeningSettings.model_construct()
    ctx = Context(settings, None, caller, "r", math.inf, read_only=True, database=None, sdk=Any, loop=other)
    with pytest.raises(OtherLoopError):
        ctx.check()
    with pytest.raises(OtherLoopError):
        await ctx.report_progress(1)

    session: Any = Session()
    asking = await asyncio.to_thread(asyncio.run, _asking(session))
    with pytest.raises(OtherLoopError):
        await asking.send_request(session, BaseModel)


async def _asking(session: Any) -> AskingSession:
    return AskingSession(session, "r", asyncio.Event())
