"""A share of the HTTP connections for each caller: 50 of all 100; who gets none in time is told `busy`.

A caller whose requests are slow keeps no other caller from making requests.
A connection is taken from before it is made until the answer that comes on it is closed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast
from weakref import WeakValueDictionary

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]

CONNECTIONS_PER_CALLER = 50


class ConnectionShares:
    """The shares of all callers whose requests are on their way; others take no memory."""

    def __init__(self) -> None:
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def send(self, request: httpx2.Request, caller: str, send: Send) -> httpx2.Response:
        """Send a request on a connection of its caller's share; what it waits counts as waiting for the pool.

        Raises:
            PoolTimeout: The share is in use.
        """
        share = self._shares.setdefault(caller, asyncio.Semaphore(CONNECTIONS_PER_CALLER))
        seconds = request.extensions["timeout"]
        until = time.monotonic() + seconds["pool"]
        try:
            async with asyncio.timeout(seconds["pool"]):
                await share.acquire()
        except TimeoutError:
            raise httpx2.PoolTimeout("the share of this caller is in use") from None
        seconds["pool"] = max(0.0, until - time.monotonic())
        try:
            response = await send(request)
        except BaseException:
            share.release()
            raise
        response.stream = _Shared(cast("httpx2.AsyncByteStream", response.stream), share)
        return response


class _Shared(httpx2.AsyncByteStream):
    """A body whose connection is given back to a share, once."""

    def __init__(self, stream: httpx2.AsyncByteStream, share: asyncio.Semaphore) -> None:
        self._stream = stream
        self._share: asyncio.Semaphore | None = share

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        """Close the answer."""
        try:
            await self._stream.aclose()
        finally:
            share, self._share = self._share, None
            if share is not None:
                share.release()
