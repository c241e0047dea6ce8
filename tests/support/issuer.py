"""An identity provider: one signing key, its metadata, and tokens that a server accepts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from support.relay import Streams

AUDIENCE = "https://mcp.example.com/mcp"
KEY = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """Answers those who are relayed to it; `url` is that of the relay, and set by the test.

    Attributes:
        keys: What it publishes, by their ids.
    """

    url = ""

    def __init__(self) -> None:
        self.keys = {"a": KEY}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def connect(self) -> Streams:
        """Open a connection to it."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    def token(self, kid: str = "a") -> str:
        """Return a token of an hour, signed with this key."""
        now = time.time()
        claims = {"iss": self.url, "sub": "somebody", "aud": AUDIENCE, "iat": now, "exp": now + 3600, "client_id": "c"}
        return jwt.encode(claims, self.keys[kid], "ES256", headers={"kid": kid, "typ": "at+jwt"})

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
            keys = [
                {**jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
                for kid, key in self.keys.items()
            ]
            said: dict[bytes, object] = {
                b"/keys": {"keys": keys},
                b"/.well-known/oauth-authorization-server": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            }
            status = "200 OK" if path in said else "404 Not Found"
            body = json.dumps(said.get(path, {})).encode()
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
