"""Bounds what other systems may send to this server as HTTP answers, counted on the wire and not by the body alone.

Interim answers, header fields, chunk framing and trailers have the same bounds as what they carry: 32 KiB and 100
fields up to the body, then a body of its size plus a quarter. No piece that is parsed at once holds the event loop.
Sources: RFC 9110, 15.2 (interim answers); RFC 9112, 7.1 (chunks).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import httpcore2
import httpx2

from . import errors

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable

HEAD_BYTES = 32_768
MAX_FIELDS = 100
# Read at once before the body: what it takes to parse the smallest interim answers in it is a few milliseconds.
HEAD_PIECE_BYTES = 2048
# Pieces that any body may come in, and the size that pieces beyond these have on average.
FREE_PIECES = 2048
PIECE_BYTES = 64
PIECES_AT_ONCE = 64
TOO_LARGE = "The answer of the other system is too large. Ask for less."


def proxy_at(url: str) -> httpcore2.Proxy:
    """Return the proxy that a variable of the environment names, with its credential."""
    stated = httpx2.Proxy(url if "://" in url else f"http://{url}")
    return httpcore2.Proxy(str(stated.url), stated.raw_auth)


class Budget:
    """Bytes that all answers of one exchange may have together, whatever connections they come on."""

    def __init__(self, left: float = float("inf")) -> None:
        self.left = left


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Connections whose answers are bounded.

    Args:
        max_bytes: Largest body.
        context: TLS.
        backend: Makes the connections; the library's own when none is given.
        budget: Shared by all answers.
        proxy: Stands between.
        options: Of the library's pool.
    """

    def __init__(
        self,
        max_bytes: int,
        context: ssl.SSLContext,
        *,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        budget: Budget | None = None,
        proxy: httpcore2.Proxy | None = None,
        **options: Any,
    ) -> None:
        super().__init__(verify=context, trust_env=False)
        # The library has no parameter for it. Without the attribute nothing is asked, bounded or not.
        if not isinstance(vars(self).get("_pool"), httpcore2.AsyncConnectionPool):
            raise TypeError("httpx2: the pool of connections is not where it was")
        bounded = _Backend(backend or cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend()), budget)
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=bounded, proxy=proxy, **options)
        self.max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer as soon as its head is there.

        Raises:
            TooLarge: There is more before the body than there may be; reading the body raises it too.
        """
        response = await super().handle_async_request(request)
        stream = cast("httpx2.AsyncByteStream", response.stream)
        connection = response.extensions["network_stream"]
        if len(response.headers.raw) > MAX_FIELDS or not isinstance(connection, _Stream):
            await stream.aclose()
            raise errors.TooLarge(TOO_LARGE)
        connection.expect_body(self.max_bytes)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(stream, self.max_bytes),
            extensions=response.extensions,
        )


class _Body(httpx2.AsyncByteStream):
    """A body within its bounds of size and number of pieces."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = pieces = 0
        async for piece in self._stream:
            size += len(piece)
            pieces += 1
            if size > self._max_bytes or pieces > FREE_PIECES + size // PIECE_BYTES:
                raise errors.TooLarge(TOO_LARGE)
            if pieces % PIECES_AT_ONCE == 0:
                # What has been read already comes without waiting, and nobody else would get a turn.
                await asyncio.sleep(0)
            yield piece

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._stream.aclose()


class _Stream(httpcore2.AsyncNetworkStream):
    """One connection: counts what comes since the last request was written."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget
        self._left = HEAD_BYTES
        self._at_once = HEAD_PIECE_BYTES

    def expect_body(self, max_bytes: int) -> None:
        """Let the body come: its bytes and a quarter of framing."""
        self._left = HEAD_BYTES + max_bytes + max_bytes // 4
        self._at_once = HEAD_BYTES * 2

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - the library's
        """Read a piece.

        Raises:
            TooLarge: There was enough.
        """
        data = await self._inner.read(min(max_bytes, self._at_once), timeout)
        self._left -= len(data)
        self._budget.left -= len(data)
        if min(self._left, self._budget.left) < 0:
            raise errors.TooLarge(TOO_LARGE)
        if self._at_once == HEAD_PIECE_BYTES:
            await asyncio.sleep(0)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the library's
        """Write a piece of a request; its answer starts at nothing."""
        self._left, self._at_once = HEAD_BYTES, HEAD_PIECE_BYTES
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's
    ) -> httpcore2.AsyncNetworkStream:
        """Count what is inside the TLS."""
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._budget)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection knows of itself."""
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.AsyncNetworkBackend):
    """Makes connections that count."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend, budget: Budget | None) -> None:
        self._inner = inner
        self._budget = budget or Budget()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect."""
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._budget)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to a socket file."""
        return _Stream(await self._inner.connect_unix_socket(path, timeout, socket_options), self._budget)

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts of the library."""
        await self._inner.sleep(seconds)
