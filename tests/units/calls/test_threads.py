"""Functions that block run in threads of their own: bounded, shared out, and visible."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Annotated, Any

import pytest
from in_process import call
from live import ENVIRONMENT, KEY, Live, settings_from
from pydantic import Field
from wire import ERAS, Era, Wire

from hardening import Context, Principal, harden, tool
from hardening.calls.shared_threads import SharedThreads
from hardening.calls.shares import Shares
from hardening.calls.threads import Threads
from hardening.errors import Busy
from hardening.exchange import current
from hardening.lifecycle.startup import opened

SECONDS = 20.0
GATES: dict[str, threading.Event] = {}


def _wait(gate: str) -> str:
    assert GATES[gate].wait(SECONDS)
    exchange = current.get()
    return exchange.request_id if exchange else ""


@tool(read_only=True, timeout_seconds=0.5)
async def block(gate: Annotated[str, Field(max_length=200)], ctx: Context) -> bool:
    """Wait in a thread, and say whether it knows its call."""
    return await ctx.thread(_wait, gate) == ctx.request_id


@tool(read_only=True, timeout_seconds=0.5)
async def block_shared(gate: Annotated[str, Field(max_length=200)]) -> bool:
    """Wait in a thread of asyncio's."""
    return bool(await asyncio.to_thread(_wait, gate))


@tool(read_only=True)
async def known(ctx: Context) -> list[bool]:
    """Say whether a job of asyncio's threads knows its call, however it gets there."""
    GATES["known"] = threading.Event()
    GATES["known"].set()
    loop = asyncio.get_running_loop()
    jobs = (asyncio.to_thread(_wait, "known"), loop.run_in_executor(None, _wait, "known"))
    return [await job == ctx.request_id for job in jobs]


def _raise(kind: str) -> None:
    raise {"stop": StopIteration, "exit": SystemExit, "value": ValueError}[kind]("secret detail")


@tool(read_only=True)
async def fail(kind: Annotated[str, Field(max_length=20)], ctx: Context) -> str:
    """Raise in a thread of its own."""
    await ctx.thread(_raise, kind)
    return "never"


@tool(read_only=True)
async def name(ctx: Context) -> str:
    """Name the thread that it runs in."""
    return await ctx.thread(lambda: threading.current_thread().name)


LEFT: list[Any] = []


@tool(read_only=True)
async def leave(ctx: Context) -> str:
    """Leave code behind that asks for a thread later."""

    async def late() -> None:
        while not ctx.over:
            await asyncio.sleep(0)
        await ctx.thread(time.monotonic)

    LEFT.append(asyncio.create_task(late()))
    return "left"


def build(settings: Any) -> Any:
    """Return a server with these tools."""
    return harden(settings, tools=(block, block_shared, fail, known, leave, name))


def server_with(**environment: str) -> Any:
    """Return a server with these settings."""
    return build(settings_from(ENVIRONMENT | environment))


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Any:
    """A gate that is closed, and opened at the end of the test."""
    GATES[request.node.name] = event = threading.Event()
    yield request.node.name
    event.set()


async def until(condition: Any) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("era", ERAS)
async def test_a_deadline_answers_and_keeps_the_slot(gate: str, era: Era) -> None:
    """The caller is told `timeout` at 0.5 s; the thread counts as busy until the function returns."""
    with Live(settings_from(ENVIRONMENT), build) as live:
        threads = live.server.services.threads
        async with Wire(live.url, KEY) as wire:
            started = time.monotonic()
            reply = await wire.ask(era, "tools/call", {"name": "block", "arguments": {"gate": gate}})
            assert reply.result["_meta"]["hardening/error"]["kind"] == "timeout"
            assert time.monotonic() - started < 5
            assert live.do(lambda: (threads.busy, threads.oldest_seconds() > 0.4)) == (1, True)
            GATES[gate].set()
            await until(lambda: live.do(lambda: threads.busy) == 0)
            assert live.do(threads.oldest_seconds) == 0
            metrics = live.do(live.app.metrics.render).decode()

    assert "mcp_threads_busy 0.0" in metrics
    assert "mcp_oldest_thread_seconds 0.0" in metrics


async def test_it_knows_its_call(gate: str) -> None:
    """Log lines of the function carry the reference of its call."""
    GATES[gate].set()
    async with opened(server := server_with()):
        assert (await call(server, "block", {"gate": gate})).structured_content == {"result": True}


@pytest.mark.parametrize("era", ERAS)
async def test_threads_of_asyncio_know_their_call_too(era: Era) -> None:
    """What `asyncio.to_thread` and `run_in_executor` run logs with the reference of the call, on the default path."""
    with Live(settings_from(ENVIRONMENT), build) as live:
        async with Wire(live.url, KEY) as wire:
            reply = await wire.ask(era, "tools/call", {"name": "known", "arguments": {}})

    assert reply.result["structuredContent"] == {"result": [True, True]}


