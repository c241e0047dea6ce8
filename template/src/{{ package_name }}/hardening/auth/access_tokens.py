"""Verifies JWT access tokens: signature, issuer, audience, lifetime, subject (401).

A token is accepted only if this issuer signed it, for this server, and for now.
Signature, issuer, audience, expiry, not-before and subject are checked on every request, and so is that it is
an access token: the same issuer signs ID tokens and refresh tokens with the same keys.
The algorithm has to be one that the key's type allows; what the token itself brings along
(`jwk`, `jku`, `x5u`, `x5c`) is never looked at.
Sources: RFC 7519, RFC 8725 (best current practices), RFC 9068 (access tokens).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from ..exchange import Principal
from .issuer_metadata import ALGORITHMS, NO_KEY_ID
from .token_kind import TYPES, is_access_token

if TYPE_CHECKING:
    from collections.abc import Collection

    import jwt

    from .jwks import Keys

CLOCK_SKEW_SECONDS = 30
LONGEST_NAME = 255
LONGEST_KEY_ID = 256

_ALLOWED = frozenset(chain.from_iterable(ALGORITHMS.values()))


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
        client_ids: The only clients whose tokens are accepted; a token of theirs may have no `aud`.
            Empty: any client, and `aud` is required.
        readable: Claims that tools may read.
        tenant_claim: The claim that names the tenant; a token without it is refused.

    Raises:
        ValueError: There is no audience and no client, so a token for any other server would be accepted.
    """

    def __init__(  # noqa: PLR0913 - each is one rule for tokens
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        client_ids: Collection[str] = (),
        readable: Collection[str] = (),
        tenant_claim: str = "",
    ) -> None:
        if not issuer or not (audience or client_ids):
            raise ValueError("set MCP_JWT_ISSUER, and MCP_JWT_AUDIENCE, MCP_PUBLIC_URL or MCP_JWT_CLIENT_IDS")
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._client_ids = frozenset(client_ids)
        self._readable = tuple(readable)
        self._tenant_claim = tenant_claim

    async def verify(self, token: str) -> Principal:
        """Return who the token speaks for.

        Raises:
            InvalidTokenError: It is not good.
            KeysUnavailableError: The keys to verify it with are not known now.
        """
        header = _header(token)
        kid, algorithm, kind = header.get("kid", NO_KEY_ID), header.get("alg"), header.get("typ", "")
        if not isinstance(algorithm, str) or algorithm not in _ALLOWED:
            raise InvalidTokenError("algorithm_refused")
        if not isinstance(kid, str) or len(kid) > LONGEST_KEY_ID:
            raise InvalidTokenError("bad_key_id")
        if not isinstance(kind, str) or kind.lower() not in TYPES:
            raise InvalidTokenError("wrong_type")
        if not self.keys.has(kid, algorithm):
            # The claims prove nothing yet, but a token that has expired or was made elsewhere
            # must not be able to cause a fetch of keys.
            self._claims(token, None, kind)
        refused = InvalidTokenError("unknown_key")
        tried: tuple[jwt.PyJWK, ...] = ()
        for _ in range(2):
            keys = await self.keys.find(kid, algorithm, but=tried)
            for key in keys:
                try:
                    return self._believed(self._claims(token, key, kind))
                except InvalidTokenError as error:
                    refused = error
                    if error.reason != "InvalidSignatureError":
                        raise
            if not keys:
                break
            # Nobody can tell a forged signature from a key that is new under the same id, or under none: ask once
            # more, for a token that is good but for its signature.
            self._claims(token, None, kind)
            tried = keys
        raise refused

    def _believed(self, claims: dict[str, Any]) -> Principal:
        readable = {name: claims[name] for name in self._readable if name in claims}
        tenant = claims.get(self._tenant_claim) if self._tenant_claim else ""
        # Without a tenant it would be unclear whose rows a tool may read, so such a token is refused.
        good = isinstance(tenant, str) and len(tenant) <= LONGEST_NAME and tenant.isprintable()
        if not good or (self._tenant_claim and not tenant):
            raise InvalidTokenError("no_tenant")
        return replace(_principal(claims), tenant=tenant, claims=MappingProxyType(readable))

    def _claims(self, token: str, key: jwt.PyJWK | None, kind: str) -> dict[str, Any]:
        """Return the claims when they are good, and with a key the signature too."""
        claims: dict[str, Any] = self._decode(token, key)["payload"]
        if not is_access_token(claims, stated="at+jwt" in kind.lower()):
            raise InvalidTokenError("not_an_access_token")
        if self._client_ids:
            # A token of these clients may have no audience; one that has an audience must have ours.
            audiences = claims.get("aud")
            named = cast("list[object]", audiences) if isinstance(audiences, list) else [audiences]
            if "aud" in claims and (not self._audience or self._audience not in named):
                raise InvalidTokenError("InvalidAudienceError")
            if _client(claims) not in self._client_ids:
                raise InvalidTokenError("foreign_client")
        return claims

    def _decode(self, token: str, key: jwt.PyJWK | None) -> dict[str, Any]:
        import jwt

        required = ["exp", "iss", "sub"] if self._client_ids else ["exp", "iss", "aud", "sub"]
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
                    "require": required,
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iat": True,
                    "verify_aud": not self._client_ids,
                    "verify_iss": True,
                    "verify_sub": True,
                },
            )
        except jwt.InvalidIssuerError as error:
            slash = self._issuer.removesuffix("/") if self._issuer.endswith("/") else f"{self._issuer}/"
            stated = jwt.decode(token, options={"verify_signature": False}).get("iss")
            raise InvalidTokenError("issuer_trailing_slash" if stated == slash else "InvalidIssuerError") from error
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
    try:
        expires_at = float(claims["exp"])
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidTokenError("bad_expiry") from error
    return Principal(
        kind="jwt",
        name=subject,
        issuer=claims["iss"],
        client_id=_client(claims),
        scopes=_scopes(claims),
        expires_at=expires_at,
    )


def _client(claims: dict[str, Any]) -> str:
    client = claims.get("client_id") or claims.get("azp")
    return client if isinstance(client, str) else ""


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Return what `scope` (RFC 9068: a string) and `scp` (others: a string or a list) grant."""
    granted: set[str] = set()
    for stated in (claims.get("scope"), claims.get("scp")):
        if isinstance(stated, str):
            granted.update(stated.split())
        elif isinstance(stated, list):
            granted.update(s for s in cast("list[object]", stated) if isinstance(s, str))
    return frozenset(granted)
