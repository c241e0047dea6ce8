"""Verifies JWT access tokens: signature, issuer, audience, lifetime, subject (401).

A token is accepted only if this issuer signed it, for this server, and for now.
Signature, issuer, audience, expiry, not-before and subject are checked on every request.
The algorithm has to be one that the key's type allows; what the token itself brings along
(`jwk`, `jku`, `x5u`, `x5c`) is never looked at.
Sources: RFC 7519, RFC 8725 (best current practices), RFC 9068 (access tokens).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from ..exchange import Principal
from .issuer_metadata import ALGORITHMS

if TYPE_CHECKING:
    import jwt

    from .jwks import Keys

CLOCK_SKEW_SECONDS = 30
LONGEST_NAME = 255
LONGEST_KEY_ID = 256

_ALLOWED = frozenset(chain.from_iterable(ALGORITHMS.values()))
# Other kinds of JWT that the same issuer signs (logout, security event) are not access tokens.
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})


class InvalidTokenError(Exception):
    """The token is not to be believed; `reason` is one constant word, for the log only."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenVerifier:
    """Verifies access tokens of one issuer for one audience.

    Args:
        keys: The issuer's keys.
        issuer: What `iss` must be, to the letter.
        audience: What `aud` must be or contain, to the letter.

    Raises:
        ValueError: There is no audience, so a token for any other server would be accepted.
    """

    def __init__(self, keys: Keys, *, issuer: str, audience: str) -> None:
        if not issuer or not audience:
            raise ValueError("set MCP_JWT_ISSUER, and MCP_JWT_AUDIENCE or MCP_PUBLIC_URL")
        self.keys = keys
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for.

        Raises:
            InvalidTokenError: It is not good.
            KeysUnavailableError: The keys to verify it with are not known now.
        """
        header = _header(token)
        kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "")
        if not isinstance(algorithm, str) or algorithm not in _ALLOWED:
            raise InvalidTokenError("algorithm_refused")
        if not isinstance(kid, str) or len(kid) > LONGEST_KEY_ID:
            raise InvalidTokenError("no_key_id")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise InvalidTokenError("wrong_type")
        if not self.keys.has(kid, algorithm):
            # The claims prove nothing yet, but a token that has expired or was made elsewhere
            # must not be able to cause a fetch of keys.
            self._decode(token, None)
        key = await self.keys.find(kid, algorithm)
        if key is None:
            raise InvalidTokenError("unknown_key")
        return _principal(self._decode(token, key)["payload"])

    def _decode(self, token: str, key: jwt.PyJWK | None) -> dict[str, Any]:
        """Check the claims, and with a key the signature too."""
        import jwt

        try:
            return jwt.decode_complete(
                token,
                key or "",
                algorithms=[key.algorithm_name] if key else None,
                audience=self._audience,
                issuer=self._issuer,
                leeway=CLOCK_SKEW_SECONDS,
                options={
                    "verify_signature": key is not None,
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iat": True,
                    "verify_aud": True,
                    "verify_iss": True,
                    "verify_sub": True,
                },
            )
        except Exception as error:
            # Any exception: a parser that stumbles over a token must refuse it, not answer 500.
            raise InvalidTokenError(type(error).__name__) from error


def _header(token: str) -> dict[str, Any]:
    """Read what chooses the key; the signature covers it, so it is checked with the rest."""
    try:
        header: object = json.loads(urlsafe_b64decode(token.partition(".")[0] + "=="))
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("malformed_header") from error
    if not isinstance(header, dict):
        raise InvalidTokenError("malformed_header")
    return cast("dict[str, Any]", header)


def _principal(claims: dict[str, Any]) -> Principal:
    subject = claims["sub"]
    # The subject names a caller in logs and limits, so it must be short and printable.
    if not 0 < len(subject) <= LONGEST_NAME or not subject.isprintable():
        raise InvalidTokenError("bad_subject")
    client = claims.get("client_id") or claims.get("azp")
    try:
        expires_at = float(claims["exp"])
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidTokenError("bad_expiry") from error
    return Principal(
        kind="jwt",
        name=subject,
        issuer=claims["iss"],
        client_id=client if isinstance(client, str) else "",
        scopes=_scopes(claims),
        expires_at=expires_at,
    )


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Return what `scope` (RFC 9068: a string) and `scp` (others: a string or a list) grant."""
    granted: set[str] = set()
    for stated in (claims.get("scope"), claims.get("scp")):
        if isinstance(stated, str):
            granted.update(stated.split())
        elif isinstance(stated, list):
            granted.update(s for s in cast("list[object]", stated) if isinstance(s, str))
    return frozenset(granted)
