"""Local token issuer for development: signs JWTs and publishes its keys on loopback.

It listens on loopback only, its key exists in memory only, and it gives a token to whoever runs it.
The production command never imports this module.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

ALGORITHM = "ES256"
KEYS_PUBLISHED = 2
REQUEST_TIMEOUT_SECONDS = 5
STOP_TIMEOUT_SECONDS = 5


class LocalIssuer:
    """Signs tokens and publishes what verifies them; use it as a context manager.

    Args:
        port: Loopback port; 0 lets the system choose.
    """

    def __init__(self, *, port: int = 0) -> None:
        # An old key stays published beside the new one, as at a real issuer.
        self._published: deque[dict[str, Any]] = deque(maxlen=KEYS_PUBLISHED)
        self.rotate()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_TIMEOUT_SECONDS)

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = secrets.token_hex(8)
        numbers = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._published.append(
            {**numbers, "kid": self._kid, "use": "sig", "alg": ALGORITHM},
        )

    def token(
        self,
        audience: str,
        *,
        subject: str = "developer",
        scopes: Iterable[str] = (),
        lifetime_seconds: int = 3600,
        **claims: object,
    ) -> str:
        """Return an access token as RFC 9068 has it; further claims replace its own."""
        now = int(time.time())
        payload = {
            "iss": self.url,
            "sub": subject,
            "aud": audience,
            "client_id": "local",
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + lifetime_seconds,
            "jti": secrets.token_hex(8),
            **claims,
        }
        headers = {"kid": self._kid, "typ": "at+jwt"}
        return jwt.encode(payload, self._key, ALGORITHM, headers=headers)

    def environment(self, audience: str) -> dict[str, str]:
        """Return the settings with which a server accepts these tokens."""
        return {
            "MCP_AUTH": "jwt",
            "MCP_JWT_ISSUER": self.url,
            "MCP_JWT_AUDIENCE": audience,
        }

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return what is published, by path."""
        return {
            "/.well-known/oauth-authorization-server": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "response_types_supported": [],
            },
            "/jwks.json": {"keys": list(self._published)},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_SECONDS

            def do_GET(self) -> None:
                document = issuer.documents().get(self.path)
                body = json.dumps(document).encode() if document else b""
                self.send_response(200 if document else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Keep the terminal for the server's own lines."""

        return Handler
