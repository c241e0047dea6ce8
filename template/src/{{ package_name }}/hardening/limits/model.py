"""Types of rate limiting and the interface of its two back ends (memory, Redis).

A caller of the interface does not know which back end counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `units` at once, given back evenly over `seconds`.

    Attributes:
        name: Which limit it is; log lines and metrics use it, so there must be few.
        units: Size of the bucket, at least 1.
        seconds: Time in which an empty bucket fills, above 0.
        anonymous: Counted by something that anyone can choose, such as an address. Such buckets
            have half of the memory to themselves, so that unauthenticated clients never evict the buckets of callers.
    """

    name: str
    units: int
    seconds: float
    anonymous: bool = False

    @classmethod
    def per_minute(cls, name: str, rate: int, burst: int | None = None, *, anonymous: bool = False) -> Limit:
        """Return a limit of `rate` units a minute, of which `burst` (default: all) can come at once."""
        units = rate if burst is None else burst
        return cls(name, units, units * 60 / rate, anonymous)


class Claim(NamedTuple):
    """What one request wants: `cost` units of the bucket that `limit` keeps for `key`."""

    limit: Limit
    key: str
    cost: int = 1


class Decision(NamedTuple):
    """Whether it may happen; if not, the limit that is in the way longest, and for how many seconds."""

    allowed: bool
    limit: str = ""
    retry_after: float = 0.0


ALLOWED = Decision(allowed=True)


class Limiter(Protocol):
    """Where the buckets are: in this process, or in Redis."""

    degraded: bool
    redis_errors: int

    async def take(self, *groups: Sequence[Claim]) -> Decision:
        """Take all claims of a group or none; the first group that is refused ends it."""
        ...

    def check(self, claims: Sequence[Claim]) -> Decision:
        """Say whether this process already knows that the claims would be refused; takes nothing."""
        ...

    def charge(self, claims: Sequence[Claim]) -> None:
        """Count what has happened anyway; a negative cost gives back what was not used after all."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
