"""Refuses the entry points of the SDK's server that lead past the boundary: transports, routes, tools (exit 78).

What they would serve has no authentication, no limits, no deadlines and no contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from mcp.server.mcpserver import MCPServer

from .calls.declaration import InvalidDeclarationError, refuse_declaration

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver.prompts import Prompt
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

START = "start it with the command serve, or stdio for a client on this machine: only they have the guards"


class ClosedEntryPoints(MCPServer[None]):
    """The SDK's server without its other ways in.

    Every method of the SDK's raises `InvalidDeclarationError`, with what to do instead.
    """

    def open_protocol(self, **options: Any) -> StreamableHTTPSessionManager:
        """Return what speaks the protocol, for the guards in front of it; options as in the SDK."""
        super().streamable_http_app(**options)
        return self.session_manager

    def streamable_http_app(self, **_: Any) -> NoReturn:
        """Refuse an application without guards."""
        raise InvalidDeclarationError(f"streamable_http_app: {START}")

    def sse_app(self, **_: Any) -> NoReturn:
        """Refuse an application without guards."""
        raise InvalidDeclarationError(f"sse_app: {START}")

    def run(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a transport without guards."""
        raise InvalidDeclarationError(f"run: {START}")

    async def run_stdio_async(self) -> NoReturn:
        """Refuse a transport without guards."""
        raise InvalidDeclarationError(f"run_stdio_async: {START}")

    async def run_sse_async(self, **_: Any) -> NoReturn:
        """Refuse a transport without guards."""
        raise InvalidDeclarationError(f"run_sse_async: {START}")

    async def run_streamable_http_async(self, **_: Any) -> NoReturn:
        """Refuse a transport without guards."""
        raise InvalidDeclarationError(f"run_streamable_http_async: {START}")

    def custom_route(self, path: str, *_: Any, **__: Any) -> Callable[[Any], Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse a route: it would stand outside of every guard."""
        cure = "serve it from another process, behind the same proxy; this one answers the protocol alone"
        refuse_declaration(f"custom_route {path}: {cure}")
        return lambda function: function

    def tool(self, name: Any = None, *_: Any, **__: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refuse a tool that the SDK would call, with or without brackets behind the decorator."""

        def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
            self.add_tool(function)
            return function

        return decorator(name) if callable(name) else decorator

    def add_tool(self, fn: Callable[..., Any], *_: Any, **__: Any) -> None:
        """Refuse a tool that the SDK would call."""
        refuse_declaration(f"{getattr(fn, '__name__', '?')}: declare it with @tool(read_only=…) and add it to TOOLS")

    def remove_tool(self, name: str) -> None:
        """Refuse to take a tool away: the contract would not say so."""
        refuse_declaration(f"remove_tool {name}: take it out of TOOLS, or switch it off with MCP_TOOLS_DENY")

    def add_prompt(self, prompt: Prompt) -> None:
        """Refuse a prompt that the SDK would render."""
        refuse_declaration(f"prompt {prompt.name}: declare its function with @server.prompt()")

    def remove_prompt(self, name: str) -> None:
        """Refuse to take a prompt away."""
        refuse_declaration(f"remove_prompt {name}: do not declare it")
