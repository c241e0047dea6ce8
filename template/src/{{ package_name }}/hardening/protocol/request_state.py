"""Keys that seal multi-round-trip request state (`MCP_REQUEST_STATE_KEYS`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.request_state import RequestStateSecurity

from ..auth.bearer import binding
from ..exchange import current

if TYPE_CHECKING:
    from ..settings import HardeningSettings

# How long a person may take to answer; the SDK refuses older states.
SEALED_SECONDS = 600


def request_state_security(settings: HardeningSettings) -> RequestStateSecurity:
    """Seal `requestState` so that no caller can read, change or share it (2026-07-28, MRTR).

    The first key of `MCP_REQUEST_STATE_KEYS` seals, each one opens; without keys it ends with the process.
    """
    keys = [key.get_secret_value() for key in settings.request_state_keys]
    if keys:
        return RequestStateSecurity(keys=keys, ttl=SEALED_SECONDS, bind_principal=_principal)
    ephemeral = RequestStateSecurity.ephemeral(ttl=SEALED_SECONDS)
    ephemeral.bind_principal = _principal
    return ephemeral


def _principal(_: Any) -> str | None:
    exchange = current.get()
    return binding(exchange.principal) if exchange and exchange.principal else None
