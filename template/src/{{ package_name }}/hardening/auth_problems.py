"""What is wrong with the settings about who may call is told before the port opens.

The guard refuses the same things itself; here they are collected, so that one start names them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api_keys import digest_of
from .discovery import is_safe
from .metadata import resource_of
from .scopes import Scopes

if TYPE_CHECKING:
    from .settings import HardeningSettings

HTTPS = "must be an https URL, e.g. https://login.example.com; http is for this machine only"
PUBLIC = "must be scheme and host, e.g. https://mcp.example.com"
SCOPES = "a scope has no spaces, quotes or backslashes, e.g. notes:read"
IMPLIED = "write scope=scope, e.g. notes:admin=notes:read,notes:admin=notes:write"
DISTINCT = "must differ from every key of MCP_API_KEYS"


def auth_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    """Return what cannot be used, as (field, sentence); no value is in a sentence."""
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
