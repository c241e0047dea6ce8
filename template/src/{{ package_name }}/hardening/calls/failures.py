"""Maps exceptions to typed failures, and failures to results and protocol errors.

It is the only way an exception becomes an answer; its text never gets into one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import structlog
from mcp import MCPError
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from mcp.types import CallToolResult, TextContent

from .. import errors
from ..logs.redaction import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pydantic import ValidationError

    from ..exchange import Exchange

log = structlog.get_logger()

# What the SDK makes of an exception that nobody foresaw.
_CRASHES = (UnexpectedToolError, UnexpectedResourceError)

ERROR_META_KEY = "hardening/error"
# Shorter values are too common to be told from ordinary words.
SHORTEST_ECHO = 4
LONGEST_ADVICE = 500
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
    # Text that JSON can carry and PostgreSQL cannot: NUL.
    (
        frozenset({"asyncpg"}),
        frozenset({"CharacterNotInRepertoireError", "UntranslatableCharacterError"}),
        errors.InvalidInput,
    ),
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
    """Return the failure that `error` means, or None when it is a crash.

    A group of exceptions means a failure when all of them mean the same one.
    """
    if isinstance(error, BaseExceptionGroup):
        failures = [failure_of(inner) for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions]
        return failures[0] if len({failure and failure.kind for failure in failures}) == 1 else None
    if isinstance(error, errors.ToolFailure):
        return error
    if isinstance(error, ToolError | ResourceError) and not isinstance(error, _CRASHES):
        # The SDK's words for a failure that the author means the model to read.
        kind = errors.NotFound if isinstance(error, ResourceNotFoundError) else errors.ToolError
        return kind(str(error))
    ancestry = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    for modules, names, failure in _KNOWN:
        if any((module, name) in ancestry for module in modules for name in names):
            return None if _rejected(error) else failure()
    return None


def _rejected(error: BaseException) -> bool:
    """Return whether another system has refused what this one asked for: then asking again is no use."""
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return isinstance(status, int) and status < 500 and status != 429  # noqa: PLR2004 - statuses of HTTP


def failure_or_crash(error: BaseException, *, wrapped: bool = False) -> errors.ToolFailure:
    """Return the failure that `error` means; a crash is logged, and told as internal.

    With `wrapped`, what an exception was raised from counts too: so the SDK raises those of prompts and resources.
    """
    cause: BaseException | None = error
    while cause is not None:
        known = failure_of(cause)
        if known is not None:
            return known
        cause = cause.__cause__ if wrapped else None
    log.error("unhandled exception", exc_info=error)
    return errors.Internal()


def invalid_arguments(invalid: ValidationError, names: Collection[str]) -> errors.InvalidArguments:
    """Say which argument breaks which rule; never the value, nor a key that is not in `names`."""
    details = invalid.errors(include_url=False, include_input=False)
    shown = [_problem(detail, names) for detail in details[:MOST_PROBLEMS]]
    more = len(details) - len(shown)
    text = "; ".join(dict.fromkeys(shown)) + (f"; and {more} more" if more else "")
    return errors.InvalidArguments(f"Invalid arguments. {text}. Correct them and call again.")


def _problem(detail: Any, names: Collection[str]) -> str:
    rule = detail["type"]
    if rule == "extra_forbidden":
        return f"{_path(detail['loc'][:-1], names)}: has a field that the schema does not know"
    context: dict[str, Any] = detail.get("ctx") or {}
    bounds = ", ".join(f"{name} {value}" for name, value in context.items() if name in _BOUNDS)
    return f"{_path(detail['loc'], names)}: {rule.replace('_', ' ')}" + (f" ({bounds})" if bounds else "")


def _path(location: Iterable[str | int], names: Collection[str]) -> str:
    parts = [str(part) if part in names else "*" for part in location]
    return ".".join(parts[:LONGEST_LOCATION]) or "arguments"


def explain(
    failure: errors.ToolFailure, exchange: Exchange | None, names: Collection[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Return a failure as text for the model and as data for programs (schema: `ERROR_SCHEMA`).

    `names` are words of the contract that may appear although the caller has written them too.
    """
    reference = exchange.request_id if exchange else ""
    advice = failure.advice
    if exchange is not None and advice != failure.default_advice and not isinstance(failure, errors.InvalidArguments):
        advice = _without_echo(failure, exchange.sensitive.difference(names))
    wait = failure.retry_after_seconds
    # A failure that says when to call again says that a retry can help.
    retryable = failure.retryable or wait is not None
    if wait is not None:
        retry = f"Retry after {math.ceil(wait)} s."
    else:
        retry = "A retry can help." if retryable else "A retry with the same arguments will not help."
    text = f"{failure.kind}: {advice} {retry}" + (f" Reference: {reference}." if reference else "")
    return text, {
        "kind": failure.kind,
        "retryable": retryable,
        "retryAfterSeconds": wait,
        "advice": advice,
        "reference": reference,
    }


def result_of(failure: errors.ToolFailure, exchange: Exchange | None, names: Collection[str] = ()) -> CallToolResult:
    """Response a failed tool call: text for the model, and the same in `_meta` for programs.

    Not as structured content: that has to match the tool's output schema, and a widespread client
    refuses the whole result when it does not.
    """
    text, data = explain(failure, exchange, names)
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta={ERROR_META_KEY: data})


def protocol_error(failure: errors.ToolFailure, exchange: Exchange | None, code: int) -> MCPError:
    """Response a failure outside tools, where only a protocol error can be given."""
    text, data = explain(failure, exchange)
    return MCPError(code, text, data)


def _without_echo(failure: errors.ToolFailure, values: set[str]) -> str:
    """Take the call's own values out of an author's sentence; they are no advice and may be an injection."""
    if EVERYTHING in values:
        return failure.default_advice
    advice = failure.advice
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST_ECHO:
            advice = advice.replace(value, "…")
    return advice[:LONGEST_ADVICE]
