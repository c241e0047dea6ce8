"""Maps exceptions to typed failures, and failures to results and protocol errors.

It is the only way an exception becomes an answer; its text never gets into one.
"""

from __future__ import annotations

import math
from contextlib import suppress
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
from mcp.types import INVALID_PARAMS, CallToolResult, TextContent

from .. import errors
from ..logs.redaction import EVERYTHING
from .known_failures import library_failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pydantic import ValidationError

    from ..exchange import Exchange

log = structlog.get_logger()

# What the SDK makes of an exception that nobody foresaw.
_CRASHES = (UnexpectedToolError, UnexpectedResourceError)

ERROR_META_KEY = "hardening/error"
# Of exceptions that were raised from each other.
LONGEST_CHAIN = 16
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


def failure_of(error: BaseException) -> errors.ToolFailure | None:
    """Return the failure that `error` means, or None when it is a crash.

    A group of exceptions means a failure when all of them do: the first that no retry mends, or the first.
    """
    # A class of the author's may raise when it is looked at, and a group may be too deep: a crash like any other.
    with suppress(BaseException):
        return _meaning(error)
    return None


def _meaning(error: BaseException) -> errors.ToolFailure | None:
    if isinstance(error, BaseExceptionGroup):
        members = [_meaning(inner) for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions]
        known = [failure for failure in members if failure is not None]
        lasting = [failure for failure in known if not failure.retryable]
        return (lasting or known)[0] if len(known) == len(members) else None
    if isinstance(error, errors.ToolFailure):
        return error
    if isinstance(error, ToolError | ResourceError) and not isinstance(error, _CRASHES):
        # The SDK's words for a failure that the author means the model to read.
        kind = errors.NotFound if isinstance(error, ResourceNotFoundError) else errors.ToolError
        return kind(str(error))
    return library_failure(error)


def failure_or_crash(error: BaseException, *, wrapped: bool = False) -> errors.ToolFailure:
    """Return the failure that `error` means; a crash is logged, and told as internal.

    What a library has raised counts also where an author has raised something else from it.
    With `wrapped`, any failure does: so the SDK raises those of prompts and resources.
    """
    known = None
    with suppress(BaseException):
        known = _known(error, wrapped=wrapped)
    if known is None:
        log.error("unhandled exception", exc_info=error)
    _forget(error)
    return errors.Internal() if known is None else known


def _forget(error: BaseException) -> None:
    # One exception that an author raises again and again would keep the frames of every call, and what is in them.
    BaseException.with_traceback(error, None)


def _known(error: BaseException, *, wrapped: bool) -> errors.ToolFailure | None:
    cause: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if cause is None:
            break
        known = failure_of(cause) if wrapped or cause is error else library_failure(cause)
        if known is not None:
            return known
        cause = cause.__cause__
    return None


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
    _forget(failure)
    try:
        return _explained(failure, exchange, names)
    except Exception:
        # A class of the author's without `super().__init__()`, for example. The SDK would give its text to the caller.
        log.exception("failure that cannot be told")
        return _explained(errors.Internal(), exchange, names)


def _explained(
    failure: errors.ToolFailure, exchange: Exchange | None, names: Collection[str]
) -> tuple[str, dict[str, Any]]:
    reference = exchange.request_id if exchange else ""
    advice = failure.advice
    if exchange is not None and advice != failure.default_advice and not isinstance(failure, errors.InvalidArguments):
        advice = _without_echo(failure, exchange.sensitive.difference(names))
    # Half a character, as in names of files that are no UTF-8, cannot be sent.
    advice = advice.encode(errors="replace").decode()
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
    """Answer a failed tool call: text for the model, and the same in `_meta` for programs.

    Not as structured content: that has to match the tool's output schema, and a widespread client
    refuses the whole result when it does not.
    """
    text, data = explain(failure, exchange, names)
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta={ERROR_META_KEY: data})


def protocol_error(failure: errors.ToolFailure, exchange: Exchange | None, code: int) -> MCPError:
    """Answer a failure outside tools, where only a protocol error can be given."""
    text, data = explain(failure, exchange)
    return MCPError(code, text, data)


def kind_of(error: MCPError) -> str:
    """Return the kind of failure for a log line; an author's own error of the protocol has none."""
    data = error.error.data
    told = str(cast("dict[str, Any]", data).get("kind", "")) if isinstance(data, dict) else ""
    if told in errors.KINDS:
        return told
    return errors.InvalidInput.kind if error.error.code == INVALID_PARAMS else "protocol_error"


def _without_echo(failure: errors.ToolFailure, values: set[str]) -> str:
    """Take the call's own values out of an author's sentence; they are no advice and may be an injection."""
    if EVERYTHING in values:
        return failure.default_advice
    advice = failure.advice
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST_ECHO:
            advice = advice.replace(value, "…")
    return advice[:LONGEST_ADVICE]
