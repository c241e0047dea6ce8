"""Whatever an issuer sends, everybody whose credential is no token of it is answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from base64 import urlsafe_b64encode
from types import SimpleNamespace
from typing import TYPE_CHECKING

import jwt
import pytest
from live import KEY, SECONDS, live
from support.hostile_host import CHUNKED, ENDLESS, OK, Hostile
from support.loop_holds import longest_hold
from wire import ERAS, Wire

from hardening.auth import jwks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AUDIENCE = "https://mcp.example.com/mcp"
MOST = 262_000
# Of 8,192 bits each; nobody looks for their factors.
LARGE = urlsafe_b64encode((2**8191 + 1).to_bytes(1024)).rstrip(b"=").decode()


def document(text: str) -> tuple[bytes, bytes]:
    """Return a whole answer."""
    return OK + b"content-length: %d\r\n\r\n" % len(text) + text.encode(), b""


ANSWERS = {kind: ENDLESS[kind] for kind in ("interim answers", "chunks of one byte", "body", "lines of one field")}
ANSWERS |= {
    "silence": (b"", b""),
    "one byte at a time": (CHUNKED, b"1\r\n \r\n"),
    "a deep document": document("[" * MOST),
    "a wide document": document("{" + ",".join(f'"{number}":{number}' for number in range(16_000)) + "}"),
    "long numbers": document('{"keys":[' + ",".join(["9" * 4000] * 64) + "]}"),
    "100 large keys": document(
        json.dumps({"keys": [{"kty": "RSA", "kid": f"{number}", "n": LARGE, "e": "AQAB"} for number in range(100)]})
    ),
    "one huge key": document(json.dumps({"keys": [{"kty": "RSA", "kid": "a", "n": "x" * 260_000, "e": "AQAB"}]})),
    "keys of other shapes": document(json.dumps({"keys": [[[]], {"kty": []}, {"kty": "EC", "crv": {}}, None] * 5000})),
}


@pytest.fixture
def hostile() -> Iterator[Callable[[str], SimpleNamespace]]:
    """Start an issuer that answers nothing of use until it is told to begin."""
    hosts: list[Hostile] = []

    def start(kind: str) -> SimpleNamespace:
        begun = threading.Event()
        host = Hostile(
            lambda _: ANSWERS[kind] if begun.is_set() else (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", b""),
            0.05 if kind in {"silence", "one byte at a time"} else 0,
        )
        hosts.append(host)
        return SimpleNamespace(url=host.url, begin=begun.set)

    yield start
    for host in hosts:
        host.close()


@pytest.mark.parametrize("kind", ANSWERS)
async def test_others_are_answered_beside_a_hostile_issuer(
    kind: str, hostile: Callable[[str], SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token waits for its issuer and gets 503, or 401; `/livez` and a caller with a key wait for nobody.

    No step of the loop takes 50 ms of processor time of the server's thread, so that a busy machine decides nothing.
    """
    issuer = hostile(kind)
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_SECONDS", 0.5)
    settings = {"MCP_AUTH": "api_key,jwt", "MCP_JWT_ISSUER": issuer.url, "MCP_JWT_AUDIENCE": AUDIENCE}
    settings["MCP_JWT_JWKS_URL"] = f"{issuer.url}/keys"
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "mallory", "exp": int(time.time()) + 600}
    signed = jwt.encode(claims, "x" * 32, algorithm="HS256")
    head = urlsafe_b64encode(b'{"alg":"RS256","kid":"unknown","typ":"at+jwt"}').rstrip(b"=").decode()
    token = ".".join((head, *signed.split(".")[1:]))

    with live(**settings) as server:
        async with Wire(server.url, KEY) as alice, Wire(server.url, token) as forger:
            # The first fetch loads certificates.
            first = await forger.ask("modern", "tools/list")
            with longest_hold(server) as worst:
                issuer.begin()
                asked = asyncio.create_task(forger.ask("legacy", "tools/list"))
                answers: set[int] = set()
                async with asyncio.timeout(SECONDS):
                    while not asked.done():
                        replies = [await alice.get("/livez"), *[await alice.ask(era, "tools/list") for era in ERAS]]
                        answers |= {reply.status for reply in replies}
                        await asyncio.sleep(0.05)
                forged = await asked

    assert first.status == 503
    assert forged.status in {401, 503}
    assert answers == {200}
    assert worst.seconds < 0.05
