"""Replay protection for multi-round-trip state: each sealed state is accepted once, by all replicas together (-32602).

Where replicas share keys, Redis decides (`SET NX`), and while it is away no state is accepted (`upstream_unavailable`):
what cannot be looked up was perhaps used. Kept for as long as the seal holds; at most 65,536 of them by default.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .. import errors
from .request_state import SEALED_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..settings import HardeningSettings

# As long as the seal holds, and a minute for clocks that differ.
KEPT_SECONDS = SEALED_SECONDS + 60
CONNECT_SECONDS = 1.0


class UsedStates:
    """Remembers the states that were used."""

    def __init__(self, settings: HardeningSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.rate_max_keys
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self._prefix = f"{__name__.partition('.')[0]} {settings.public_url}:used-states:"
        # Connecting takes several round trips, and TLS more.
        self._timeout = max(settings.redis_timeout_seconds, CONNECT_SECONDS)
        # A state that only this process can open needs nobody else to know of it.
        shared = settings.redis_url if settings.request_state_keys else None
        self._url = shared.get_secret_value() if shared else ""
        self._blind = settings.replicas > 1 and not self._url
        self._redis: Any = None

    async def take(self, state: str) -> bool:
        """Return whether `state` is used for the first time.

        Raises:
            Busy: So many are kept that one more would push another one out.
            UpstreamUnavailable: Redis, which replicas need for this, does not answer, or is not set.
        """
        if self._blind:
            raise errors.UpstreamUnavailable
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        name = sha256(state.encode()).hexdigest()
        if name in self._until:
            return False
        if len(self._until) >= self._most:
            raise errors.Busy
        # Before Redis is asked: of two at once in this process, one waits for no answer.
        self._until[name] = now + KEPT_SECONDS
        return not self._url or await self._first_of_all(name)

    async def _first_of_all(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                return bool(await self._set(f"{self._prefix}{name}"))
        except Exception:  # noqa: BLE001 - whatever breaks in or before Redis, what cannot be looked up is not accepted
            del self._until[name]
            raise errors.UpstreamUnavailable from None

    async def _set(self, key: str) -> Any:
        from redis.asyncio import Redis, RedisCluster
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import MovedError, ReadOnlyError

        if self._redis is None:
            # A server that has become a replica has set nothing: the one that the address leads to now is asked.
            # What a lost connection has done nobody knows: asked again, it would call its own first use the second.
            once_more = Retry(NoBackoff(), 1, (ReadOnlyError,))
            self._redis = Redis.from_url(self._url, retry=once_more)  # pyright: ignore[reportUnknownMemberType] - its options have no types
        try:
            return await self._redis.set(key, 1, nx=True, ex=KEPT_SECONDS)
        except MovedError:
            # It is a cluster, and only a cluster's client follows it.
            await self._redis.aclose()
            self._redis = RedisCluster.from_url(self._url)
            return await self._redis.set(key, 1, nx=True, ex=KEPT_SECONDS)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()
