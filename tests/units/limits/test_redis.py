"""Limits shared through a real Redis: one ceiling for all replicas, and never an open door."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import live
import pytest
import wire
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from structlog.testing import capture_logs
from support import faults
from support.pgbouncer import certificates
from support.relay import Relay

from hardening.limits import redis as redis_limits
from hardening.limits.memory import TokenBuckets
from hardening.limits.model import Claim, Limit
from hardening.limits.redis import RETRY_SECONDS, SCRIPT, RedisLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = pytest.mark.skipif(REDIS is None, reason="redis-server is missing: install Redis or Valkey")

DEADLINE_SECONDS = 0.1
ADDRESS = Limit("address", 10, 60.0, anonymous=True)
CALLER = Limit("principal", 20, 60.0)
NUMBERS = count()
Replica = Callable[..., RedisLimiter]


class Server:
    """A Redis of our own, in a folder of its own; on a socket file, or as one node of a cluster."""

    def __init__(self, folder: Path, *, cluster: bool = False) -> None:
        self.url = f"unix://{folder}/redis.sock"
        where = ["--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        if cluster:
            self.port, self.bus = free_port(), free_port()
            self.url = f"redis://127.0.0.1:{self.port}"
            where = ["--port", str(self.port), "--cluster-port", str(self.bus), "--bind", "127.0.0.1"]
            where += ["--cluster-enabled", "yes"]
        self._command = [REDIS or "", "--dir", str(folder), "--save", "", "--appendonly", "no", *where]
        self.start()

    def start(self) -> None:
        """Return when it accepts connections."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert any("eady to accept connections" in line for line in self.process.stdout)

    def kill(self) -> None:
        """End it without a chance to say goodbye; also when it is stopped or gone."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def client(self) -> Any:
        """Return a plain client."""
        return cast("Any", Redis).from_url(self.url)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis that tests only use."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A Redis that a test may stop."""
    server = Server(tmp_path)
    yield server
    server.kill()


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
async def limiter() -> AsyncIterator[Replica]:
    """Return what makes a replica; each one without a namespace is a deployment of its own."""
    replicas: list[RedisLimiter] = []

    def make(server: Any, namespace: str | None = None, **options: Any) -> RedisLimiter:
        clock: Callable[[], float] = options.setdefault("clock", time.monotonic)
        # Long, so that a busy machine does not make a test of something else count locally.
        options.setdefault("timeout_seconds", 5)
        name = f"test {next(NUMBERS)}" if namespace is None else namespace
        replicas.append(RedisLimiter(server.url, name, TokenBuckets(1000, clock), **options))
        return replicas[-1]

    yield make
    for replica in replicas:
        await replica.aclose()


async def burst(replicas: Sequence[RedisLimiter], claim: Claim, attempts: int = 60) -> int:
    """Return how often a claim is admitted when replicas ask in turn."""
    decisions = [await replicas[number % len(replicas)].take([claim]) for number in range(attempts)]
    return sum(decision.allowed for decision in decisions)


async def test_replicas_share_one_ceiling(shared: Server, limiter: Replica) -> None:
    """Three replicas together admit what one would, and tell when to try again."""
    replicas = [limiter(shared, "ceiling") for _ in range(3)]
    assert await burst(replicas, Claim(ADDRESS, "a")) == 10
    assert await burst(replicas, Claim(ADDRESS, "b")) == 10
    decision = await replicas[0].take([Claim(ADDRESS, "a")])
    assert decision.limit == "address"
    assert 59 < decision.retry_after < 67


async def test_deployments_share_nothing(shared: Server, limiter: Replica) -> None:
    """Two deployments can use one Redis."""
    one, other = limiter(shared), limiter(shared)
    assert await burst([one], Claim(ADDRESS, "a")) == 10
    assert await burst([other], Claim(ADDRESS, "a")) == 10


