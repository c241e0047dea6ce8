"""Work after the answer is bounded, waited for, heard of when it fails, and has a connection of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from captured import captured
from in_process import call
from live import ENVIRONMENT, KEY, Process, settings_from
from pydantic import Field
from wire import ERAS, Era, Wire

from hardening import Context, Principal, connection, harden, tool
from hardening.calls.shares import Shares
from hardening.errors import NotFound
from hardening.lifecycle.startup import opened

if TYPE_CHECKING:
    from pathlib import Path

    from hardening import HardenedServer, HardeningSettings

Text = Annotated[str, Field(max_length=1000)]
SECONDS = 20.0


class Gate:
    """Holds tasks until a test lets them go on."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.done: list[Any] = []


GATES: dict[str, Gate] = {}


async def _pass(ctx: Context, gate: str, text: str) -> None:
    await GATES[gate].open.wait()
    if text == "crash":
        raise RuntimeError(text)
    if text == "missing":
        raise NotFound(text)
    GATES[gate].done.append((text, ctx.remaining_seconds()))


@tool(read_only=False, timeout_seconds=1)
async def later(gate: Text, text: Text, ctx: Context) -> str:
    """Answer now, and do the rest later."""
    ctx.background(_pass(ctx, gate, text))
    return "answered"


@tool(read_only=False)
async def misuse(ctx: Context) -> str:
    """Hand over what is no coroutine."""
    ctx.background(asyncio.get_running_loop().create_future())  # type: ignore[arg-type] - the point of it
    return "never"


@tool(read_only=False)
async def from_a_thread(ctx: Context) -> str:
    """Begin work after the answer where there is no event loop."""
    with suppress(RuntimeError):
        await ctx.thread(begin, ctx)
    return "answered"


def begin(ctx: Context) -> None:
    """Begin it."""
    work = asyncio.sleep(0)
    try:
        ctx.background(work)
    finally:
        work.close()


async def test_a_share_that_cannot_be_used_is_not_taken() -> None:
    """In a thread there is no event loop: that fails, and leaves the caller its share."""
    server = harden(settings_from(ENVIRONMENT), tools=(from_a_thread,))
    async with opened(server):
        result = await call(server, "from_a_thread", {})
        assert not result.is_error
        assert server.background.shares.total == 0


async def _insert(ctx: Context, text: str) -> None:
    async with connection(ctx) as db:
        await db.execute("CREATE TABLE IF NOT EXISTS jobs (text text)")
        await db.execute("INSERT INTO jobs VALUES ($1)", text)


@tool(read_only=False)
async def store(text: Text, ctx: Context) -> str:
    """Store with a connection of the task's own, while the call holds one too."""
    async with connection(ctx) as db:
        ctx.background(_insert(ctx, text))
        await asyncio.sleep(0.2)
        return str(await db.fetchval("SELECT 1"))


