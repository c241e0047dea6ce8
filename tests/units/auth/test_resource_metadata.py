"""Metadata and challenges: what a client without a credential learns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live import live
from wire import Wire

from hardening.auth.resource_metadata import ProtectedResource, resource_of
from hardening.exchange import Exchange, open_exchange
from hardening.routes import MCP_PATH, METADATA_PATH, METRICS_PATH

ISSUER = "https://login.example.com"


def asked(path: str = METADATA_PATH, method: str = "GET", host: str = "mcp.example.com") -> Exchange:
    """Return a request."""
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": [(b"host", host.encode())]}
    return open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent


def test_the_metadata_lead_to_the_issuer() -> None:
    """A client learns resource, issuer, least scopes and where the token goes; for an hour."""
    answer = ProtectedResource(ISSUER, "https://MCP.Example.com/", ("b", "a")).answer(asked())

    assert answer is not None
    assert answer.status == 200
    assert dict(answer.headers)[b"cache-control"] == b"public, max-age=3600"
    assert json.loads(answer.body or b"") == {
        "resource": "https://mcp.example.com/mcp",
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["a", "b"],
    }


def test_no_scopes_are_no_member() -> None:
    """A member without values is left out (RFC 9728, section 3.2)."""
    answer = ProtectedResource(ISSUER, "https://mcp.example.com").answer(asked())

    assert answer is not None
    assert "scopes_supported" not in json.loads(answer.body or b"")


def test_without_an_issuer_there_are_no_metadata() -> None:
    """With API keys alone there is nowhere to send a client to: 404."""
    answer = ProtectedResource("", "https://mcp.example.com").answer(asked())

    assert answer is not None
    assert answer.status == 404


def test_metadata_are_read_only() -> None:
    """Another method than GET and HEAD is 405, naming these."""
    answer = ProtectedResource(ISSUER).answer(asked(method="POST"))

    assert answer is not None
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD")


@pytest.mark.parametrize("path", ["/mcp", "/.well-known/oauth-protected-resource", METADATA_PATH + "/"])
def test_other_paths_are_not_answered(path: str) -> None:
    """Only the one path is open without a credential."""
    assert ProtectedResource(ISSUER).answer(asked(path)) is None


def test_the_challenge_names_metadata_and_scopes() -> None:
    """Nothing presented: where to go and what to ask for, and no error (RFC 6750, section 3.1)."""
    resource = ProtectedResource(ISSUER, "https://mcp.example.com", ("b", "a"))

    assert resource.challenge(asked()) == (
        b"www-authenticate",
        b'Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp", scope="a b"',
    )


def test_the_challenge_of_a_bad_credential_says_so() -> None:
    """Something presented: the error as well."""
    resource = ProtectedResource(ISSUER, "https://mcp.example.com")

    assert resource.challenge(asked(), "invalid_token", "No.")[1].startswith(
        b'Bearer error="invalid_token", error_description="No.", resource_metadata="https://'
    )


def test_the_challenge_for_keys_is_plain() -> None:
    """With API keys alone there are no metadata to name."""
    assert ProtectedResource().challenge(asked())[1] == b"Bearer"
    assert ProtectedResource().challenge(asked(), "invalid_token", "No.")[1] == (
        b'Bearer error="invalid_token", error_description="No."'
    )


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ('evil", error="x', "http://localhost"),
        ("", "http://localhost"),
    ],
)
def test_on_a_developers_machine_the_host_tells(host: str, origin: str) -> None:
    """Without a public URL the address that was asked is the resource; nothing else gets in."""
    exchange = asked(host=host)
    exchange.host = host
    header = ProtectedResource(ISSUER).challenge(exchange)[1].decode()

    assert header == f'Bearer resource_metadata="{origin}{METADATA_PATH}"'


@pytest.mark.parametrize("path", [METRICS_PATH, METADATA_PATH, MCP_PATH])
async def test_nothing_of_a_foreign_host_is_given_back(path: str) -> None:
    """The metrics answer under every Host, and name none that was not checked."""
    with live(MCP_AUTH="jwt", MCP_API_KEYS="", MCP_JWT_ISSUER=ISSUER, MCP_JWT_AUDIENCE="here") as server:
        async with Wire(server.url) as wire:
            foreign = await wire.get(path, host="evil.example.com")
            own = await wire.get("/metrics")

    assert foreign.status in {401, 421}
    assert b"evil" not in foreign.body
    assert "evil" not in str(foreign.headers)
    assert f"{server.url}{METADATA_PATH}" in own.headers["www-authenticate"]


@pytest.mark.parametrize(
    "url", ["mcp.example.com", "ftp://mcp.example.com", "https://", "https://é.example", 'https://a"b']
)
def test_a_public_url_that_breaks_a_header_is_refused(url: str) -> None:
    """What cannot stand in a header stops the start, naming the setting."""
    with pytest.raises(ValueError, match="MCP_PUBLIC_URL"):
        ProtectedResource(ISSUER, url)


def test_the_resource_has_one_spelling() -> None:
    """Audience and metadata name the same resource, however the setting was written."""
    assert resource_of("HTTPS://MCP.example.com:8443/") == "https://mcp.example.com:8443/mcp"
    assert resource_of("") == ""
