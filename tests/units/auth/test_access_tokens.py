"""Tokens: every known attack against a real key set on loopback, and every good form."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from hardening.auth.access_tokens import CLOCK_SKEW_SECONDS, InvalidTokenError, TokenVerifier
from hardening.auth.jwks import Keys, KeysUnavailableError
from hardening.dev.issuer import LocalIssuer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AUDIENCE = "https://mcp.example.com/mcp"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
P384_KEY = ec.generate_private_key(ec.SECP384R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PEM = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Issuer(LocalIssuer):
    """The local issuer with keys of every type, counting what is asked of it."""

    asked = 0

    def documents(self) -> dict[str, dict[str, Any]]:
        """Publish the further keys."""
        self.asked += 1
        documents = super().documents()
        documents["/jwks.json"]["keys"] += [
            RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa"},
            RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": "rs256 only", "alg": "RS256"},
            ECAlgorithm.to_jwk(P384_KEY.public_key(), as_dict=True) | {"kid": "p384"},
            OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True) | {"kid": "ed"},
        ]
        return documents

    def claims(self, **changes: object) -> dict[str, Any]:
        """Return good claims, with changes; None takes a claim away."""
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": now() + 600,
            "iat": now(),
            "nbf": now(),
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def sign(
        self,
        key: Any = RSA_KEY,
        algorithm: str = "RS256",
        headers: dict[str, Any] | None = None,
        **changes: object,
    ) -> str:
        """Sign claims with a key as an attacker or a good issuer would."""
        signer = jwt.PyJWS()
        # The library has one name for it; RFC 9864 has brought another.
        signer.register_algorithm("Ed25519", OKPAlgorithm())
        payload = json.dumps(self.claims(**changes)).encode()
        stated = {name: value for name, value in {"kid": "rsa", **(headers or {})}.items() if value is not None}
        return signer.encode(payload, key, algorithm, stated)


def now() -> int:
    """Return the time at which a token is made."""
    return int(time.time())


def encoded(part: object) -> str:
    """Return one segment of a token."""
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(header: object, payload: object, signature: str = "") -> str:
    """Return a token put together by hand."""
    return f"{encoded(header)}.{encoded(payload)}.{signature}"


def hmac_signed(issuer: Issuer, secret: bytes, kid: str = "rsa", algorithm: str = "HS256") -> str:
    """Return a token signed with a public key as if it were a shared secret."""
    text = f"{encoded({'alg': algorithm, 'kid': kid})}.{encoded(issuer.claims())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A real issuer on loopback."""
    with Issuer() as one:
        yield one


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    """The object under test, with nothing cached."""
    return TokenVerifier(Keys(issuer.url), issuer=issuer.url, audience=AUDIENCE)


