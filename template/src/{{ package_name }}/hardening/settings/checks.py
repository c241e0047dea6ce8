"""Settings checks: what does not fit together, all problems at once, before the port opens (exit 78).

The guards refuse the same things themselves; here one start names them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..auth.api_keys import SHORTEST_SECRET, digest_of
from ..auth.authorization import Scopes
from ..auth.issuer_metadata import is_safe
from ..auth.resource_metadata import resource_of
from ..logs.fields import ALWAYS, RESERVED
from .certificates import certificate_problems
from .networks import parse_allowed
from .urls import database_target

if TYPE_CHECKING:
    from ..settings import HardeningSettings

HTTPS = "must be an https URL without a user or password, e.g. https://login.example.com; http is for this machine only"
PUBLIC = "must be scheme and host, without /mcp or another path, e.g. https://mcp.example.com"
SCOPES = "a scope has no spaces, quotes or backslashes, e.g. notes:read"
IMPLIED = "write scope=scope, e.g. notes:admin=notes:read,notes:admin=notes:write"
LOGGED = (int, float, str, bool)
DISTINCT = "must differ from every key of MCP_API_KEYS"


def problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    """Return what does not fit together, as (field, sentence); no value is in a sentence, and empty means none."""
    found: list[tuple[str, str]] = []

    def need(ok: object, field: str, sentence: str) -> None:
        if not ok:
            found.append((field, sentence))

    need(settings.auth, "auth", "choose how callers authenticate: api_key, jwt, api_key,jwt, or none (loopback only)")
    if "none" in settings.auth:
        need(len(settings.auth) == 1, "auth", "none cannot be combined with another mode")
        need(settings.loopback, "auth", "none is accepted on a loopback HOST only; choose api_key or jwt")
    if "api_key" in settings.auth:
        need(settings.keys, "api_keys", "api_key needs at least one key: name:secret, 32 characters or more")
    if "jwt" in settings.auth:
        need(settings.jwt_issuer, "jwt_issuer", "jwt needs the issuer, e.g. https://login.example.com")
        audience = settings.jwt_audience or settings.public_url or settings.jwt_client_ids
        need(audience, "jwt_audience", "jwt needs an audience, or MCP_PUBLIC_URL to derive it from")
    reachable = settings.loopback or settings.public_url or settings.allowed_hosts
    need(reachable, "public_url", "set the URL clients use, e.g. https://mcp.example.com, or every Host is refused")
    need(settings.pool_min_size <= settings.pool_max_size, "pool_min_size", "must not exceed MCP_POOL_MAX_SIZE")
    used = settings.database_url is None or settings.pool_max_size <= settings.max_in_flight
    need(used, "pool_max_size", "must not exceed MCP_MAX_IN_FLIGHT: further connections are never used")
    fits = settings.tool_timeout_seconds < settings.drain_timeout_seconds
    need(fits, "drain_timeout_seconds", "must exceed MCP_TOOL_TIMEOUT_SECONDS, or calls are cut at SIGTERM")
    fits = (settings.background_timeout_seconds or 0) < settings.drain_timeout_seconds
    need(fits, "drain_timeout_seconds", "must exceed MCP_BACKGROUND_TIMEOUT_SECONDS, or tasks are cut at SIGTERM")
    per_caller = settings.max_in_flight_per_principal <= settings.max_in_flight
    need(per_caller, "max_in_flight_per_principal", "must not exceed MCP_MAX_IN_FLIGHT")
    if settings.replicas > 1:
        need(settings.request_state_keys, "request_state_keys", "more than one replica must share keys of 32 bytes")
    for key in settings.request_state_keys:
        long = len(key.get_secret_value()) >= SHORTEST_SECRET
        need(long, "request_state_keys", f"use at least {SHORTEST_SECRET} characters for each key")
    for name, kind in settings.log_fields.items():
        free = name.isidentifier() and name not in ALWAYS and name not in RESERVED
        need(free and kind in LOGGED, "log_fields", f"{name}: a name that is free, with int, float, str or bool")
    further = (_database_problems, certificate_problems, _auth_problems, _outbound_problems, _tenant_problems)
    return found + [problem for check in further for problem in check(settings)]


def _tenant_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    names = {key.name for key in settings.keys}
    tenants: dict[str, str] = {}
    for pair in settings.api_key_tenants:
        name, _, tenant = pair.partition("=")
        if name not in names or not tenant or not tenant.isprintable():
            found.append(("api_key_tenants", "write name=tenant with names of MCP_API_KEYS, e.g. alice=acme,bob=acme"))
        elif tenants.setdefault(name, tenant) != tenant:
            found.append(("api_key_tenants", "a key has one tenant, and one of these has several"))
    if settings.rate_tenant_per_minute is not None and not (settings.tenant_claim or settings.api_key_tenants):
        found.append(("rate_tenant_per_minute", "needs MCP_TENANT_CLAIM or MCP_API_KEY_TENANTS to tell tenants"))
    return found


def _outbound_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    try:
        parse_allowed(settings.http_allow)
    except ValueError as rule:
        return [("http_allow", str(rule))]
    return []


def _database_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    if settings.database_url is not None and settings.database_pgbouncer:
        try:
            database_target(settings.database_url.get_secret_value(), pgbouncer=True)
        except ValueError as rule:
            return [("database_url", str(rule))]
    return []


def _auth_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    issuer, keys_url = settings.jwt_issuer, settings.jwt_jwks_url
    if "jwt" in settings.auth and issuer and not is_safe(issuer, issuer):
        found.append(("jwt_issuer", HTTPS))
    if "jwt" in settings.auth and keys_url and not is_safe(keys_url, issuer):
        found.append(("jwt_jwks_url", HTTPS))
    try:
        Scopes(settings.required_scopes)
    except ValueError:
        found.append(("required_scopes", SCOPES))
    try:
        Scopes(implied=settings.implied_scopes)
    except ValueError:
        found.append(("implied_scopes", IMPLIED))
    try:
        resource_of(settings.public_url)
    except ValueError:
        found.append(("public_url", PUBLIC))
    if settings.probe_key is not None:
        try:
            digest = digest_of(settings.probe_key.get_secret_value())
        except ValueError as rule:
            found.append(("probe_key", str(rule)))
        else:
            if digest in {key.digest for key in settings.keys}:
                found.append(("probe_key", DISTINCT))
    return found
