"""Rate limit back end in Redis: one ceiling for all replicas.

One script decides everything about a request in one round trip, on the clock of Redis.
While Redis is slow or away, limits never open: each replica admits its share, at most half of a limit and at least one
unit of it, so that replicas that are declared, or have met in Redis, admit no more in all than the limit.
Each change between Redis and memory may admit one burst more, and replicas may notice it about a
second apart. Nothing is ever let through uncounted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from hashlib import blake2b, sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError

from ..logs.origin import system_error
from .model import ALLOWED, Claim, Decision
from .redis_tls import SharedTlsPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .memory import TokenBuckets

log = structlog.get_logger()

SCRIPT = Path(__file__).with_name("sliding_window.lua").read_text(encoding="utf-8")
# Redis names scripts by their SHA-1 (EVALSHA); nothing is protected by it.
SCRIPT_ID = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

MAX_CONNECTIONS = 64
RETRY_SECONDS = 1.0
# Connecting takes several round trips, and TLS more; asking takes one.
CONNECT_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
# Of a process that has not heard from Redis yet and so knows of no others but the declared ones.
LARGEST_SHARE = 0.5
MAX_OWED = 1024
OWED_AT_ONCE = 16


class RedisLimiter:
    """Counts in Redis, and in `local` too, so that no bucket is full again when Redis goes away.

    Attributes:
        degraded: Whether limits are local and tighter at the moment.
        redis_errors: How often Redis did not answer in time or at all.
    """

    def __init__(  # noqa: PLR0913 - one keyword per setting
        self,
        url: str,
        namespace: str,
        local: TokenBuckets,
        *,
        replicas: int = 1,
        timeout_seconds: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; the first request connects.

        Args:
            url: `redis://`, `rediss://` or `unix://`; the seed node if it is a cluster.
            namespace: The same for all replicas of a deployment, and for no other deployment.
            local: Buckets of this process.
            replicas: How many there are at least.
            timeout_seconds: How long a request waits for an answer of Redis; for a new connection up to a second.
            clock: Monotonic seconds; for when to try again, never for limits in Redis.
        """
        # All keys of a deployment share one slot of a cluster: a request is decided by one node.
        self._prefix = "{mcp-limits:" + namespace + "}"
        self._url = url
        self._local = local
        self._timeout = timeout_seconds
        self._clock = clock
        self._declared = replicas
        self._id = secrets.token_hex(8)
        self._share = min(LARGEST_SHARE, 1 / replicas)
        self._next_heartbeat = self._next_try = clock()
        self._owed: deque[Claim] = deque(maxlen=MAX_OWED)
        # A connection that Redis has closed since is opened again, and one to what has become a replica.
        again = {"retry": Retry(NoBackoff(), 1), "retry_on_error": [ReadOnlyError]}
        pools = cast("Any", SharedTlsPool)
        self._pool = pools.from_url(url, max_connections=MAX_CONNECTIONS, timeout=None, socket_timeout=None, **again)
        self._client: Any = Redis.from_pool(self._pool)
        self._clients = [self._client]
        self._asking = self._connected = 0
        self.degraded = False
        self.redis_errors = 0

    async def take(self, *groups: Sequence[Claim]) -> Decision:
        """Take all claims of a group or none; the first group that is refused ends it."""
        asked: list[Sequence[Claim]] = []
        refusal = ALLOWED
        for claims in groups:
            # What this process alone has used up needs no question: a flood ends here.
            refusal = self._local.check(claims)
            if not refusal.allowed:
                break
            asked.append(claims)
        if not asked:
            return refusal
        reply = await self._ask(asked)
        if reply is None:
            return self._local.decide(groups, self._share)
        number, microseconds = reply
        for claims in asked:
            if 0 < number <= len(claims):
                claim, seconds = claims[number - 1], microseconds / 1e6
                self._local.exhaust(claim, seconds)
                return Decision(allowed=False, limit=claim.limit.name, retry_after=seconds)
            self._local.charge(claims)
            number -= len(claims)
        return refusal

    def check(self, claims: Sequence[Claim]) -> Decision:
        """Say whether this process already knows that the claims would be refused; takes nothing."""
        return self._local.check(claims, self._share if self.degraded else 1.0)

    def charge(self, claims: Sequence[Claim]) -> None:
        """Count here at once, and in Redis with the next request that goes there."""
        self._local.charge(claims, self._share if self.degraded else 1.0)
        if not self.degraded:
            self._owed.extend(claims)

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.aclose()

    async def _ask(self, groups: Sequence[Sequence[Claim]]) -> tuple[int, int] | None:
        """Return which claim was refused (0: none) and for how many microseconds; None without Redis."""
        now = self._clock()
        trying = self.degraded
        if trying:
            if now < self._next_try:
                return None
            # One request tries; the others need not wait for what it finds out.
            self._next_try = now + RETRY_SECONDS
        owed = [self._owed.popleft() for _ in range(min(len(self._owed), OWED_AT_ONCE))]
        keys = [f"{self._prefix}:replicas"]
        arguments: list[str | float] = [self._id if now >= self._next_heartbeat else ""]
        for group, claims in enumerate((owed, *groups)):
            for limit, key, cost in claims:
                digest = blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
                keys.append(f"{self._prefix}:{limit.name}:{digest}")
                arguments += (limit.units, round(limit.seconds * 1e6), cost, group)
        self._asking += 1
        # A request that finds every connection in use opens a new one.
        seconds = self._timeout if self._asking <= self._connected else max(self._timeout, CONNECT_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                number, microseconds, replicas = await self._run(len(keys), *keys, *arguments)
            self._connected = max(self._connected, self._asking)
        except Exception as error:  # noqa: BLE001 - whatever breaks in or before Redis, limits hold
            # A timer that fires late says that this process was busy, not that Redis is slow.
            stalled = isinstance(error, TimeoutError) and self._clock() - now > 2 * seconds
            self._pool.failed(error)
            self._lost(type(system_error(error)).__name__, stalled=stalled)
            return None
        finally:
            self._asking -= 1
        if replicas:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            self._share = min(LARGEST_SHARE, 1 / max(replicas, self._declared))
        # Only the one that tries: late answers from before the loss must not make it flap.
        if trying:
            self.degraded = False
            log.info("limits shared again")
        return max(0, number - len(owed)), microseconds

    async def _run(self, *arguments: str | float) -> tuple[int, int, int]:
        client = self._client
        try:
            try:
                return await client.execute_command("EVALSHA", SCRIPT_ID, *arguments)
            except NoScriptError:  # Redis is new or was restarted
                return await client.execute_command("EVAL", SCRIPT, *arguments)
        except MovedError:
            # It is a cluster, and another node has our slot. Only a cluster's client follows it.
            if isinstance(client, RedisCluster):
                raise
            if client is self._client:
                self._client = RedisCluster.from_url(self._url, max_connections=MAX_CONNECTIONS)
                self._clients.append(self._client)
            return await self._run(*arguments)

    def _lost(self, error_type: str, *, stalled: bool) -> None:
        self.redis_errors += 1
        if stalled:
            return
        self._connected = 0
        self._next_try = self._clock() + RETRY_SECONDS
        if not self.degraded:
            self.degraded = True
            log.warning("rate limits degraded", error_type=error_type, share=round(self._share, 3))
