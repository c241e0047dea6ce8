"""Direct way of a `tools/call` that stands alone, without the SDK's `serve_one`; it is here for speed.

The SDK's middleware and its handler run as ever, and the answer is the SDK's, byte for byte. What is left out is what
`serve_one` does over again: it validates a request three times and a result twice.
What might be answered otherwise goes to `serve_one`: answers to questions, parameters and `_meta` that are not well
formed, tools that do not exist, and every call where the author has put a middleware into the SDK's chain.
With `MCP_DIRECT_CALLS=off` all calls do.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.types import (
    CORE_RESULT_TYPES,
    INTERNAL_ERROR,
    SERVER_INFO_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    TextContent,
)
from mcp.types.methods import serialize_server_result, validate_client_request
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from ..routes import TOOLS_CALL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
    from mcp.server.lowlevel import Server

    from ..exchange import Exchange
    from .response_writer import ResponseWriter

log = structlog.get_logger()

# Parameters of a call that nobody has asked about; answers to questions are for the SDK to judge.
PLAIN = frozenset({"name", "arguments", "_meta"})
# Members of `_meta` that differ from call to call; those of the trace were checked with the message.
VARYING = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
# Whose middleware is known to change no parameter of a first request.
OWN = ("mcp.", f"{__name__.rpartition('.')[0].rpartition('.')[0]}.")
# Bytes; what a client says of itself is short, and what is remembered is bounded.
LONGEST_KEPT = 1024


class DirectCalls:
    """Answers calls of declared tools.

    Args:
        server: The SDK's low-level server: handler, middleware, name.
        plain: Whether what a tool of this name returns is data of ours, read back from JSON; None for no such tool.
    """

    def __init__(self, server: Server[Any], plain: Callable[[str], bool | None]) -> None:
        self._server = server
        self._plain = plain
        self._middleware: tuple[ServerMiddleware[Any], ...] = ()
        self._known = False
        self._stamp = server.server_info_stamp

    def params(self, exchange: Exchange, version: str) -> CallToolRequestParams | None:
        """Return what the handler is to be given, or None for a call that `serve_one` has to answer."""
        name = exchange.tool_name
        if name is None or self._plain(name) is None or not exchange.params.keys() <= PLAIN or not self._own_chain():
            return None
        if not isinstance(exchange.params.get("arguments", {}), dict) or not _well_formed(version, exchange.params):
            return None
        try:
            return CallToolRequestParams.model_validate(exchange.params, by_name=False)
        except ValidationError:
            return None

    async def answer(
        self, exchange: Exchange, params: CallToolRequestParams, connection: Connection, reply: ResponseWriter
    ) -> dict[str, Any]:
        """Return the result as it goes out.

        Raises:
            MCPError: As `serve_one` does.
        """
        version = connection.protocol_version
        ctx: ServerRequestContext[Any, Any] = ServerRequestContext(
            session=ServerSession(reply, connection, request_meta=params.meta),
            lifespan_context={},
            method=TOOLS_CALL,
            params=exchange.params,
            request_id=reply.request_id,
            meta=params.meta,
            protocol_version=version,
            request=reply.message_metadata.request_context,
        )

        async def handle(ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
            entry = self._server.get_request_handler(TOOLS_CALL)
            result = await entry.handler(ctx, params)  # type: ignore[union-attr] - it was there when this was chosen
            return self._written(version, result, own=result is exchange.result and self._plain(params.name) is True)

        call: CallNext = handle
        for middleware in reversed(self._middleware):
            call = partial(_through, middleware, call)
        return cast("dict[str, Any]", await call(ctx))

    def _own_chain(self) -> bool:
        """Return whether all that stands around the handler is ours and the SDK's, which changes no parameter."""
        if (chain := tuple(self._server.middleware)) != self._middleware:
            self._middleware, self._known = chain, all(map(_ours, chain))
        return self._known

    def _written(self, version: str, result: HandlerResult, *, own: bool) -> dict[str, Any]:
        written = _data(version, result) if own else None
        if written is None:
            written = _checked(version, result)
        if version not in MODERN_PROTOCOL_VERSIONS:
            return written
        meta: dict[str, Any] = written.get("_meta") or {}
        if meta.get(SERVER_INFO_META_KEY) is None:
            written["_meta"] = {**meta, SERVER_INFO_META_KEY: self._stamp}
        return written


def _checked(version: str, result: HandlerResult) -> dict[str, Any]:
    """Return a result that the author may have built, as the SDK checks and writes it."""
    written = cast("BaseModel", result).model_dump(by_alias=True, mode="json", exclude_none=True)
    kind = written.get("resultType")
    if version in MODERN_PROTOCOL_VERSIONS and isinstance(kind, str) and kind not in CORE_RESULT_TYPES:
        # A shape of an extension, which alone knows it.
        return written
    try:
        return serialize_server_result(TOOLS_CALL, version, written)
    except ValidationError:
        log.exception("tool returned an invalid result")
        raise MCPError(INTERNAL_ERROR, "Handler returned an invalid result") from None


async def _through(middleware: ServerMiddleware[Any], call_next: CallNext, ctx: Any) -> HandlerResult:
    return await middleware(ctx, call_next)


def _ours(middleware: object) -> bool:
    module = getattr(middleware, "__module__", None) or type(middleware).__module__
    return f"{module}.".startswith(OWN)


def _data(version: str, result: HandlerResult) -> dict[str, Any] | None:
    """Return a result of one text and data, as it goes out; None for any other."""
    if type(result) is not CallToolResult or result.meta is not None or len(result.content) != 1:
        return None
    (block,) = result.content
    if type(block) is not TextContent or block.annotations is not None or block.meta is not None:
        return None
    written: dict[str, Any] = {"content": [{"text": block.text, "type": "text"}], "isError": result.is_error}
    if version in MODERN_PROTOCOL_VERSIONS:
        written["resultType"] = result.result_type
    if result.structured_content is not None:
        written["structuredContent"] = result.structured_content
    return written


def _well_formed(version: str, params: Mapping[str, Any]) -> bool:
    """Return whether the SDK takes this `_meta`; the same clients ask again and again."""
    meta = params.get("_meta")
    if meta is None:
        return "_meta" not in params and version not in MODERN_PROTOCOL_VERSIONS
    token = meta.get("progressToken")
    if isinstance(token, bool) or not isinstance(token, str | int | None):
        return False
    claims = to_json({name: value for name, value in meta.items() if name not in VARYING})
    return (_valid if len(claims) <= LONGEST_KEPT else _valid.__wrapped__)(version, claims)


@lru_cache(maxsize=256)
def _valid(version: str, claims: bytes) -> bool:
    try:
        validate_client_request(TOOLS_CALL, version, {"name": "", "_meta": from_json(claims)})
    except ValidationError:
        return False
    return True
