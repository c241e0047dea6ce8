"""The author's state is open while calls run, and closed once, whatever happens around it."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from in_process import call
from live import ENVIRONMENT, KEY, Live, Process, free_port, settings_from
from mcp.types import Completion
from wire import ERAS, Era, Wire

from hardening import Context, HardeningSettings, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.calls.state import StateNotOpenError, StateUnavailableError
from hardening.errors import UpstreamUnavailable
from hardening.lifecycle.startup import opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


@dataclass
class Cache:
    """What the calls of a test share."""

    events: list[str] = field(default_factory=list[str])


@tool(read_only=True)
async def remember(ctx: Context[HardeningSettings, Cache]) -> int:
    """Add to what all calls share, and say how much there is."""
    ctx.state.events.append("call")
    return len(ctx.state.events)


def build(cache: Cache, settings: HardeningSettings) -> Any:
    """Return a server whose state notes when it is opened and closed."""

    @asynccontextmanager
    async def open_cache(settings: HardeningSettings) -> AsyncGenerator[Cache]:
        assert settings.auth
        cache.events.append("open")
        yield cache
        cache.events.append("close")

    return harden(settings, tools=(remember,), lifespan=open_cache)


@pytest.mark.parametrize("era", ERAS)
async def test_calls_share_it_on_a_socket(era: Era) -> None:
    """It is open before the first call, the same for each, and closed once after the last, in both eras."""
    cache = Cache()
    with Live(settings_from(ENVIRONMENT), lambda settings: build(cache, settings)) as live:
        async with Wire(live.url, KEY) as wire:
            for count in (2, 3):
                reply = await wire.ask(era, "tools/call", {"name": "remember", "arguments": {}})
                assert reply.result["structuredContent"] == {"result": count}

    assert cache.events == ["open", "call", "call", "close"]


def with_primitives(cache: Cache, settings: HardeningSettings) -> Any:
    """Return the same server with a prompt, a resource and a completion."""
    server = build(cache, settings)

    @server.prompt()
    async def tell(ctx: Context[HardeningSettings, Cache]) -> str:
        """Tell how much there is."""
        return f"{len(ctx.state.events)}"

    @server.resource("cache://events")
    async def events(ctx: Context[HardeningSettings, Cache]) -> str:
        """Tell what there is."""
        return " ".join(ctx.state.events)

    @server.completion()
    async def complete(_: Any, __: Any, ___: Any, ctx: Context[HardeningSettings, Cache]) -> Completion:
        return Completion(values=list(ctx.state.events))

    _ = (tell, events, complete)
    return server


@pytest.mark.parametrize("era", ERAS)
async def test_prompts_resources_and_completion_share_it_too(era: Era) -> None:
    """The same object as in tools, in both eras."""
    cache = Cache()
    with Live(settings_from(ENVIRONMENT), lambda settings: with_primitives(cache, settings)) as live:
        async with Wire(live.url, KEY) as wire:
            await wire.call(era, "remember")
            prompt = await wire.ask(era, "prompts/get", {"name": "tell"})
            resource = await wire.ask(era, "resources/read", {"uri": "cache://events"})
            asked = {"ref": {"type": "ref/prompt", "name": "tell"}, "argument": {"name": "x", "value": ""}}
            completed = await wire.ask(era, "completion/complete", asked)

    assert prompt.result["messages"][0]["content"]["text"] == "2"
    assert resource.result["contents"][0]["text"] == "open call"
    assert completed.result["completion"]["values"] == ["open", "call"]


async def test_it_is_closed_when_another_part_fails() -> None:
    """What was opened is closed, also when the body around it raises."""
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        async with opened(build(cache, settings_from(ENVIRONMENT))):
            raise ZeroDivisionError

    assert cache.events == ["open", "close"]


async def test_a_call_without_it_is_a_mistake_of_the_test() -> None:
    """A call on a server that nobody opened raises, and names the fixture that opens it."""
    with pytest.raises(StateNotOpenError, match="fixture `server`"):
        await call(build(Cache(), settings_from(ENVIRONMENT)), "remember", {})


async def test_two_servers_in_one_process_have_their_own() -> None:
    """Each opens and closes its own state."""
    first, second = Cache(), Cache()
    for cache in (first, second):
        server = build(cache, settings_from(ENVIRONMENT))
        async with opened(server):
            assert (await call(server, "remember", {})).structured_content == {"result": 2}

    assert first.events == second.events == ["open", "call", "close"]


async def _slow(_: Any) -> None:
    await asyncio.sleep(3600)


async def _broken(_: Any) -> None:
    raise KeyError("a value that nobody may read")


async def _away(_: Any) -> None:
    raise UpstreamUnavailable


async def _no_name(_: Any) -> None:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize(("fault", "away"), [(_slow, True), (_broken, False), (_away, True), (_no_name, True)])
async def test_a_failure_to_open_is_one_sentence(fault: Any, *, away: bool) -> None:
    """It names the lifespan and never holds the text of an exception; what is away differs from what is wrong."""

    @asynccontextmanager
    async def open_model(settings: HardeningSettings) -> AsyncGenerator[None]:
        await fault(settings)
        yield

    settings = settings_from(ENVIRONMENT | {"MCP_STATE_START_TIMEOUT_SECONDS": "0.2"})
    with pytest.raises(StateUnavailableError) as raised:
        async with asyncio.timeout(10), opened(harden(settings, tools=(), lifespan=open_model)):
            pass

    assert str(raised.value).startswith("open_model: ")
    assert "a value" not in str(raised.value)
    assert raised.value.away is away


@pytest.mark.parametrize("ignores", [False, True], ids=["slow", "ignores its end"])
async def test_closing_ends_within_two_seconds(*, ignores: bool) -> None:
    """A state that does not close, or ignores its cancellation, is left behind, so that the grace chain holds."""
    over = asyncio.Event()

    @asynccontextmanager
    async def open_model(_: HardeningSettings) -> AsyncGenerator[None]:
        yield
        while not over.is_set():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if not ignores:
                    raise

    try:
        async with asyncio.timeout(4):
            async with opened(harden(settings_from(ENVIRONMENT), tools=(), lifespan=open_model)):
                pass
    finally:
        over.set()
        for task in asyncio.all_tasks():
            if task.get_name() == "state":
                task.cancel()


USER: ContextVar[str] = ContextVar("USER", default="nobody")


@tool(read_only=True)
async def user() -> str:
    """Say what the lifespan has set for every call."""
    return USER.get()


@pytest.mark.parametrize("era", ERAS)
async def test_context_variables_of_the_lifespan_hold_in_calls(era: Era) -> None:
    """What a library sets there, such as a current span or locale, is there in every call; it is reset at the end."""
    ended: list[str] = []

    @asynccontextmanager
    async def open_model(_: HardeningSettings) -> AsyncGenerator[None]:
        token = USER.set("somebody")
        yield
        USER.reset(token)
        ended.append(USER.get())

    build = lambda settings: harden(settings, tools=(user,), lifespan=open_model)  # noqa: E731
    with Live(settings_from(ENVIRONMENT), build) as live:
        async with Wire(live.url, KEY) as wire:
            reply = await wire.call(era, "user", {})

    assert reply.result["structuredContent"] == {"result": "somebody"}
    assert ended == ["nobody"]


LOSES = """
import asyncio, sys, anyio
from contextlib import asynccontextmanager
import sample
from hardening import Context, HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve
from hardening.lifecycle.stdio import claim, serve_stdio

