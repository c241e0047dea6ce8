"""The boundary around every tool, prompt, resource and completion: deadlines, limits, typed failures.

Nothing that the author's code raises leaves here as it is, in either era.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, GetPromptResult, InputRequiredResult
from mcp.types import Tool as WireTool

from . import errors
from .call import Context
from .call_log import note_call
from .context import Exchange, Principal, current
from .deadline import Deadlines
from .failures import failure_or_crash, protocol_error, result_of
from .listing import Listing
from .protocol import CACHE_HINTS, observe, wall
from .rate_limit import tool_failure
from .replicas import request_state_security
from .subscriptions import open_bus
from .tools import InvalidDeclarationError, Tool, read_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from mcp.server.lowlevel.helper_types import ReadResourceContents
    from pydantic import AnyUrl

    from .database import Database
    from .metrics import Metrics
    from .rate_limit import RateLimits
    from .settings import HardeningSettings

log = structlog.get_logger()

Completer = TypeVar("Completer", bound="Callable[..., Coroutine[Any, Any, Any]]")

NOBODY = Principal("none", "in process")


class HardenedServer(MCPServer[None]):
    """The SDK's server with a boundary around what the author wrote."""

    def __init__(self, settings: HardeningSettings, tools: Sequence[Callable[..., Any]], **identity: Any) -> None:
        bus = open_bus(settings)
        # By its own name, because `listing` holds the tools themselves.
        self.written = Listing(self)
        super().__init__(
            **identity,
            log_level="WARNING",
            request_state_security=request_state_security(settings),
            cache_hints=CACHE_HINTS,
            subscriptions=bus or False,
            middleware=[
                observe(self, settings.monitor_client_names, settings.max_response_bytes, self.written),
                self.written,
            ],
        )
        # Outside of the layers that the SDK brings along; what is given above stands inside of them.
        self.middleware.insert(0, wall)
        self.hardening = settings
        self.bus = bus
        self.declared = read_tools(tools)
        self.listing = [tool.wire() for tool in self.declared.values()]
        self.database: Database | None = None
        self.limits: RateLimits | None = None
        self.metrics: Metrics | None = None
        self.deadlines = Deadlines()
        self.calls = self.deadlines.running

    def cut_short(self) -> list[str]:
        """End every call that still runs, with a failure that tells the caller to try again."""
        return self.deadlines.cut_short()

    def add_tool(self, fn: Callable[..., Any], *_: Any, **__: Any) -> None:
        """Refuse a tool that the SDK would call outside the boundary."""
        name = getattr(fn, "__name__", "?")
        raise InvalidDeclarationError(f"{name}: declare it with @tool(read_only=…) and add it to TOOLS")

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
            result = result_of(failure, exchange, {name, *tool.arguments.names})
        except MCPError:
            outcome = "protocol_error"
            raise
        finally:
            if outcome == "cancelled" and self.limits is not None and exchange is not None:
                self.limits.give_back(exchange)
            note_call(tool.name, outcome, time.monotonic() - started, exchange, self.metrics)
        return result

    async def _run(
        self, tool: Tool, arguments: dict[str, Any], sdk: SdkContext[None, Any], exchange: Exchange | None
    ) -> CallToolResult | InputRequiredResult:
        seconds = tool.declaration.timeout_seconds or self.hardening.tool_timeout_seconds
        context = Context(
            settings=self.hardening,
            principal=(exchange and exchange.principal) or NOBODY,
            request_id=exchange.request_id if exchange else "",
            deadline=time.monotonic() + seconds,
            read_only=tool.declaration.read_only,
            database=self.database,
            sdk=sdk,
        )
        try:
            work = tool.call(arguments, context, self.hardening.max_response_bytes)
            return await self.deadlines.run(tool.name, seconds, work)
        except (errors.ToolFailure, MCPError):
            raise
        except Exception as error:  # noqa: BLE001 - the boundary is for all of them
            raise failure_or_crash(error) from None
        finally:
            context.end()

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
        return await self._guarded("prompt", super().get_prompt(name, arguments, context))

    async def read_resource(
        self, uri: AnyUrl | str, context: SdkContext[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource inside the boundary.

        Raises:
            MCPError: -32602 for an unknown resource (SEP-2164), -32603 for a crash.
        """
        return await self._guarded("resource", super().read_resource(uri, context))

    # As in the SDK, but that the decorator's parameter has no name.
    def completion(self) -> Callable[[Completer], Completer]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register what completes arguments; it runs inside the boundary too."""
        register: Callable[[Any], Any] = super().completion()

        def decorator(function: Completer) -> Completer:
            async def guarded(*arguments: Any) -> Any:
                return await self._guarded("completion", function(*arguments))

            register(guarded)
            return function

        return decorator

    async def _guarded(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await self.deadlines.run(name, self.hardening.tool_timeout_seconds, work)
        except MCPError:
            raise
        except ResourceNotFoundError:
            raise MCPError(INVALID_PARAMS, "Resource not found") from None
        except Exception as error:  # noqa: BLE001 - the boundary is for all of them
            failure = failure_or_crash(error, wrapped=True)
            code = INVALID_PARAMS if isinstance(failure, errors.NotFound) else INTERNAL_ERROR
            raise protocol_error(failure, current.get(), code) from None
