"""The SDK as a newcomer starts it; also FastMCP, and a constant answer as the limit of the HTTP server.

bare.py KIND PORT TOOLS
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Echo = "Callable[[str], Awaitable[str]]"


def named(number: int) -> Callable[[str], Awaitable[str]]:
    """Return one tool of many that are alike."""

    async def echo(text: str) -> str:
        """Give the text back."""
        return text

    echo.__name__ = f"echo_{number}" if number else "echo"
    return echo


def bare(tools: int) -> Any:
    """Return the SDK's own application."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("bare")
    for number in range(tools):
        server.tool()(named(number))
    return server.streamable_http_app()


def fastmcp(tools: int) -> Any:
    """Return FastMCP's application."""
    from fastmcp import FastMCP

    server = FastMCP("fastmcp")
    for number in range(tools):
        server.tool(named(number))
    return server.http_app()


async def constant(scope: Any, receive: Any, send: Any) -> None:
    """Answer everything alike, after reading the body."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = ANSWER
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


CONTENT = {"content": [{"type": "text", "text": "hello"}], "structuredContent": {"result": "hello"}}
ANSWER = json.dumps({"jsonrpc": "2.0", "id": 1, "result": CONTENT | {"tools": [], "resultType": "complete"}}).encode()


def main(kind: str, port: int, tools: int) -> None:
    """Serve until killed."""
    if kind == "raw":
        uvicorn.run(constant, port=port, loop="uvloop", http="httptools", access_log=False, lifespan="off")
        return
    # What uvicorn uses when nothing but the SDK is installed.
    uvicorn.run({"bare": bare, "fastmcp": fastmcp}[kind](tools), port=port, loop="asyncio", http="h11")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
