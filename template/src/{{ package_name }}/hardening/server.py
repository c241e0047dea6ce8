"""The SDK's server with a boundary around every tool, prompt, resource and completion.

Deadlines, limits and typed failures hold there; no exception of the author's code leaves it, in either era.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.types import INVALID_PARAMS, CallToolResult, InputRequiredResult
from mcp.types import Tool as WireTool

from . import errors
from .calls.canonical import schema_sha256
from .calls.consent import Consent
from .calls.deadline import Deadlines
from .calls.declaration import InvalidDeclarationError
from .calls.failures import failure_or_crash, result_of
from .calls.function import in_call
from .calls.questions import Questions
from .calls.switches import switched_on
from .exchange import Exchange, current
from .limits.rate_limits import RateLimits
from .limits.refusals import tool_failure
from .logs.call_log import log_call
from .primitives import GuardedPrimitives
from .protocol.list_cache import ListCache
from .protocol.middleware import CACHE_HINTS, error_boundary, protocol_middleware
from .protocol.request_state import request_state_security
from .protocol.subscription_bus import open_bus
from .protocol.used_states import UsedStates
from .services import Services
from .telemetry.http_metrics import HttpMetrics
from .telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .calls.context import Context
    from .calls.extensions import Contribution
    from .calls.state import Lifespan
    from .calls.tool import Tool
    from .database import OnConnection
    from .settings import HardeningSettings


class HardenedServer(GuardedPrimitives):
    """The SDK's server with a boundary around what the author wrote."""

    def __init__(
        self,
        settings: HardeningSettings,
        tools: Mapping[str, Tool],
        *,
        lifespan: Lifespan | None = None,
        on_connection: OnConnection | None = None,
        extensions: Sequence[Contribution] = (),
        **identity: Any,
    ) -> None:
        bus = open_bus(settings)
        self.list_cache = ListCache(self)
        self.used_states = UsedStates(settings)
        self.questions = Questions(self.used_states, bus)
        self.consent = Consent(self.questions, required=settings.confirm == "required")
        super().__init__(
            **identity,
            log_level="WARNING",
            request_state_security=request_state_security(settings),
            cache_hints=CACHE_HINTS,
            subscriptions=bus or False,
            extensions=[one.guarded(self) for one in extensions],
            middleware=[
                protocol_middleware(self, settings.monitor_client_names, settings.max_response_bytes, self.list_cache),
                self.list_cache,
                self.questions.middleware,
            ],
        )
        # Outside of the layers that the SDK brings along; what is given above stands inside of them.
        self.middleware.insert(0, error_boundary)
        # The SDK has a `settings` of its own.
        self.hardening_settings = settings
        self.bus = bus
        self.on_session_end: list[Callable[[float, str], object]] = []
        self.declared = switched_on(tools, settings)
        self.list_cache.restricted = len(self.declared) < len(tools)
        self.tool_list = [tool.wire() for tool in self.declared.values()]
        self.schema_sha256 = schema_sha256(self.tool_list)
        self.deadlines = Deadlines()
        declared = {tool.name: tool.declaration for tool in self.declared.values()}
        self.metrics = Metrics.of_tools(declared, settings, version=self.version, schema_sha256=self.schema_sha256)
        self.limits = RateLimits(settings)
        for name, said in declared.items():
            try:
                self.limits.declare(name, rate_per_minute=said.rate_per_minute, cost=said.cost)
            except ValueError as problem:
                raise InvalidDeclarationError(str(problem)) from None
        self.declare_primitives()
        answered = HttpMetrics(self.metrics.registry).answered
        self.services = Services(settings, lifespan, self.metrics.acquired, answered, on_connection)
        self.database, self.background = self.services.database, self.services.background
        for name in (name for one in extensions for name in one.method_names):
            self.limits.declare(f"method {name}")

    def words(self) -> set[str]:
        """Return the names that the server makes known; log lines may have them."""
        words = {word for tool in self.declared.values() for word in tool.words()}
        return words | self.prompt_names

    async def list_tools(self) -> list[WireTool]:
        """Return the declared tools, sorted by name."""
        return self.tool_list

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
            decision = await self.limits.tool(exchange, name)
            if not decision.allowed:
                raise tool_failure(decision)
            result = await self._run(tool, arguments, context or SdkContext(mcp_server=self), exchange)
            outcome = errors.ToolError.kind if isinstance(result, CallToolResult) and result.is_error else "ok"
        except errors.ToolFailure as failure:
            outcome = failure.kind
            result = result_of(failure, exchange, {name, *tool.arguments.names})
        except MCPError:
            outcome = "protocol_error"
            raise
        finally:
            if outcome == "cancelled" and exchange is not None:
                self.limits.give_back(exchange)
            log_call(tool.name, outcome, time.monotonic() - started, exchange, self.metrics)
        return result

    async def _run(
        self, tool: Tool, arguments: dict[str, Any], sdk: SdkContext[None, Any], exchange: Exchange | None
    ) -> CallToolResult | InputRequiredResult:
        seconds = tool.declaration.timeout_seconds or self.hardening_settings.tool_timeout_seconds
        first = self.services.context(seconds, sdk, exchange, read_only=tool.declaration.read_only)
        contexts: list[Context[Any, Any]] = []

        async def call(sdk: SdkContext[None, Any]) -> CallToolResult | InputRequiredResult:
            # A context for each round of questions: the one before has ended with its round.
            in_call.set(True)
            contexts.append(replace(first, sdk=sdk) if contexts or sdk is not first.sdk else first)
            return await tool.call(arguments, contexts[-1], self.hardening_settings.max_response_bytes)

        try:
            asking = self.questions.run(sdk, self.consent.before(tool, arguments, call))
            return await self.deadlines.run(tool.name, seconds, asking)
        except (errors.ToolFailure, MCPError):
            raise
        except Exception as error:  # noqa: BLE001 - the boundary is for all of them
            raise failure_or_crash(error) from None
        finally:
            for one in contexts:
                one.end()
