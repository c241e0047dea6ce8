"""Parts of authentication alone, on either side of each rule: keys, addresses of keys, scopes, kinds of tokens."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest
from captured import nothing

from hardening.auth.api_keys import digest_of, match, parse_api_keys
from hardening.auth.authorization import Authorization, Scopes
from hardening.auth.bearer import bind_session
from hardening.auth.issuer_metadata import FetchError, is_safe, usable_keys
from hardening.auth.resource_metadata import ProtectedResource, resource_of
from hardening.auth.token_kind import is_access_token
from hardening.exchange import Exchange, Principal, open_exchange

SECRET = "s" * 32
RULE = "use at least 32 characters, e.g. openssl rand -hex 32"
CHARACTERS = "use letters, digits and . _ ~ + / - only, e.g. openssl rand -hex 32"
NAME = "a name has 1 to 64 letters, digits, dots, underscores or dashes"


def asked(method: str = "POST", path: str = "/mcp", **values: Any) -> Exchange:
    """Return a request of whom it is said."""
    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", b"h")]}
    exchange = open_exchange(scope, nothing, nothing)
    for name, value in values.items():
        setattr(exchange, name, value)
    return exchange


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        (SECRET, ["default"]),
        (f"a:{SECRET},b:{SECRET}2 c:{SECRET}3\n", ["a", "b", "c"]),
        (f"a:{SECRET},a:{SECRET}2", ["a", "a"]),
        (f"{'n' * 64}:{SECRET}", ["n" * 64]),
        (f"a:sha256:{'AB' * 32}", ["a"]),
        (f"a:{SECRET}==", ["a"]),
    ],
)
def test_keys_are_read(text: str, names: list[str]) -> None:
    """Names as they are; several keys of one name rotate."""
    assert [key.name for key in parse_api_keys(text)] == names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a:{'s' * 31}", f"key 1: {RULE}"),
        ("a:sha256:abc", "key 1: write a digest as sha256: and 64 hexadecimal digits"),
        (f"a:{SECRET}é", f"key 1: {CHARACTERS}"),
        (f"a:{SECRET},b:{SECRET}", "key 2: the same secret is there twice; give each key its own"),
        (f"{'n' * 65}:{SECRET}", f"key 1: {NAME}"),
        (f"-a:{SECRET}", f"key 1: {NAME}"),
        (f"sha256:{'ab' * 32}", "key 1: put a name in front: name:sha256:<hex>"),
        (f"a:x,{SECRET},:{SECRET}2", f"key 1: {RULE}; key 3: {NAME}"),
        (" ".join(f"a:{number:032}" for number in range(257)), "use at most 256 keys"),
    ],
)
def test_keys_that_are_no_keys(text: str, problem: str) -> None:
    """All of them at once, by number, and nothing of what was written."""
    with pytest.raises(ValueError) as found:  # noqa: PT011 - the whole text is compared
        parse_api_keys(text)

    assert str(found.value) == problem


def test_a_key_is_found_by_its_digest() -> None:
    """Written plainly or as a digest; 256 of them are read."""
    keys = parse_api_keys(" ".join(f"k{number}:{number:032}" for number in range(256)))
    first = match(keys, f"{0:032}")
    last = match(keys, f"{255:032}")

    assert (first and first.name, last and last.name, match(keys, "x"), len(keys)) == ("k0", "k255", None, 256)
    assert digest_of(f"sha256:{sha256(b'x').hexdigest()}") == sha256(b"x").digest()
    assert digest_of(SECRET) == sha256(SECRET.encode()).digest()
    assert "digest" not in repr(keys[0])


@pytest.mark.parametrize(
    ("url", "issuer", "safe"),
    [
        ("https://i", "https://i", True),
        ("https://i?a", "https://i?a", False),
        ("https://i#a", "https://i#a", False),
        ("https://k?a=b", "https://i", True),
        ("https://u@k", "https://i", False),
        ("http://k", "https://i", False),
        ("http://localhost:1", "http://127.0.0.1", True),
        ("http://localhost:1", "https://i", False),
        ("http://k", "http://localhost", False),
        ("ftp://localhost", "http://localhost", False),
        ("https://", "https://i", False),
        ("https://[", "https://i", False),
    ],
)
def test_where_keys_may_be_read(url: str, issuer: str, safe: bool) -> None:  # noqa: FBT001 - a column
    """TLS, or all on this machine; never with a credential."""
    assert is_safe(url, issuer) is safe


def rsa_key(bits: int, **more: Any) -> dict[str, Any]:
    """Return a public key of a size; nobody has its other half."""
    number = (1 << (bits - 1)) | 1
    text = base64.urlsafe_b64encode(number.to_bytes((bits + 7) // 8, "big")).decode().rstrip("=")
    return {"kty": "RSA", "n": text, "e": "AQAB", "kid": "a"} | more


ALL = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (rsa_key(2047), set()),
        (rsa_key(2048), ALL),
        (rsa_key(8192), ALL),
        (rsa_key(8193), set()),
        (rsa_key(2048, alg="RS256"), {"RS256"}),
        (rsa_key(2048, alg="HS256"), set()),
        (rsa_key(2048, use="sig", key_ops=["verify"]), ALL),
        (rsa_key(2048, use="enc"), set()),
        (rsa_key(2048, key_ops=["sign"]), set()),
        (rsa_key(2048, d="AQAB"), set()),
        (rsa_key(2048, kid=5), set()),
        ({"kty": "oct", "k": "AA"}, set()),
    ],
)
def test_a_key_of_an_issuer(key: dict[str, Any], algorithms: set[str]) -> None:
    """2048 to 8192 bits, for signatures, with its private part to itself."""
    if not algorithms:
        with pytest.raises(FetchError) as found:
            usable_keys({"keys": [key]})
        assert found.value.code == "no_usable_key"
        return
    found_keys = usable_keys({"keys": [key]})

    assert found_keys.keys() == {("a", name) for name in algorithms} | {("", name) for name in algorithms}
    assert {keys[0].algorithm_name for keys in found_keys.values()} == algorithms


def test_keys_of_an_issuer_are_bounded() -> None:
    """Four of one id, a hundred in all; without an id, only where there is one."""
    many = [rsa_key(2048 + 8 * number, alg="RS256") for number in range(6)]
    late = [{"kty": "x"}] * 99

    assert len(usable_keys({"keys": many})["a", "RS256"]) == 4
    assert set(usable_keys({"keys": many})) == {("a", "RS256")}
    assert usable_keys({"keys": [*late, many[0]]})
    for document in ({"keys": [*late, {}, many[0]]}, {"keys": {}}, {}):
        with pytest.raises(FetchError, match="no_usable_key"):
            usable_keys(document)


@pytest.mark.parametrize(
    ("claims", "stated", "access"),
    [
        ({}, False, True),
        ({"nonce": "a"}, False, False),
        ({"nonce": "a"}, True, True),
        ({"nonce": "a", "token_use": "Access"}, False, True),
        ({"token_use": "id"}, True, False),
        ({"typ": "Bearer", "token_type": "x"}, True, False),
        ({"typ": 5}, True, False),
    ],
)
def test_the_kind_of_a_token(claims: dict[str, Any], stated: bool, access: bool) -> None:  # noqa: FBT001 - columns
    """What is stated decides; an ID token opens nothing."""
    assert is_access_token(claims, stated=stated) is access


def test_what_a_scope_stands_for() -> None:
    """Whatever that stands for too; a circle ends."""
    scopes = Scopes(["use"], {"t": ["a:read"]}, ["admin=a:write", "a:write=a:read", "a:read=admin"])
    cover = scopes.cover

    assert (scopes.needed(None), scopes.needed("t"), scopes.needed("x")) == ({"use"}, {"use", "a:read"}, {"use"})
    assert cover(frozenset({"admin"}), frozenset({"a:read", "a:write", "admin"}))
    assert not cover(frozenset({"use"}), frozenset({"use", "a:read"}))
    assert cover(frozenset(), frozenset())
    for given in ({"required": ["a b"]}, {"tools": {"t": ['"']}}, {"implied": ["a"]}, {"implied": ["=a"]}):
        with pytest.raises(ValueError, match="a scope has no spaces, quotes or backslashes, e"):
            Scopes(**given)  # type: ignore[arg-type] - one of them each


RESOURCE = ProtectedResource("https://i", "https://H.example.com", ["b", "a"])


@pytest.mark.parametrize(
    ("exchange", "status", "kind"),
    [
        (asked(), 401, "unauthenticated"),
        (asked(principal=Principal("none", "a")), None, None),
        (asked(principal=Principal("api_key", "a"), tool_name="t"), None, None),
        (asked(principal=Principal("jwt", "a", scopes=frozenset({"use"}))), None, None),
        (asked(principal=Principal("jwt", "a", scopes=frozenset({"use"})), tool_name="t"), 403, "insufficient_scope"),
        (asked(principal=Principal("probe", "a"), rpc_method="tools/list"), None, None),
        (asked(principal=Principal("probe", "a"), rpc_method="tools/call"), 403, "forbidden"),
        (asked(principal=Principal("probe", "a")), 403, "forbidden"),
        (asked("DELETE", principal=Principal("probe", "a")), None, None),
        (asked("GET", "/metrics", principal=Principal("probe", "a")), None, None),
        (asked("POST", "/metrics", principal=Principal("probe", "a")), 403, "forbidden"),
        (asked("GET", principal=Principal("probe", "a")), 403, "forbidden"),
    ],
)
async def test_who_may_do_what(exchange: Exchange, status: int | None, kind: str | None) -> None:
    """A key everything, a token what its scopes cover, the monitor what changes nothing."""
    answer = await Authorization(Scopes(["use"], {"t": ["t:use"]}), RESOURCE)(exchange)

    assert (answer and answer.status, answer and answer.kind) == (status, kind)
    if kind == "insufficient_scope":
        assert answer is not None
        assert dict(answer.headers)[b"www-authenticate"] == (
            b'Bearer error="insufficient_scope", '
            b'error_description="The token lacks a scope that this operation needs.", '
            b'resource_metadata="https://h.example.com/.well-known/oauth-protected-resource/mcp", scope="t:use use"'
        )


def test_where_a_credential_comes_from() -> None:
    """The challenge points to the metadata, and says what is wrong only where something was presented."""
    place = b'resource_metadata="https://h.example.com/.well-known/oauth-protected-resource/mcp", scope="a b"'
    bare, bad = (RESOURCE.unauthenticated(asked(), presented=presented) for presented in (False, True))
    alone = ProtectedResource().unauthenticated(asked(), presented=False)

    assert bare.headers == ((b"www-authenticate", b"Bearer " + place),)
    start = b'Bearer error="invalid_token", error_description="The credential is not valid here.", '
    assert bad.headers == ((b"www-authenticate", start + place),)
    assert alone.headers == ((b"www-authenticate", b"Bearer"),)
    assert {answer.status for answer in (bare, bad, alone)} == {401}


METADATA = "/.well-known/oauth-protected-resource/mcp"


def test_the_metadata_to_the_letter() -> None:
    """For an hour, to GET and HEAD; nothing where no issuer is asked."""
    answer = RESOURCE.answer(asked("GET", METADATA))
    local = ProtectedResource("https://i").answer(asked("HEAD", METADATA, host="localhost:9"))
    odd = ProtectedResource("https://i").answer(asked("HEAD", METADATA, host='a"b'))
    refused, missing = RESOURCE.answer(asked("POST", METADATA)), ProtectedResource().answer(asked("GET", METADATA))

    assert answer is not None
    assert json.loads(answer.body or b"") == {
        "resource": "https://h.example.com/mcp",
        "authorization_servers": ["https://i"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["a", "b"],
    }
    assert (answer.status, answer.headers) == (200, ((b"cache-control", b"public, max-age=3600"),))
    for found, origin in ((local, "http://localhost:9"), (odd, "http://localhost")):
        assert found is not None
        document = json.loads(found.body or b"")
        assert (document["resource"], "scopes_supported" in document) == (f"{origin}/mcp", False)
    assert refused is not None
    assert (refused.status, refused.headers) == (405, ((b"allow", b"GET, HEAD"),))
    assert (missing and missing.status, RESOURCE.answer(asked("GET"))) == (404, None)
    assert (resource_of(""), resource_of("HTTPS://H/")) == ("", "https://h/mcp")
    for url in (
        "ftp://h",
        "h",
        "https://h_é",
        "https://:1",
        "https://h:0",
        "https://h/x",
        "https://h?x",
        "https://h#x",
    ):
        with pytest.raises(ValueError, match="MCP_PUBLIC_URL must be a URL, e"):
            resource_of(url)


def test_who_a_session_belongs_to() -> None:
    """To client, issuer and subject; without authentication to nobody, and the SDK gets no token."""
    nobody, caller = asked(), asked()
    bind_session(nobody, Principal("none", "a"))
    bind_session(caller, Principal("jwt", "s", "i", "c", frozenset({"b", "a"}), 12.9))
    token = caller.scope["user"].access_token

    assert "user" not in nobody.scope
    assert (token.token, token.client_id, token.subject, token.claims) == ("", "jwt i s c", "s", {"iss": "i"})
    assert (token.scopes, token.expires_at) == (["a", "b"], 12)
    key = asked()
    bind_session(key, Principal("api_key", "k"))
    assert (key.scope["user"].access_token.claims, key.scope["user"].access_token.expires_at) == (
        {"iss": "api_key"},
        None,
    )