async def test_a_refusal_costs_nothing_anywhere(shared: Server, limiter: Replica) -> None:
    """When one of several claims is refused, the others keep what they had, on every replica."""
    one, other = limiter(shared, "refusal"), limiter(shared, "refusal")
    await burst([one], Claim(ADDRESS, "greedy"))
    for _ in range(50):
        assert (await other.take([Claim(CALLER, "shared"), Claim(ADDRESS, "greedy")])).limit == "address"
    assert await burst([other, one], Claim(CALLER, "shared")) == 20


async def test_an_earlier_group_stays_taken(shared: Server, limiter: Replica) -> None:
    """A request that reached its tool counts, even if the tool's own limit refuses it."""
    one, other = limiter(shared, "groups"), limiter(shared, "groups")
    await burst([one], Claim(ADDRESS, "tool"))
    for _ in range(5):
        assert (await other.take([Claim(CALLER, "a")], [Claim(ADDRESS, "tool")])).limit == "address"
    assert await burst([one], Claim(CALLER, "a")) == 15


async def test_one_request_is_one_round_trip(shared: Server, limiter: Replica) -> None:
    """All layers of a request are one command; what this process knows to be used up is none."""
    replica, other = limiter(shared, "trips"), limiter(shared, "trips")
    claims = [Claim(ADDRESS, "a"), Claim(CALLER, "a")]
    await replica.take(claims, [Claim(CALLER, "tool")])
    client = shared.client()

    def commands() -> int:
        return client.info("commandstats")["cmdstat_evalsha"]["calls"]

    before = commands()
    await replica.take(claims, [Claim(CALLER, "tool"), Claim(CALLER, "budget")])
    assert commands() == before + 1
    await burst([replica], Claim(ADDRESS, "a"))
    before = commands()
    await burst([replica], Claim(ADDRESS, "a"))
    assert commands() == before
    await burst([other], Claim(ADDRESS, "a"))
    assert commands() == before + 1
    client.close()


@pytest.mark.parametrize("era", wire.ERAS)
async def test_on_the_wire_a_tool_call_is_one_round_trip(shared: Server, era: wire.Era) -> None:
    """A whole request, in either era, asks Redis once; a server that has stopped has left Redis."""
    client = shared.client()
    clients = len(client.client_list())

    def commands() -> int:
        return client.info("commandstats")["cmdstat_evalsha"]["calls"]

    with live.live(REDIS_URL=shared.url) as server:
        async with wire.Wire(server.url, live.KEY) as caller:
            await caller.call(era, "echo", {"text": "hello"})
            before = commands()
            assert not (await caller.call(era, "echo", {"text": "hello"})).result.get("isError")
            assert commands() == before + 1
            assert (await caller.call(era, "echo", {"text": "hello"}, key="")).status == 401
            assert commands() == before + 1
    deadline = time.monotonic() + 5
    while len(client.client_list()) > clients:
        assert time.monotonic() < deadline
    client.close()


async def test_the_clock_of_the_caller_has_no_influence(shared: Server, limiter: Replica) -> None:
    """Replicas whose clocks disagree, and run at ten times the speed, still share one ceiling."""
    clocks = [lambda: time.monotonic() * 10, lambda: time.monotonic() * 10 + 1e9]
    replicas = [limiter(shared, "clocks", clock=clock) for clock in clocks]
    assert await burst(replicas, Claim(ADDRESS, "a"), 200) == 10


async def test_every_key_expires_and_shows_nobody(shared: Server, limiter: Replica) -> None:
    """No key outlives two windows, and no key holds an address or a name."""
    replica = limiter(shared, "expiry")
    await replica.take([Claim(ADDRESS, "203.0.113.9"), Claim(CALLER, "api_key secret-project")])
    client = shared.client()
    keys = client.keys("{mcp-limits:expiry}:*")
    assert len(keys) == 3
    for key in keys:
        # A window counts in the next one too; a replica is forgotten after a minute.
        longest = 60_000 if key.endswith(b":replicas") else 120_000
        assert longest - 20_000 < client.pttl(key) <= longest
        assert b"203.0.113.9" not in key
        assert b"secret" not in key
    client.close()


