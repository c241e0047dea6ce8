"""The protocol spoken by hand, so that a test sees each event when it arrives."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

Era = Literal["modern", "legacy"]
ERAS: tuple[Era, ...] = ("modern", "legacy")
VERSIONS = {"modern": "2026-07-28", "legacy": "2025-11-25"}
META = "io.modelcontextprotocol"


@dataclass
class Event:
    """One JSON-RPC message, and when it came: seconds after the request."""

    at: float
    message: dict[str, Any]


@dataclass
class Reply:
    """A whole answer."""

    status: int
    headers: httpx2.Headers
    events: list[Event] = field(default_factory=list[Event])

    @property
    def progress(self) -> list[float]:
        """When each progress notification came."""
        return [e.at for e in self.events if e.message.get("method") == "notifications/progress"]

    @property
    def last(self) -> dict[str, Any]:
        """The response itself."""
        return self.events[-1].message

    @property
    def result(self) -> dict[str, Any]:
        """The result of the call; a test that expects one fails without."""
        assert "result" in self.last, (self.status, self.last)
        return self.last["result"]


def tool_call(era: Era, key: str, name: str, arguments: dict[str, Any], **headers: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call that asks for progress."""
    meta: dict[str, Any] = {"progressToken": "progress"}
    sent = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSIONS[era],
    }
    if era == "modern":
        sent |= {"mcp-method": "tools/call", "mcp-name": name}
        meta |= {
            f"{META}/protocolVersion": VERSIONS[era],
            f"{META}/clientCapabilities": {},
            f"{META}/clientInfo": {"name": "deploying-tests", "version": "1"},
        }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return sent | headers, json.dumps(body).encode()


async def events(response: httpx2.Response, started: float) -> AsyncIterator[Event]:
    """Yield each message at the moment it arrives, from an event stream or from one JSON body."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        body = await response.aread()
        yield Event(time.monotonic() - started, json.loads(body) if body else {})
        return
    async for line in response.aiter_lines():
        if line.startswith("data:") and line.removeprefix("data:").strip():
            yield Event(time.monotonic() - started, json.loads(line.removeprefix("data:")))


async def post(client: httpx2.AsyncClient, url: str, request: tuple[dict[str, str], bytes]) -> Reply:
    """Send one request and read its answer to the end."""
    started = time.monotonic()
    headers, body = request
    async with client.stream("POST", url, headers=headers, content=body) as response:
        reply = Reply(response.status_code, response.headers)
        async for event in events(response, started):
            reply.events.append(event)
    return reply
