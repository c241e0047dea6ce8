"""The HTTP client of a call (`ctx.http`): connections are shared by all calls, cookies and headers by none.

No request outlives the deadline of its call, and no answer is larger than `MCP_HTTP_MAX_RESPONSE_BYTES`.
An answer that is still open when its call ends is closed. A redirect to another origin gets no header of its own, such
as one with a key. GET and HEAD are tried once more when the connection fails, and nothing else is.
Nothing of a request is logged; metrics name the host.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, cast

import httpx2

from .. import errors
from ..calls import event_loop
from ..calls.shares import current_caller
from ..http_answers import BoundedTransport
from .addresses import GuardedBackend
from .answers import Answer
from .breaker import Breaker
from .redirects import leave_at_origin
from .shares import ConnectionShares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ..calls.context import Held
    from ..settings import HardeningSettings

    OnAnswer = Callable[[str, str, str, int | None, float], object]

CONNECT_SECONDS = 5.0
MOST_CONNECTIONS = 100
KEPT_CONNECTIONS = 20
KEPT_SECONDS = 30.0
POOL_SECONDS = 5.0
HIGHEST_PORT = 65_535
PATIENCE_SECONDS = 1.0
RETRIED = frozenset({"GET", "HEAD"})
# The host has said itself that it cannot.
UNWELL = frozenset({502, 503, 504})
# Nothing was sent: the address or a header is not valid.
CANNOT_BE_SENT = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
CONNECTION_FAILED = (httpx2.NetworkError, httpx2.RemoteProtocolError)
ENCODED = "The other system has sent a compressed answer that nobody asked for."


class Call(Protocol):
    """What a client needs to know of its call."""

    def remaining_seconds(self) -> float:
        """Return how long the call may still take."""
        ...


class Outbound(BoundedTransport):
    """The connections of one server.

    Args:
        settings: What may be reached, and how large an answer may be.
        on_answer: Called with host, outcome (`ok`, `error` or `refused`), method, status and seconds.
    """

    def __init__(self, settings: HardeningSettings, on_answer: OnAnswer) -> None:
        self.guard = GuardedBackend(settings.http_allow)
        super().__init__(
            settings.http_max_response_bytes,
            httpx2.create_ssl_context(),
            backend=self.guard,
            max_connections=MOST_CONNECTIONS,
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=KEPT_SECONDS,
        )
        self.breaker = Breaker()
        self.shares = ConnectionShares()
        self.on_answer = on_answer
        self.closed = False
        self.closing: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer as soon as its head is there; its connection is one of its caller's share."""
        return await self.shares.send(request, current_caller(), super().handle_async_request)

    async def aclose(self) -> None:
        """Close every connection; clients of calls that are over reach nothing any more."""
        self.closed = True
        self.guard.close()
        await super().aclose()

    def client(self, call: Call, held: Callable[[], set[Held]] = set) -> httpx2.AsyncClient:
        """Return the client of one call; `held` returns what is closed with it, or raises when it is over."""
        # Neither proxies nor credentials from the environment; a compressed answer has no known size.
        return httpx2.AsyncClient(
            transport=_CallTransport(self, call, held), trust_env=False, headers={"accept-encoding": "identity"}
        )


class _CallTransport(httpx2.AsyncBaseTransport):
    """Hands the requests of one call to the shared connections."""

    def __init__(self, outbound: Outbound, call: Call, held: Callable[[], set[Held]]) -> None:
        self._outbound = outbound
        self._call = call
        self._held = held
        self._loop = event_loop.running()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; the redirects of the client come here too.

        Raises:
            Timeout: The deadline of the call has passed.
            CallOverError: The call has been answered.
            UpstreamUnavailable: The host does not answer, or has failed lately.
            Busy: Every connection is in use, or this caller's share of them.
            InsideAddressError: The host is on the inside.
            InvalidURL: It names no host, or a port that there is not.
            OtherLoopError: The client is used in another event loop than its call's.
        """
        event_loop.check(self._loop)
        if not request.url.host or (request.url.port or 0) > HIGHEST_PORT:
            raise httpx2.InvalidURL("no address")
        outbound, host = self._outbound, f"{request.url.host}:{request.url.port or request.url.scheme}"
        if outbound.closed:
            raise errors.UpstreamUnavailable
        self._held()
        caller = current_caller()
        outbound.breaker.check(host, caller)
        leave_at_origin(request)
        outcome, status, began = "error", None, time.monotonic()
        try:
            async with asyncio.timeout(self._call.remaining_seconds()):
                response = await self._sent(request)
            status = response.status_code
            outcome = "error" if status in UNWELL else "ok"
        except (errors.PermissionDenied, errors.Busy, *CANNOT_BE_SENT):
            outcome = "refused"
            raise
        except httpx2.PoolTimeout:
            # Other hosts have all connections, which says nothing about this one.
            outcome = "refused"
            raise errors.Busy from None
        except TimeoutError as error:
            # A call that had hardly any time left says nothing about the host.
            if time.monotonic() - began >= PATIENCE_SECONDS:
                outbound.breaker.failed(host, caller, error)
            raise errors.Timeout from None
        except httpx2.TransportError as error:
            outbound.breaker.failed(host, caller, error)
            raise
        finally:
            outbound.on_answer(request.url.host, outcome, request.method, status, time.monotonic() - began)
        outbound.breaker.failed(host, caller) if outcome == "error" else outbound.breaker.succeeded(host)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise errors.UpstreamUnavailable(ENCODED)
        stream = _Timely(cast("httpx2.AsyncByteStream", response.stream), self._call, outbound.closing)
        try:
            # A call may end while a task that it has left behind waits for the answer.
            stream.hold(self._held())
        except BaseException:
            await stream.aclose()
            raise
        return Answer(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        seconds = self._call.remaining_seconds()
        request.extensions["timeout"] = {
            "connect": min(CONNECT_SECONDS, seconds),
            # Before the whole request is over, which would be held against the host.
            "pool": min(POOL_SECONDS, seconds / 2),
            **dict.fromkeys(("read", "write"), seconds),
        }
        try:
            return await self._outbound.handle_async_request(request)
        except CONNECTION_FAILED:
            if request.method not in RETRIED or not isinstance(request.stream, httpx2.ByteStream):
                raise
            return await self._outbound.handle_async_request(request)

    async def aclose(self) -> None:
        """Leave the connections open: other calls use them."""


class _Timely(httpx2.AsyncByteStream):
    """A body that ends in time, and at the latest with its call."""

    def __init__(self, stream: httpx2.AsyncByteStream, call: Call, closing: set[asyncio.Task[None]]) -> None:
        self._stream = stream
        self._call = call
        self._closing = closing
        self._held: set[Held] = set()

    def hold(self, held: set[Held]) -> None:
        """Let the end of the call close this."""
        self._held = held
        held.add(self)

    def close_soon(self) -> None:
        """Close it in a task: the end of a call waits for nothing."""
        task = asyncio.create_task(self.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._stream.__aiter__()
        while True:
            try:
                async with asyncio.timeout(self._call.remaining_seconds()):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise errors.Timeout from None
            yield chunk

    async def aclose(self) -> None:
        """Give the connection back."""
        self._held.discard(self)
        await self._stream.aclose()
