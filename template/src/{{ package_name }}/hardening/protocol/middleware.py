"""SDK middleware: hides exception text, advertises only what is implemented, bounds the size of results.

Sits in the SDK's own chain, around each request of either era.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import structlog
from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from pydantic import ValidationError
from pydantic_core import to_json

from ..calls.failures import failure_or_crash, protocol_error
from ..errors import TooLarge
from ..exchange import current, printable, trace_id
from ..logs.call_log import mark_logged
from ..routes import DISCOVER, INITIALIZE, TOOLS_CALL, TOOLS_LIST
from ..telemetry.tracing import annotate
from .session_memory import shorten_opening

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
    from mcp.server.mcpserver import MCPServer

    from .list_cache import ListCache

log = structlog.get_logger()

# Definitions stay as they are while a process runs; clients may use them this long after a deploy.
CACHE_HINTS: dict[Any, CacheHint] = dict.fromkeys(
    (DISCOVER, TOOLS_LIST, "prompts/list", "resources/list", "resources/templates/list"),
    CacheHint(ttl_ms=60_000, scope="private"),
)
OPENINGS = {INITIALIZE, DISCOVER}
CLIENT_INFO = "io.modelcontextprotocol/clientInfo"


def protocol_middleware(
    server: MCPServer[Any], monitors: Iterable[str], max_bytes: int, list_cache: ListCache
) -> ServerMiddleware[Any]:
    """Return the middleware of `server`.

    Args:
        server: Whose prompts and resources are advertised if there are any.
        monitors: What clients do whose name begins with one of these is marked as probe.
        max_bytes: Largest answer; those of tools are measured where they are made.
        list_cache: Answers that are written already.
    """
    known = tuple(name.casefold() for name in monitors)

    async def middleware(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        started = time.monotonic()
        _note_client(ctx, known)
        annotate()
        code: int | None = None
        try:
            await _refuse(server, ctx)
            result = await call_next(ctx)
            _bound(ctx.method, result, max_bytes, list_cache)
            if ctx.method in OPENINGS and isinstance(result, dict):
                result["capabilities"] = await _truthful(server, result.get("capabilities") or {})
        except MCPError as error:
            code = error.error.code
            if code == METHOD_NOT_FOUND:
                # The SDK gives the name of the method back; it is whatever the caller has written.
                raise MCPError(METHOD_NOT_FOUND, "Method not found") from None
            raise
        except ValidationError:
            code = INVALID_PARAMS
            raise MCPError(INVALID_PARAMS, "Invalid request parameters") from None
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # A cancellation that the caller did not cause would end the caller's session, an exit the process.
            code = INTERNAL_ERROR
            raise protocol_error(failure_or_crash(error), current.get(), INTERNAL_ERROR) from None
        else:
            return result
        finally:
            if ctx.method in OPENINGS:
                _log_opening(ctx.method, started, code)

    return middleware


def _log_opening(method: str, started: float, code: int | None) -> None:
    duration_ms = round((time.monotonic() - started) * 1000, 1)
    log.info("client initialized", rpc_method=method, duration_ms=duration_ms, error_code=code)
    mark_logged(current.get())


async def error_boundary(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Hide the text of exceptions of the SDK's own layers, which the older protocols would send to the client."""
    exchange = current.get()
    with exchange.working() if exchange else nullcontext():
        try:
            return await call_next(ctx)
        except MCPError as error:
            # A notification has no response, so nothing of it is refused.
            if exchange is not None and ctx.request_id is not None:
                exchange.rpc_error = error.error.code
            try:
                to_json(error.error)
            except ValueError as unsendable:
                # Half a character in an author's sentence. A stream would end without an answer.
                raise protocol_error(failure_or_crash(unsendable), exchange, INTERNAL_ERROR) from None
            raise
        except Exception as error:  # noqa: BLE001 - the boundary is for all of them
            raise protocol_error(failure_or_crash(error), exchange, INTERNAL_ERROR) from None


async def _refuse(server: MCPServer[Any], ctx: ServerRequestContext[Any, Any]) -> None:
    # A notification has no response, and the SDK would log each refusal as a fault.
    if ctx.request_id is not None:
        _refuse_cursor(ctx)
        await _refuse_unused(server, ctx.method)


def _refuse_cursor(ctx: ServerRequestContext[Any, Any]) -> None:
    """Every listing is one page, so no cursor was ever given out (2026-07-28, Pagination)."""
    if ctx.method.endswith("/list") and (ctx.params or {}).get("cursor") is not None:
        raise MCPError(INVALID_PARAMS, "Unknown cursor")


def _bound(method: str, result: HandlerResult, max_bytes: int, list_cache: ListCache) -> None:
    if method != TOOLS_CALL and len(list_cache.encoded(result) or to_json(result)) > max_bytes:
        log.warning("answer too large", rpc_method=method, limit=max_bytes)
        raise protocol_error(TooLarge(), current.get(), INTERNAL_ERROR)


def _note_client(ctx: ServerRequestContext[Any, Any], monitors: tuple[str, ...]) -> None:
    """Keep what the client claims to be, shortened; for display only (2026-07-28, Overview)."""
    if ctx.method == INITIALIZE and isinstance(ctx.params, dict):
        shorten_opening(ctx.params)
    exchange = current.get()
    if exchange is None:
        return
    claimed = exchange.params.get("clientInfo") if ctx.method == INITIALIZE else exchange.meta.get(CLIENT_INFO)
    if isinstance(claimed, dict):
        exchange.client_name = printable(cast("dict[str, Any]", claimed).get("name")) or exchange.client_name
    exchange.probe = exchange.probe or exchange.client_name.casefold().startswith(monitors)
    exchange.trace_id = trace_id(exchange.meta.get("traceparent")) or exchange.trace_id


async def _refuse_unused(server: MCPServer[Any], method: str) -> None:
    """What is not advertised is not served."""
    family = method.partition("/")[0]
    if family in {"prompts", "resources"} and family in await _unused(server):
        raise MCPError(METHOD_NOT_FOUND, "Method not found")


async def _truthful(server: MCPServer[Any], capabilities: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the SDK advertises whether it is used or not."""
    unused = await _unused(server)
    return {name: value for name, value in capabilities.items() if name not in unused}


async def _unused(server: MCPServer[Any]) -> set[str]:
    """Return the families of methods that the author has given nothing to."""
    unused: set[str] = set()
    if not await server.list_prompts():
        unused.add("prompts")
    if not await server.list_resources() and not await server.list_resource_templates():
        unused.add("resources")
    return unused
