"""What an issuer publishes: which addresses are asked, and which keys are taken."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from hardening.auth.issuer_metadata import MAX_KEYS, FetchError, is_safe, usable_keys

ISSUER = "https://login.example.com"
LOCAL = "http://127.0.0.1:9000"

RSA_KEY = rsa.generate_private_key(65537, 2048)
WEAK_RSA_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it has to be refused
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_JWK = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa"}
EC_JWK = ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True) | {"kid": "ec"}
P384_JWK = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True) | {"kid": "p384"}
ED_JWK = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True) | {"kid": "ed"}
del RSA_JWK["key_ops"]


@pytest.mark.parametrize(
    ("url", "issuer", "safe"),
    [
        ("https://login.example.com/keys", ISSUER, True),
        ("https://cdn.example.net/keys", ISSUER, True),
        ("http://login.example.com/keys", ISSUER, False),
        ("http://127.0.0.1/keys", ISSUER, False),
        ("http://127.0.0.1:9000/keys", LOCAL, True),
        ("http://[::1]:9000/keys", LOCAL, True),
        ("http://localhost:9000/keys", LOCAL, True),
        ("http://localhost.example.com/keys", LOCAL, False),
        ("http://169.254.169.254/keys", LOCAL, False),
        ("file:///etc/passwd", LOCAL, False),
        ("https:///keys", ISSUER, False),
        ("https://[broken", ISSUER, False),
        ("", ISSUER, False),
        ("https://user:password@login.example.com/keys", ISSUER, False),
        ("https://user@login.example.com", "https://user@login.example.com", False),
        ("https://login.example.com?key=1", "https://login.example.com?key=1", False),
        ("https://login.example.com/keys?p=policy", ISSUER, True),
    ],
)
def test_keys_come_over_tls_or_from_this_machine(url: str, issuer: str, safe: bool) -> None:  # noqa: FBT001
    """Plain HTTP is for an issuer on this machine only; its keys may not come from elsewhere."""
    assert is_safe(url, issuer) is safe


def test_each_key_is_bound_to_the_algorithms_of_its_type() -> None:
    """No key can be used with an algorithm of another type, least of all with a symmetric one."""
    keys = usable_keys({"keys": [RSA_JWK, EC_JWK, P384_JWK, ED_JWK]})

    assert set(keys) == {
        *((kid, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512") for kid in ("rsa", "")),
        *((kid, "ES256") for kid in ("ec", "")),
        *((kid, "ES384") for kid in ("p384", "")),
        *((kid, name) for name in ("EdDSA", "Ed25519") for kid in ("ed", "")),
    }


def test_a_stated_algorithm_is_the_only_one() -> None:
    """A key published for RS256 does not verify PS256."""
    assert set(usable_keys({"keys": [RSA_JWK | {"alg": "RS256"}]})) == {("rsa", "RS256"), ("", "RS256")}


@pytest.mark.parametrize("stated", ["EdDSA", "Ed25519"])
def test_ed25519_has_two_names(stated: str) -> None:
    """A key that is published under either name verifies tokens of both (RFC 8037; RFC 9864)."""
    names = {name for kid, name in usable_keys({"keys": [ED_JWK | {"alg": stated}]}) if kid == "ed"}

    assert names == {"EdDSA", "Ed25519"}


def test_without_an_id_two_keys_are_none() -> None:
    """Of two keys for one algorithm nobody can say which is meant, so each needs its id."""
    assert ("", "ES256") not in usable_keys({"keys": [EC_JWK, EC_JWK | {"kid": "ec 2"}]})


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "a string",
        7,
        [],
        {},
        {"kty": "RSA", "kid": "bad"},
        {"kty": "RSA", "kid": "bad", "n": 5, "e": []},
        {"kty": "oct", "kid": "bad", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": ["RSA"], "kid": "bad"},
        EC_JWK | {"kid": 5},
        EC_JWK | {"kid": ["bad"]},
        EC_JWK | {"kid": "bad", "crv": "P-999"},
        EC_JWK | {"kid": "bad", "crv": "secp256k1"},
        EC_JWK | {"kid": "bad", "x": "AAAA"},
        EC_JWK | {"kid": "bad", "use": "enc"},
        EC_JWK | {"kid": "bad", "key_ops": ["sign"]},
        EC_JWK | {"kid": "bad", "key_ops": 3},
        EC_JWK | {"kid": "bad", "alg": "HS256"},
        EC_JWK | {"kid": "bad", "alg": "none"},
        EC_JWK | {"kid": "bad", "alg": "ES384"},
        ECAlgorithm.to_jwk(EC_KEY, as_dict=True) | {"kid": "bad"},
        RSAAlgorithm.to_jwk(WEAK_RSA_KEY.public_key(), as_dict=True) | {"kid": "bad"},
    ],
    # Not by their text: the keys are new in each process.
    ids=lambda bad: type(bad).__name__,
)
def test_a_bad_key_is_left_out_alone(bad: Any) -> None:
    """A key that is broken, symmetric, private, weak or for encryption takes no other away."""
    assert set(usable_keys({"keys": [bad, EC_JWK]})) == {("ec", "ES256"), ("", "ES256")}


def test_the_number_of_keys_is_bounded() -> None:
    """A set of any length costs the memory of a hundred keys."""
    many = [EC_JWK | {"kid": str(number)} for number in range(MAX_KEYS + 50)]

    assert len(usable_keys({"keys": many})) == MAX_KEYS


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": []}, {"keys": [1]}])
def test_a_set_without_a_key_is_an_error(document: dict[str, Any]) -> None:
    """A set that could verify nothing does not replace one that can."""
    with pytest.raises(FetchError, match=r"^no_usable_key$"):
        usable_keys(document)
