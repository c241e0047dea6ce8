"""Rate limit back end in memory: token buckets (GCRA), bounded in number.

A bucket is one number, the time at which it will be full again (the "theoretical arrival time" of
the generic cell rate algorithm, ITU-T I.371, annex A). Nothing runs in the background.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from .model import ALLOWED, Claim, Decision, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Float arithmetic must not refuse the last unit of a burst: a millionth of the bucket is forgiven.
SLACK = 1e-6
LONGEST_KEY = 96
# Each newcomer makes room for itself and one more, so that a flood is forgotten as fast as it came.
FORGOTTEN_AT_ONCE = 2


class TokenBuckets:
    """Buckets for at most `max_keys` keys, and one shared bucket of each limit for everybody beyond.

    Full buckets are forgotten first, which loses nothing: a new one is full as well. A bucket in use
    is never forgotten, so a flood of new keys resets no bucket. Work per claim: one dictionary access,
    for a new key also a few steps on a heap.
    """

    def __init__(self, max_keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._anonymous = _Table(max_keys // 2)
        self._callers = _Table(max_keys - max_keys // 2)
        self.degraded = False
        self.redis_errors = 0

    def __len__(self) -> int:
        """Number of buckets in memory: at most `max_keys` and one more for each limit."""
        return len(self._anonymous.full_at) + len(self._callers.full_at)

    async def take(self, *groups: Sequence[Claim]) -> Decision:
        """Take all claims of a group or none; the first group that is refused ends it."""
        return self.decide(groups)

    def decide(self, groups: Sequence[Sequence[Claim]], share: float = 1.0) -> Decision:
        """Do what `take` does, with `share` (0 to 1) of each limit."""
        for claims in groups:
            decision = self.check(claims, share)
            if not decision.allowed:
                return decision
            self.charge(claims, share)
        return ALLOWED

    def check(self, claims: Sequence[Claim], share: float = 1.0) -> Decision:
        """Say whether all claims could be taken now; takes nothing."""
        now = self._clock()
        decision = ALLOWED
        for claim in claims:
            limit = claim.limit
            table, key = self._place(claim, now)
            used = max(table.full_at.get(key, now) - now, 0.0)
            # A claim that is larger than the share of the bucket waits for a full one, then owes the rest.
            over = used + min(claim.cost * _interval(limit, share), limit.seconds) - limit.seconds
            if over > limit.seconds * SLACK and over > decision.retry_after:
                decision = Decision(allowed=False, limit=limit.name, retry_after=over)
        return decision

    def charge(self, claims: Sequence[Claim], share: float = 1.0) -> None:
        """Count claims without asking; a negative cost gives units back."""
        now = self._clock()
        for claim in claims:
            table, key = self._place(claim, now)
            full_at = max(table.full_at.get(key, now), now) + claim.cost * _interval(claim.limit, share)
            table.put(key, full_at)

    def exhaust(self, claim: Claim, seconds: float) -> None:
        """Refuse this claim for so many seconds: someone who knows more has refused it."""
        now = self._clock()
        table, key = self._place(claim, now)
        full_at = now + seconds + claim.limit.seconds - claim.cost * _interval(claim.limit, 1.0)
        table.put(key, max(table.full_at.get(key, now), full_at))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _place(self, claim: Claim, now: float) -> tuple[_Table, str]:
        limit = claim.limit
        table = self._anonymous if limit.anonymous else self._callers
        subject = claim.key
        if len(subject) > LONGEST_KEY:
            subject = blake2b(subject.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        key = f"{limit.name}:{subject}"
        if key in table.full_at or table.has_room(now):
            return table, key
        return table, limit.name


class _Table:
    """When each bucket will be full; those that are full by now make room."""

    __slots__ = ("_max_keys", "_queue", "full_at")

    def __init__(self, max_keys: int) -> None:
        self.full_at: dict[str, float] = {}
        self._max_keys = max_keys
        # One entry per key, with a time at which it is worth looking: the bucket may be in use again.
        self._queue: list[tuple[float, str]] = []

    def put(self, key: str, full_at: float) -> None:
        if key not in self.full_at:
            heappush(self._queue, (full_at, key))
        self.full_at[key] = full_at

    def has_room(self, now: float) -> bool:
        for _ in range(FORGOTTEN_AT_ONCE):
            if not self._queue or self._queue[0][0] > now:
                break
            key = self._queue[0][1]
            full_at = self.full_at[key]
            if full_at > now:
                heapreplace(self._queue, (full_at, key))
            else:
                heappop(self._queue)
                del self.full_at[key]
        return len(self.full_at) < self._max_keys


def _interval(limit: Limit, share: float) -> float:
    """Return the seconds in which a share of the limit gives one unit back; one unit is always left."""
    return min(limit.seconds / (limit.units * share), limit.seconds)
