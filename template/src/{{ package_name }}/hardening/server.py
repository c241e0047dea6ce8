"""The boundary around every tool, prompt and resource: deadlines, limits, typed failures.

Nothing that the author's code raises leaves here as it is, in either era.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, GetPromptResult, InputRequiredResult
from mcp.types import Tool as WireTool
from pydantic import ValidationError

from . import errors
from .call import Context
from .context import Exchange, Principal, current
from .failures import failure_of, invalid_arguments, protocol_error, result_of
from .protocol import CACHE_HINTS, observe
from .rate_limit import tool_failure
from .replicas import request_state_security
from .tools import Tool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from mcp.server.lowlevel.helper_types import ReadResourceContents
    from pydantic import AnyUrl

    from .database import Database
    from .rate_limit import RateLimits
    from .settings import HardeningSettings

log = structlog.get_logger()
Result = TypeVar("Result")

NOBODY = Principal("none", "in process")
RESTARTING = "The server is restarting. Call again; check first whether the call had an effect."


class HardenedServer(MCPServer[None]):
    """The SDK's server with a boundary around what the author wrote."""

    def __init__(self, settings: HardeningSettings, tools: Sequence[Callable[..., Any]], **identity: Any) -> None:
        super().__init__(
            **identity,
            log_level="WARNING",
            request_state_security=request_state_security(settings),
            cache_hints=CACHE_HINTS,
            subscriptions=False,
            middleware=[observe(self)],
        )
        self.hardening = settings
        self.declared = {tool.name: tool for tool in sorted(map(Tool, tools), key=lambda tool: tool.name)}
        self.listing = [tool.wire() for tool in self.declared.values()]
        self.database: Database | None = None
        self.limits: RateLimits | None = None
        self.calls: dict[asyncio.Timeout, str] = {}
        self.stopping = False

    async def list_tools(self) -> list[WireTool]:
        """Return the declared tools, sorted by name."""
        return self.listing

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: SdkContext[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool inside the boundary; whatever happens, one log line says how it ended.

        Raises:
            MCPError: -32602 for a tool that does not exist (2026-07-28, Tools).
        """
        tool = self.declared.get(name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, "Unknown tool")
        exchange = current.get()
        started = time.monotonic()
        outcome = "cancelled"
        try:
            if self.limits is not None:
                decision = await self.limits.tool(exchange, name)
                if not decision.allowed:
                    raise tool_failure(decision)
            result = await self._run(tool, arguments, context or SdkContext(mcp_server=self), exchange)
            outcome = "ok"
        except errors.ToolFailure as failure:
            outcome = failure.kind
            result = result_of(failure, exchange)
        except MCPError:
            outcome = "protocol_error"
            raise
        finally:
            log.info(
                "tool call",
                tool_name=tool.name,
                duration_ms=round((time.monotonic() - started) * 1000, 1),
                outcome=outcome if outcome in {"ok", "cancelled"} else "error",
                error_code=None if outcome == "ok" else outcome,
                notifications_sent=exchange.notifications_sent if exchange else 0,
            )
        return result

    async def _run(
        self, tool: Tool, arguments: dict[str, Any], sdk: SdkContext[None, Any], exchange: Exchange | None
    ) -> CallToolResult | InputRequiredResult:
        seconds = tool.declaration.timeout_seconds or self.hardening.tool_timeout_seconds
        try:
            values = tool.validate(arguments)
        except ValidationError as invalid:
            raise invalid_arguments(invalid) from None
        if tool.context_name is not None:
            values[tool.context_name] = Context(
                settings=self.hardening,
                principal=(exchange and exchange.principal) or NOBODY,
                request_id=exchange.request_id if exchange else "",
                deadline=time.monotonic() + seconds,
                read_only=tool.declaration.read_only,
                database=self.database,
                sdk=sdk,
            )
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                self.calls[deadline] = tool.name
                returned = await tool.function(**values)
            return tool.finish(returned, self.hardening.max_response_bytes)
        except (errors.ToolFailure, MCPError):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancelled_from_outside():
                raise
            if deadline.expired():
                raise (errors.UpstreamUnavailable(RESTARTING) if self.stopping else errors.Timeout()) from None
            raise self._failure(error) from None
        finally:
            self.calls.pop(deadline, None)

    def _failure(self, error: BaseException) -> errors.ToolFailure:
        known = failure_of(error)
        if known is not None:
            return known
        log.error("crashed", exc_info=error)
        return errors.Internal()

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: SdkContext[None, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt inside the boundary.

        Raises:
            MCPError: -32602 for an unknown prompt or a missing argument, -32603 for a crash.
        """
        prompt = next((prompt for prompt in await self.list_prompts() if prompt.name == name), None)
        if prompt is None:
            raise MCPError(INVALID_PARAMS, "Unknown prompt")
        given = arguments or {}
        if any(argument.required and argument.name not in given for argument in prompt.arguments or ()):
            raise MCPError(INVALID_PARAMS, "A required argument of the prompt is missing")
        return await self._guarded(super().get_prompt(name, arguments, context))

    async def read_resource(
        self, uri: AnyUrl | str, context: SdkContext[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource inside the boundary.

        Raises:
            MCPError: -32602 for an unknown resource (SEP-2164), -32603 for a crash.
        """
        return await self._guarded(super().read_resource(uri, context))

    async def _guarded(self, handler: Awaitable[Result]) -> Result:
        seconds = self.hardening.tool_timeout_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                self.calls[deadline] = "prompt or resource"
                return await handler
        except MCPError:
            raise
        except ResourceNotFoundError:
            raise MCPError(INVALID_PARAMS, "Resource not found") from None
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancelled_from_outside():
                raise
            failure = errors.Timeout() if deadline.expired() else self._failure(error.__cause__ or error)
            code = INVALID_PARAMS if isinstance(failure, errors.NotFound) else INTERNAL_ERROR
            raise protocol_error(failure, current.get(), code) from None
        finally:
            self.calls.pop(deadline, None)

    def cut_short(self) -> list[str]:
        """End every call that still runs, with a failure that tells the caller to try again."""
        self.stopping = True
        now = asyncio.get_running_loop().time()
        for deadline in self.calls:
            deadline.reschedule(now)
        return sorted(self.calls.values())


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
