"""Fetches an issuer's metadata and key set over TLS: bounded in size and time, without redirects.

Sources: RFC 8414 and OpenID Connect Discovery 1.0 (where the keys are), RFC 7517 and RFC 7518
(what they look like).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ..errors import TooLarge

if TYPE_CHECKING:
    import ssl

    import httpx2
    import jwt

    from ..http_answers import Budget

MAX_DOCUMENT_BYTES = 262_144
# Of all answers of one fetch together: metadata at every place, and the keys.
MAX_FETCH_BYTES = 655_360
MAX_KEYS = 100
# Issuers that publish a new key under an old id do so next to the old one; each is one more signature check.
MAX_KEYS_OF_ID = 4
PLACE_TIMEOUT_SECONDS = 1.5
RSA_BITS = range(2048, 8193)

# Asymmetric only, and bound to the type of key: a public key is then never taken for a secret.
ALGORITHMS: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    # Two names of one algorithm (RFC 8037; RFC 9864).
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
# What the library calls an algorithm that has another name too.
LIBRARY_NAMES = {"Ed25519": "EdDSA"}
# Of a token, or of a key, that has no `kid`.
NO_KEY_ID = ""
# Why a document that was found is of no use.
TELLING = frozenset({"issuer_mismatch", "issuer_trailing_slash", "unsafe_jwks_uri"})


class FetchError(Exception):
    """A document of the issuer cannot be used; `code` says why, in one constant word."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine by its address or as `localhost`."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(url: str, issuer: str) -> bool:
    """Return whether keys may be read from a URL: TLS, or both issuer and URL on this machine, and no credential in it.

    An issuer has no query (RFC 8414, section 2); the address of its keys may have one.
    """
    try:
        parts = urlsplit(url)
        local = is_loopback(url) and is_loopback(issuer)
    except ValueError:
        return False
    if "@" in parts.netloc or (url == issuer and (parts.query or parts.fragment)):
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))


def open_client(url: str, tls: ssl.SSLContext, budget: Budget, *, outside: bool) -> httpx2.AsyncClient:
    """Return a client for a URL whose answers take from a budget, through the proxy of the environment if `outside`."""
    import httpx2

    from ..http_answers import BoundedTransport, proxy_at

    parts, environment, proxy = urlsplit(url), getproxies_environment(), None
    through = environment.get(parts.scheme) or environment.get("all")
    if outside and through and not proxy_bypass(parts.netloc):
        proxy = proxy_at(through)
    transport = BoundedTransport(MAX_DOCUMENT_BYTES, tls, budget=budget, proxy=proxy)
    return httpx2.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)


async def read_document(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """Return a JSON object of the issuer.

    The caller sets the deadline and switches redirects off.

    Raises:
        FetchError: It is not a JSON object, answered with 200 within the bounds of the client.
    """
    # Uncompressed, so that a few bytes on the wire cannot become gigabytes in memory.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:  # noqa: PLR2004 - the one status that carries a document
                raise FetchError("bad_status")
            body = b"".join([piece async for piece in response.aiter_raw()])
    except TooLarge as error:
        raise FetchError("document_too_large") from error
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FetchError("document_not_json") from error
    if not isinstance(document, dict):
        raise FetchError("document_not_json")
    return cast("dict[str, Any]", document)


async def find_key_set(client: httpx2.AsyncClient, issuer: str) -> str:
    """Return the address of the issuer's key set, from its metadata.

    Raises:
        FetchError: No metadata is of this issuer, or they name no safe address.
    """
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    import httpx2

    problem = FetchError("no_metadata")
    # The order of the specification: 2026-07-28, Authorization Server Discovery.
    for place in (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ):
        try:
            async with asyncio.timeout(PLACE_TIMEOUT_SECONDS):
                metadata = await read_document(client, place)
        except FetchError as error:
            # A document that is there says more than one that is not.
            problem = problem if problem.code in TELLING else error
            continue
        except (httpx2.HTTPError, TimeoutError):
            # One place that is closed or silent says nothing about the next.
            continue
        url = metadata.get("jwks_uri")
        # RFC 8414, section 3.3: metadata that name another issuer must not be used.
        stated = metadata.get("issuer")
        if stated != issuer:
            differs = isinstance(stated, str) and stated.rstrip("/") == issuer.rstrip("/")
            problem = FetchError("issuer_trailing_slash" if differs else "issuer_mismatch")
        elif isinstance(url, str) and is_safe(url, issuer):
            return url
        else:
            problem = FetchError("unsafe_jwks_uri")
    raise problem


def usable_keys(document: dict[str, Any]) -> dict[tuple[str, str], tuple[jwt.PyJWK, ...]]:
    """Return the keys that can verify a token, by id and algorithm, at most 4 of one id; bad ones are left out.

    A key that is the only one for its algorithm is there without id too: neither a key nor a token needs
    one (RFC 7517, section 4.5; RFC 7515, section 4.1.4).

    Raises:
        FetchError: None of the first 100 keys can.
    """
    listed = document.get("keys")
    entries = cast("list[Any]", listed) if isinstance(listed, list) else []
    keys: dict[tuple[str, str], tuple[jwt.PyJWK, ...]] = {}
    by_algorithm: dict[str, list[jwt.PyJWK]] = {}
    for entry in entries[:MAX_KEYS]:
        try:
            for key in _read_key(entry):
                by_algorithm.setdefault(key.algorithm_name, []).append(key)
                if "kid" in entry:
                    name = entry["kid"], key.algorithm_name
                    keys[name] = (*keys.get(name, ()), key)[:MAX_KEYS_OF_ID]
        except Exception:  # noqa: BLE001, S112 - one broken key must not take the others away
            continue
    keys.update({(NO_KEY_ID, name): tuple(only) for name, only in by_algorithm.items() if len(only) == 1})
    if not keys:
        raise FetchError("no_usable_key")
    return keys


def _read_key(entry: dict[str, Any]) -> list[jwt.PyJWK]:
    import jwt

    kind = entry["kty"]
    algorithms = ALGORITHMS[kind, None if kind == "RSA" else entry["crv"]]
    for_signing = entry.get("use", "sig") == "sig" and "verify" in entry.get("key_ops", ["verify"])
    # A key whose private part is published is not trusted.
    if not for_signing or "d" in entry or not isinstance(entry.get("kid", NO_KEY_ID), str):
        return []
    stated = entry.get("alg")
    same = {stated, LIBRARY_NAMES.get(stated, stated)} if stated else set(algorithms)
    names = [name for name in algorithms if {name, LIBRARY_NAMES.get(name, name)} & same]
    keys = [jwt.PyJWK(entry, LIBRARY_NAMES.get(name, name)) for name in names]
    for key, name in zip(keys, names, strict=True):
        # The library compares it with what the token says.
        key.algorithm_name = name
    return [key for key in keys if kind != "RSA" or key.key.key_size in RSA_BITS]