async def test_a_forgotten_script_is_loaded_again(shared: Server, limiter: Replica) -> None:
    """A Redis that was restarted, or lost its scripts, is no reason to count locally."""
    replica = limiter(shared)
    await replica.take([Claim(ADDRESS, "a")])
    client = shared.client()
    client.script_flush()
    assert await burst([replica], Claim(ADDRESS, "a")) == 9
    assert replica.redis_errors == 0
    client.close()


async def test_charges_reach_the_other_replicas(shared: Server, limiter: Replica) -> None:
    """What is counted or given back outside a decision is known everywhere with the next request."""
    one, other = limiter(shared, "charges"), limiter(shared, "charges")
    one.charge([Claim(CALLER, "a", 15), Claim(ADDRESS, "a", 400), Claim(ADDRESS, "b", -400)])
    await one.take([Claim(CALLER, "unrelated")])
    assert await burst([other], Claim(CALLER, "a")) == 5
    assert await burst([other], Claim(ADDRESS, "a")) == 0
    assert await burst([other], Claim(ADDRESS, "b")) == 10
    one.charge([Claim(CALLER, "a", -3), Claim(CALLER, "a", -4)])
    await one.take([Claim(CALLER, "unrelated")])
    third = limiter(shared, "charges")
    assert await burst([third], Claim(CALLER, "a")) == 7


async def test_charges_that_go_along_change_no_answer(shared: Server, limiter: Replica) -> None:
    """A refusal names the claim that it refuses, whatever else the same question tells Redis."""
    one, other = limiter(shared, "along"), limiter(shared, "along")
    await burst([one], Claim(ADDRESS, "a"))
    other.charge([Claim(CALLER, "b"), Claim(CALLER, "c")])
    decision = await other.take([Claim(CALLER, "d"), Claim(ADDRESS, "a")])

    assert (decision.allowed, decision.limit) == (False, "address")
    assert 59 < decision.retry_after < 67


async def test_a_charge_is_known_here_at_once(shared: Server, own: Server, limiter: Replica) -> None:
    """20 of 20 units are gone, 19 are not; without Redis 10 of 20 are, whatever nobody has asked for meanwhile."""
    clock = Clock()
    own.kill()
    for server, units in ((shared, 20), (own, 10)):
        replica = limiter(server, clock=clock)
        await replica.take([Claim(ADDRESS, "unrelated")])
        replica.charge([Claim(CALLER, "a", units - 1), Claim(CALLER, "b", units)])
        assert replica.degraded is (server is own)
        assert replica.check([Claim(CALLER, "a")]).allowed
        assert not replica.check([Claim(CALLER, "b")]).allowed
        assert not replica.check([Claim(CALLER, "a", 2)]).allowed


async def test_without_redis_limits_are_tighter_and_not_open(own: Server, limiter: Replica) -> None:
    """A Redis that was never there leaves half of each limit, or less if more replicas are declared."""
    own.kill()
    for replicas, units in ((1, 10), (2, 10), (5, 4)):
        replica = limiter(own, replicas=replicas)
        assert await burst([replica], Claim(CALLER, "a")) == units
        assert replica.degraded
        assert not replica.check([Claim(CALLER, "a")]).allowed


async def test_when_redis_goes_each_replica_has_its_share(own: Server, limiter: Replica) -> None:
    """Four replicas that have met admit a quarter each, though nobody declared how many there are."""
    clock = Clock()
    replicas = [limiter(own, "share", clock=clock) for _ in range(4)]
    for _ in range(2):
        for replica in replicas:
            await replica.take([Claim(CALLER, "hello")])
        clock.now += redis_limits.HEARTBEAT_SECONDS
    alone = limiter(own, replicas=5, clock=clock)
    await alone.take([Claim(CALLER, "hello")])
    own.kill()
    assert await burst(replicas, Claim(CALLER, "a"), 200) == 20
    assert await burst([alone], Claim(CALLER, "a")) == 4, "those that are declared count, though only one was met"


