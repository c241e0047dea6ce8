"""Authentication guard: API keys and tokens of the configured issuer, in `Authorization: Bearer` only (401, 503).

Every guard below runs for authenticated callers only, and no credential reaches a tool: it is taken out
of the request before it is looked at, and what goes on is a verified `Principal`.
An issuer that cannot be reached makes the answer 503, never 401 and never 500.
Sources: RFC 6750 (bearer tokens), 2026-07-28, Authorization.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..exchange import Exchange, Principal
from ..response import Response
from ..routes import METRICS_PATH
from .access_tokens import InvalidTokenError, TokenVerifier
from .api_keys import ApiKey, digest_of, match
from .bearer import bind_session, take_credential
from .jwks import Keys, KeysUnavailableError
from .resource_metadata import ProtectedResource, resource_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ..settings import HardeningSettings

_JWT_DOTS = 2


class Authentication:
    """The guard that decides who is calling.

    Args:
        settings: Modes, keys, issuer, audience.
        resource: The metadata that a challenge points to.
        on_failure: Called after a bad credential; may answer in place of the 401.
        on_doubt: Called for a credential that cannot be checked now; may answer in place of the 503.

    Raises:
        ValueError: The settings do not fit together; names the one to change.
    """

    def __init__(
        self,
        settings: HardeningSettings,
        resource: ProtectedResource,
        *,
        on_failure: Callable[[Exchange], Awaitable[Response | None]] | None = None,
        on_doubt: Callable[[Exchange], Awaitable[Response | None]] | None = None,
    ) -> None:
        modes = set(settings.auth)
        if not modes or (len(modes) > 1 and "none" in modes):
            raise ValueError("MCP_AUTH must be api_key, jwt, both with a comma, or none alone")
        self._anonymous = "none" in modes
        self._keys = settings.keys if "api_key" in modes else ()
        self._probe_key: ApiKey | None = None
        if settings.probe_key is not None:
            digest = digest_of(settings.probe_key.get_secret_value())
            if digest in {key.digest for key in self._keys}:
                raise ValueError("MCP_PROBE_KEY must differ from every key of MCP_API_KEYS")
            self._probe_key = ApiKey("probe", digest)
            self._keys = (*self._keys, self._probe_key)
        self._verifier: TokenVerifier | None = None
        if "jwt" in modes:
            keys = Keys(settings.jwt_issuer, settings.jwt_jwks_url)
            audience = settings.jwt_audience or resource_of(settings.public_url)
            self._verifier = TokenVerifier(
                keys,
                issuer=settings.jwt_issuer,
                audience=audience,
                client_ids=settings.jwt_client_ids,
                readable=settings.jwt_claims,
                tenant_claim=settings.tenant_claim,
            )
        self._max_token_bytes = settings.max_token_bytes
        self._tenants = dict(pair.split("=", 1) for pair in settings.api_key_tenants)
        self._resource = resource
        self._on_failure = on_failure
        self._on_doubt = on_doubt

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Set `exchange.principal`, or answer 401; serve the metadata that says where to go."""
        if (metadata := self._resource.answer(exchange)) is not None:
            return metadata
        try:
            principal = await self._identify(take_credential(exchange, self._max_token_bytes))
        except InvalidTokenError as error:
            exchange.reason = error.reason
            instead = await self._on_failure(exchange) if self._on_failure else None
            return instead or self._resource.unauthenticated(exchange, presented=True)
        except KeysUnavailableError as error:
            exchange.reason = "keys_unavailable"
            if self._on_doubt and (instead := await self._on_doubt(exchange)):
                return instead
            message = "The token cannot be checked now. Try again."
            return Response(503, "auth_unavailable", message, retry_after=error.retry_after)
        if principal is None:
            return self._resource.unauthenticated(exchange, presented=False)
        return self._admit(exchange, principal)

    @staticmethod
    def _admit(exchange: Exchange, principal: Principal) -> Response | None:
        if exchange.path == METRICS_PATH and principal.kind not in {"probe", "none"}:
            return Response(403, "forbidden", "Only the probe key opens the metrics.")
        exchange.principal = principal
        exchange.probe = exchange.probe or principal.kind == "probe"
        bind_session(exchange, principal)
        return None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep the issuer's keys at hand while the server runs."""
        async with self._verifier.keys.running() if self._verifier else contextlib.nullcontext():
            yield

    async def _identify(self, token: str | None) -> Principal | None:
        key = match(self._keys, token) if token else None
        if key is not None:
            if key is self._probe_key:
                return Principal("probe", key.name)
            return Principal("api_key", key.name, tenant=self._tenants.get(key.name, ""))
        if self._anonymous:
            return Principal("none", "anonymous")
        if token is None:
            return None
        if self._verifier is None or token.count(".") != _JWT_DOTS:
            raise InvalidTokenError("unknown_key")
        return await self._verifier.verify(token)
