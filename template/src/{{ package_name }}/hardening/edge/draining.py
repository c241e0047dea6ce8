"""Drain guard: refuses protocol requests once the readiness delay of a shutdown is over (503, `Retry-After`).

Requests that began before are answered; health and metrics go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..response import Response
from ..routes import MCP_PATH

if TYPE_CHECKING:
    from ..exchange import Exchange

REFUSED = Response(
    503,
    "draining",
    "This replica is shutting down; another one answers.",
    retry_after=1.0,
    headers=((b"connection", b"close"),),
)


class Drain:
    """How far the shutdown is; also the guard that refuses new work during it."""

    def __init__(self) -> None:
        self.unready = False
        self.refusing = False

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Refuse protocol requests once the readiness delay is over."""
        return REFUSED if self.refusing and exchange.path == MCP_PATH else None
