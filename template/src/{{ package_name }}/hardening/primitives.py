"""Prompts, resources and completion of the SDK's server: declared with its decorators, run inside the boundary.

What cannot be served is refused at its declaration (exit 78); rates, deadlines, failures and lines are as for tools.
Sources: 2026-07-28 and 2025-11-25, Prompts, Resources and Completion; -32602 for what the caller can correct.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from mcp import MCPError
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.shared.exceptions import NoBackChannelError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, GetPromptResult, InputRequiredResult

from . import errors
from .calls.asking_session import UnansweredError
from .calls.blocks import check_blocks
from .calls.completions import offered
from .calls.declaration import InvalidDeclarationError, refuse_declaration
from .calls.failures import failure_or_crash, kind_of, protocol_error
from .calls.function import enter, in_call, inside
from .calls.prompts import read_prompt
from .exchange import current
from .guarded_resources import GuardedResources
from .limits.rate_limits import RateLimits
from .limits.refusals import tool_failure
from .logs.call_log import log_other

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from mcp.server.lowlevel.helper_types import ReadResourceContents
    from mcp.types import Icon
    from pydantic import AnyUrl

    from .calls.deadline import Deadlines
    from .calls.questions import Questions

# The SDK's words for an address that nothing has; all others are the author's.
UNKNOWN = "Unknown resource: "
Declared = TypeVar("Declared", bound="Callable[..., Any]")
Completer = TypeVar("Completer", bound="Callable[..., Coroutine[Any, Any, Any]]")


class GuardedPrimitives(GuardedResources):
    """The SDK's server with a boundary around everything of the author's that is no tool."""

    limits: RateLimits
    deadlines: Deadlines
    questions: Questions

    def __init__(self, **options: Any) -> None:
        self.prompt_names: set[str] = set()
        super().__init__(**options)

    def declare_primitives(self) -> None:
        """Give resources and completion their rates; each prompt gets one of its own."""
        for kind in ("resource", "completion"):
            # Tools have names without a blank.
            self.limits.declare(f"{kind} ")

    # As in the SDK, but that what cannot be served is refused, and that the function runs inside the boundary.
    def prompt(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: list[Icon] | None = None,
    ) -> Callable[[Declared], Declared]:
        """Register a prompt.

        Raises:
            InvalidDeclarationError: It cannot be served.
        """
        if callable(name):
            refuse_declaration(f"prompt {getattr(name, '__name__', '?')}: write @server.prompt()")
            return name

        def decorator(function: Declared) -> Declared:
            known = name or getattr(function, "__name__", "?")
            try:
                author = self._author(f"prompt {known}", function)
                read = read_prompt(author, known, title=title, description=description, icons=icons)
            except InvalidDeclarationError as problem:
                refuse_declaration(problem)
                return function
            if read.name in self.prompt_names:
                refuse_declaration(f"prompt {read.name}: there are two prompts of this name")
                return function
            self.prompt_names.add(read.name)
            self.limits.declare(f"prompt {read.name}")
            MCPServer.add_prompt(self, read)
            return function

        return decorator

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: SdkContext[None, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Render a prompt inside the boundary.

        Raises:
            MCPError: -32602 for an unknown prompt or a bad argument, -32603 for a crash.
        """
        prompt = next((prompt for prompt in await self.list_prompts() if prompt.name == name), None)
        if prompt is None:
            raise MCPError(INVALID_PARAMS, "Unknown prompt")
        given = arguments or {}
        missing = [one.name for one in prompt.arguments or () if one.required and one.name not in given]
        if missing:
            raise MCPError(
                INVALID_PARAMS, f"Invalid arguments. {', '.join(missing)}: missing. Correct them and ask again."
            )
        render = super().get_prompt

        async def work(sdk: SdkContext[None, Any]) -> Any:
            enter(sdk)
            rendered = await render(name, arguments, sdk)
            if isinstance(rendered, GetPromptResult):
                check_blocks(message.content for message in rendered.messages)
            return rendered

        asking = self.questions.run(context or SdkContext(mcp_server=self), work)
        return await self._guarded("prompt", asking, name)

    async def read_resource(
        self, uri: AnyUrl | str, context: SdkContext[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource inside the boundary.

        Raises:
            MCPError: -32602 for an unknown resource (SEP-2164), -32603 for a crash.
            ResourceError: As in the SDK, in a call that reads one itself: it stands inside of the boundary already.
        """
        read = super().read_resource
        if in_call.get():
            sdk = context or SdkContext(mcp_server=self)
            return await inside(sdk, read(uri, sdk))

        async def work(sdk: SdkContext[None, Any]) -> Any:
            enter(sdk)
            return await read(uri, sdk)

        asking = self.questions.run(context or SdkContext(mcp_server=self), work)
        return await self._guarded("resource", asking)

    # As in the SDK, but that the decorator's parameter has no name.
    def completion(self, function: Any = None) -> Callable[[Completer], Completer]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register what completes arguments; it runs inside the boundary too."""
        if function is not None:
            refuse_declaration("completion: write @server.completion()")
            return function
        register: Callable[[Any], Any] = super().completion()

        def decorator(function: Completer) -> Completer:
            try:
                author = self._author("completion", function, positional=3)
            except InvalidDeclarationError as problem:
                refuse_declaration(problem)
                return function

            async def guarded(*arguments: Any) -> Any:
                async def work(sdk: SdkContext[None, Any]) -> Any:
                    enter(sdk)
                    return offered(await author(*arguments))

                asking = self.questions.run(self.questions.context(self), work)
                return await self._guarded("completion", asking)

            register(guarded)
            return function

        return decorator

    async def _guarded(self, kind: str, work: Coroutine[Any, Any, Any], name: str = "") -> Any:
        """Run the function behind a prompt, a resource or a completion: rate, deadline, one log line."""
        exchange, started, outcome = current.get(), time.monotonic(), "cancelled"
        try:
            if not (rate := await self.limits.tool(exchange, f"{kind} {name}")).allowed:
                work.close()
                raise protocol_error(tool_failure(rate), exchange, INTERNAL_ERROR)
            result = await self.bounded(kind, work)
            outcome = "ok"
        except MCPError as error:
            outcome = kind_of(error)
            raise
        finally:
            log_other(kind, name, outcome, time.monotonic() - started)
        return result

    async def bounded(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what `work` returns, before the deadline.

        Raises:
            MCPError: Whatever it raised, as far as a caller may know it.
        """
        try:
            return await self.deadlines.run(name, self.hardening_settings.tool_timeout_seconds, work)
        except (NoBackChannelError, UnansweredError):
            # Of a method of an extension; all others ask by `questions`.
            raise protocol_error(errors.CannotAsk(), current.get(), INTERNAL_ERROR) from None
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary is for all of them
            if isinstance(error, ResourceNotFoundError) and str(error).startswith(UNKNOWN):
                raise MCPError(INVALID_PARAMS, "Resource not found") from None
            failure = failure_or_crash(error, wrapped=True)
            code = INVALID_PARAMS if isinstance(failure, errors.NotFound) else INTERNAL_ERROR
            raise protocol_error(failure, current.get(), code) from None
