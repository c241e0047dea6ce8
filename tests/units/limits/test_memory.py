"""Token buckets: the ceiling holds, a refusal costs nothing, memory has a bound."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardening.limits.memory import TokenBuckets
from hardening.limits.model import Claim, Limit

ADDRESS = Limit("address", 10, 10.0, anonymous=True)
CALLER = Limit("principal", 10, 10.0)


class Clock:
    """Seconds that pass when a test says so; starts like a machine that has been up for weeks."""

    def __init__(self) -> None:
        self.now = 2e6

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def buckets(clock: Clock) -> TokenBuckets:
    """Return room for 1,000 keys, half of them strangers."""
    return TokenBuckets(1000, clock)


def allowed(buckets: TokenBuckets, *claims: Claim) -> bool:
    """Return whether all claims were taken."""
    return buckets.decide([claims]).allowed


def burst(buckets: TokenBuckets, claim: Claim) -> int:
    """Return how often a claim can be taken without waiting."""
    count = 0
    while allowed(buckets, claim):
        count += 1
    return count


def test_a_burst_is_admitted_to_the_last_unit_and_not_one_more(buckets: TokenBuckets) -> None:
    """A new bucket holds exactly its units."""
    assert burst(buckets, Claim(ADDRESS, "a")) == 10


def test_a_bucket_fills_at_its_rate(buckets: TokenBuckets, clock: Clock) -> None:
    """After a third of the time, a third of the units is back."""
    burst(buckets, Claim(ADDRESS, "a"))
    clock.now += 3
    assert burst(buckets, Claim(ADDRESS, "a")) == 3


def test_every_caller_has_a_bucket_of_its_own(buckets: TokenBuckets) -> None:
    """What one caller uses up is not missing to another."""
    burst(buckets, Claim(CALLER, "a"))
    assert burst(buckets, Claim(CALLER, "b")) == 10


def test_the_wall_clock_has_no_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set forward gives nothing back."""
    buckets = TokenBuckets(1000)
    slow = Limit("principal", 3, 3600.0)
    burst(buckets, Claim(slow, "a"))
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert not allowed(buckets, Claim(slow, "a"))


@given(
    units=st.integers(1, 40),
    seconds=st.floats(0.5, 4000),
    steps=st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 5)), max_size=150),
)
def test_never_more_than_a_burst_and_the_rate(units: int, seconds: float, steps: list[tuple[float, int]]) -> None:
    """Between any two moments, at most `units` and what came back in between is admitted."""
    clock = Clock()
    buckets = TokenBuckets(1000, clock)
    limit = Limit("principal", units, seconds)
    taken: list[tuple[float, int]] = []
    for share_of_window, cost in steps:
        clock.now += share_of_window * seconds
        size = min(cost, units)
        if allowed(buckets, Claim(limit, "a", size)):
            taken.append((clock.now, size))
    for first in range(len(taken)):
        total = 0
        for moment, cost in taken[first:]:
            total += cost
            assert total <= units + units * (moment - taken[first][0]) / seconds + 0.01


@given(units=st.integers(1, 40), seconds=st.floats(0.5, 4000), cost=st.integers(1, 40))
def test_retry_after_is_the_truth(units: int, seconds: float, cost: int) -> None:
    """A refused claim is admitted after the time it was told, and not much earlier."""
    clock = Clock()
    buckets = TokenBuckets(1000, clock)
    claim = Claim(Limit("principal", units, seconds), "a", min(cost, units))
    burst(buckets, claim)
    wait = buckets.check([claim]).retry_after
    clock.now += wait * 0.99
    assert not buckets.check([claim]).allowed
    clock.now += wait * 0.01 + 1e-6
    assert buckets.check([claim]).allowed


def test_a_refusal_costs_nothing_anywhere(buckets: TokenBuckets) -> None:
    """When one of several claims is refused, the others keep what they had."""
    burst(buckets, Claim(CALLER, "greedy"))
    for _ in range(100):
        assert not allowed(buckets, Claim(ADDRESS, "shared"), Claim(CALLER, "greedy"))
    assert burst(buckets, Claim(ADDRESS, "shared")) == 10


def test_a_refusal_names_the_limit_that_is_longest_in_the_way(buckets: TokenBuckets) -> None:
    """Who waits as told is not refused by the next limit."""
    slow = Limit("budget", 1, 100.0)
    burst(buckets, Claim(ADDRESS, "a"))
    burst(buckets, Claim(slow, "a"))
    decision = buckets.decide([[Claim(ADDRESS, "a"), Claim(slow, "a")]])
    assert decision.limit == "budget"
    assert decision.retry_after == pytest.approx(100)


def test_an_earlier_group_stays_taken(buckets: TokenBuckets) -> None:
    """A request that reached its tool counts as a request, even if the tool's own limit refuses it."""
    burst(buckets, Claim(CALLER, "tool"))
    for _ in range(4):
        assert buckets.decide([[Claim(ADDRESS, "a")], [Claim(CALLER, "tool")]]).limit == "principal"
    assert burst(buckets, Claim(ADDRESS, "a")) == 6


def test_what_is_given_back_can_be_taken_again(buckets: TokenBuckets) -> None:
    """A negative cost returns units, and never more than the bucket holds."""
    burst(buckets, Claim(CALLER, "a"))
    buckets.charge([Claim(CALLER, "a", -4)])
    assert burst(buckets, Claim(CALLER, "a")) == 4
    buckets.charge([Claim(CALLER, "a", -400)])
    assert burst(buckets, Claim(CALLER, "a")) == 10


