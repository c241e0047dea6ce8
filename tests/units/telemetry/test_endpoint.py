"""What an operator can measure from outside, with the probe's key and no other."""

from __future__ import annotations

import asyncio
import re

import pytest
from live import KEY, PROBE_KEY, SECONDS, Live, free_port, live
from wire import ERAS, Era, Wire, opening, request


def values(text: str) -> dict[str, float]:
    """Return every series and its value."""
    found = re.findall(r"^(mcp_[^ ]+) ([0-9.e+-]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def scrape(probe: Wire) -> dict[str, float]:
    """Ask as Prometheus does."""
    reply = await probe.get("/metrics", authorization=f"Bearer {probe.key}")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return values(reply.body.decode())


@pytest.mark.parametrize(("key", "status"), [("", 401), (KEY, 403)])
async def test_only_the_probe_may_read_them(server: Live, key: str, status: int) -> None:
    """A caller learns nothing of other callers."""
    async with Wire(server.url) as nobody:
        reply = await nobody.get("/metrics", **({"authorization": f"Bearer {key}"} if key else {}))

    assert reply.status == status


@pytest.mark.parametrize("era", ERAS)
async def test_calls_are_counted_by_how_they_ended(wire: Wire, probe: Wire, era: Era) -> None:
    """One call that worked, one that failed, one refusal: each is there once more."""
    before = await scrape(probe)
    await wire.call(era, "echo", {"text": "hello"})
    await wire.call(era, "crash", {"text": "hello"})
    await wire.ask(era, *opening(era), headers={"host": "evil.example.com"})
    after = await scrape(probe)

    def grown(series: str) -> float:
        return after[series] - before.get(series, 0)

    assert grown('mcp_tool_calls_total{outcome="ok",tool="echo"}') == 1
    assert grown('mcp_tool_calls_total{outcome="error",tool="crash"}') == 1
    assert grown('mcp_tool_errors_total{kind="internal",tool="crash"}') == 1
    assert grown('mcp_refused_total{layer="host",status="421"}') == 1
    assert grown('mcp_tool_duration_seconds_count{tool="echo"}') == 1


@pytest.mark.parametrize("era", ERAS)
async def test_only_calls_that_ask_for_progress_are_expected_to_get_any(wire: Wire, probe: Wire, era: Era) -> None:
    """A client without a progress token gets no event, and that is no fault of the tool."""
    name = 'mcp_progress_requested_total{tool="stream"}'
    before = await scrape(probe)
    await wire.call(era, "stream", {"steps": 1, "seconds": 0})
    silent = await scrape(probe)
    arguments = {"steps": 1, "seconds": 0}
    await wire.ask(era, "tools/call", {"name": "stream", "arguments": arguments, "_meta": {"progressToken": 1}})
    after = await scrape(probe)

    assert silent[name] == before[name]
    assert after[name] == before[name] + 1


async def test_a_tool_that_does_not_exist_is_no_series(wire: Wire, probe: Wire) -> None:
    """Names that callers make up cannot multiply what is stored."""
    await wire.call("modern", "made_up_by_a_caller")
    after = await scrape(probe)

    assert "made_up_by_a_caller" not in str(after)


async def test_what_is_in_use_is_shown(server: Live, wire: Wire, probe: Wire) -> None:
    """A call that runs is in flight; the gauge goes back."""
    call = asyncio.ensure_future(wire.call("modern", "wait", {"seconds": 30}))
    async with asyncio.timeout(SECONDS):
        while not server.app.server.deadlines.names():
            await asyncio.sleep(0.01)
    during = await scrape(probe)
    call.cancel()
    async with asyncio.timeout(SECONDS):
        while server.app.pipeline.in_flight():
            await asyncio.sleep(0.01)
    after = await scrape(probe)

    assert during["mcp_in_flight"] == 1
    assert during["mcp_oldest_call_seconds"] > 0
    assert after["mcp_in_flight"] == 0
    assert after["mcp_oldest_call_seconds"] == 0
    assert after["mcp_draining"] == 0


async def test_what_stands_open_is_shown() -> None:
    """Sessions and streams while they are there, events that were sent, and a drain from its first moment."""
    asked = {"name": "stream", "arguments": {"steps": 2, "seconds": 0.1}, "_meta": {"progressToken": 1}}
    with live(MCP_LEGACY="stateful") as running:
        async with Wire(running.url, KEY) as wire, Wire(running.url, PROBE_KEY) as probe:
            await wire.ask("legacy", *opening("legacy"))
            await wire.ask("modern", "tools/call", asked)
            headers, body = request("modern", "subscriptions/listen", {"notifications": {}}, key=KEY)
            async with wire.http.stream("POST", f"{running.url}/mcp", content=body, headers=headers) as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                during = await scrape(probe)
            running.do(lambda: setattr(running.app.drain, "unready", True))
            draining = await scrape(probe)
            running.do(lambda: setattr(running.app.drain, "unready", False))

    assert (during["mcp_sessions"], during["mcp_streams"], during["mcp_draining"]) == (1, 1, 0)
    assert during['mcp_notifications_sent_total{tool="stream"}'] == 2
    assert draining["mcp_draining"] == 1


async def test_the_contract_can_be_compared_from_outside(server: Live, probe: Wire) -> None:
    """The digest of what this process serves: drift by configuration is seen after a deploy."""
    series = await scrape(probe)

    assert f'mcp_schema_info{{sha256="{server.app.server.schema_sha256}"}}' in series


@pytest.mark.parametrize(("redis", "degraded"), [(False, 0), (True, 1)], ids=["without Redis", "Redis is away"])
async def test_limits_that_are_local_for_want_of_redis_are_shown(redis: bool, degraded: int) -> None:  # noqa: FBT001
    """Tighter limits refuse callers for a reason that they cannot see; the operator can."""
    with live(REDIS_URL=f"redis://127.0.0.1:{free_port()}" if redis else "") as running:
        async with Wire(running.url, KEY) as wire, Wire(running.url, PROBE_KEY) as probe:
            await wire.call("modern", "echo", {"text": "hello"})
            series = await scrape(probe)

    assert series["mcp_limits_degraded"] == degraded
    assert min(series["mcp_redis_errors_total"], 1) == degraded


async def test_the_pool_is_shown(database_url: str) -> None:
    """Waiting callers are visible before errors are."""
    with live(DATABASE_URL=database_url) as running:
        async with Wire(running.url, KEY) as wire, Wire(running.url, PROBE_KEY) as probe:
            await wire.call("modern", "query", {"sql": "SELECT 1"})
            series = await scrape(probe)

    assert series["mcp_database_up"] == 1
    assert series["mcp_pool_size"] >= 1
    assert series["mcp_pool_waiting"] == 0
    assert series["mcp_pool_acquire_seconds_count"] == 1


@pytest.mark.parametrize("era", ERAS)
async def test_times_are_in_seconds(server: Live, wire: Wire, probe: Wire, era: Era) -> None:
    """A call of 0.4 s adds 0.4 to its sum, is that old while it runs, and 30 is its deadline."""
    before = await scrape(probe)
    call = asyncio.ensure_future(wire.call(era, "wait", {"seconds": 0.4}))
    async with asyncio.timeout(SECONDS):
        while server.app.server.deadlines.oldest_seconds() < 0.2:
            await asyncio.sleep(0.01)
    during = await scrape(probe)
    await call
    after = await scrape(probe)
    name = 'mcp_tool_duration_seconds_sum{tool="wait"}'

    assert 0.2 <= during["mcp_oldest_call_seconds"] < 10
    assert 0.4 <= after[name] - before.get(name, 0) < 10
    assert after['mcp_tool_timeout_seconds{tool="echo"}'] == 30
    assert after['mcp_tool_timeout_seconds{tool="wait"}'] == 30


async def test_the_pool_shows_who_holds_and_who_waits(database_url: str) -> None:
    """Two connections: both are held while a third call waits, and then both are idle; its wait is in the sum."""
    bounds = {"MCP_POOL_MIN_SIZE": "2", "MCP_POOL_MAX_SIZE": "2"}
    with live(DATABASE_URL=database_url, **bounds) as running:
        async with Wire(running.url, KEY) as wire, Wire(running.url, PROBE_KEY) as probe:
            asleep = {"sql": "SELECT pg_sleep(0.6)::text"}
            calls = [asyncio.ensure_future(wire.call("modern", "query", asleep)) for _ in range(3)]
            async with asyncio.timeout(SECONDS):
                while (during := await scrape(probe))["mcp_pool_waiting"] < 1:
                    await asyncio.sleep(0.01)
            await asyncio.gather(*calls)
            async with asyncio.timeout(SECONDS):
                while (after := await scrape(probe))["mcp_pool_idle"] < 2:
                    await asyncio.sleep(0.01)

    assert [during[f"mcp_pool_{name}"] for name in ("size", "idle", "waiting")] == [2, 0, 1]
    assert [after[f"mcp_pool_{name}"] for name in ("size", "idle", "waiting")] == [2, 2, 0]
    assert after["mcp_pool_acquire_seconds_count"] == 3
    assert 0.2 <= after["mcp_pool_acquire_seconds_sum"] < 10


async def test_the_first_of_each_series_is_there_from_the_start() -> None:
    """An increase from nothing to one is none for Prometheus: outcomes, faults of the server, events of streams."""
    with live() as running:
        async with Wire(running.url, PROBE_KEY) as probe:
            series = await scrape(probe)

    for outcome in ("ok", "error", "cancelled"):
        assert series[f'mcp_tool_calls_total{{outcome="{outcome}",tool="echo"}}'] == 0
    for kind in ("internal", "timeout", "upstream_unavailable", "busy"):
        assert series[f'mcp_tool_errors_total{{kind="{kind}",tool="echo"}}'] == 0
    assert series['mcp_tool_duration_seconds_count{tool="echo"}'] == 0
    assert series['mcp_notifications_sent_total{tool="stream"}'] == 0
    assert series['mcp_progress_requested_total{tool="stream"}'] == 0
    for name in ("in_flight", "oldest_call_seconds", "background_tasks", "background_failures_total", "threads_busy"):
        assert series[f"mcp_{name}"] == 0
    for name in ("oldest_thread_seconds", "sessions", "streams", "draining", "limits_degraded", "redis_errors_total"):
        assert series[f"mcp_{name}"] == 0
