"""One HTTP response made without the SDK: a refusal (4xx, 5xx), health, metrics, metadata.

Every refusal is a JSON-RPC error with a constant message and the request id; it never carries a value of the request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class Response:
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
