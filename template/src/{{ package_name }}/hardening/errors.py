"""What a caller may learn from a failure.

Two families, as the protocol has them.
A tool that fails answers with a result whose `isError` is true, written for the model.
A request that never reaches a tool is refused with an HTTP status and a JSON-RPC error.
Neither ever carries the text of an exception or a value from the arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic_core import to_json


class DatabaseUnavailableError(Exception):
    """The database did not answer at start; the message says what was tried, without the URL."""


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
        self.advice = advice or self.default_advice
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


class Internal(ToolFailure):
    """Something unforeseen; the log line with the same reference says where. Not for authors to raise."""


class PoolExhausted(Busy):
    """Every database connection is in use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer given without the protocol: a refusal, health, metadata.

    Attributes:
        status: HTTP status.
        kind: What it is, one word; log lines and metrics count by it.
        message: One constant sentence for the person who reads the client's log.
        headers: Further headers.
        retry_after: Seconds after which a retry can help; also sent as `Retry-After` (RFC 9110).
        code: JSON-RPC code; the HTTP status where none is given, since codes of an application
            belong outside -32768..-32000 (2026-07-28, error codes).
        data: Further members of the error's `data`.
        body: A body to send as it is, in place of the JSON-RPC error.
        content_type: Media type of `body`.
    """

    status: int
    kind: str
    message: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    retry_after: float | None = None
    code: int | None = None
    data: tuple[tuple[str, Any], ...] = ()
    body: bytes | None = None
    content_type: bytes = b"application/json"

    def render(self, request_id: str, rpc_id: int | str | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return headers and body; every answer carries the request id."""
        headers = [(b"x-request-id", request_id.encode()), *self.headers]
        body = self.body
        if body is None:
            data: dict[str, Any] = {"kind": self.kind, "reference": request_id, **dict(self.data)}
            if self.retry_after is not None:
                data["retryAfter"] = self.retry_seconds
            error = {"code": self.code or self.status, "message": self.message, "data": data}
            body = to_json({"jsonrpc": "2.0", "id": rpc_id, "error": error})
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_seconds).encode()))
        if body or self.body is None:
            headers.append((b"content-type", self.content_type))
        headers.append((b"content-length", str(len(body)).encode()))
        return headers, body

    @property
    def retry_seconds(self) -> int:
        """Whole seconds to wait, at least one."""
        return max(1, math.ceil(self.retry_after or 0))
