"""Credentials: the one place they may stand in, and that nothing behind the guard sees them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context

from hardening.auth.access_tokens import InvalidTokenError
from hardening.auth.bearer import bind_session
from hardening.auth.bearer import take_credential as take_bounded_credential
from hardening.exchange import Exchange, Principal, open_exchange

LONGEST_TOKEN = 8192
KEY = "value-0123456789-0123456789-0123456789"


def take_credential(request: Exchange) -> str | None:
    """Take the credential as with the setting's default."""
    return take_bounded_credential(request, LONGEST_TOKEN)


def exchange(*authorization: str, query: bytes = b"") -> Exchange:
    """Return a request with these `Authorization` headers."""
    headers = [(b"host", b"127.0.0.1"), (b"accept", b"*/*")]
    headers += [(b"authorization", value.encode("latin-1")) for value in authorization]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "query_string": query,
        "headers": headers,
    }
    return open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer ", "bEaReR"])
def test_the_scheme_is_read_without_case(scheme: str) -> None:
    """`Bearer` is accepted however it is written (RFC 9110, section 11.1)."""
    assert take_credential(exchange(f"{scheme} {KEY}")) == KEY


@pytest.mark.parametrize("authorization", [(), ("Basic dXNlcjpwYXNz",), ("Bearing " + KEY,), ("",), (KEY,)])
def test_another_scheme_is_no_credential(authorization: tuple[str, ...]) -> None:
    """What is not a bearer token counts as nothing presented (RFC 6750, section 3.1)."""
    assert take_credential(exchange(*authorization)) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer ",
        "Bearer",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY},{KEY}",
        f"Bearer {KEY}é",
        f"Bearer {KEY}\x00",
        f'Bearer "{KEY}"',
        "Bearer ====",
    ],
    ids=lambda value: value[:40],
)
def test_what_cannot_be_a_token_is_refused(authorization: str) -> None:
    """A credential out of shape is refused before anything reads it."""
    with pytest.raises(InvalidTokenError, match=r"^malformed_credential$"):
        take_credential(exchange(authorization))


def test_a_token_of_the_greatest_length_is_read() -> None:
    """The bound is exact: 8 KiB pass, one byte more does not, and the log says which rule it was."""
    assert take_credential(exchange("Bearer " + "a" * LONGEST_TOKEN)) == "a" * LONGEST_TOKEN
    with pytest.raises(InvalidTokenError, match=r"^token_too_long$"):
        take_credential(exchange("Bearer " + "a" * (LONGEST_TOKEN + 1)))


def test_two_credentials_are_refused() -> None:
    """No layer can be shown another credential than the next one."""
    with pytest.raises(InvalidTokenError, match=r"^several_credentials$"):
        take_credential(exchange(f"Bearer {KEY}", f"Bearer {KEY}"))


@pytest.mark.parametrize(
    "query",
    [
        b"access_token=x",
        b"a=1&api_key=x",
        b"API-KEY=x",
        b"apikey=x",
        b"token=x",
        b"Token=",
        b"key=x",
        b"%61ccess_token=x",
        b"access%5Ftoken=x",
        b"x-api-key=x",
        b"authorization=Bearer+x",
        b"jwt=x",
    ],
)
def test_a_credential_in_the_query_is_refused(query: bytes) -> None:
    """A credential in a URL is refused, also beside a good header: URLs are logged on the way."""
    with pytest.raises(InvalidTokenError, match=r"^credential_in_query$"):
        take_credential(exchange(f"Bearer {KEY}", query=query))


def test_another_query_is_no_credential() -> None:
    """Other parameters are nobody's business here."""
    assert take_credential(exchange(f"Bearer {KEY}", query=b"page=2&monkey=1&tokens=5")) == KEY


def test_a_query_has_at_most_100_parameters() -> None:
    """With more it is not read, because nobody is known yet, and refused, because it may hold a credential."""
    assert take_credential(exchange(f"Bearer {KEY}", query=b"&".join([b"a=1"] * 100))) == KEY
    with pytest.raises(InvalidTokenError, match=r"^too_many_parameters$"):
        take_credential(exchange(f"Bearer {KEY}", query=b"&".join([b"a=1"] * 101)))


@pytest.mark.parametrize(
    ("authorization", "query"),
    [
        ((f"Bearer {KEY}",), b""),
        ((f"Basic {KEY}",), b""),
        ((f"Bearer {KEY}", f"Bearer {KEY}"), b""),
        ((f"Bearer {KEY}",), b"token=" + KEY.encode()),
        ((f"Bearer {KEY} x",), b""),
    ],
)
def test_the_credential_is_gone_from_the_request(authorization: tuple[str, ...], query: bytes) -> None:
    """Accepted or refused, the header is gone for everybody behind, and its text is never written."""
    request = exchange(*authorization, query=query)

    with suppress(InvalidTokenError):
        take_credential(request)

    assert KEY not in repr(request.scope["headers"])
    assert KEY not in repr(request.headers)
    assert request.scope["headers"] == [(b"host", b"127.0.0.1"), (b"accept", b"*/*")]
    assert any(KEY in text for text in request.sensitive)


def test_the_token_alone_is_never_written_either() -> None:
    """What a log line could hold is the token, without the word before it."""
    request = exchange(f"Bearer {KEY}")
    take_credential(request)

    assert {KEY, f"Bearer {KEY}"} <= request.sensitive


@pytest.mark.parametrize("authorization", [(), ("",), ("Bearer ",)])
def test_an_empty_credential_is_not_remembered(authorization: tuple[str, ...]) -> None:
    """The empty string is in every log line, so it is never among what must not be written."""
    request = exchange(*authorization, query=b"token=")

    with pytest.raises(InvalidTokenError):
        take_credential(request)

    assert "" not in request.sensitive


def bound(principal: Principal) -> tuple[object, ...]:
    """Return what the SDK binds a session to: client, issuer and subject."""
    request = exchange()
    bind_session(request, principal)
    user = request.scope["user"]
    assert isinstance(user, AuthenticatedUser)
    assert user.access_token.token == ""
    return tuple(authorization_context(user).values())


def test_every_part_of_the_identity_binds_the_session() -> None:
    """Callers that differ in kind, name, issuer or client are different owners to the SDK."""
    principals = [
        Principal("api_key", "alice"),
        Principal("api_key", "bob"),
        Principal("probe", "alice"),
        Principal("jwt", "alice", "https://one.example.com", "desk"),
        Principal("jwt", "bob", "https://one.example.com", "desk"),
        Principal("jwt", "alice", "https://two.example.com", "desk"),
        Principal("jwt", "alice", "https://one.example.com", "phone"),
        Principal("jwt", "alice", "https://one.example.com"),
    ]

    assert len({bound(principal) for principal in principals}) == len(principals)
    assert bound(principals[3]) == bound(
        Principal("jwt", "alice", "https://one.example.com", "desk", frozenset({"a"}), 1e9)
    )
