"""Says whether claims are those of an access token: an issuer signs other tokens with the same keys (401).

Sources: RFC 8725, section 3.12; OpenID Connect Core 1.0, sections 2 and 3.3.2.11.
"""

from __future__ import annotations

from typing import Any

# `typ` of the header: other kinds of JWT that the same issuer signs (logout, security event) are not access tokens.
TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
# Claims in which issuers say what a token is, and what they call an access token.
_KIND_CLAIMS = ("typ", "token_use", "token_type")
_ACCESS = frozenset({"access", "access_token", "at+jwt", "bearer", "jwt"})
# Claims of an ID token (OpenID Connect Core 1.0, sections 2 and 3.3.2.11).
_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})


def is_access_token(claims: dict[str, Any], *, stated: bool) -> bool:
    """Return whether claims are those of an access token (RFC 8725, section 3.12).

    A kind that is stated decides; where none is, a claim that only ID tokens have does.
    """
    kinds = [claims[name] for name in _KIND_CLAIMS if name in claims]
    if any(not isinstance(kind, str) or kind.lower() not in _ACCESS for kind in kinds):
        return False
    return stated or bool(kinds) or not _ID_TOKEN_CLAIMS & claims.keys()
