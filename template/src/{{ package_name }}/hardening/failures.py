"""From whatever was raised to what may be said: the only way an exception becomes an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp.types import CallToolResult, TextContent

from . import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

    from .context import Exchange

ERROR_META_KEY = "hardening/error"
SHORTEST_ECHO = 4
LONGEST_LOCATION = 5
MOST_PROBLEMS = 10

ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retryAfterSeconds": {"type": ["number", "null"]},
        "advice": {"type": "string"},
        "reference": {"type": "string"},
    },
    "required": ["kind", "retryable", "retryAfterSeconds", "advice", "reference"],
    "additionalProperties": False,
}

# Rules of the schema that may be named to the caller, with the bounds that it has seen in the schema anyway.
_BOUNDS = frozenset({"gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "expected"})

# (module, class names) of failures that libraries raise, by what they mean for the caller.
# By name, so that no library is imported for an error it has not raised.
_KNOWN: tuple[tuple[frozenset[str], frozenset[str], type[errors.ToolFailure]], ...] = (
    (frozenset({"asyncpg"}), frozenset({"UniqueViolationError", "ExclusionViolationError"}), errors.Conflict),
    (frozenset({"asyncpg"}), frozenset({"SerializationError", "DeadlockDetectedError"}), errors.Busy),
    (frozenset({"asyncpg"}), frozenset({"TooManyConnectionsError"}), errors.Busy),
    (frozenset({"asyncpg"}), frozenset({"QueryCanceledError"}), errors.Timeout),
    (frozenset({"asyncpg"}), frozenset({"ReadOnlySQLTransactionError"}), errors.PermissionDenied),
    (
        frozenset({"asyncpg"}),
        frozenset({"PostgresConnectionError", "ConnectionDoesNotExistError", "OperatorInterventionError"}),
        errors.UpstreamUnavailable,
    ),
    (frozenset({"httpx", "httpx2"}), frozenset({"TimeoutException"}), errors.Timeout),
    (frozenset({"httpx", "httpx2"}), frozenset({"TransportError", "HTTPStatusError"}), errors.UpstreamUnavailable),
    (frozenset({"aiohttp"}), frozenset({"ServerTimeoutError"}), errors.Timeout),
    (frozenset({"aiohttp"}), frozenset({"ClientError"}), errors.UpstreamUnavailable),
    (frozenset({"redis"}), frozenset({"ConnectionError", "TimeoutError"}), errors.UpstreamUnavailable),
    (frozenset({"builtins"}), frozenset({"TimeoutError"}), errors.Timeout),
    (frozenset({"builtins"}), frozenset({"ConnectionError"}), errors.UpstreamUnavailable),
)


def failure_of(error: BaseException) -> errors.ToolFailure | None:
    """Return the failure that `error` means, or None when it is a crash."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inner) != 1:
            return None
        (error,) = inner
    if isinstance(error, errors.ToolFailure):
        return error
    ancestry = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    for modules, names, failure in _KNOWN:
        if any((module, name) in ancestry for module in modules for name in names):
            return failure()
    return None


def invalid_arguments(invalid: ValidationError) -> errors.InvalidArguments:
    """Say which argument breaks which rule; never the value, nor a key that the caller made up."""
    details = invalid.errors(include_url=False, include_input=False)
    shown = [_problem(detail) for detail in details[:MOST_PROBLEMS]]
    more = len(details) - len(shown)
    text = "; ".join(dict.fromkeys(shown)) + (f"; and {more} more" if more else "")
    return errors.InvalidArguments(f"Invalid arguments. {text}. Correct them and call again.")


def _problem(detail: Any) -> str:
    rule = detail["type"]
    if rule == "extra_forbidden":
        return f"{_path(detail['loc'][:-1])}: has a field that the schema does not know"
    context: dict[str, Any] = detail.get("ctx") or {}
    bounds = ", ".join(f"{name} {value}" for name, value in context.items() if name in _BOUNDS)
    return f"{_path(detail['loc'])}: {rule.replace('_', ' ')}" + (f" ({bounds})" if bounds else "")


def _path(location: Iterable[str | int]) -> str:
    parts = [part if isinstance(part, str) and part.isidentifier() else "*" for part in location]
    return ".".join(parts[:LONGEST_LOCATION]) or "arguments"


def explain(failure: errors.ToolFailure, exchange: Exchange | None) -> tuple[str, dict[str, Any]]:
    """Return a failure as text for the model and as data for programs (schema: `ERROR_SCHEMA`)."""
    reference = exchange.request_id if exchange else ""
    advice = failure.advice
    if exchange is not None and not isinstance(failure, errors.InvalidArguments):
        advice = _without_echo(advice, exchange.sensitive)
    wait = failure.retry_after_seconds
    if failure.retryable:
        retry = f"Retry after {wait:.0f} s." if wait is not None else "A retry can help."
    else:
        retry = "A retry with the same arguments will not help."
    text = f"{failure.kind}: {advice} {retry}" + (f" Reference: {reference}." if reference else "")
    return text, {
        "kind": failure.kind,
        "retryable": failure.retryable,
        "retryAfterSeconds": wait,
        "advice": advice,
        "reference": reference,
    }


def result_of(failure: errors.ToolFailure, exchange: Exchange | None) -> CallToolResult:
    """Answer a failed tool call: text for the model, and the same in `_meta` for programs.

    Not as structured content: that has to match the tool's output schema, and a widespread client
    refuses the whole result when it does not.
    """
    text, data = explain(failure, exchange)
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta={ERROR_META_KEY: data})


def protocol_error(failure: errors.ToolFailure, exchange: Exchange | None, code: int) -> MCPError:
    """Answer a failure outside tools, where only a protocol error can be given."""
    text, data = explain(failure, exchange)
    return MCPError(code, text, data)


def _without_echo(advice: str, sensitive: set[str]) -> str:
    """Take the call's own values out of an author's sentence; they are no advice and may be an injection."""
    for value in sorted(sensitive, key=len, reverse=True):
        if len(value) >= SHORTEST_ECHO:
            advice = advice.replace(value, "…")
    return advice