def test_a_share_is_a_share_of_burst_and_rate(buckets: TokenBuckets, clock: Clock) -> None:
    """With half of a limit, half of the units are admitted, at once and later."""
    claim = Claim(CALLER, "a")
    assert sum(buckets.decide([[claim]], 0.5).allowed for _ in range(20)) == 5
    clock.now += 4
    assert sum(buckets.decide([[claim]], 0.5).allowed for _ in range(20)) == 2


def test_a_claim_larger_than_the_share_is_not_refused_for_ever(buckets: TokenBuckets, clock: Clock) -> None:
    """It waits for a full bucket and then pays the rest in time."""
    claim = Claim(CALLER, "a", 8)
    assert buckets.decide([[claim]], 0.5).allowed
    wait = buckets.decide([[claim]], 0.5).retry_after
    assert wait == pytest.approx(16)
    clock.now += wait
    assert buckets.decide([[claim]], 0.5).allowed


def test_memory_is_bounded_after_a_million_addresses() -> None:
    """A million addresses, each seen once, leave at most as many buckets as the setting says."""
    clock = Clock()
    buckets = TokenBuckets(65_536, clock)
    for number in range(100_000):
        buckets.decide([[Claim(ADDRESS, f"10.{number}")]])
    tracemalloc.start()
    for number in range(100_000, 140_000):
        buckets.decide([[Claim(ADDRESS, f"10.{number}")]])
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for number in range(140_000, 1_000_000):
        clock.now += 1e-5
        buckets.decide([[Claim(ADDRESS, f"10.{number}")]])
    assert len(buckets) <= 65_537
    assert grown < 100_000


def test_a_flood_is_forgotten_as_fast_as_it_came(buckets: TokenBuckets, clock: Clock) -> None:
    """Buckets that are full again make room for the next ones, without anything in the background."""
    for number in range(500):
        buckets.decide([[Claim(ADDRESS, f"flood {number}")]])
    assert len(buckets) == 500
    clock.now += 1
    for number in range(400):
        buckets.decide([[Claim(ADDRESS, f"later {number}")]])
        clock.now += 0.1
    assert len(buckets) < 20


def test_a_flood_of_addresses_resets_nobody(buckets: TokenBuckets) -> None:
    """Neither the attacker's own bucket nor anybody else's is full again after a flood."""
    burst(buckets, Claim(ADDRESS, "attacker"))
    for _ in range(6):
        buckets.decide([[Claim(ADDRESS, "honest")]])
    for number in range(20_000):
        buckets.decide([[Claim(ADDRESS, f"flood {number}")]])
    assert burst(buckets, Claim(ADDRESS, "attacker")) == 0
    assert burst(buckets, Claim(ADDRESS, "honest")) == 4


def test_beyond_the_memory_newcomers_share_one_bucket(buckets: TokenBuckets, clock: Clock) -> None:
    """A full memory is closed, not open: together, newcomers get what one address gets."""
    admitted = sum(allowed(buckets, Claim(ADDRESS, f"flood {number}")) for number in range(5000))
    assert admitted == 500 + 10
    clock.now += 0.5
    assert not allowed(buckets, Claim(ADDRESS, "one more"))


def test_strangers_do_not_push_callers_out(buckets: TokenBuckets) -> None:
    """A flood from anywhere leaves room for callers that have authenticated."""
    for number in range(5000):
        buckets.decide([[Claim(ADDRESS, f"flood {number}")]])
    assert [burst(buckets, Claim(CALLER, name)) for name in ("new", "newer", "newest")] == [10, 10, 10]


def test_a_bucket_in_use_again_is_not_forgotten(buckets: TokenBuckets, clock: Clock) -> None:
    """What counts is when a bucket is full now, not when it would have been at first."""
    buckets.decide([[Claim(ADDRESS, "busy")]])
    burst(buckets, Claim(ADDRESS, "busy"))
    clock.now += 2
    for number in range(100):
        buckets.decide([[Claim(ADDRESS, f"new {number}")]])
    assert burst(buckets, Claim(ADDRESS, "busy")) == 2


def test_a_long_key_is_not_kept_as_it_is(buckets: TokenBuckets) -> None:
    """A subject of many kilobytes takes the memory of a digest, and is still told from others."""
    tracemalloc.start()
    for number in range(100):
        burst(buckets, Claim(CALLER, "x" * 100_000 + str(number)))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000
    assert len(buckets) == 100


def test_exhausted_is_refused_until_the_time_is_over(buckets: TokenBuckets, clock: Clock) -> None:
    """What somebody else has refused for three seconds is refused here for three seconds."""
    claim = Claim(CALLER, "a")
    buckets.exhaust(claim, 3)
    moments = [buckets.check([claim]).allowed]
    for _ in pairwise(range(3)):
        clock.now += 1.4
        moments.append(buckets.check([claim]).allowed)
    clock.now += 0.3
    assert moments == [False, False, False]
    assert buckets.check([claim]).allowed
    # The longer of two refusals holds.
    for seconds in (9, 3):
        buckets.exhaust(claim, seconds)
    assert round(buckets.check([claim]).retry_after, 3) == 9


async def test_take_is_decide_for_several_groups(buckets: TokenBuckets) -> None:
    """The awaitable form decides the same, and there is nothing to close."""
    assert (await buckets.take([Claim(CALLER, "a", 10)])).allowed
    assert (await buckets.take([Claim(ADDRESS, "a")], [Claim(CALLER, "a")])).limit == "principal"
    await buckets.aclose()