async def test_one_caller_has_a_share_and_all_have_a_bound(gate: str) -> None:
    """A caller whose threads hang is told busy, others get theirs, and the pool never grows beyond its size."""
    environment = {"MCP_MAX_THREADS": "3", "MCP_MAX_THREADS_PER_PRINCIPAL": "2"}
    async with opened(server := server_with(**environment, MCP_THREAD_ACQUIRE_TIMEOUT_SECONDS="0.1")):
        alice, bob, eve = (Principal("api_key", name) for name in ("alice", "bob", "eve"))

        async def blocked(who: Principal) -> str:
            result = await call(server, "block", {"gate": gate}, who)
            return result.meta["hardening/error"]["kind"]

        kinds = await asyncio.gather(*(blocked(alice) for _ in range(3)))
        assert sorted(kinds) == ["busy", "timeout", "timeout"]
        assert not (await call(server, "name", {}, bob)).is_error
        assert await blocked(bob) == "timeout"
        assert server.services.threads.busy == 3
        assert await blocked(eve) == "busy"
        GATES[gate].set()
        await until(lambda: server.services.threads.busy == 0)
        assert not (await call(server, "name", {}, alice)).is_error


async def test_who_waits_gets_the_next_thread(gate: str) -> None:
    """A short wait is no failure."""
    async with opened(server := server_with(MCP_MAX_THREADS="1", MCP_MAX_THREADS_PER_PRINCIPAL="1")):
        first = asyncio.create_task(call(server, "block", {"gate": gate}))
        await until(lambda: server.services.threads.busy == 1)
        waiting = [asyncio.create_task(call(server, "name", {})) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        waiting.pop().cancel()
        GATES[gate].set()
        results = await asyncio.gather(first, *waiting)
        assert [bool(result.is_error) for result in results] == [False] * 5
        assert server.services.threads.busy == 0


@pytest.mark.parametrize("kind", ["stop", "exit", "value"])
async def test_what_it_raises_is_a_failure_of_its_call(kind: str) -> None:
    """Whatever a function raises, the call is answered and the thread is free again."""
    async with opened(server := server_with()):
        async with asyncio.timeout(SECONDS):
            result = await call(server, "fail", {"kind": kind})
        assert result.meta is not None
        assert result.meta["hardening/error"]["kind"] == "internal"
        assert "secret" not in str(result)
        assert server.services.threads.busy == 0


async def test_threads_end_with_the_server() -> None:
    """Idle threads are kept for the next call, and end when the server is closed."""
    # Those of servers that other tests have built and not opened.
    before = set(threading.enumerate())

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "author" and thread not in before]

    async with opened(server := server_with()):
        names = [(await call(server, "name", {})).structured_content["result"] for _ in range(3)]
        assert set(names) == {"author"}
        assert threads()

    await until(lambda: not threads())


async def test_code_that_a_call_left_behind_gets_none() -> None:
    """After the answer nothing begins any more, except what `ctx.background` was given."""
    async with opened(server := server_with()):
        await call(server, "leave", {})
        with pytest.raises(RuntimeError, match="await everything"):
            await LEFT.pop()


@pytest.mark.parametrize("era", ERAS)
async def test_a_lost_thread_of_asyncio_is_in_the_metrics(gate: str, era: Era) -> None:
    """The alert for threads that hang sees those of `asyncio.to_thread` too."""
    with Live(settings_from(ENVIRONMENT), build) as live:
        services = live.server.services
        async with Wire(live.url, KEY) as wire:
            reply = await wire.ask(era, "tools/call", {"name": "block_shared", "arguments": {"gate": gate}})
            assert reply.result["_meta"]["hardening/error"]["kind"] == "timeout"
            metrics = live.do(live.app.metrics.render).decode()
            assert live.do(services.oldest_thread_seconds) > 0.4
            GATES[gate].set()
            await until(lambda: live.do(services.shared_threads.busy) == 0)

    assert "mcp_shared_threads_busy 1.0" in metrics


async def test_what_hangs_on_the_shared_threads_is_seen() -> None:
    """`asyncio.to_thread` has threads that it shares with everybody: their number and age are known."""
    clock = [1000.0]
    shared = SharedThreads(lambda: clock[0])
    loop = asyncio.get_running_loop()
    loop.set_default_executor(shared)
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait()

    hanging = asyncio.ensure_future(asyncio.to_thread(hang))
    try:
        await loop.getaddrinfo("127.0.0.1", 80)
        async with asyncio.timeout(60):
            # The thread of the lookup is counted until it has come back, and what has not begun can be cancelled.
            while shared.busy() > 1 or not begun.is_set():
                await asyncio.sleep(0.01)
        clock[0] += 50
        assert (shared.busy(), shared.oldest_seconds()) == (1, 50)
        # Its caller has gone; the thread is still lost.
        hanging.cancel()
        await asyncio.sleep(0)
        assert shared.busy() == 1
    finally:
        release.set()
    async with asyncio.timeout(10):
        while shared.busy():
            await asyncio.sleep(0.01)
    assert shared.oldest_seconds() == 0


async def test_a_container_without_a_thread_is_busy_and_keeps_no_slot() -> None:
    """Where no thread can be started the caller is told to try again, and the next one gets it."""
    pool = Threads(Shares(1, 1), 0.1)
    # More than there is room for: the system refuses.
    before = threading.stack_size(1 << 46)
    try:
        with pytest.raises(Busy):
            await pool.run("alice", int)
    finally:
        threading.stack_size(before)
    try:
        assert await pool.run("bob", int) == 0
    finally:
        pool.close()
