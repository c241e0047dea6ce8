"""Extensions of the SDK behind the boundary: what they contribute is declared, limited and logged, or refused by name.

Tools are declared with `@tool` beneath the extension's decorator and become tools like all others; resources are
read, and methods called, inside the boundary. An interceptor would stand outside of it and is refused.
Source: SEP-2133 (extensions), `mcp.server.extension`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from mcp import MCPError
from mcp.server.extension import (
    Extension,
    MethodBinding,
    ResourceBinding,
    ToolBinding,
    validate_extension_identifier,
)
from mcp.types import INTERNAL_ERROR
from pydantic_core import from_json, to_json

from ..exchange import current
from ..limits.refusals import tool_failure
from ..logs.call_log import mark_logged
from .declaration import Declaration, InvalidDeclarationError
from .failures import protocol_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from mcp.server.context import HandlerResult, ServerRequestContext

    from ..primitives import GuardedPrimitives

    Work = Callable[[], Coroutine[Any, Any, HandlerResult]]

Binding = TypeVar("Binding")

log = structlog.get_logger()


class Contribution:
    """What one extension adds.

    Attributes:
        identifier: Its name.
        tool_bindings: Its tools; the server takes them as its own.
        method_names: Names of the methods that it adds.

    Raises:
        InvalidDeclarationError: Something in it cannot be served; each line names one thing.
    """

    def __init__(self, extension: Extension) -> None:
        self.identifier: str = getattr(extension, "identifier", type(extension).__name__)
        try:
            validate_extension_identifier(self.identifier, owner=type(extension).__name__)
            self.tool_bindings = _bindings(extension.tools(), ToolBinding)
            self._methods = _bindings(extension.methods(), MethodBinding)
            self._resources = _bindings(extension.resources(), ResourceBinding)
            self._settings = _shown(extension.settings())
        except (TypeError, ValueError) as problem:
            raise InvalidDeclarationError(f"{self.identifier}: {problem}") from None
        self.method_names = [binding.method for binding in self._methods]
        problems = [sentence for binding in self.tool_bindings if (sentence := _problem(binding))]
        if type(extension).intercept_tool_call is not Extension.intercept_tool_call:
            problems.append("it intercepts calls of tools outside their deadlines and limits; do it in the tools")
        if problems:
            raise InvalidDeclarationError("\n".join(f"{self.identifier}: {sentence}" for sentence in problems))

    def guarded(self, server: GuardedPrimitives) -> Extension:
        """Return it as the SDK is given it: without its tools, and with its methods inside the server's boundary."""
        methods = [_guarded(binding, server) for binding in self._methods]
        return _Guarded(self.identifier, self._settings, self._resources, methods)


class _Guarded(Extension):
    def __init__(
        self,
        identifier: str,
        settings: dict[str, Any],
        resources: Sequence[ResourceBinding],
        methods: Sequence[MethodBinding],
    ) -> None:
        self.identifier = identifier
        self._settings, self._resources, self._methods = settings, resources, methods

    def settings(self) -> dict[str, Any]:
        return self._settings

    def resources(self) -> Sequence[ResourceBinding]:
        return self._resources

    def methods(self) -> Sequence[MethodBinding]:
        return self._methods


def contributions(extensions: Sequence[Extension]) -> tuple[list[Contribution], list[str]]:
    """Return what extensions add, and one sentence for each thing that cannot be served."""
    found: list[Contribution] = []
    problems: list[str] = []
    for extension in extensions:
        try:
            one = Contribution(extension)
        except InvalidDeclarationError as invalid:
            problems += invalid.problems
            continue
        if one.identifier in {other.identifier for other in found}:
            problems.append(f"{one.identifier}: there are two extensions of this name")
        taken = [method for other in found for method in other.method_names] + one.method_names
        problems += [
            f"{one.identifier}: {method}: there are two methods of this name"
            for method in dict.fromkeys(one.method_names)
            if taken.count(method) > 1
        ]
        found.append(one)
    return found, problems


def _bindings(given: Iterable[Any], kind: type[Binding]) -> list[Binding]:
    """Return what one method of an extension gives, which may be a generator."""
    found = list(given)
    for one in found:
        if not isinstance(one, kind):
            raise TypeError(f"put {type(one).__name__} into a {kind.__name__}(…)")
    return found


def _shown(settings: Any) -> dict[str, Any]:
    """Return what every client is shown of an extension; without a JSON form no client could connect."""
    try:
        written = from_json(to_json(settings, inf_nan_mode="constants"), allow_inf_nan=False)
    except ValueError:
        written = None
    if not isinstance(written, dict):
        raise TypeError("settings() must give a dict that JSON can hold")
    return settings


def _problem(binding: ToolBinding) -> str:
    name = getattr(binding.fn, "__name__", "?")
    if not isinstance(getattr(binding.fn, "__tool__", None), Declaration):
        return f"{name}: declare it with @tool(read_only=…) beneath the extension's decorator"
    given = sorted(key for key, value in binding.kwargs.items() if value is not None)
    return f"{name}: say {', '.join(given)} in @tool(…) or the docstring, not in the extension" if given else ""


def _guarded(binding: MethodBinding, server: GuardedPrimitives) -> MethodBinding:
    async def handler(ctx: ServerRequestContext[Any, Any], params: Any) -> HandlerResult:
        async def work() -> HandlerResult:
            return await binding.handler(ctx, params)

        return await _call(server, binding.method, work)

    return replace(binding, handler=handler)


async def _call(server: GuardedPrimitives, method: str, work: Work) -> HandlerResult:
    """Call a method of an extension inside the boundary, at the rate of a tool; one log line says how it ended."""
    exchange, started, outcome = current.get(), time.monotonic(), "cancelled"
    try:
        if not (rate := await server.limits.tool(exchange, f"method {method}")).allowed:
            raise protocol_error(tool_failure(rate), exchange, INTERNAL_ERROR)
        result = await server.bounded(method, work())
        outcome = "ok"
    except MCPError:
        outcome = "error"
        raise
    finally:
        duration_ms = round((time.monotonic() - started) * 1000, 1)
        log.info("extension call", rpc_method=method, duration_ms=duration_ms, outcome=outcome)
        mark_logged(exchange)
    return result
