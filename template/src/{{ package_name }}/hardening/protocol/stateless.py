"""Stateless fast path: answers requests without the SDK's transports; it is here for speed.

The SDK's transports prepare a stream, two tasks or more and several queues for each request of either era,
which costs more than a plain call. A request that stands alone (every modern one, and legacy ones without
sessions) needs none of it: the SDK's own `serve_one` answers it here, in the task that uvicorn has made.
What does not stand alone goes to the SDK's transports as before: sessions, notifications, and whatever they refuse.

Source: 2026-07-28 and 2025-11-25, Transports: a server answers a request with JSON or with an event stream.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp.types import INVALID_PARAMS, ErrorData
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from ..exchange import current
from ..routes import MCP_PATH
from .direct_calls import LONGEST_KEPT
from .response_writer import ResponseWriter, text_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.lowlevel import Server
    from mcp.types import ClientCapabilities, InitializeRequestParams
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ..exchange import Exchange
    from .direct_calls import DirectCalls
    from .list_cache import ListCache

    Identity = tuple[InitializeRequestParams | None, ClientCapabilities | None]


class StatelessTransport:
    """Answers what stands alone, and hands everything else on.

    Args:
        server: The SDK's low-level server: handlers, middleware, names.
        transports: The SDK's own way, for everything else.
        list_cache: Listings that are written already.
        direct: The shorter way of calls; None to have `serve_one` answer them too.
        stateless: Whether legacy requests stand alone.
        ping_seconds: How long an answer may be silent before a comment is sent.
    """

    def __init__(  # noqa: PLR0913 - each is one part of the way
        self,
        server: Server[Any],
        transports: ASGIApp,
        *,
        list_cache: ListCache,
        direct: DirectCalls | None,
        stateless: bool,
        ping_seconds: float,
    ) -> None:
        self.server = server
        self.direct = direct
        self.transports = transports
        self.list_cache = list_cache
        self.stateless = stateless
        self.ping_seconds = ping_seconds
        self._repeating: dict[str, tuple[Mapping[str, Any], bool]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the protocol."""
        exchange = current.get()
        connection = self._connection(exchange) if exchange is not None else None
        if exchange is None or connection is None:
            await self.transports(scope, receive, send)
            return
        reply = ResponseWriter(exchange, receive, send, self.ping_seconds)
        try:
            with reply:
                body, status = await self._answer(exchange, connection, reply)
        except asyncio.CancelledError:
            if not reply.client_gone():
                raise
            return
        await reply.finish(body, status)

    def _connection(self, exchange: Exchange) -> Connection | None:
        """Return what the SDK is to know of the caller; None when its transports have to look at this request."""
        method = exchange.rpc_method
        if method is None or exchange.rpc_id is None or exchange.path != MCP_PATH:
            return None
        # Anything unusual here is for the SDK to judge.
        if exchange.accepts_stream and b";" in exchange.headers.get(b"accept", b""):
            return None
        if exchange.era == "legacy":
            return Connection.from_envelope(exchange.protocol_version, None, None) if self.stateless else None
        message = {"method": method, "params": exchange.params}
        headers = text_headers(exchange)
        route = classify_inbound_request(message, headers=headers)
        if isinstance(route, InboundLadderRejection) or self._contradicts(exchange, headers):
            return None
        connection = Connection.from_envelope(route.protocol_version, None, None)
        connection.client_params, connection.client_capabilities = _claimed(
            route.protocol_version, route.client_info, route.client_capabilities
        )
        return connection

    def _contradicts(self, exchange: Exchange, headers: dict[str, str]) -> bool:
        """Return whether headers say something else than the message (2026-07-28, Transports)."""
        if exchange.tool_name is None:
            return False
        look_up = self.server.get_tool_input_schema
        schema = look_up(exchange.tool_name) if look_up else None
        if schema is None or not self._repeats(exchange.tool_name, schema):
            return False
        arguments: object = exchange.params.get("arguments") or {}
        if not isinstance(arguments, dict):
            return False
        return validate_mcp_param_headers(schema, cast("dict[str, Any]", arguments), headers) is not None

    def _repeats(self, name: str, schema: Mapping[str, Any]) -> bool:
        """Return whether a tool wants arguments repeated in headers; looked up once for each."""
        known = self._repeating.get(name)
        if known is None or known[0] is not schema:
            known = self._repeating[name] = (schema, bool(x_mcp_header_map(schema)))
        return known[1]

    async def _answer(self, exchange: Exchange, connection: Connection, reply: ResponseWriter) -> tuple[bytes, int]:
        """Return the message to send, and the status where none has been sent."""
        params = exchange.params or None
        method = exchange.rpc_method or ""
        try:
            direct = self.direct and self.direct.params(exchange, connection.protocol_version)
            if self.direct and direct:
                result = await self.direct.answer(exchange, direct, connection, reply)
            else:
                result = await serve_one(self.server, reply, method, params, connection=connection, lifespan_state={})
        except MCPError as failure:
            error = failure.error
        except ValidationError:
            error = ErrorData(code=INVALID_PARAMS, message="Invalid request parameters", data="")
        else:
            written = self.list_cache.encoded(result) or to_json(result)
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (to_json(exchange.rpc_id), written), 200
        # In the older protocols every answer of a handler is a success of HTTP.
        status = ERROR_CODE_HTTP_STATUS.get(error.code, 200) if exchange.era == "modern" else 200
        said = error.model_dump_json(by_alias=True, exclude_none=True).encode()
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (to_json(exchange.rpc_id), said), status


def _claimed(version: str, info: object, capabilities: object) -> Identity:
    """Return what a client claims to be, as the SDK reads it; the same clients ask again and again."""
    claims = to_json([info, capabilities])
    return (_read if len(claims) <= LONGEST_KEPT else _read.__wrapped__)(version, claims)


@lru_cache(maxsize=256)
def _read(version: str, claims: bytes) -> Identity:
    connection = Connection.from_envelope(version, *from_json(claims))
    return connection.client_params, connection.client_capabilities
