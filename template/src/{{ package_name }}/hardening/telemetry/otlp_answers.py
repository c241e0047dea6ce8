"""Bounds the answers of an OpenTelemetry collector: bytes and fields on the wire, and the time of one export.

The exporter's HTTP client, `requests`, waits for each piece and not for the whole, and reads whatever comes.
This is one of its transport adapters: 64 KiB of body at most, no compression, one connection for each export.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import requests
from requests.adapters import BaseAdapter
from requests.utils import select_proxy

from ..errors import TooLarge
from ..http_answers import BoundedTransport, proxy_at

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

MAX_ANSWER_BYTES = 65_536
# Of the exporter, where its variables set none.
EXPORT_SECONDS = 10.0


def bounded_session() -> requests.Session:
    """Return a session for an exporter, all of whose answers are bounded."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter())
    return session


class BoundedAdapter(BaseAdapter):
    """Sends each request on a connection of its own, and reads its answer within the bounds."""

    def __init__(self) -> None:
        super().__init__()
        self._tls: ssl.SSLContext | None = None

    def send(  # noqa: PLR0913, PLR0917 - the library's
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Return the answer, read to its end.

        Raises:
            RequestException: There is none, it did not come in time, or there is too much of it.
        """
        proxy = select_proxy(str(request.url), dict(proxies or {}))
        seconds = timeout if isinstance(timeout, int | float) else EXPORT_SECONDS
        self._tls = self._tls or _context(verify, cert)
        transport = BoundedTransport(MAX_ANSWER_BYTES, self._tls, proxy=proxy_at(proxy) if proxy else None)
        try:
            return _run(_exchange(transport, request, seconds))
        except TooLarge as error:
            raise requests.RequestException("the answer of the collector is too large") from error
        except TimeoutError as error:
            raise requests.Timeout("the collector has not answered in time") from error
        except (httpx2.HTTPError, OSError) as error:
            raise requests.ConnectionError(type(error).__name__) from error

    def close(self) -> None:
        """Close nothing: a connection ends with its request."""


def _run(exchange: Coroutine[Any, Any, requests.Response]) -> requests.Response:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(exchange)
    # A flush on an event loop blocks it, as with the library's own adapter.
    with ThreadPoolExecutor(1) as own:
        return own.submit(asyncio.run, exchange).result()


async def _exchange(
    transport: BoundedTransport, request: requests.PreparedRequest, seconds: float
) -> requests.Response:
    if not isinstance(request.body, bytes):
        raise requests.RequestException("an export is bytes")
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers.items()}
    # A compressed answer has no known size.
    headers |= {"Accept-Encoding": "identity", "Connection": "close"}
    sent = httpx2.Request(str(request.method), str(request.url), headers=headers, content=request.body)
    answer = requests.Response()
    async with asyncio.timeout(seconds), transport:
        received = await transport.handle_async_request(sent)
        answer.raw = io.BytesIO(b"".join([piece async for piece in received.aiter_raw()]))
    answer.status_code, answer.url, answer.request = received.status_code, str(request.url), request
    answer.headers.update(received.headers)
    return answer


def _context(verify: Any, cert: Any) -> ssl.SSLContext:
    # What `requests` takes: True or a path of authorities; a path of a certificate, or it and its key.
    if isinstance(verify, str):
        folder = Path(verify).is_dir()
        context = ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
    else:
        context = httpx2.create_ssl_context()
    if cert:
        context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    return context
