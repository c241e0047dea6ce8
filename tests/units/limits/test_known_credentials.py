"""Good credentials are recognised, and nothing else is."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from hardening.exchange import Exchange, open_exchange
from hardening.limits.known_credentials import MOST_TOKENS, KnownCredentials, presented
from hardening.settings import HardeningSettings

KEY, PROBE = "k" * 40, "p" * 40


@pytest.fixture
def good() -> KnownCredentials:
    """Return what recognises one API key and the probe key."""
    values: dict[str, Any] = {"_env_file": None, "MCP_API_KEYS": f"alice:{KEY}", "probe_key": PROBE}
    return KnownCredentials(HardeningSettings(**values))


def digest(text: str) -> bytes:
    """Return the digest of a credential."""
    return sha256(text.encode()).digest()


def request(*headers: tuple[bytes, bytes]) -> Exchange:
    """Return a request with these headers."""
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": list(headers)}
    nothing: Any = None
    return open_exchange(scope, nothing, nothing)


def test_the_probe_key_and_no_other_is_the_probe(good: KnownCredentials) -> None:
    """An API key is not the probe, and neither is nothing at all."""
    assert good.is_probe(digest(PROBE))
    assert not good.is_probe(digest(KEY))
    assert not good.is_probe(b"")


def test_without_a_probe_key_nobody_is_the_probe() -> None:
    """No setting, no exemption."""
    values: dict[str, Any] = {"_env_file": None}
    nobody = KnownCredentials(HardeningSettings(**values))
    assert not nobody.is_probe(b"")
    assert not nobody.is_probe(digest(""))


def test_keys_and_verified_tokens_are_good(good: KnownCredentials) -> None:
    """A key is good from the start, a token once it was verified, and no longer when it was refused."""
    assert good.is_good(digest(KEY))
    assert not good.is_good(digest("token"))
    good.remember(digest("token"))
    assert good.is_good(digest("token"))
    good.forget(digest("token"))
    assert not good.is_good(digest("token"))


def test_the_memory_is_bounded_and_keeps_what_is_used(good: KnownCredentials) -> None:
    """Of more tokens than there is room for, those used last are remembered."""
    good.remember(digest("used"))
    for number in range(MOST_TOKENS + 10):
        good.remember(digest(str(number)))
        good.remember(digest("used"))
    assert good.is_good(digest("used"))
    # 4096 in all.
    assert [good.is_good(digest(str(number))) for number in (10, 11, 4105)] == [False, True, True]


def test_only_a_bearer_credential_is_presented() -> None:
    """The digest is that of the token alone; without one there is nothing."""
    assert presented(request((b"authorization", b"Bearer  abc "))) == digest("abc")
    assert presented(request((b"Authorization", b"bearer abc"))) == b""
    assert presented(request((b"authorization", b"Basic abc"))) == b""
    assert presented(request()) == b""