async def test_nobody_starts_afresh_when_redis_goes(own: Server, limiter: Replica) -> None:
    """Who has used up a limit through Redis has used it up without Redis too."""
    replica = limiter(own)
    assert await burst([replica], Claim(CALLER, "a")) == 20
    own.kill()
    assert await burst([replica], Claim(CALLER, "a")) == 0
    assert await burst([replica], Claim(CALLER, "b")) == 10


async def test_nobody_starts_afresh_when_an_empty_redis_comes_back(own: Server, limiter: Replica) -> None:
    """What this process admitted counts here after Redis has forgotten it."""
    clock = Clock()
    replica = limiter(own, clock=clock)
    assert await burst([replica], Claim(CALLER, "a")) == 20
    own.kill()
    own.start()
    clock.now += RETRY_SECONDS
    await replica.take([Claim(CALLER, "b")])
    clock.now += RETRY_SECONDS
    await replica.take([Claim(CALLER, "b")])
    assert not replica.degraded
    assert await burst([replica], Claim(CALLER, "a")) == 0


async def test_a_slow_redis_costs_one_deadline_and_no_more(own: Server, limiter: Replica) -> None:
    """Requests that meet a frozen Redis are answered within a second; those after them do not wait at all."""
    replica = limiter(own, timeout_seconds=DEADLINE_SECONDS)
    await replica.take([Claim(CALLER, "before")])
    own.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    async with asyncio.timeout(5):
        decisions = await asyncio.gather(*(replica.take([Claim(CALLER, "a")]) for _ in range(30)))
    # One after another they would take 3 s.
    assert time.monotonic() - started < 2.5
    assert sum(decision.allowed for decision in decisions) == 10
    errors, started = replica.redis_errors, time.monotonic()
    await burst([replica], Claim(CALLER, "c"), 300)
    # One deadline for each of them would be half a minute.
    assert time.monotonic() - started < 5
    assert replica.redis_errors == errors


async def test_a_redis_far_away_is_connected_to(own: Server, limiter: Replica) -> None:
    """Connecting takes several round trips and has a second for it: at 40 ms each way limits are shared."""
    path = own.url.removeprefix("unix://")
    async with Relay(lambda: asyncio.open_unix_connection(path)) as relay:
        relay.delay = 0.04
        near, own.url = own.url, f"redis://127.0.0.1:{relay.port}"
        replica = limiter(own, timeout_seconds=0.2)
        own.url = near
        decisions = await asyncio.gather(*(replica.take([Claim(CALLER, "far")]) for _ in range(5)))
        await replica.take([Claim(CALLER, "far")])
    assert all(decision.allowed for decision in decisions)
    assert not replica.degraded
    assert replica.redis_errors == 0


async def test_a_redis_that_was_away_is_connected_to_anew(own: Server, limiter: Replica) -> None:
    """No connection is left after a loss, so the next ones have a second again, as the first ones had."""
    replica = limiter(own)
    await replica.take([Claim(CALLER, "a")])
    assert replica._connected == 1  # noqa: SLF001 - by it, a request knows whether it has to open a connection
    own.kill()
    await replica.take([Claim(CALLER, "a")])

    assert (replica.degraded, replica._connected) == (True, 0)  # noqa: SLF001


async def test_a_busy_process_does_not_blame_redis(shared: Server, limiter: Replica) -> None:
    """When this process was stalled beyond the deadline, limits stay shared, and the request counts locally."""
    replica = limiter(shared, timeout_seconds=DEADLINE_SECONDS)
    await replica.take([Claim(CALLER, "a")])
    asking = asyncio.create_task(replica.take([Claim(CALLER, "a")]))
    while not asking.done():
        await asyncio.sleep(0)
        time.sleep(DEADLINE_SECONDS * 2.5)  # noqa: ASYNC251 - the stall itself
    assert replica.redis_errors == 1
    assert not replica.degraded
    assert await burst([replica], Claim(CALLER, "a")) == 17