ATTACKS: dict[str, Callable[[Issuer], str]] = {
    # Made for somebody else.
    "audience: another server": lambda i: i.sign(aud="https://other.example.com/mcp"),
    "audience: a path below": lambda i: i.sign(aud=AUDIENCE + "/more"),
    "audience: the host alone": lambda i: i.sign(aud="https://mcp.example.com"),
    "audience: a list without us": lambda i: i.sign(aud=["a", "b"]),
    "audience: missing": lambda i: i.sign(aud=None),
    "audience: empty": lambda i: i.sign(aud=[]),
    "audience: an object": lambda i: i.sign(aud={AUDIENCE: 1}),
    # Made by somebody else.
    "issuer: another": lambda i: i.sign(iss="https://evil.example.com"),
    "issuer: with a slash": lambda i: i.sign(iss=i.url + "/"),
    "issuer: missing": lambda i: i.sign(iss=None),
    "issuer: a list": lambda i: i.sign(iss=[i.url]),
    "key: another": lambda i: i.sign(OTHER_RSA_KEY),
    "key: of another type": lambda i: i.sign(P384_KEY, "ES384"),
    "key: unknown id": lambda i: i.sign(headers={"kid": "nobody's"}),
    "key id: a path": lambda i: i.sign(headers={"kid": "../../../../dev/null"}),
    "key id: a query": lambda i: i.sign(headers={"kid": "x' UNION SELECT 'key"}),
    "key id: too long": lambda i: i.sign(headers={"kid": "r" * 5000}),
    "key id: a list": lambda i: unsigned({"alg": "RS256", "kid": ["rsa"]}, i.claims(), "AAAA"),
    "key id: missing, where several keys can be meant": lambda i: i.sign(headers={"kid": None}),
    "key id: null": lambda i: unsigned({"alg": "RS256", "kid": None}, i.claims(), "AAAA"),
    "key: embedded": lambda i: i.sign(
        OTHER_RSA_KEY,
        headers={"jwk": RSAAlgorithm.to_jwk(OTHER_RSA_KEY.public_key(), as_dict=True)},
    ),
    "key: at an address": lambda i: i.sign(OTHER_RSA_KEY, headers={"jku": f"{i.url}/evil.json"}),
    "key: in a certificate": lambda i: i.sign(OTHER_RSA_KEY, headers={"x5u": f"{i.url}/evil.pem", "x5c": ["AAAA"]}),
    # Algorithms.
    "none": lambda i: unsigned({"alg": "none", "kid": "rsa"}, i.claims()),
    "none, spelt otherwise": lambda i: unsigned({"alg": "nOnE", "kid": "rsa"}, i.claims()),
    "none, with a signature": lambda i: unsigned({"alg": "none", "kid": "rsa"}, i.claims(), "AAAA"),
    "no algorithm": lambda i: unsigned({"kid": "rsa"}, i.claims(), "AAAA"),
    "algorithm: a list": lambda i: unsigned({"alg": ["RS256"], "kid": "rsa"}, i.claims(), "AAAA"),
    "HS256 with the public key": lambda i: hmac_signed(i, PEM),
    "HS256 with the public key, stripped": lambda i: hmac_signed(i, PEM.strip()),
    "HS256 with the published key": lambda i: hmac_signed(
        i, json.dumps(i.documents()["/jwks.json"]["keys"][-4]).encode()
    ),
    "HS256 with nothing": lambda i: hmac_signed(i, b""),
    "HS256 called RS256": lambda i: hmac_signed(i, PEM, algorithm="RS256"),
    "PS256 with a key for RS256": lambda i: i.sign(algorithm="PS256", headers={"kid": "rs256 only"}),
    "ES256 signature of zeros": lambda i: unsigned({"alg": "ES384", "kid": "p384"}, i.claims(), encoded(bytes(96))),
    # Time.
    "expired": lambda i: i.sign(exp=now() - CLOCK_SKEW_SECONDS - 1),
    "expired long ago": lambda i: i.sign(exp=0),
    "expiry missing": lambda i: i.sign(exp=None),
    "expiry a word": lambda i: i.sign(exp="never"),
    "expiry infinite": lambda i: i.sign(exp=float("inf")),
    "expiry not a number": lambda i: i.sign(exp=float("nan")),
    "expiry beyond all numbers": lambda i: i.sign(exp=10**400),
    "not yet valid": lambda i: i.sign(nbf=now() + 300),
    "issued in the future": lambda i: i.sign(iat=now() + 300),
    # Who.
    "subject missing": lambda i: i.sign(sub=None),
    "subject empty": lambda i: i.sign(sub=""),
    "subject a number": lambda i: i.sign(sub=7),
    "subject of two lines": lambda i: i.sign(sub="alice\nlevel=error"),
    "subject too long": lambda i: i.sign(sub="a" * 256),
    # Another kind of token of the same issuer, for the same audience (RFC 8725, section 3.12).
    "an ID token of Keycloak": lambda i: i.sign(typ="ID", azp="desk"),
    "a refresh token of Keycloak": lambda i: i.sign(typ="Refresh"),
    "an offline token of Keycloak": lambda i: i.sign(typ="Offline"),
    "an ID token of Cognito": lambda i: i.sign(token_use="id"),  # noqa: S106 - what it is, not a secret
    "a refresh token by its type": lambda i: i.sign(token_type="refresh"),  # noqa: S106 - see above
    "a kind that is no text": lambda i: i.sign(token_use=["access"]),
    "an ID token with a nonce": lambda i: i.sign(nonce="n-0S6_WzA2Mj"),
    "an ID token with a hash of the access token": lambda i: i.sign(at_hash="77QmUPtjPfzWtF2AnpK9RQ"),
    "an ID token with a hash of the code": lambda i: i.sign(c_hash="LDktKdoQak3Pk0cnXxCltA"),
    # Kind and form.
    "a logout token": lambda i: i.sign(headers={"typ": "logout+jwt"}),
    "a type that is no text": lambda i: unsigned({"alg": "RS256", "kid": "rsa", "typ": 7}, i.claims(), "AAAA"),
    "critical extension": lambda i: i.sign(headers={"crit": ["exp2"], "exp2": 1}),
    "unencoded payload": lambda i: i.sign(headers={"b64": False, "crit": ["b64"]}),
    "signature taken off": lambda i: i.sign().rpartition(".")[0] + ".",
    "claims exchanged": lambda i: ".".join(
        [i.sign().split(".")[0], i.sign(sub="root").split(".")[1], i.sign().split(".")[2]]
    ),
    "not an object": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, ["claims"], "AAAA"),
    "header not an object": lambda i: unsigned(["RS256"], i.claims(), "AAAA"),
    "deep header": lambda i: unsigned(b"[" * 2000, i.claims(), "AAAA"),
    "deep payload": lambda _: unsigned({"alg": "RS256", "kid": "rsa"}, b"[" * 2000, "AAAA"),
    "garbage": lambda _: "a.b.c",
    "empty": lambda _: "..",
    "not base64": lambda _: "%.%.%",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_refused(attack: Callable[[Issuer], str], issuer: Issuer, verifier: TokenVerifier) -> None:
    """A token that is not this issuer's, for this server and for now, is not believed."""
    with pytest.raises(InvalidTokenError):
        await verifier.verify(attack(issuer))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (RSA_KEY, "RS256", "rsa"),
        (RSA_KEY, "RS512", "rsa"),
        (RSA_KEY, "PS256", "rsa"),
        (RSA_KEY, "RS256", "rs256 only"),
        (P384_KEY, "ES384", "p384"),
        (ED_KEY, "EdDSA", "ed"),
        (ED_KEY, "Ed25519", "ed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_good_token_is_believed(
    key: Any,
    algorithm: str,
    kid: str,
    issuer: Issuer,
    verifier: TokenVerifier,
) -> None:
    """The attacks above fail for their own reason: the same token without the attack is good."""
    principal = await verifier.verify(issuer.sign(key, algorithm, {"kid": kid}))

    assert (principal.kind, principal.name, principal.issuer) == ("jwt", "alice", issuer.url)
    assert principal.expires_at == pytest.approx(now() + 600, abs=5)