class State:
    open = True

@tool(read_only=True)
async def use(ctx: Context[HardeningSettings, State]) -> str:
    \"\"\"Let a task of the lifespan fail, and use the state a second later.\"\"\"
    ctx.state.failing.set()
    await asyncio.sleep(1)
    return "open" if ctx.state.open else "closed"

@asynccontextmanager
async def open_model(settings):
    state = State()
    state.failing = asyncio.Event()

    async def poll():
        await state.failing.wait()
        raise KeyError("s3cret")

    async with {group} as tasks:
        {start}(poll{call})
        try:
            yield state
        finally:
            state.open = False

def build(settings):
    return harden(settings, tools=(use,), lifespan=open_model)

if "stdio" in sys.argv:
    raise SystemExit(serve_stdio(claim(), HardeningSettings, build))
raise SystemExit(serve(HardeningSettings, build))
"""
ASYNCIO = LOSES.format(group="asyncio.TaskGroup()", start="tasks.create_task", call="()")
ANYIO = LOSES.format(group="anyio.create_task_group()", start="tasks.start_soon", call="")


@pytest.mark.parametrize(("era", "script"), [("modern", ASYNCIO), ("legacy", ANYIO)], ids=["asyncio", "anyio"])
async def test_a_task_group_that_fails_drains_the_server(era: Era, script: str) -> None:
    """Calls in flight are answered, with the state still open, new ones are refused with 503; then exit 75.

    A signal meanwhile begins no second drain.
    """
    with Process("-c", script, MCP_READINESS_DELAY_SECONDS="0.3") as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call(era, "use", {}))
            await asyncio.to_thread(process.line, "state lost, a task of it has failed")
            ready = await wire.get("/readyz")
            await asyncio.to_thread(process.line, "drain: refusing new work")
            refused = await wire.ask(era, "tools/list", {})
            process.child.send_signal(signal.SIGTERM)
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert (ready.status, refused.status) == (503, 503)
    assert reply.result["content"][0]["text"] == "open"
    assert code == 75
    assert process.line("state did not close")["exception"][-1]["type"] == "KeyError"
    assert sum("drain: unready" in line for line in process.lines) == 1
    assert "s3cret" not in "".join(process.lines)


async def test_a_state_that_fails_in_the_drain_leaves_its_exit_code() -> None:
    """The signal came first: whoever stopped the server is told 0."""
    with Process("-c", ASYNCIO, MCP_READINESS_DELAY_SECONDS="1") as process:
        async with Wire(process.url, KEY) as wire:
            process.child.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.line, "drain: unready")
            reply = await wire.call("modern", "use", {})
        code = await asyncio.to_thread(process.wait)

    assert reply.result["content"][0]["text"] == "open"
    assert process.line("state lost, a task of it has failed")
    assert code == 0


async def test_a_start_that_ignores_its_deadline_ends_all_the_same() -> None:
    """A lifespan that ignores its cancellation keeps nobody waiting: exit 75, as for one that is slow."""
    started = time.monotonic()
    with Process("-c", IGNORES, MCP_STATE_START_TIMEOUT_SECONDS="0.5") as process:
        assert await asyncio.to_thread(process.wait) == 75
    assert time.monotonic() - started < 30
    assert any("open_model: not open within 0.5 s" in line for line in process.lines)


START = """
import sys
from contextlib import asynccontextmanager
import sample
from hardening import HardeningSettings, harden
from hardening.lifecycle.startup import serve

