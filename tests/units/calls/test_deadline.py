"""Every call ends."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from captured import captured

from hardening import errors
from hardening.calls import deadline
from hardening.calls.deadline import Deadlines, EscapedError

if TYPE_CHECKING:
    from pathlib import Path

SOON = 0.05
LONG = 60.0
# What a test waits for before it says that nothing came.
PATIENCE = 5.0


async def never() -> None:
    """Wait without an end."""
    await asyncio.Event().wait()


async def forever(everyone: asyncio.Barrier) -> None:
    """Wait without an end, once all others do."""
    await everyone.wait()
    await never()


async def returned(value: Any) -> Any:
    """Return a value."""
    return value


async def raised(error: BaseException) -> None:
    """Raise an error."""
    raise error


class Stubborn:
    """Work that goes on after it was told to end."""

    def __init__(self) -> None:
        self.told = 0
        self.began = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self) -> str:
        """Swallow every cancellation until the test lets go."""
        self.began.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.told += 1
        return "late"


async def test_a_result_and_an_error_come_out_as_they_are() -> None:
    """A call inside its deadline is as if there were none."""
    deadlines = Deadlines()

    assert await deadlines.run("one", LONG, returned(5)) == 5
    assert await deadlines.run("one", LONG, returned(None)) is None
    with pytest.raises(LookupError):
        await deadlines.run("one", LONG, raised(LookupError()))
    assert deadlines.running == {}


async def test_the_age_of_the_oldest_call_is_known() -> None:
    """It grows until the code has ended, however it ends, and one that ignores its end stays visible."""
    now = 0.0
    deadlines = Deadlines(clock=lambda: now)
    assert deadlines.oldest_seconds() == 0
    stubborn = Stubborn()
    first = asyncio.create_task(deadlines.run("first", SOON, stubborn()))
    await stubborn.began.wait()
    now = 5.0
    second = asyncio.create_task(deadlines.run("second", LONG, never()))
    await asyncio.sleep(0)
    now = 7.0
    assert deadlines.oldest_seconds() == 7
    with pytest.raises(errors.Timeout):
        await first
    assert deadlines.oldest_seconds() == 7
    stubborn.let_go.set()
    async with asyncio.timeout(LONG):
        while deadlines.oldest_seconds() == 7:
            await asyncio.sleep(0.01)
    assert deadlines.oldest_seconds() == 2
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert deadlines.oldest_seconds() == 0


async def test_the_deadline_cancels_the_work() -> None:
    """At the deadline the work is told to end, and what it cleans up is waited for."""
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    with pytest.raises(errors.Timeout):
        async with asyncio.timeout(PATIENCE):
            await Deadlines().run("one", SOON, slow())
    assert ended.is_set()


async def test_work_that_ignores_its_end_is_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A call whose code swallows the cancellation does not keep its caller waiting, and is in the log by its name."""
    monkeypatch.setattr(deadline, "LATE_SECONDS", SOON)
    monkeypatch.setattr(deadline, "GONE_SECONDS", LONG)
    work = Stubborn()
    started = time.monotonic()

    with captured(tmp_path / "log") as log:
        try:
            with pytest.raises(errors.Timeout):
                async with asyncio.timeout(PATIENCE):
                    await Deadlines().run("stubborn", SOON, work())
        finally:
            work.let_go.set()
        lines = [line for line in log.lines() if line["msg"] == "call did not stop when cancelled"]
    assert time.monotonic() - started < PATIENCE
    assert work.told == 1
    assert [line["tool_name"] for line in lines] == ["stubborn"]


async def test_a_caller_that_has_gone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ignores its end does not keep the place of a caller that went away."""
    monkeypatch.setattr(deadline, "GONE_SECONDS", SOON)
    monkeypatch.setattr(deadline, "LATE_SECONDS", LONG)
    work = Stubborn()
    call = asyncio.create_task(Deadlines().run("one", LONG, work()))
    await work.began.wait()
    call.cancel()

    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await call
    assert work.told == 1
    work.let_go.set()


async def test_late_success_is_a_timeout() -> None:
    """A result that comes after the deadline is no result, so that a declared deadline is one."""

    async def late() -> str:
        try:
            await never()
        except asyncio.CancelledError:
            return "late"
        return "never"

    with pytest.raises(errors.Timeout):
        await Deadlines().run("one", SOON, late())


async def test_a_timeout_of_the_work_itself_is_not_the_deadline() -> None:
    """The work's own `TimeoutError` is told apart from the end of the call."""
    with pytest.raises(TimeoutError):
        await Deadlines().run("one", LONG, raised(TimeoutError()))


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
async def test_nothing_escapes_that_ends_tasks_or_processes(error: BaseException) -> None:
    """A stray cancellation or an exit in the author's code is an error like any other."""
    with pytest.raises(EscapedError) as escaped:
        await Deadlines().run("one", LONG, raised(error))
    assert type(escaped.value.__cause__) is type(error)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_an_exit_deep_inside_does_not_end_the_process() -> None:
    """`sys.exit` after a wait reaches the caller of the work, not the event loop."""

    async def leaving() -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    with pytest.raises(EscapedError):
        await Deadlines().run("one", LONG, leaving())


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_caller_that_goes_away_ends_the_work(how: str) -> None:
    """Cancelled from outside, the work is ended and cleans up, although every wait of the caller is cancelled too."""
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await never()
        finally:
            # An ordinary cleanup waits; a scope that is cancelled would cancel each of these waits.
            await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            cleaned.set()

    deadlines = Deadlines()
    if how == "task":
        task = asyncio.create_task(deadlines.run("one", LONG, work()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(deadlines.run, "one", LONG, work())
            await began.wait()
            group.cancel_scope.cancel()
    assert cleaned.is_set()
    assert deadlines.running == {}


async def test_the_process_can_cut_every_call_short() -> None:
    """At the end of the process each call that runs fails with advice to try again, and is named."""
    deadlines = Deadlines()
    everyone = asyncio.Barrier(3)
    tasks = [asyncio.create_task(deadlines.run(name, LONG, forever(everyone))) for name in ("two", "one")]
    await everyone.wait()

    assert deadlines.cut_short() == ["one", "two"]
    for task in tasks:
        with pytest.raises(errors.UpstreamUnavailable, match="check first whether the call had an effect"):
            await task


async def test_neighbours_go_on() -> None:
    """One call's end is nobody else's."""
    deadlines = Deadlines()
    gate = asyncio.Event()
    neighbour = asyncio.create_task(deadlines.run("two", LONG, gate.wait()))

    with pytest.raises(errors.Timeout):
        await deadlines.run("one", SOON, never())
    with pytest.raises(EscapedError):
        await deadlines.run("one", LONG, raised(asyncio.CancelledError()))
    gate.set()
    assert await neighbour is True
