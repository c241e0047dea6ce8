"""Verifies API keys by their SHA-256 digest, in constant time (401).

A presented key is compared with every configured key, so the time says nothing about which one is near.
Only SHA-256 digests are kept, so neither a core dump nor a debugger shows a usable key.
A digest without salt is enough because a key is long and random, not a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORTEST_SECRET = 32
MOST_KEYS = 256
UNNAMED_KEY = "default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What can stand after "Bearer" (RFC 6750, section 2.1): a key outside it could never be sent.
_SECRET = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_DIGEST = re.compile(r"sha256:([0-9A-Fa-f]{64})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: the name that logs and limits use, and the SHA-256 digest of the secret."""

    name: str
    digest: bytes = field(repr=False)


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Read keys that are separated by commas, spaces or line ends.

    An entry is `name:secret` or `name:sha256:<hex>`; a secret alone is named `default`.
    One name may have several keys: that is how a key is rotated without a failed request.
    One secret may not have several names, since it would be unclear who is calling.

    Raises:
        ValueError: What to change, for all entries at once. It never holds a part of an entry.
    """
    entries = text.replace(",", " ").split()
    problems: list[str] = []
    keys: dict[bytes, ApiKey] = {}
    for number, entry in enumerate(entries, start=1):
        name, colon, secret = entry.partition(":")
        if not colon:
            name, secret = UNNAMED_KEY, entry
        try:
            key = ApiKey(_checked(name), digest_of(secret))
        except ValueError as problem:
            problems.append(f"key {number}: {problem}")
            continue
        if keys.setdefault(key.digest, key) is not key:
            problems.append(f"key {number}: the same secret is there twice; give each key its own")
    if len(entries) > MOST_KEYS:
        problems.append(f"use at most {MOST_KEYS} keys")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(keys.values())


def digest_of(secret: str) -> bytes:
    """Return the digest of a secret that is written plainly or as `sha256:<hex>`.

    Raises:
        ValueError: The rule that the secret breaks, never the secret.
    """
    if hashed := _DIGEST.fullmatch(secret):
        return bytes.fromhex(hashed[1])
    if secret.startswith("sha256:"):
        raise ValueError("write a digest as sha256: and 64 hexadecimal digits")
    if not _SECRET.fullmatch(secret):
        raise ValueError("use letters, digits and . _ ~ + / - only, e.g. openssl rand -hex 32")
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"use at least {SHORTEST_SECRET} characters, e.g. openssl rand -hex 32")
    return sha256(secret.encode()).digest()


def match(keys: Sequence[ApiKey], presented: str) -> ApiKey | None:
    """Return the key that was presented; the time taken says nothing about how close it came."""
    digest = sha256(presented.encode()).digest()
    found: ApiKey | None = None
    for key in keys:
        # No early exit: the number of comparisons must not tell which key it was.
        if compare_digest(key.digest, digest):
            found = key
    return found


def _checked(name: str) -> str:
    if name == "sha256":
        raise ValueError("put a name in front: name:sha256:<hex>")
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, dots, underscores or dashes")
    return name
