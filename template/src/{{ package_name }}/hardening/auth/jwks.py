"""Cache of the issuer's key set (JWKS): refreshed in the background, one fetch at a time (503 while unknown).

No key is trusted for longer than an hour after it was fetched.
A key set is renewed behind the callers' backs every five minutes, and at once for a key id that it does not hold or
whose keys do not verify the token, so a rollover fails no request, under the same id neither.
Tokens of an attacker cause three fetches in thirty seconds at most; then what other keys might verify is 503, not 401.
While the issuer is away the last set serves on, until it is an hour old.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from ..logs.origin import system_error
from .issuer_metadata import (
    MAX_FETCH_BYTES,
    NO_KEY_ID,
    FetchError,
    find_key_set,
    is_loopback,
    is_safe,
    open_client,
    read_document,
    usable_keys,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import jwt

REFRESH_SECONDS = 300.0
COOLDOWN_SECONDS = 10.0
# Fetches that unknown key ids may cause at once: one forged token must not make a rollover wait.
MOST_DEMANDS = 3
MAX_AGE_SECONDS = 3600.0
FETCH_TIMEOUT_SECONDS = 5.0

log = structlog.get_logger()


class KeysUnavailableError(Exception):
    """The keys are not known now, so no token can be verified; a retry can help after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the issuer's keys are not available")
        self.retry_after = retry_after


class Keys:
    """The signing keys of one issuer.

    Args:
        issuer: Issuer identifier, exactly as it stands in `iss`.
        url: Address of the key set; empty: found by discovery.
        clock: Monotonic seconds.

    Raises:
        ValueError: An address is not `https`; a loopback issuer may use `http`.
    """

    def __init__(self, issuer: str, url: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        for setting, address in (("MCP_JWT_ISSUER", issuer), ("MCP_JWT_JWKS_URL", url or issuer)):
            if not is_safe(address, issuer):
                raise ValueError(f"{setting} must be an https URL, e.g. https://login.example.com")
        self._issuer = issuer
        self._configured_url = url
        self._url = url
        self._clock = clock
        self._keys: dict[tuple[str, str], tuple[jwt.PyJWK, ...]] = {}
        self._fetched_at = float("-inf")
        # When the set that serves was asked for because of an unknown id, and the fetch that is under way.
        self._began_at = self._began = float("-inf")
        # After a failure no fetch starts before this; the times of the last ones that an unknown id has caused.
        self._pause_until = float("-inf")
        self._demands: deque[float] = deque(maxlen=MOST_DEMANDS)
        self._failed = False
        self._flight: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    def has(self, kid: str, algorithm: str) -> bool:
        """Return whether `find` would answer without asking the issuer."""
        return bool(self._look_up(kid, algorithm))

    async def find(self, kid: str, algorithm: str, *, but: tuple[jwt.PyJWK, ...] = ()) -> tuple[jwt.PyJWK, ...]:
        """Return the keys with this id for this algorithm; none when the issuer has none, asked after this call began.

        Args:
            kid: Key id of the token; empty when it names none.
            algorithm: Algorithm of the token.
            but: Keys that did not verify the token: the issuer may have others by now.

        Raises:
            KeysUnavailableError: The issuer has to be asked, and does not answer or has been asked enough.
        """
        asked = self._clock()
        keys = self._look_up(kid, algorithm, but)
        if keys and asked - self._fetched_at >= REFRESH_SECONDS:
            self._start(demanded=False)
        # The first fetch may have begun before the key was published; the second one is of this call.
        for _ in range(2):
            if keys or (flight := self._flight or self._start(demanded=True)) is None:
                break
            # Shielded, because others wait for the same fetch when this caller goes away.
            await asyncio.shield(flight)
            keys = self._look_up(kid, algorithm, but)
            if not keys and not self._failed and self._began_at >= asked:
                return ()
        if not keys:
            raise KeysUnavailableError(max(1.0, self._next_demand() - self._clock()))
        return keys

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Fetch the keys early, without waiting for them; leave no fetch behind at the end."""
        self._start(demanded=False)
        try:
            yield
        finally:
            if (flight := self._flight) is not None:
                flight.cancel()
                await asyncio.wait([flight], timeout=FETCH_TIMEOUT_SECONDS)

    def _look_up(self, kid: str, algorithm: str, but: tuple[jwt.PyJWK, ...] = ()) -> tuple[jwt.PyJWK, ...]:
        current = self._current()
        keys = current.get((kid, algorithm), ())
        if not keys:
            keys = tuple(key for key in current.get((NO_KEY_ID, algorithm), ()) if key.key_id is None)
        return tuple(key for key in keys if all(key.key != other.key for other in but)) if but else keys

    def _current(self) -> dict[tuple[str, str], tuple[jwt.PyJWK, ...]]:
        return self._keys if self._clock() - self._fetched_at < MAX_AGE_SECONDS else {}

    def _start(self, *, demanded: bool) -> asyncio.Task[None] | None:
        now = self._clock()
        if self._flight is not None or now < (self._next_demand() if demanded else self._pause_until):
            return None
        if demanded:
            self._demands.append(now)
        # A refresh began for another reason, maybe before the key in question was published.
        self._began = now if demanded else float("-inf")
        # An empty context: the fetch serves everybody, so its log lines are no one caller's.
        self._flight = asyncio.create_task(self._refresh(), context=contextvars.Context())
        self._flight.add_done_callback(self._landed)
        return self._flight

    def _next_demand(self) -> float:
        """Return when an unknown key id may cause a fetch."""
        full = len(self._demands) == self._demands.maxlen
        return max(self._pause_until, self._demands[0] + MOST_DEMANDS * COOLDOWN_SECONDS if full else self._pause_until)

    def _landed(self, _: asyncio.Task[None]) -> None:
        self._flight = None

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                keys = await self._fetch()
        except Exception as error:  # noqa: BLE001 - whatever an issuer does, callers get an answer
            if not self._failed:
                code = error.code if isinstance(error, FetchError) else type(system_error(error)).__name__
                log.warning("issuer keys unavailable", error_code=code, setting="MCP_JWT_ISSUER")
            self._failed = True
            self._pause_until = self._clock() + COOLDOWN_SECONDS
            # The issuer may have moved its keys: ask for their address again.
            self._url = self._configured_url
            if isinstance(system_error(error), ssl.SSLError):
                # The file of authorities may be another one by now.
                self._tls = None
            return
        if self._failed:
            log.info("issuer keys available")
        self._keys, self._fetched_at, self._failed = keys, self._clock(), False
        self._began_at = self._began

    async def _fetch(self) -> dict[tuple[str, str], tuple[jwt.PyJWK, ...]]:
        import httpx2

        from ..http_answers import Budget

        if self._tls is None:
            self._tls = httpx2.create_ssl_context()
        # A proxy of the environment may stand before the internet, never before this machine.
        outside, budget = not is_loopback(self._issuer), Budget(MAX_FETCH_BYTES)
        if not self._url:
            async with open_client(self._issuer, self._tls, budget, outside=outside) as client:
                self._url = await find_key_set(client, self._issuer)
        async with open_client(self._url, self._tls, budget, outside=outside) as client:
            return usable_keys(await read_document(client, self._url))