@asynccontextmanager
async def open_model(settings):
    raise {error}
    yield

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(), lifespan=open_model)))
"""


@pytest.mark.parametrize(
    ("error", "code"), [("ConnectionError('s3cret')", 75), ("KeyError('s3cret')", 78), ("SystemExit(0)", 78)]
)
def test_the_start_ends_with_a_code_of_its_own(error: str, code: int) -> None:
    """75 when a later start may succeed, 78 when only a person can mend it; the port was never open."""
    port = str(free_port())
    with Process("-c", START.format(error=error), PORT=port) as process:
        assert process.wait() == code

    printed = "\n".join(process.lines)
    assert "Cannot start: 1 problem(s) in the state.\n  open_model: cannot open (" in printed
    assert "s3cret" not in printed


IGNORES = """
import asyncio
from contextlib import asynccontextmanager
import sample
from hardening import HardeningSettings, harden
from hardening.lifecycle.startup import serve

@asynccontextmanager
async def open_model(settings):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
    yield

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(), lifespan=open_model)))
"""


class Other:
    """A type that no lifespan yields."""


@tool(read_only=True)
async def other(ctx: Context[HardeningSettings, Other]) -> str:
    """Take a state that is not what the lifespan yields."""
    return str(ctx.state)


class OtherSettings(HardeningSettings):
    """Settings that the server does not have."""


@tool(read_only=True)
async def wrong_settings(ctx: Context[OtherSettings]) -> str:
    """Take settings that are not what the server has."""
    return str(ctx.settings)


@asynccontextmanager
async def open_cache(_: HardeningSettings) -> AsyncGenerator[Cache]:
    """Yield a cache."""
    yield Cache()


@asynccontextmanager
async def open_iterated(_: HardeningSettings) -> AsyncIterator[Cache]:
    """Yield a cache, annotated as many do."""
    yield Cache()


@pytest.mark.parametrize(
    ("function", "lifespan", "said"),
    [
        (remember, None, r"remember: takes a state of Cache; add harden\(…, lifespan=…\)"),
        (other, open_cache, "other: takes a state of Other, and the lifespan yields Cache"),
        (other, open_iterated, "other: takes a state of Other, and the lifespan yields Cache"),
        (wrong_settings, None, r"wrong_settings: takes Context\[OtherSettings\], and the settings are"),
    ],
)
def test_a_context_that_nobody_fills_is_refused(function: Any, lifespan: Any, said: str) -> None:
    """`harden()` names the tool and the cure, so that `serve`, `schema` and the tests do."""
    with pytest.raises(InvalidDeclarationError, match=said):
        harden(settings_from(ENVIRONMENT), tools=(function,), lifespan=lifespan)


STEALS = """
import signal, sys
from contextlib import asynccontextmanager
import sample
from hardening import HardeningSettings, harden
from hardening.lifecycle.startup import serve

@asynccontextmanager
async def open_model(settings):
    signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    sys.exit(3)

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(), lifespan=open_model)))
"""


def test_a_state_that_takes_signals_or_leaves_does_not_keep_the_drain_from_its_end() -> None:
    """A library may install handlers of its own when it is opened, and call `sys.exit` when it is closed."""
    with Process("-c", STEALS) as process:
        assert process.url
        assert process.stop(seconds=20) == 0
    assert process.line("drain: complete")
    assert process.line("state did not close")