async def test_connections_share_their_authorities_and_read_them_again(tmp_path: Path, limiter: Replica) -> None:
    """Many connections at once read the authorities of the machine once; a file that was replaced needs no restart."""
    port, trusted, now = free_port(), tmp_path / "trusted.crt", Clock()
    certificates(tmp_path)
    shutil.copy(tmp_path / "other.crt", trusted)
    files = ("--tls-cert-file", f"{tmp_path}/server.crt", "--tls-key-file", f"{tmp_path}/server.key")
    trust = ("--tls-ca-cert-file", f"{tmp_path}/server.crt", "--tls-auth-clients", "no")
    with faults.redis(tmp_path, port, "--port", "0", "--tls-port", str(port), *files, *trust):
        server = SimpleNamespace(url=f"rediss://127.0.0.1:{port}?ssl_ca_certs={trusted}")
        replica = limiter(server, clock=now)
        await replica.take([Claim(CALLER, "a")])
        assert replica.degraded
        shutil.copy(tmp_path / "server.crt", trusted)
        now.now += RETRY_SECONDS
        await replica.take([Claim(CALLER, "a")])
        assert not replica.degraded
        pool = replica._client.connection_pool  # noqa: SLF001 - nothing outside shows it
        held = [pool.make_connection() for _ in range(3)]
        await asyncio.gather(*(replica.take([Claim(CALLER, "a")]) for _ in range(10)))
        assert replica.redis_errors == 1
    assert len({id(one.ssl_context) for one in held}) == 1


async def test_connections_are_bounded_and_closed(shared: Server, limiter: Replica) -> None:
    """64 connections at most, each command tried twice, and none of them is open afterwards."""
    replica = limiter(shared)
    before = shared.client().info("clients")["connected_clients"]
    await asyncio.gather(*(replica.take([Claim(CALLER, "a")]) for _ in range(5)))
    opened = shared.client().info("clients")["connected_clients"] - before
    pool = replica._client.connection_pool  # noqa: SLF001 - its bounds are the promise
    await replica.aclose()
    for _ in range(200):
        if (left := shared.client().info("clients")["connected_clients"]) <= before:
            break
        await asyncio.sleep(0.01)

    assert opened >= 1
    assert left <= before
    # By it, a request knows whether it has to open a connection.
    assert replica._asking == 0  # noqa: SLF001 - nothing outside shows it
    assert pool.max_connections == 64
    assert (pool.timeout, pool.connection_kwargs["socket_timeout"]) == (None, None)
    assert pool.connection_kwargs["retry"].get_retries() == 1


async def test_shared_limits_are_told_once_and_not_with_each_answer(shared: Server, limiter: Replica) -> None:
    """Whoever reads the log of a good day finds nothing of Redis."""
    with capture_logs() as lines:
        await burst([limiter(shared)], Claim(ADDRESS, "a"))

    assert lines == []


async def test_late_answers_are_not_taken_for_others(own: Server, limiter: Replica) -> None:
    """When a frozen Redis goes on, the answers to abandoned questions are thrown away."""
    clock = Clock()
    replica = limiter(own, timeout_seconds=DEADLINE_SECONDS, clock=clock)
    assert await burst([replica], Claim(ADDRESS, "full"), 9) == 9
    own.process.send_signal(signal.SIGSTOP)
    await asyncio.gather(*(replica.take([Claim(ADDRESS, "full")], [Claim(CALLER, "x")]) for _ in range(20)))
    own.process.send_signal(signal.SIGCONT)
    clock.now += RETRY_SECONDS
    with capture_logs():
        assert await burst([replica], Claim(CALLER, "a")) == 20
    assert not replica.degraded


