"""Direct way of requests that stand alone, without the SDK's `serve_one`; it is here for speed.

It is for calls of tools, their list and `server/discover`, which are nearly all that clients send.
The SDK's middleware and its handler run as ever, and the answer is the SDK's, byte for byte. What is left out is what
`serve_one` does over again: it validates a request three times and a result twice.
What might be answered otherwise goes to `serve_one`: answers to questions, parameters and `_meta` that are not well
formed, tools that do not exist, and everything where the author has put a middleware into the SDK's chain.
With `MCP_DIRECT_CALLS=off` all requests do.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from mcp import MCPError
from mcp.server.caching import apply_cache_hint
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.types import (
    CORE_RESULT_TYPES,
    INTERNAL_ERROR,
    SERVER_INFO_META_KEY,
    CacheableResult,
    CallToolResult,
    RequestParams,
    TextContent,
)
from mcp.types.methods import serialize_server_result, validate_client_request
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from ..logs.origin import OURS
from ..routes import DISCOVER, TOOLS_CALL, TOOLS_LIST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
    from mcp.server.lowlevel import Server

    from ..exchange import Exchange
    from .response_writer import ResponseWriter

log = structlog.get_logger()

# Parameters of a call that nobody has asked about; answers to questions are for the SDK to judge.
PLAIN_CALL = frozenset({"name", "arguments", "_meta"})
# A list is one page, so nobody asks for the next.
PLAIN_OTHER = frozenset({"_meta"})
PLAIN = {TOOLS_CALL: PLAIN_CALL, TOOLS_LIST: PLAIN_OTHER, DISCOVER: PLAIN_OTHER}
# Members of `_meta` that differ from call to call; those of the trace were checked with the message.
VARYING = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
# Whose middleware is known to change no parameter of a first request.
OWN = ("mcp.", f"{OURS}.")
# Bytes; what a client says of itself is short, and what is remembered is bounded.
LONGEST_KEPT = 1024


class DirectCalls:
    """Answers calls of declared tools, their list and `server/discover`.

    Args:
        server: The SDK's low-level server: handler, middleware, name.
        plain: Returns whether the result of a tool is data that was read back from JSON; None for an unknown name.
    """

    def __init__(self, server: Server[Any], plain: Callable[[str], bool | None]) -> None:
        self._server = server
        self._plain = plain
        self._middleware: tuple[ServerMiddleware[Any], ...] = ()
        self._known = False
        self._stamp = server.server_info_stamp

    def params(self, exchange: Exchange, version: str) -> RequestParams | None:
        """Return what the handler is to be given, or None for a request that `serve_one` has to answer."""
        method, params = exchange.rpc_method or "", exchange.params
        if method not in PLAIN or not params.keys() <= PLAIN[method] or not self._own_chain():
            return None
        if method == TOOLS_CALL and not self._plain_call(exchange):
            return None
        if not well_formed(method, version, params):
            return None
        entry = self._server.get_request_handler(method)
        try:
            return entry and cast("type[RequestParams]", entry.params_type).model_validate(params, by_name=False)
        except ValidationError:
            return None

    async def answer(
        self, exchange: Exchange, params: RequestParams, connection: Connection, reply: ResponseWriter
    ) -> dict[str, Any]:
        """Return the result as it goes out.

        Raises:
            MCPError: As `serve_one` does.
        """
        version = connection.protocol_version
        ctx: ServerRequestContext[Any, Any] = ServerRequestContext(
            session=ServerSession(reply, connection, request_meta=params.meta),
            lifespan_context={},
            method=exchange.rpc_method or "",
            params=exchange.params or None,
            request_id=reply.request_id,
            meta=params.meta,
            protocol_version=version,
            request=reply.message_metadata.request_context,
        )

        async def handle(ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
            entry = self._server.get_request_handler(ctx.method)
            result = await entry.handler(ctx, params)  # type: ignore[union-attr] - it was there when this was chosen
            own = result is exchange.result and self._plain(exchange.tool_name or "") is True
            return self._written(ctx.method, version, result, own=own)

        call: CallNext = handle
        for middleware in reversed(self._middleware):
            call = partial(_through, middleware, call)
        return cast("dict[str, Any]", await call(ctx))

    def _plain_call(self, exchange: Exchange) -> bool:
        """Return whether a tool of this name is declared, and given its arguments by name."""
        name = exchange.tool_name
        known = name is not None and self._plain(name) is not None
        return known and isinstance(exchange.params.get("arguments", {}), dict)

    def _own_chain(self) -> bool:
        """Return whether all that stands around the handler is ours and the SDK's, which changes no parameter."""
        if (chain := tuple(self._server.middleware)) != self._middleware:
            self._middleware, self._known = chain, all(map(_ours, chain))
        return self._known

    def _written(self, method: str, version: str, result: HandlerResult, *, own: bool) -> dict[str, Any]:
        written = _data(version, result) if own else None
        if written is None:
            hint = self._server.cache_hints.get(method)
            if hint is not None and isinstance(result, CacheableResult):
                result = apply_cache_hint(result, hint)
            written = _checked(method, version, result)
        if version not in MODERN_PROTOCOL_VERSIONS:
            return written
        meta: dict[str, Any] = written.get("_meta") or {}
        if meta.get(SERVER_INFO_META_KEY) is None:
            written["_meta"] = {**meta, SERVER_INFO_META_KEY: self._stamp}
        return written


def _checked(method: str, version: str, result: HandlerResult) -> dict[str, Any]:
    """Return a result that the author may have built, as the SDK checks and writes it."""
    written = cast("BaseModel", result).model_dump(by_alias=True, mode="json", exclude_none=True)
    kind = written.get("resultType")
    if version in MODERN_PROTOCOL_VERSIONS and isinstance(kind, str) and kind not in CORE_RESULT_TYPES:
        # A shape of an extension, which alone knows it.
        return written
    try:
        return serialize_server_result(method, version, written)
    except ValidationError:
        log.exception("handler returned an invalid result", rpc_method=method)
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


def well_formed(method: str, version: str, params: Mapping[str, Any]) -> bool:
    """Return whether the SDK takes this `_meta`; the same clients ask again and again."""
    meta: Any = params.get("_meta", {})
    if not isinstance(meta, dict):
        return False
    meta = cast("dict[str, Any]", meta)
    token = meta.get("progressToken")
    if isinstance(token, bool) or not isinstance(token, str | int | None):
        return False
    claims = to_json({name: value for name, value in meta.items() if name not in VARYING})
    return (_valid if len(claims) <= LONGEST_KEPT else _valid.__wrapped__)(method, version, claims)


@lru_cache(maxsize=256)
def _valid(method: str, version: str, claims: bytes) -> bool:
    params = {"_meta": from_json(claims)} | ({"name": ""} if method == TOOLS_CALL else {})
    try:
        validate_client_request(method, version, params)
    except (KeyError, ValidationError):
        # This version may not have the method.
        return False
    return True
