"""Redirects to another origin: headers that a tool has added stay behind, as a key in them was meant for the first one.

The library leaves out `Authorization` and cookies alone. From HTTP to HTTPS of one host is no other origin.
Sources: RFC 9110, 15.4 (automatic redirection); RFC 6454 (origins).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

# What says nothing of who asks.
KEPT_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "accept-language", "connection", "user-agent", "range", "cookie"}
    | {"content-type", "content-length", "content-encoding", "content-language", "transfer-encoding"}
)


def leave_at_origin(request: httpx2.Request) -> None:
    """Take the other headers out of a request that goes to another origin than the first of its redirects."""
    url = request.url
    # A redirect is sent with the extensions of the request before it.
    first: httpx2.URL = request.extensions.setdefault("first_url", url)
    upgraded = (first.scheme, url.scheme) == ("http", "https") and first.port is None and url.port is None
    if first is url or (first.host == url.host and (first.origin == url.origin or upgraded)):
        return
    for name in [name for name in request.headers if name not in KEPT_HEADERS]:
        del request.headers[name]