async def test_the_local_issuers_tokens_are_good(issuer: Issuer, verifier: TokenVerifier) -> None:
    """An ES256 access token of RFC 9068's type gives client and scopes as well."""
    principal = await verifier.verify(issuer.token(AUDIENCE, subject="bob", scopes=("a", "b")))

    assert (principal.name, principal.client_id) == ("bob", "local")
    assert principal.scopes == {"a", "b"}


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, set[str]()),
        ({"scope": "a b  c"}, {"a", "b", "c"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scp": ["a", "b", 5, None]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": 5, "scp": {"a": 1}}, set[str]()),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else len(value),
)
async def test_scopes_are_read_in_every_form(
    claims: dict[str, Any], scopes: set[str], issuer: Issuer, verifier: TokenVerifier
) -> None:
    """Issuers write scopes as a string or as a list; anything else grants nothing."""
    assert (await verifier.verify(issuer.sign(**claims))).scopes == scopes


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "desk"}, "desk"),
        ({"azp": "desk"}, "desk"),
        ({"client_id": "desk", "azp": "phone"}, "desk"),
        ({"client_id": {"a": 1}}, ""),
        ({}, ""),
    ],
    ids=str,
)
async def test_the_client_is_read(claims: dict[str, Any], client: str, issuer: Issuer, verifier: TokenVerifier) -> None:
    """The OAuth client is part of the identity, where the issuer names it."""
    assert (await verifier.verify(issuer.sign(**claims))).client_id == client


