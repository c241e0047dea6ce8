"""Authorization guard: scopes of tokens, and the methods of the probe key (403).

An operation runs only with every scope that it needs, and a refusal names all of them.
Scopes belong to tokens; an API key is given out by the operator, so it carries every scope.
Sources: RFC 6749, section 3.3 (syntax), 2026-07-28, Authorization (step-up, hierarchies).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..response import Response
from ..routes import DISCOVER, INITIALIZE, METRICS_PATH, TOOLS_LIST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..exchange import Exchange
    from .resource_metadata import ProtectedResource

_SCOPE = re.compile(r"[!#-\[\]-~]+")


# What the monitor may ask: it looks, and never calls.
PROBE_METHODS = frozenset(
    {
        DISCOVER,
        INITIALIZE,
        "notifications/initialized",
        "ping",
        TOOLS_LIST,
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    }
)


class Scopes:
    """What each operation needs.

    Args:
        required: What every request needs (`MCP_REQUIRED_SCOPES`).
        tools: What a tool needs besides, by the tool's name.
        implied: Which further scope a scope stands for (`MCP_IMPLIED_SCOPES`), e.g. `notes:admin=notes:read`.

    Raises:
        ValueError: A scope cannot be written in a challenge.
    """

    def __init__(
        self,
        required: Iterable[str] = (),
        tools: Mapping[str, Iterable[str]] | None = None,
        implied: Iterable[str] = (),
    ) -> None:
        self.required = _checked("MCP_REQUIRED_SCOPES", required)
        self._tools = {name: _checked(f"the scopes of tool {name}", scopes) for name, scopes in (tools or {}).items()}
        self._implied: dict[str, set[str]] = {}
        for pair in implied:
            scope, _, other = pair.partition("=")
            _checked("MCP_IMPLIED_SCOPES", (scope, other))
            self._implied.setdefault(scope, set()).add(other)

    def needed(self, tool_name: str | None) -> frozenset[str]:
        """Return everything a request needs; with a tool's name, for a call of that tool."""
        return self.required | self._tools.get(tool_name or "", frozenset())

    def cover(self, granted: frozenset[str], needed: frozenset[str]) -> bool:
        """Return whether what was granted, and what it stands for, covers what is needed."""
        covered: set[str] = set()
        waiting = set(granted)
        while waiting:
            scope = waiting.pop()
            covered.add(scope)
            waiting |= self._implied.get(scope, set()) - covered
        return needed <= covered


def _checked(where: str, scopes: Iterable[str]) -> frozenset[str]:
    checked = frozenset(scopes)
    if not all(_SCOPE.fullmatch(scope) for scope in checked):
        raise ValueError(f"{where}: a scope has no spaces, quotes or backslashes, e.g. notes:read")
    return checked


class Authorization:
    """The guard that refuses what a caller may not do; runs when the body has been read.

    Args:
        scopes: What each operation needs.
        resource: The metadata that a challenge points to.
    """

    def __init__(self, scopes: Scopes, resource: ProtectedResource) -> None:
        self._scopes = scopes
        self._resource = resource

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Check one message.

        The tool's name in the body decides; the `Mcp-Name` header is only a copy of it.
        """
        principal = exchange.principal
        if principal is None:
            return self._resource.unauthenticated(exchange, presented=False)
        if principal.kind == "probe":
            metrics = exchange.path == METRICS_PATH and exchange.method == "GET"
            # It may end the session that it has opened.
            if metrics or exchange.method == "DELETE" or exchange.rpc_method in PROBE_METHODS:
                return None
            return Response(403, "forbidden", "The probe key may list and discover, and never call.")
        needed = self._scopes.needed(exchange.tool_name)
        if principal.kind != "jwt" or self._scopes.cover(principal.scopes, needed):
            return None
        message = "The token lacks a scope that this operation needs."
        challenge = self._resource.challenge(exchange, "insufficient_scope", message, needed)
        return Response(403, "insufficient_scope", message, headers=(challenge,))