async def test_each_change_is_logged_once(own: Server, limiter: Replica) -> None:
    """One line when limits become local, one when they are shared again, whatever the traffic."""
    clock = Clock()
    replica = limiter(own, clock=clock)
    await replica.take([Claim(CALLER, "a")])
    with capture_logs() as lines:
        own.kill()
        for _ in range(3):
            await asyncio.gather(*(replica.take([Claim(CALLER, "b")]) for _ in range(20)))
            clock.now += RETRY_SECONDS
        assert replica.degraded
        own.start()
        for _ in range(3):
            await asyncio.gather(*(replica.take([Claim(CALLER, "c")]) for _ in range(20)))
            clock.now += RETRY_SECONDS
        assert not replica.degraded
    assert [line["event"] for line in lines] == ["rate limits degraded", "limits shared again"]
    assert lines[0]["log_level"] == "warning"
    assert own.url not in str(lines)


async def test_only_one_request_tries_whether_redis_is_back(own: Server, limiter: Replica) -> None:
    """While Redis is frozen, one request a second waits for it, not every one."""
    clock = Clock()
    replica = limiter(own, timeout_seconds=DEADLINE_SECONDS, clock=clock)
    await replica.take([Claim(CALLER, "a")])
    own.process.send_signal(signal.SIGSTOP)
    await replica.take([Claim(CALLER, "a")])
    errors = replica.redis_errors
    clock.now += RETRY_SECONDS
    await asyncio.gather(*(replica.take([Claim(CALLER, "a")]) for _ in range(50)))
    assert replica.redis_errors == errors + 1


@hypothesis_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    units=st.integers(1, 30),
    steps=st.lists(
        st.tuples(st.floats(0, 0.3) | st.sampled_from([0.0, 0.001, 0.9]), st.integers(1, 4)), min_size=1, max_size=120
    ),
)
@example(units=4, steps=[(0.0, 1), (0.9, 3), (0.15, 4)])
def test_never_more_than_a_burst_and_the_rate(shared: Server, units: int, steps: list[tuple[float, int]]) -> None:
    """Between any two moments at most `units`, what came back in between, and one are admitted."""
    taken = admitted(shared, units, [(round(part * 1e7), min(cost, units)) for part, cost in steps])
    for first in range(len(taken)):
        total = 0
        for moment, cost in taken[first:]:
            total += cost
            assert total <= units + units * (moment - taken[first][0]) / 1e7 + 1


@pytest.mark.parametrize("units", [2, 7, 20, 60])
def test_the_rate_itself_is_reached(shared: Server, units: int) -> None:
    """Who always asks gets the setting in the long run, to 2 percent, also when it is small."""
    step = round(1e7 / units / 7)
    taken = admitted(shared, units, [(step, 1)] * (units * 7 * 7))
    in_five_windows = [moment for moment, _ in taken if taken[0][0] + 1e7 <= moment < taken[0][0] + 6e7]
    assert len(in_five_windows) == pytest.approx(units * 5, rel=0.02)


def test_the_end_of_one_window_and_the_start_of_the_next_are_no_two_bursts(shared: Server) -> None:
    """What was admitted in the last tenth of a second counts in the next tenth."""
    taken = admitted(shared, 10, [(0, 1), (9_900_000, 9), *[(50_000, 1)] * 4])
    assert len(taken) == 3


def test_charges_neither_reset_a_window_nor_fill_it_for_ever(shared: Server) -> None:
    """Giving back more than was used leaves the window before as it was; forced costs end with a full window."""
    given_back = admitted(shared, 5, [(0, 5), (12_000_000, 1), (0, -3), *[(0, 1)] * 5])
    assert len(given_back) == 2 + 1
    forced = admitted(shared, 5, [(0, 400), (15_000_000, 1), *[(0, 1)] * 5])
    assert len(forced) == 3


