"""Metrics `mcp.server.operation.duration`, of each message, and `mcp.server.session.duration`, of stateful sessions.

Every attribute has a bounded set of values: methods of the protocol, declared tools and prompts, codes.

Source: OpenTelemetry semantic conventions for MCP (metrics, bucket boundaries).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult
from pydantic import ValidationError

from .tracing import attributes_of, attributes_of_session

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from opentelemetry.metrics import Meter

    from .tracing import Names

NAME = "mcp.server.operation.duration"
SESSIONS = "mcp.server.session.duration"
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class Operations:
    """A middleware of the SDK's chain that measures what passes it."""

    def __init__(self, meter: Meter, names: Names) -> None:
        self._names = names
        self._duration = meter.create_histogram(
            NAME,
            unit="s",
            description="Duration of a request or notification, from its receipt to its result.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._sessions = meter.create_histogram(
            SESSIONS,
            unit="s",
            description="Duration of a session, as the server sees it.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def session_ended(self, seconds: float, version: str) -> None:
        """Measure one session."""
        self._sessions.record(seconds, attributes_of_session(version))

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Measure one message, however it ends."""
        started = time.monotonic()
        failed: dict[str, str] = {"error.type": "cancelled"}
        try:
            result = await call_next(ctx)
            failed = _failed(result)
        except MCPError as error:
            failed = _code(error.error.code)
            raise
        except ValidationError:
            failed = _code(INVALID_PARAMS)
            raise
        except Exception:
            failed = _code(INTERNAL_ERROR)
            raise
        else:
            return result
        finally:
            given = attributes_of(ctx.method, ctx.params, ctx.protocol_version, self._names)
            self._duration.record(time.monotonic() - started, {**given, **failed})


def _code(code: int) -> dict[str, str]:
    return {"error.type": str(code), "rpc.response.status_code": str(code)}


def _failed(result: HandlerResult) -> dict[str, str]:
    match result:
        case CallToolResult(is_error=True) | {"isError": True}:
            return {"error.type": "tool_error"}
        case _:
            return {}
