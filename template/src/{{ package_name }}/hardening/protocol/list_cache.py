"""Cache of the results of `tools/list` and `server/discover`, one for each protocol version.

Nothing in them changes while the tools do not, and they do not while a process runs; no caller is told another thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types.methods import validate_client_request
from pydantic_core import to_json

from ..routes import DISCOVER, TOOLS_LIST
from .direct_calls import PLAIN, well_formed

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.mcpserver import MCPServer
    from mcp.types import Tool

# The same for every client that speaks the same version.
KEPT = frozenset({TOOLS_LIST, DISCOVER})
# Tells the probe that the operator has switched tools off, so that their absence is no drift.
RESTRICTED = "hardening/restricted"


class ListCache:
    """Keeps answers by method and protocol version: few, since the SDK serves few.

    Stands innermost in the SDK's chain, so that whatever looks at requests and answers sees them all.

    Attributes:
        restricted: Whether the operator has switched tools off; the answers say so in `_meta`.
    """

    def __init__(self, server: MCPServer[Any]) -> None:
        self._server = server
        self._tools: list[Tool] = []
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = {}
        self.restricted = False

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer as before, after the same check of the parameters; other methods pass.

        Raises:
            ValidationError: The parameters do not fit.
        """
        if ctx.method not in KEPT:
            return await call_next(ctx)
        asked = ctx.method, ctx.protocol_version
        tools = await self._server.list_tools()
        if tools is not self._tools:
            self._tools, self._answers = tools, {}
        elif asked in self._answers:
            params = ctx.params or {}
            if not (params.keys() <= PLAIN[ctx.method] and well_formed(*asked, params)):
                validate_client_request(*asked, ctx.params)
            return dict(self._answers[asked][0])
        result = await call_next(ctx)
        if isinstance(result, dict) and self.restricted and ctx.method == TOOLS_LIST:
            result["_meta"] = {**(result.get("_meta") or {}), RESTRICTED: True}
        if isinstance(result, dict) and tools is self._tools:
            self._answers[asked] = (dict(result), to_json(result))
        return result

    def encoded(self, result: HandlerResult) -> bytes | None:
        """Return a kept answer as JSON; None for any other result."""
        if isinstance(result, dict):
            for answer, text in self._answers.values():
                # The very same tools, so that comparing what stands beside them is all there is to do.
                if result.get("tools") is answer.get("tools") and result == answer:
                    return text
        return None
