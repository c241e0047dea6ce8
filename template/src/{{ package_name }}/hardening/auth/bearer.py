"""Reads the credential from `Authorization: Bearer` and removes it from the request (401 anywhere else, or twice).

No later guard, no tool and no log line can see a credential.
Source: RFC 6750, section 2.1.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from .access_tokens import InvalidTokenError

if TYPE_CHECKING:
    from ..exchange import Exchange, Principal

# With more of them a query is not read: nobody is known yet.
MOST_PARAMETERS = 100

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# A credential in a URL ends up in the logs of every proxy on the way (RFC 6750, section 5.3).
_NEVER_IN_QUERY = frozenset(
    {
        "access_token",
        "api_key",
        "apikey",
        "auth_token",
        "authorization",
        "bearer",
        "id_token",
        "jwt",
        "key",
        "token",
        "x_api_key",
    }
)


def take_credential(exchange: Exchange, max_bytes: int) -> str | None:
    """Remove the credential from the request and return it; None when there is none.

    Args:
        exchange: The request.
        max_bytes: Longest credential; `MCP_MAX_TOKEN_BYTES`.

    Raises:
        InvalidTokenError: It stands in the wrong place, twice, or cannot be one.
    """
    presented = exchange.headers.pop(b"authorization", b"").decode("latin-1")
    exchange.scope["headers"] = [pair for pair in exchange.scope["headers"] if pair[0] != b"authorization"]
    exchange.sensitive |= {presented} - {""}
    query = _parameters(exchange.query)
    exposed = {value for name, value in query if name.lower().replace("-", "_") in _NEVER_IN_QUERY}
    exchange.sensitive |= exposed - {""}
    if exposed:
        raise InvalidTokenError("credential_in_query")
    if b"authorization" in exchange.repeated:
        raise InvalidTokenError("several_credentials")
    scheme, _, token = presented.partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if len(token) > max_bytes:
        raise InvalidTokenError("token_too_long")
    if not _TOKEN.fullmatch(token):
        raise InvalidTokenError("malformed_credential")
    exchange.sensitive.add(token)
    return token


def _parameters(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise InvalidTokenError("too_many_parameters") from None


def bind_session(exchange: Exchange, principal: Principal) -> None:
    """Tell the SDK who calls: it binds legacy sessions to client, issuer and subject; here to the tenant as well."""
    if principal.kind == "none":
        return
    exchange.scope["user"] = _user(principal)


def binding(principal: Principal) -> str:
    """Return what sessions and the answers of persons are bound to: the caller, and the tenant that it acts for."""
    # No blank and no name holds a line break.
    return f"{principal.id}\n{principal.tenant}" if principal.tenant else principal.id


@lru_cache(maxsize=1024)
def _user(principal: Principal) -> AuthenticatedUser:
    return AuthenticatedUser(
        AccessToken(
            # Empty, so that the SDK has no token to give to anyone.
            token="",
            client_id=binding(principal),
            subject=principal.name,
            claims={"iss": principal.issuer or principal.kind},
            scopes=sorted(principal.scopes),
            expires_at=None if principal.expires_at is None else int(principal.expires_at),
        )
    )