TOOLS = (later, misuse, store)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server with these tools."""
    return harden(settings, tools=TOOLS)


def server_with(**environment: str) -> HardenedServer:
    """Return a server with these settings."""
    return build(settings_from(ENVIRONMENT | environment))


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Gate:
    """A gate that is closed; its name is that of the test."""
    GATES[request.node.name] = gate = Gate()
    return gate


async def test_it_runs_after_the_answer_with_a_deadline_of_its_own(gate: Gate, request: Any) -> None:
    """The caller does not wait; the task has its own time although that of its call is over."""
    async with opened(server := server_with()):
        result = await call(server, "later", {"gate": request.node.name, "text": "one"})
        assert result.structured_content == {"result": "answered"}
        assert server.background.count() == 1
        gate.open.set()
        await server.background.idle()

    ((text, remaining),) = gate.done
    assert text == "one"
    assert 25 < remaining <= 30


async def test_one_caller_has_a_share_and_all_have_a_bound(gate: Gate, request: Any) -> None:
    """Over its share a caller is told busy while others go on; over the bound everybody is."""
    environment = {"MCP_MAX_BACKGROUND_TASKS": "3", "MCP_MAX_BACKGROUND_TASKS_PER_PRINCIPAL": "2"}
    arguments = {"gate": request.node.name, "text": "x"}
    async with opened(server := server_with(**environment)):
        callers = ["a", "a", "a", "b", "c"]
        results = [await call(server, "later", arguments, Principal("api_key", name)) for name in callers]
        assert [bool(result.is_error) for result in results] == [False, False, True, False, True]
        assert results[2].meta is not None
        assert results[2].meta["hardening/error"]["kind"] == "busy"
        gate.open.set()
        await server.background.idle()
        assert server.background.shares.total == 0
        assert not (await call(server, "later", arguments)).is_error


def test_a_share_is_counted_until_its_last_slot_is_given_back() -> None:
    """A caller who gives one of two slots back may take one again, not two; nothing is kept of who has none."""
    shares = Shares(10, 2)
    assert [shares.take("alice") for _ in range(3)] == [True, True, False]
    shares.give_back("alice")
    assert [shares.take("alice") for _ in range(2)] == [True, False]
    for _ in range(2):
        shares.give_back("alice")

    assert (shares.total, len(shares._by_caller)) == (0, 0)  # noqa: SLF001 - its size is the promise


@pytest.mark.parametrize(("text", "kind"), [("crash", "internal"), ("missing", "not_found")])
async def test_a_failure_is_counted_and_logged_once(
    gate: Gate, request: Any, text: str, kind: str, tmp_path: Path
) -> None:
    """One line with the call's reference, the tool and the kind; no argument is in it."""
    gate.open.set()
    with captured(tmp_path / "log") as log:
        log.logs.allow_words(["later"])
        async with opened(server := server_with()):
            await call(server, "later", {"gate": request.node.name, "text": text})
            await server.background.idle()
        lines = log.lines()
        assert request.node.name not in log.text()

    (line,) = [line for line in lines if line["msg"] == "background task failed"]
    (ended,) = [line for line in lines if line["msg"] == "tool call"]
    assert line["tool_name"] == "later"
    assert line["error_code"] == kind
    assert line["request_id"] == ended["request_id"]
    assert server.background.failures == 1


async def test_a_task_ends_at_its_deadline(gate: Gate, request: Any) -> None:
    """A task that waits for ever is ended, and counts as a failure."""
    async with opened(server := server_with(MCP_BACKGROUND_TIMEOUT_SECONDS="0.1")):
        await call(server, "later", {"gate": request.node.name, "text": "x"})
        async with asyncio.timeout(SECONDS):
            await server.background.idle()

    assert gate.done == []
    assert server.background.failures == 1


async def test_what_is_no_coroutine_is_a_fault_of_the_tool() -> None:
    """The line in the log says what to write; the caller is told nothing of it."""
    async with opened(server := server_with()):
        result = await call(server, "misuse", {})

    assert result.is_error
    assert server.background.count() == 0


async def test_it_has_a_connection_of_its_own(database_url: str) -> None:
    """The task writes while its call holds a connection, and after it was answered."""
    async with opened(server := server_with(DATABASE_URL=database_url)):
        assert not (await call(server, "store", {"text": "kept"})).is_error
        await server.background.idle()
        assert server.database is not None
        taken = await server.database.take()
        assert await taken.fetchval("SELECT count(*) FROM jobs WHERE text = 'kept'") == 1
        await server.database.give_back(taken)
        assert server.database.idle == server.database.size

    assert server.background.failures == 0


LATE = """
import asyncio
import sample
from pathlib import Path
from typing import Annotated
from pydantic import Field
from hardening import Context, HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve

async def write(path):
    await asyncio.sleep(1.5)
    Path(path).write_text("kept", "utf-8")

@tool(read_only=False)
async def late(path: Annotated[str, Field(max_length=1000)], ctx: Context) -> str:
    '''Write a file after the answer.'''
    ctx.background(write(path))
    return "answered"

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(late,))))
"""


