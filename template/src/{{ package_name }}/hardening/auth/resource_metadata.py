"""Protected resource metadata and `WWW-Authenticate` challenges (200, 401, 404).

A client that is refused learns where to get a token, and nothing more.
Sources: RFC 9728 (protected resource metadata), RFC 6750, section 3 (challenges).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic_core import to_json

from ..response import Response
from ..routes import MCP_PATH, METADATA_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..exchange import Exchange

MAX_AGE_SECONDS = 3600

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")


def resource_of(public_url: str) -> str:
    """Return the resource identifier in the one spelling that is published; `""` without a URL.

    Scheme and host in lower case (RFC 3986, section 6.2.2.1), no slash at the end.

    Raises:
        ValueError: It is not a URL of plain ASCII, or has more than scheme, host and port.
    """
    return _origin_of(public_url) + MCP_PATH if public_url else ""


def _origin_of(public_url: str) -> str:
    parts = urlsplit(public_url)
    named = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.netloc) and parts.hostname and parts.port != 0
    # Metadata of a resource below a path lies at the root of its host (RFC 9728, section 3.1), which is not ours then.
    if not named or parts.path.removeprefix("/") or parts.query or parts.fragment:
        raise ValueError("MCP_PUBLIC_URL must be a URL, e.g. https://mcp.example.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"


class ProtectedResource:
    """Describes this server as a resource that an issuer's tokens open.

    Args:
        issuer: Issuer of the tokens; empty where only API keys are accepted.
        public_url: URL that clients use, without the path; empty on a developer's machine, where
            the `Host` header tells, if the host check has accepted it.
        scopes: The least that a client needs; more is asked for when it is needed.

    Raises:
        ValueError: The public URL cannot be written in a header.
    """

    def __init__(self, issuer: str = "", public_url: str = "", scopes: Iterable[str] = ()) -> None:
        self._base = _origin_of(public_url) if public_url else ""
        self._issuer = issuer
        self._scopes = sorted(scopes)

    def answer(self, exchange: Exchange) -> Response | None:
        """Answer a request for the metadata; None for every other path."""
        if exchange.path != METADATA_PATH:
            return None
        if not self._issuer:
            return Response(404, "not_found", "This server does not take tokens of an issuer.")
        if exchange.method not in {"GET", "HEAD"}:
            return Response(405, "method_not_allowed", "Use GET.", headers=((b"allow", b"GET, HEAD"),))
        document = {
            "resource": self._origin(exchange) + MCP_PATH,
            "authorization_servers": [self._issuer],
            "bearer_methods_supported": ["header"],
        }
        if self._scopes:
            document["scopes_supported"] = self._scopes
        cache = (b"cache-control", f"public, max-age={MAX_AGE_SECONDS}".encode())
        return Response(200, "metadata", headers=(cache,), body=to_json(document))

    def challenge(
        self,
        exchange: Exchange,
        error: Literal["invalid_token", "insufficient_scope"] | None = None,
        description: str = "",
        scopes: Iterable[str] | None = None,
    ) -> tuple[bytes, bytes]:
        """Return a `WWW-Authenticate` header; `error` only where a credential was presented."""
        parameters: dict[str, str] = {}
        if error:
            parameters |= {"error": error, "error_description": description}
        if self._issuer:
            parameters["resource_metadata"] = self._origin(exchange) + METADATA_PATH
            if wanted := self._scopes if scopes is None else sorted(scopes):
                parameters["scope"] = " ".join(wanted)
        written = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
        return b"www-authenticate", f"Bearer {written}".strip().encode("ascii")

    def unauthenticated(self, exchange: Exchange, *, presented: bool) -> Response:
        """Return the 401 that says where to get a credential."""
        if presented:
            message = "The credential is not valid here."
            challenge = self.challenge(exchange, "invalid_token", message)
        else:
            message = "Send a credential in the header Authorization: Bearer."
            challenge = self.challenge(exchange)
        return Response(401, "unauthenticated", message, headers=(challenge,))

    def _origin(self, exchange: Exchange) -> str:
        return self._base or f"http://{exchange.host if _HOST.fullmatch(exchange.host) else 'localhost'}"
