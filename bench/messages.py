"""The requests of both eras, as the load sends them."""

from __future__ import annotations

import json
from typing import Any

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
KEY = "bench-key-0123456789-0123456789-0123456789"
PROBE_KEY = "bench-probe-0123456789-0123456789-0123456"
CLIENT = {"name": "bench", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
# Where the number of a request goes.
ID = "@ID@"


def headers(era: str, method: str, name: str = "") -> dict[str, str]:
    """Return the headers of one request."""
    common = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {KEY}",
    }
    if era == "legacy":
        return common | ({} if method == "initialize" else {"MCP-Protocol-Version": LEGACY})
    return common | {"MCP-Protocol-Version": MODERN, "Mcp-Method": method} | ({"Mcp-Name": name} if name else {})


def body(era: str, method: str, **params: Any) -> str:
    """Return the message, with `ID` in the place of its number."""
    if era == "modern":
        params["_meta"] = META
    if method == "initialize":
        params |= {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if not method.startswith("notifications/"):
        message["id"] = ID
    if params:
        message["params"] = params
    return json.dumps(message).replace(f'"{ID}"', ID)


def call(era: str) -> tuple[dict[str, str], str]:
    """Return a call of the tool that gives its text back."""
    return headers(era, "tools/call", "echo"), body(era, "tools/call", name="echo", arguments={"text": "hello"})


def call_of(name: str, **arguments: Any) -> tuple[dict[str, str], str]:
    """Return a call of any tool, in the newest protocol."""
    return headers("modern", "tools/call", name), body("modern", "tools/call", name=name, arguments=arguments)


def listing(era: str) -> tuple[dict[str, str], str]:
    """Return a listing of the tools."""
    return headers(era, "tools/list"), body(era, "tools/list")


def opening(era: str) -> tuple[dict[str, str], str]:
    """Return what a client says first."""
    method = "server/discover" if era == "modern" else "initialize"
    return headers(era, method), body(era, method)


def ready() -> tuple[dict[str, str], str]:
    """Return the notification that ends a handshake."""
    return headers("legacy", "notifications/initialized"), body("legacy", "notifications/initialized")


def dearest(era: str) -> dict[str, tuple[dict[str, str], str]]:
    """Return the requests that cost most of what is let through with default limits: each of 1 MiB or 10,000 values."""
    values = {
        "nested lists": json.loads("[" + ",".join(["[" * 50 + "]" * 50] * 190) + "]"),
        "many keys": {f"k{number}": number for number in range(9900)},
        "many texts": [f"{number:x<90}" for number in range(9900)],
        "long numbers": [10**3999] * 240,
    }
    requests: dict[str, tuple[dict[str, str], str]] = {}
    for name, value in values.items():
        own = headers(era, "tools/call", "echo")
        requests[f"{name}, as an argument"] = own, body(era, "tools/call", name="echo", arguments={"text": value})
        requests[f"{name}, unknown"] = own, body(era, "tools/call", name="echo", arguments={"text": "a", "x": value})
        requests[f"{name}, beside the arguments"] = own, body(era, "tools/call", name="echo", arguments={}, x=value)
    own, text = listing(era)
    requests["the longest list of media types"] = own | {"Accept": "a," * 30_000}, text
    return requests