@pytest.mark.parametrize("era", ERAS)
async def test_a_drain_waits_for_it(era: Era, tmp_path: Path) -> None:
    """SIGTERM after the answer: the process ends with 0 when the task has done its work, in both eras."""
    file = tmp_path / "late"
    with Process("-c", LATE) as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call(era, "late", {"path": str(file)})
            assert not reply.result.get("isError")
        assert not file.exists()
        assert process.stop() == 0
    assert file.read_text("utf-8") == "kept"


FOREVER = """
import asyncio
import sample
from hardening import Context, HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve

@tool(read_only=False)
async def forever(ctx: Context) -> str:
    '''Leave a task behind that never ends.'''
    ctx.background(asyncio.sleep(3600))
    return "answered"

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(forever,))))
"""


@pytest.mark.parametrize("era", ERAS)
async def test_a_drain_cuts_what_never_ends(era: Era) -> None:
    """After the drain's time the task is ended, a line names its tool, and the process ends with 0."""
    chain = {"MCP_TOOL_TIMEOUT_SECONDS": "0.5", "MCP_BACKGROUND_TIMEOUT_SECONDS": "0.9"}
    with Process("-c", FOREVER, MCP_DRAIN_TIMEOUT_SECONDS="1", **chain) as process:
        async with Wire(process.url, KEY) as wire:
            for _ in range(2):
                await wire.ask(era, "tools/call", {"name": "forever", "arguments": {}})
        assert process.stop() == 0
        assert process.line("background task failed")["tool_name"] == "forever"


def test_its_deadline_fits_into_the_drain() -> None:
    """The start refuses a chain in which a drain would cut tasks that have time left."""
    from hardening.settings.environment import InvalidSettingsError

    with pytest.raises(InvalidSettingsError) as raised:
        settings_from(ENVIRONMENT | {"MCP_BACKGROUND_TIMEOUT_SECONDS": "35"})

    assert "MCP_BACKGROUND_TIMEOUT_SECONDS" in str(raised.value.problems)


async def test_a_task_that_ignores_its_end_keeps_its_share(gate: Gate, request: Any) -> None:
    """It is counted until its code has ended: one caller cannot have more and more of them."""

    async def stubborn(gate: Gate) -> None:
        while not gate.open.is_set():
            with suppress(asyncio.CancelledError):
                await gate.open.wait()

    @tool(read_only=False)
    async def begin_stubborn(ctx: Context) -> str:
        """Begin what ignores its end."""
        ctx.background(stubborn(GATES[request.node.name]))
        return "answered"

    bounds = {"MCP_BACKGROUND_TIMEOUT_SECONDS": "0.05", "MCP_MAX_BACKGROUND_TASKS_PER_PRINCIPAL": "1"}
    async with opened(server := harden(settings_from(ENVIRONMENT | bounds), tools=(begin_stubborn,))):
        assert not (await call(server, "begin_stubborn", {})).is_error
        await server.background.idle()
        running = server.background.count()
        second = (await call(server, "begin_stubborn", {})).content[0].text
        # Before anything is compared: it would keep the test for ever.
        gate.open.set()
        assert server.background.failures == 1
        assert running == 1
        assert "busy" in second
        async with asyncio.timeout(SECONDS):
            while server.background.count():
                await asyncio.sleep(0.01)
        assert not (await call(server, "begin_stubborn", {})).is_error
        await server.background.idle()


async def test_work_that_never_began_gives_its_share_back() -> None:
    """A task that is ended before its first step, as at the end of the process."""
    async with opened(server := server_with()):
        background = server.background
        work = asyncio.sleep(0)
        context = server.services.context(1, None, None, read_only=True)
        background.start(work, context)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "Background._run" in str(task.get_coro()):
                task.cancel()
        async with asyncio.timeout(SECONDS):
            await background.idle()
        assert background.count() == 0
        assert work.cr_frame is None
