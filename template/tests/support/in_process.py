"""Calls a tool without a socket, inside the same boundary: limits, deadline, failures, log."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import alias

alias.install()

from hardening import Principal
from hardening.auth.authorization import Scopes
from hardening.exchange import Exchange, current
from hardening.logs.redaction import collect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from mcp.types import CallToolResult

    from hardening import HardenedServer

TESTER = Principal("api_key", "tester")


class ScopeError(PermissionError):
    """The token lacks a scope of the tool; over HTTP this is 403, before the tool is reached."""


async def _nothing(*_: object) -> Any:
    """Stand in for the connection, which a call does not touch."""


async def call(
    server: HardenedServer, name: str, arguments: dict[str, Any], principal: Principal | None = None
) -> CallToolResult:
    """Return what a client would get.

    Raises:
        ScopeError: The principal's token may not call this tool.
        MCPError: There is no such tool.
    """
    caller = principal or TESTER
    if caller.kind == "jwt" and (tool := server.declared.get(name)) is not None:
        settings = server.hardening_settings
        scopes = Scopes(settings.required_scopes, {name: tool.declaration.scopes}, settings.implied_scopes)
        if not scopes.cover(caller.scopes, scopes.needed(name)):
            raise ScopeError(f"{name} needs the scopes {', '.join(sorted(scopes.needed(name)))}")
    exchange = Exchange(
        scope={},
        receive=_nothing,
        send=_nothing,
        request_id=secrets.token_hex(8),
        trace_id=secrets.token_hex(16),
        method="POST",
        path="/mcp",
        headers={},
        protocol_version="2026-07-28",
        era="modern",
        principal=caller,
        rpc_method="tools/call",
        tool_name=name,
        params={"name": name, "arguments": arguments},
    )
    collect([name, arguments], exchange.sensitive)
    token = current.set(exchange)
    try:
        return await server.call_tool(name, arguments)  # type: ignore[return-value] - nobody is asked in process
    finally:
        current.reset(token)


@asynccontextmanager
async def in_one_task(manager: AbstractAsyncContextManager[object]) -> AsyncGenerator[None]:
    """Open and close in one task, as a server does; fixtures begin and end in different ones."""
    opened, over = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with manager:
            opened.set()
            await over.wait()

    holder = asyncio.create_task(hold())
    waiting = asyncio.create_task(opened.wait())
    await asyncio.wait({holder, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if holder.done():
        await holder
    try:
        yield
    finally:
        over.set()
        await holder