@pytest.mark.parametrize(
    "claims",
    [{"typ": "Bearer"}, {"token_use": "access"}, {"token_type": "access"}, {"typ": "Bearer", "nonce": "n-0S6_WzA2Mj"}],
    ids=str,
)
async def test_an_access_token_may_say_what_it_is(
    claims: dict[str, Any], issuer: Issuer, verifier: TokenVerifier
) -> None:
    """What issuers write into access tokens is no reason to refuse one, a nonce of older Keycloaks included."""
    assert (await verifier.verify(issuer.sign(**claims))).name == "alice"


async def test_a_client_stands_in_for_an_audience(issuer: Issuer) -> None:
    """Where the issuer names no audience, the tokens of the named clients are good, and no others."""
    verifier = TokenVerifier(Keys(issuer.url), issuer=issuer.url, audience=AUDIENCE, client_ids=("desk", "phone"))

    for aud in (None, AUDIENCE, [AUDIENCE, "other"]):
        assert (await verifier.verify(issuer.sign(aud=aud, client_id="phone"))).client_id == "phone"
    for changes in (
        {"aud": None},
        {"aud": None, "client_id": "evil"},
        {"aud": AUDIENCE, "client_id": "evil"},
        {"aud": "https://other.example.com/mcp", "client_id": "desk"},
        {"aud": "desk", "client_id": "desk"},
        {"aud": {AUDIENCE: 1}, "client_id": "desk"},
    ):
        with pytest.raises(InvalidTokenError, match=r"foreign_client|InvalidAudienceError"):
            await verifier.verify(issuer.sign(**changes))


async def test_a_client_alone_accepts_no_audience_at_all(issuer: Issuer) -> None:
    """Without an audience of its own the server takes no token that was made for one."""
    verifier = TokenVerifier(Keys(issuer.url), issuer=issuer.url, audience="", client_ids=("desk",))

    assert (await verifier.verify(issuer.sign(aud=None, client_id="desk"))).client_id == "desk"
    with pytest.raises(InvalidTokenError, match=r"^InvalidAudienceError$"):
        await verifier.verify(issuer.sign(aud="", client_id="desk"))


class Unnamed(Issuer):
    """An issuer with one key, which has no id (RFC 7517, section 4.5)."""

    key = P384_KEY

    def documents(self) -> dict[str, dict[str, Any]]:
        """Publish the one key."""
        documents = super().documents()
        documents["/jwks.json"]["keys"] = [ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)]
        return documents


@pytest.mark.parametrize("kid", [None, "of the token alone"])
async def test_one_key_needs_no_id(kid: str | None) -> None:
    """A key that is the only one for its algorithm verifies tokens with and without an id; a forgery stays one."""
    with Unnamed() as issuer:
        verifier = TokenVerifier(Keys(issuer.url), issuer=issuer.url, audience=AUDIENCE)

        assert (await verifier.verify(issuer.sign(P384_KEY, "ES384", {"kid": kid}))).name == "alice"
        forged = issuer.sign(ec.generate_private_key(ec.SECP384R1()), "ES384", {"kid": kid})
        with pytest.raises(InvalidTokenError):
            await verifier.verify(forged)


async def test_a_key_without_an_id_is_rolled_over() -> None:
    """A signature that the one known key does not explain makes the server look again, once."""
    with Unnamed() as issuer:
        verifier = TokenVerifier(Keys(issuer.url), issuer=issuer.url, audience=AUDIENCE)
        assert (await verifier.verify(issuer.sign(P384_KEY, "ES384", {"kid": None}))).name == "alice"

        issuer.key = ec.generate_private_key(ec.SECP384R1())

        assert (await verifier.verify(issuer.sign(issuer.key, "ES384", {"kid": None}))).name == "alice"


