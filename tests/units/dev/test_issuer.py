"""The local issuer: real enough to try tokens with, and never more than a developer's tool."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import alias
import httpx2
import jwt
import pytest

from hardening.dev.issuer import KEYS_PUBLISHED, LocalIssuer

AUDIENCE = "http://127.0.0.1:8000/mcp"


def test_a_client_that_follows_the_standards_can_verify_its_tokens() -> None:
    """Discovery leads to keys, and the keys verify the token, with no knowledge of this project."""
    with LocalIssuer() as issuer, httpx2.Client() as client:
        metadata = client.get(f"{issuer.url}/.well-known/oauth-authorization-server").json()
        keys = client.get(metadata["jwks_uri"]).json()["keys"]
        token = issuer.token(AUDIENCE, scopes=("a", "b"))
        missing = client.get(f"{issuer.url}/etc/passwd").status_code

    claims: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(keys[-1]), algorithms=["ES256"], audience=AUDIENCE, issuer=metadata["issuer"]
    )
    assert (claims["sub"], claims["scope"], claims["exp"] - claims["iat"]) == ("developer", "a b", 3600)
    assert missing == 404
    assert all("d" not in key for key in keys)


def test_it_listens_on_loopback_only() -> None:
    """Nobody else on the network can reach it: it would give everybody a token's key."""
    with LocalIssuer() as issuer:
        port = int(issuer.url.rpartition(":")[2])
        with socket.socket() as other:
            # The wildcard address is free on this port only if the issuer does not hold it.
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.2", port))

    assert issuer.url.startswith("http://127.0.0.1:")


def test_an_old_key_stays_for_a_while() -> None:
    """A rotation keeps one old key published, as a real issuer does, and no more."""
    with LocalIssuer() as issuer:
        for _ in range(5):
            issuer.rotate()

        published = issuer.documents()["/jwks.json"]["keys"]

    assert len(published) == KEYS_PUBLISHED
    assert jwt.get_unverified_header(issuer.token(AUDIENCE))["kid"] == published[-1]["kid"]


def test_it_ends_with_its_block() -> None:
    """No thread and no socket is left behind."""
    before = threading.active_count()
    with LocalIssuer() as issuer:
        port = int(issuer.url.rpartition(":")[2])

    assert threading.active_count() == before
    with socket.socket() as trial, pytest.raises(ConnectionRefusedError):
        trial.connect(("127.0.0.1", port))


def test_production_never_imports_it() -> None:
    """The production command cannot sign tokens, because the code is not even loaded."""
    script = (
        "import alias; alias.install(); import sys, hardening.lifecycle.startup;"
        "print([name for name in sys.modules if 'dev.issuer' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(alias.__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")