def admitted(server: Server, units: int, steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Run the script itself at chosen times: (microseconds since the last step, cost); window: ten seconds.

    A cost that nobody could ask for is charged without asking.
    """
    client = server.client()
    name = f"{{virtual {next(NUMBERS)}}}"
    script = SCRIPT.replace("redis.call('TIME')", "redis.call('LRANGE', KEYS[1] .. 'clock', 0, 1)")
    assert script != SCRIPT
    now = 1_800_000_000_000_000
    taken: list[tuple[int, int]] = []
    run = client.register_script(script)
    for passed, cost in steps:
        now += passed
        client.delete(f"{name}clock")
        client.rpush(f"{name}clock", now // 1_000_000, now % 1_000_000)
        asked = 0 < cost <= units
        reply = run(keys=[name, f"{name}:a"], args=["", units, 10_000_000, cost, int(asked)])
        if not asked:
            continue
        if reply[0] == 0:
            taken.append((now, cost))
        else:
            assert 0 < reply[1] <= 20_000_001
    client.close()
    return taken


def test_a_replica_that_has_gone_is_forgotten_after_a_minute(shared: Server) -> None:
    """Then its share is the others'; one that says a word in between is counted."""
    client = shared.client()
    name = f"{{alive {next(NUMBERS)}}}"
    run = client.register_script(SCRIPT.replace("redis.call('TIME')", "redis.call('LRANGE', KEYS[1] .. 'clock', 0, 1)"))
    now, counted = 1_800_000_000_000_000, []
    for replica, passed in (("one", 0), ("two", 1_000_000), ("two", 58_999_999), ("two", 1), ("", 1), ("three", 1)):
        now += passed
        client.delete(f"{name}clock")
        client.rpush(f"{name}clock", now // 1_000_000, now % 1_000_000)
        counted.append(run(keys=[name], args=[replica]))
    client.close()

    assert counted == [[0, 0, number] for number in (1, 2, 2, 1, 0, 2)]


def test_a_clock_that_is_set_back_is_no_free_burst(shared: Server) -> None:
    """After a failover to a node with an earlier clock, what was used is still used, and comes back."""
    hour = 3_600_000_000
    taken = admitted(shared, 5, [(0, 5), (-hour, 1), (1, 1), (9_000_000, 1), (4_000_000, 1)])
    assert [moment - taken[0][0] for moment, _ in taken[1:]] == [13_000_001 - hour]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two nodes that share the slots of a cluster."""
    servers = [Server(tmp_path_factory.mktemp("node"), cluster=True) for _ in range(2)]
    one, other = (server.client() for server in servers)
    one.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
    other.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
    other.execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
    one.execute_command("CLUSTER MEET", "127.0.0.1", servers[1].port, servers[1].bus)
    deadline = time.monotonic() + 20
    while any(node.execute_command("CLUSTER INFO")["cluster_state"] != "ok" for node in (one, other)):
        assert time.monotonic() < deadline
        wait_until(time.monotonic() + 0.02)
    one.close()
    other.close()
    yield servers
    for server in servers:
        server.kill()


async def test_all_keys_of_a_request_share_a_slot_of_a_cluster(cluster: list[Server], limiter: Replica) -> None:
    """The limiter finds the node that has its slot, whichever node it was given; no connection to any is left."""
    replicas = [limiter(server, "cluster", timeout_seconds=5) for server in cluster]
    assert await burst(replicas, Claim(CALLER, "a")) == 20
    await replicas[0].take([Claim(ADDRESS, "b"), Claim(CALLER, "c")], [Claim(CALLER, "tool")])
    assert [replica.redis_errors for replica in replicas] == [0, 0]
    nodes = [server.client() for server in cluster]
    keys: list[Any] = [key for node in nodes for key in node.scan_iter()]
    assert len(keys) == 5
    assert len({nodes[0].execute_command("CLUSTER KEYSLOT", key) for key in keys}) == 1
    for replica in replicas:
        await replica.aclose()
    async with asyncio.timeout(10):
        # What is left are the tests' own.
        while any(len(node.client_list()) > 1 for node in nodes):
            await asyncio.sleep(0.01)
    for node in nodes:
        node.close()


# What one server process does all day, with the limiter of the project under test.
WORKER = """
import asyncio, json, sys, time, types

folder, url, units, window, seconds = sys.argv[1:]
# Only the limiter, not the whole server: four of these start at once.
sys.modules["hardening"] = types.ModuleType("hardening")
sys.modules["hardening"].__path__ = [folder]
from hardening.limits.memory import TokenBuckets
from hardening.limits.model import Claim, Limit
from hardening.limits.redis import RedisLimiter


async def main():
    local = TokenBuckets(1000)
    replica = RedisLimiter(url, "processes", local, timeout_seconds=1)
    limit = Limit("principal", int(units), float(window))
    await replica.take([Claim(limit, "hello")])
    print("ready", flush=True)
    sys.stdin.readline()
    began, moments, slowest, changes, refused = time.monotonic(), [], 0.0, 0, 0
    while time.monotonic() < began + float(seconds) if float(seconds) else refused < 20:
        now, was = time.monotonic(), replica.degraded
        if (await replica.take([Claim(limit, "a")])).allowed:
            moments.append(time.monotonic())
        else:
            refused += 1
        slowest = max(slowest, time.monotonic() - now)
        changes += replica.degraded != was
        await asyncio.sleep(0.002 if float(seconds) else 0)
    await replica.aclose()
    print(json.dumps([moments, slowest, changes]), flush=True)


asyncio.run(main())
"""


class Workers:
    """Processes that ask for the same caller as often as they can: for some seconds, or until they are refused."""

    def __init__(self, server: Server, processes: int, limit: Limit, seconds: float = 0) -> None:
        folder = str(Path(redis_limits.__file__).parents[1])
        command = [sys.executable, "-c", WORKER, folder, server.url]
        command += [str(limit.units), str(limit.seconds), str(seconds)]
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]

    def __enter__(self) -> Self:
        for process in self.processes:
            assert process.stdout is not None
            assert "ready\n" in process.stdout
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def results(self) -> tuple[list[float], list[float], list[int]]:
        """Return when something was admitted, the slowest decision and the changes of side of each process."""
        reports = [json.loads(process.communicate(timeout=30)[0].splitlines()[-1]) for process in self.processes]
        assert [process.returncode for process in self.processes] == [0] * len(self.processes)
        moments = sorted(moment for report in reports for moment in report[0])
        return moments, [report[1] for report in reports], [report[2] for report in reports]


@pytest.mark.parametrize("processes", [2, 4])
def test_the_ceiling_of_all_processes_is_the_setting(shared: Server, processes: int) -> None:
    """Whatever the number of processes, clients get the setting, to 2 percent."""
    client = shared.client()
    client.flushall()
    client.close()
    with Workers(shared, processes, Limit("principal", 1000, 60)) as workers:
        moments, _, changes = workers.results()
    assert len(moments) == pytest.approx(1000, rel=0.02)
    assert changes == [0] * processes


def test_killed_and_restarted_under_load(own: Server) -> None:
    """The limit holds while Redis is away and when it is back, no request fails, and none waits long."""
    limit = Limit("principal", 50, 0.25)
    with Workers(own, 2, limit, 4) as workers:
        began = time.monotonic()
        wait_until(began + 0.7)
        own.kill()
        killed = time.monotonic()
        wait_until(began + 1.9)
        restarted = time.monotonic()
        own.start()
        moments, slowest, changes = workers.results()
    away = [moment for moment in moments if killed + 0.2 < moment < restarted]
    rate, seconds = 200, restarted - killed - 0.2
    assert 0.5 * rate * seconds < len(away) <= rate * seconds * 1.02 + 2
    # Two changes of side: each may admit one burst more.
    assert len(moments) <= 50 + 4 * rate + 2 * 50
    assert changes == [2, 2]
    assert max(slowest) < 1.4


def wait_until(moment: float) -> None:
    """Let the load run until then."""
    threading.Event().wait(max(0.0, moment - time.monotonic()))