async def test_a_token_without_an_id_finds_the_one_key_that_has_one(issuer: Issuer, verifier: TokenVerifier) -> None:
    """The key may have an id that the token does not name, where no other key can be meant."""
    assert (await verifier.verify(issuer.sign(ED_KEY, "EdDSA", {"kid": None}))).name == "alice"


async def test_a_subject_may_have_255_characters(issuer: Issuer, verifier: TokenVerifier) -> None:
    """As OpenID Connect has it; one more is an attack."""
    assert (await verifier.verify(issuer.sign(sub="a" * 255))).name == "a" * 255


async def test_a_forgotten_slash_is_named(issuer: Issuer, verifier: TokenVerifier) -> None:
    """The commonest mistake in an issuer's name has a reason of its own in the log."""
    with pytest.raises(InvalidTokenError, match=r"^issuer_trailing_slash$"):
        await verifier.verify(issuer.sign(iss=f"{issuer.url}/"))


@pytest.mark.parametrize("offsets", [{"exp": -15}, {"nbf": 15, "iat": 15}], ids=str)
async def test_clocks_may_differ_a_little(offsets: dict[str, int], issuer: Issuer, verifier: TokenVerifier) -> None:
    """Half a minute between two machines' clocks refuses nobody."""
    claims: dict[str, Any] = {name: now() + seconds for name, seconds in offsets.items()}

    assert (await verifier.verify(issuer.sign(**claims))).name == "alice"


@pytest.mark.parametrize(
    "attack",
    [
        "audience: another server",
        "issuer: another",
        "expired",
        "none",
        "garbage",
        "a logout token",
        "key id: null",
        "key id: too long",
        "an ID token of Keycloak",
    ],
)
async def test_a_token_of_no_use_costs_the_issuer_nothing(attack: str, issuer: Issuer, verifier: TokenVerifier) -> None:
    """A token that could not be good whatever its key is causes no fetch of keys."""
    issuer.asked = 0

    with pytest.raises(InvalidTokenError):
        await verifier.verify(ATTACKS[attack](issuer))

    assert issuer.asked == 0


async def test_an_address_in_a_token_is_never_asked(issuer: Issuer, verifier: TokenVerifier) -> None:
    """The key set is read from the configured issuer only, whatever a token points at."""
    issuer.asked = 0

    for attack in ("key: at an address", "key: in a certificate"):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(ATTACKS[attack](issuer))

    # Metadata once; the key set once, and again for each signature that its keys do not explain.
    assert issuer.asked == 4


async def test_a_rollover_fails_no_request(issuer: Issuer, verifier: TokenVerifier) -> None:
    """Tokens of the old and of the new key are good while both are published."""
    old = issuer.token(AUDIENCE)
    assert (await verifier.verify(old)).name == "developer"

    issuer.rotate()

    assert (await verifier.verify(issuer.token(AUDIENCE))).name == "developer"
    assert (await verifier.verify(old)).name == "developer"


async def test_an_issuer_that_is_down_is_not_the_callers_fault() -> None:
    """A token that may well be good is undecided, not bad, when its issuer cannot be asked."""
    with Issuer() as gone:
        token = gone.sign()
    verifier = TokenVerifier(Keys(gone.url), issuer=gone.url, audience=AUDIENCE)

    with pytest.raises(KeysUnavailableError):
        await verifier.verify(token)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), st.none())
    | st.fixed_dictionaries(
        {"alg": st.sampled_from(["RS256", "none", "HS256"])},
        optional={
            name: st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
            for name in ("kid", "typ", "crit", "b64")
        },
    ),
    changes=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti"]),
        st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.integers()),
    ),
    signature=st.binary(max_size=300),
)
async def test_no_token_whatever_raises_anything_else(
    header: dict[str, Any],
    changes: dict[str, Any],
    signature: bytes,
    issuer: Issuer,
    verifier: TokenVerifier,
) -> None:
    """Any header, claims and signature are refused, or in doubt until the issuer may be asked again; none can crash."""
    with pytest.raises((InvalidTokenError, KeysUnavailableError)):
        await verifier.verify(unsigned(header, issuer.claims(**changes), encoded(signature)))


