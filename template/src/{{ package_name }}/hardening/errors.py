"""The failures that a tool may raise, each with a kind, whether a retry can help, and advice.

A tool that fails answers with a result whose `isError` is true, written for the model.
It never carries the text of an exception or a value from the arguments.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast


class ToolFailure(Exception):  # noqa: N818 - an author raises what happened
    """A failure that the model may read; the base of the taxonomy.

    Args:
        advice: What the caller should do now. One sentence of yours, without values of the call.
        retry_after_seconds: When a retry can help, if that is known.
    """

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    default_advice: ClassVar[str] = "Report the reference to the operator."

    def __init__(self, advice: str = "", *, retry_after_seconds: float | None = None) -> None:
        # Whatever else was given, such as the exception that was caught, is no sentence of yours.
        written = cast("object", advice)
        self.advice = written if isinstance(written, str) and written else self.default_advice
        known = retry_after_seconds is not None and math.isfinite(retry_after_seconds)
        self.retry_after_seconds = max(0.0, retry_after_seconds or 0.0) if known else None
        super().__init__(self.advice)


class InvalidInput(ToolFailure):
    """The arguments are well formed and yet make no sense; change them."""

    kind = "invalid_input"
    default_advice = "Correct the arguments and call again."


class InvalidArguments(InvalidInput):
    """The arguments break the schema. Raised for the author, who never sees such a call."""


class TooLarge(InvalidInput):
    """The answer would be larger than `MCP_MAX_RESPONSE_BYTES`. Raised for the author."""

    default_advice = "The result would be too large. Ask for less."


class NotFound(ToolFailure):
    """What the arguments name does not exist."""

    kind = "not_found"
    default_advice = "Check the name or id and call again."


class Conflict(ToolFailure):
    """The state has changed, or the thing exists already."""

    kind = "conflict"
    default_advice = "Read the current state, then decide again."


class PermissionDenied(ToolFailure):
    """This caller may not do this; another one may."""

    kind = "permission_denied"
    default_advice = "Ask the user for access."


class Busy(ToolFailure):
    """Nothing is wrong but the load."""

    kind = "busy"
    retryable = True
    default_advice = "Wait, then call again with the same arguments."


class UpstreamUnavailable(ToolFailure):
    """A system that this server needs does not answer."""

    kind = "upstream_unavailable"
    retryable = True
    default_advice = "Wait, then call again with the same arguments."


class Timeout(ToolFailure):
    """The deadline of the call has passed; it may have had effects."""

    kind = "timeout"
    retryable = True
    default_advice = "Ask for less, or check whether the call had an effect and call again."


class BudgetExhausted(ToolFailure):
    """The caller has used up its budget for this window."""

    kind = "budget_exhausted"
    retryable = True
    default_advice = "Wait until the budget is refilled."


class RateLimited(BudgetExhausted):
    """The caller calls this tool too often."""

    kind = "rate_limited"
    default_advice = "Wait, then call again."


class CannotAsk(ToolFailure):
    """The call has to ask the person, and neither the client nor the protocol that it speaks has a way to do so."""

    kind = "cannot_ask"
    default_advice = "This client cannot pass the server's question on. Tell the user to use one that can."


class ConfirmationRequired(CannotAsk):
    """The tool runs only after the person has agreed, and the client cannot ask. Raised for the author."""

    kind = "confirmation_required"
    default_advice = "The user must confirm this, and the client cannot ask. Tell the user to use one that can."


class Declined(ToolFailure):
    """The person was asked, and said no."""

    kind = "declined"
    default_advice = "The user said no. Do not call again unless the user asks for it."


class Internal(ToolFailure):
    """Something unforeseen; the log line with the same reference says where. Not for authors to raise."""


class ToolError(ToolFailure):
    """The tool says itself that it has failed, by the SDK's `ToolError` or a result with `is_error`."""

    kind = "tool_error"
    default_advice = "Read what the tool says, then decide."


class PoolExhausted(Busy):
    """Every database connection is in use."""


# Each kind that a log line, a metric or an answer may name.
KINDS = frozenset(
    kind.kind for kind in tuple(vars().values()) if isinstance(kind, type) and issubclass(kind, ToolFailure)
)
