"""A tool knows its caller and its time, and tells how far it is."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import captured
import pytest
from live import OTHER_KEY
from wire import ERAS, Era, Wire

from hardening import Context, HardeningSettings
from hardening.calls import context
from hardening.exchange import Principal, current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from live import Live

    from hardening.exchange import Exchange


class Sdk:
    """Notes what would be sent."""

    def __init__(self) -> None:
        self.sent: list[float] = []

    async def report_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Note one report."""
        del total, message
        self.sent.append(progress)


def call(sdk: Any, seconds: float = 60) -> Context:
    """Return the context of one call."""
    return Context(
        settings=HardeningSettings.model_construct(),
        state=None,
        principal=Principal("api_key", "alice"),
        request_id="r",
        deadline=time.monotonic() + seconds,
        read_only=True,
        database=None,
        sdk=sdk,
    )


@pytest.fixture
def asked() -> Iterator[Exchange]:
    """An exchange whose caller wants progress."""
    exchange = captured.exchange(params={"_meta": {"progressToken": "p"}})
    token = current.set(exchange)
    yield exchange
    current.reset(token)


def test_the_time_left_is_never_negative() -> None:
    """A call past its deadline has no time left."""
    assert 0 < call(Sdk()).remaining_seconds() <= 60
    assert call(Sdk(), seconds=-5).remaining_seconds() == 0


async def test_progress_increases(asked: Exchange) -> None:
    """A value that does not increase is dropped, and so is one that is no number (2026-07-28, Progress)."""
    sdk = Sdk()
    ctx = call(sdk)
    for value in (float("nan"), 1.0, 1.0, 0.5, float("nan"), 10.0, 9.0):
        await ctx.report_progress(value, 1.0)

    assert sdk.sent == [1.0, 10.0]
    assert asked.notifications_sent == 2


async def test_progress_is_throttled_except_for_the_last(asked: Exchange) -> None:
    """At most 20 reports a second leave, and the one that completes always does."""
    sdk = Sdk()
    ctx = call(sdk)
    for step in range(1, 1001):
        await ctx.report_progress(step, 1000)

    assert sdk.sent[0] == 1
    assert sdk.sent[-1] == 1000
    assert len(sdk.sent) < 50
    assert asked.notifications_sent == len(sdk.sent)


async def test_a_report_leaves_when_50_ms_have_passed(asked: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since the last one that has left, not since the last one that was made."""
    sdk, now = Sdk(), [100.0]
    ctx = call(sdk)
    monkeypatch.setattr(context, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for step, passed in enumerate((0, 0.03, 0.019, 0.002, 0.04, 0.011), start=1):
        now[0] += passed
        await ctx.report_progress(step)

    assert sdk.sent == [1, 4, 6]
    assert asked.notifications_sent == 3


async def test_nobody_is_told_who_did_not_ask() -> None:
    """Without a progress token nothing is sent and nothing is counted."""
    sdk = Sdk()
    with captured.calling() as exchange:
        await call(sdk).report_progress(1, 1)

    assert sdk.sent == []
    assert exchange.notifications_sent == 0


async def test_no_progress_after_the_end(asked: Exchange) -> None:
    """What a call has left behind can send nothing (2026-07-28, Progress)."""
    sdk = Sdk()
    ctx = call(sdk)

    assert ctx.end()
    await ctx.report_progress(1, 1)
    assert sdk.sent == []
    assert asked.notifications_sent == 0


@pytest.mark.parametrize("era", ERAS)
async def test_progress_reaches_the_caller_that_asked(wire: Wire, era: Era) -> None:
    """With a progress token each report comes before the result, increasing; without one none does."""
    asked = await wire.ask(
        era,
        "tools/call",
        {"name": "stream", "arguments": {"steps": 3, "seconds": 0.06}, "_meta": {"progressToken": "p"}},
    )
    silent = await wire.call(era, "stream", {"steps": 3, "seconds": 0.06})

    assert [one["params"]["progress"] for one in asked.notifications] == [1, 2, 3]
    assert {one["params"]["progressToken"] for one in asked.notifications} == {"p"}
    assert asked.result["structuredContent"] == {"result": 3}
    assert silent.notifications == []
    assert silent.result["structuredContent"] == {"result": 3}


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_sees_who_is_calling(wire: Wire, server: Live, era: Era) -> None:
    """The principal and the reference are those of this request."""
    mine = await wire.call(era, "who")
    async with Wire(server.url, OTHER_KEY) as other:
        theirs = await other.call(era, "who")

    assert mine.result["structuredContent"]["name"] == "alice"
    assert theirs.result["structuredContent"]["name"] == "bob"
    assert mine.result["structuredContent"]["request_id"] == mine.headers["x-request-id"]