@pytest.mark.parametrize(("issuer_url", "audience"), [("", AUDIENCE), ("http://127.0.0.1", "")])
def test_audience_and_issuer_cannot_be_left_out(issuer_url: str, audience: str) -> None:
    """Without an audience any token of the issuer would open this server: the start is refused."""
    keys = Keys("http://127.0.0.1")

    with pytest.raises(ValueError, match="MCP_JWT_AUDIENCE"):
        TokenVerifier(keys, issuer=issuer_url, audience=audience)


async def test_every_key_of_an_id_is_tried() -> None:
    """An old key that still stands before the new one of the same id refuses no good token."""

    class Doubled(Issuer):
        def documents(self) -> dict[str, dict[str, Any]]:
            documents = super().documents()
            stale = RSAAlgorithm.to_jwk(OTHER_RSA_KEY.public_key(), as_dict=True) | {"kid": "rsa"}
            documents["/jwks.json"]["keys"].insert(0, stale)
            return documents

    with Doubled() as one:
        verifier = TokenVerifier(Keys(one.url), issuer=one.url, audience=AUDIENCE)
        by_new, by_old = await verifier.verify(one.sign()), await verifier.verify(one.sign(OTHER_RSA_KEY))
        with pytest.raises(InvalidTokenError):
            await verifier.verify(one.sign(rsa.generate_private_key(65537, 2048)))

    assert (by_new.name, by_old.name) == ("alice", "alice")


class Replacing(Issuer):
    """An issuer that publishes new keys under the id of old ones."""

    published = RSA_KEY

    def documents(self) -> dict[str, dict[str, Any]]:
        """Publish the key of now under the one id."""
        documents = super().documents()
        documents["/jwks.json"]["keys"] = [
            RSAAlgorithm.to_jwk(self.published.public_key(), as_dict=True) | {"kid": "rsa"}
        ]
        return documents


async def test_a_key_that_is_replaced_under_its_id_refuses_no_good_token() -> None:
    """A signature that the known key does not explain makes the server look again: the new key is there at once."""
    with Replacing() as one:
        verifier = TokenVerifier(Keys(one.url), issuer=one.url, audience=AUDIENCE)
        assert (await verifier.verify(one.sign())).name == "alice"

        one.published = OTHER_RSA_KEY

        assert (await verifier.verify(one.sign(OTHER_RSA_KEY))).name == "alice"
        with pytest.raises(InvalidTokenError):
            await verifier.verify(one.sign())


async def test_forgeries_do_not_make_a_replaced_key_bad() -> None:
    """While the issuer has been asked enough a signature is in doubt, 503 and not 401; known keys verify all along."""
    time = [1000.0]
    with Replacing() as one:
        keys = Keys(one.url, clock=lambda: time[0])
        verifier = TokenVerifier(keys, issuer=one.url, audience=AUDIENCE)
        assert (await verifier.verify(one.sign())).name == "alice"
        forged, good = one.sign(rsa.generate_private_key(65537, 2048)), one.sign()
        for _ in range(2):
            time[0] += 1
            with pytest.raises(InvalidTokenError):
                await verifier.verify(forged)
        asked = one.asked
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(forged)
        assert (await verifier.verify(good)).name == "alice"

        one.published = OTHER_RSA_KEY
        with pytest.raises(KeysUnavailableError) as caught:
            await verifier.verify(one.sign(OTHER_RSA_KEY))
        assert one.asked == asked
        time[0] += caught.value.retry_after

        assert caught.value.retry_after <= 30
        assert (await verifier.verify(one.sign(OTHER_RSA_KEY))).name == "alice"


async def test_a_forgery_with_bad_claims_asks_for_no_keys(issuer: Issuer, verifier: TokenVerifier) -> None:
    """A token that could not be good whatever its signature says causes no fetch."""
    assert (await verifier.verify(issuer.sign())).name == "alice"
    asked = issuer.asked
    for changes in ({"exp": now() - 600}, {"aud": "other"}, {"iss": "https://elsewhere.example.com"}):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(issuer.sign(OTHER_RSA_KEY, **changes))

    assert issuer.asked == asked
