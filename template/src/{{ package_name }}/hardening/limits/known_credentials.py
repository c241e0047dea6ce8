"""Cache of verified credentials, by their digest.

Keeps the failure limit of an address from locking out valid callers behind the same NAT: a monitor, or a caller whose
neighbour at the same address has a bad credential. Who is calling, and may they, is decided by authentication alone.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from ..auth.api_keys import digest_of

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..settings import HardeningSettings

MOST_TOKENS = 4096


class KnownCredentials:
    """Keys from the settings, and the tokens verified last, at most 4096; all as SHA-256 digests."""

    def __init__(self, settings: HardeningSettings) -> None:
        self._keys = [key.digest for key in settings.keys]
        self._probe = digest_of(settings.probe_key.get_secret_value()) if settings.probe_key else None
        self._tokens: OrderedDict[bytes, None] = OrderedDict()

    def is_probe(self, digest: bytes) -> bool:
        """Return whether it is the probe key, in constant time."""
        return self._probe is not None and compare_digest(self._probe, digest)

    def is_good(self, digest: bytes) -> bool:
        """Return whether it is an API key or a token that has been verified."""
        # No early exit: the number of comparisons must not tell which key it was.
        matches = [compare_digest(key, digest) for key in self._keys]
        return any(matches) or digest in self._tokens

    def remember(self, digest: bytes) -> None:
        """A token has been verified."""
        self._tokens[digest] = None
        self._tokens.move_to_end(digest)
        if len(self._tokens) > MOST_TOKENS:
            self._tokens.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """A credential has been refused; it may have been good before it expired."""
        self._tokens.pop(digest, None)


def presented(exchange: Exchange) -> bytes:
    """Return the digest of the bearer credential of a request, or `b""` when there is none."""
    scheme, _, token = exchange.headers.get(b"authorization", b"").partition(b" ")
    return sha256(token.strip(b" ")).digest() if scheme.lower() == b"bearer" else b""
