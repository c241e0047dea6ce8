"""The stack: one ASGI layer that asks each protection in turn, then hands over to the protocol.

One layer and not ten, because each further one costs every request.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from .addresses import AddressGuard
from .auth import Authentication
from .context import MCP_PATH, current, open_exchange
from .envelope import Envelope
from .errors import Answer
from .health import LIVE_PATH, READY_PATH, HealthGuard
from .hosts import HostGuard
from .rate_limit import RateLimits
from .request_limits import Body, DeclaredLimits, InFlight
from .shutdown import Drain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

    from .context import Exchange, Guard
    from .server import HardenedServer

log = structlog.get_logger()

METRICS_PATH = "/metrics"
METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"
CRASHED = Answer(500, "internal", "Internal error. Report the reference to the operator.")
WORTH_A_WARNING = 500


class App:
    """The ASGI application."""

    def __init__(self, server: HardenedServer) -> None:
        settings = server.hardening
        self.server = server
        self.drain = Drain()
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        read = frozenset({"GET", "HEAD", "OPTIONS"})
        protocol = {"POST", "GET", "DELETE", "OPTIONS"} if settings.legacy == "stateful" else {"POST", "OPTIONS"}
        routes = {
            MCP_PATH: frozenset(protocol),
            LIVE_PATH: read,
            READY_PATH: read,
            METRICS_PATH: read,
            METADATA_PATH: read,
        }
        self.limits = server.limits = RateLimits(settings)
        for tool in server.declared.values():
            self.limits.declare(tool.name, rate_per_minute=tool.declaration.rate_per_minute, cost=tool.declaration.cost)
        scopes = {tool.name: tool.declaration.scopes for tool in server.declared.values()}
        self.authentication = Authentication(settings, tool_scopes=scopes, on_failure=self.limits.auth_failed)
        # The order of the stack; every request passes it from top to bottom.
        self.guards: tuple[tuple[str, Guard], ...] = (
            # A kubelet asks by the pod's address and has no credential.
            ("health", HealthGuard(self.drain, server.database.ping if server.database else None)),
            # A foreign page must learn nothing, not even that authentication is missing.
            ("host", HostGuard(settings)),
            # Costs nothing to check and keeps what is not a request away from everything below.
            ("declared", DeclaredLimits(settings, routes)),
            # A replica that is leaving takes no new work.
            ("drain", self.drain),
            # Everything below counts by it.
            ("address", AddressGuard(settings.trusted_proxy_hops)),
            # A flood is refused before it costs a signature check.
            ("address_rate", self.limits.address),
            # Nobody unknown gets further.
            ("authentication", self.authentication),
            # One caller cannot take what others need.
            ("principal_rate", self.limits.principal),
            ("in_flight", InFlight(settings)),
            # Only now is anything read, held or waited for.
            ("body", Body(settings)),
            ("envelope", Envelope(settings)),
            # What the message asks for decides what the credential must allow.
            ("authorization", self.authentication.authorize),
            # What is allowed is counted, everything that one request needs at once.
            ("rate", self.limits.message),
        )
        server.streamable_http_app(
            stateless_http=settings.legacy != "stateful",
            max_request_body_size=settings.max_body_bytes,
            session_idle_timeout=settings.session_idle_seconds,
            max_sessions=settings.max_sessions,
            # The guards above have checked Host and Origin on every route, not on this one alone.
            host="checked.invalid",
        )
        self.protocol = server.session_manager
        self.protocol.app.get_tool_input_schema = self._input_schema

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Keep the protocol's own tasks alive; leave it when the last call has been answered."""
        async with self.authentication.running(), self.protocol.run():
            yield

    def in_flight(self) -> int:
        """Return how many protocol requests are being answered."""
        return self.running

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await self._idle.wait()

    def _count(self, change: int) -> None:
        self.running += change
        if self.running:
            self._idle.clear()
        else:
            self._idle.set()

    def calls(self) -> list[str]:
        """Return the names of the calls that run."""
        return sorted(self.server.calls.values())

    def cut_short(self) -> list[str]:
        """End the calls that run; see `HardenedServer.cut_short`."""
        return self.server.cut_short()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; anything else is not served."""
        if scope["type"] != "http":
            return
        exchange = open_exchange(scope, receive, send)
        token = current.set(exchange)
        counted = exchange.path == MCP_PATH
        self._count(counted)
        try:
            await self._answer(exchange)
        except Exception:
            # The last wall: what gets here is a fault of this code, and the caller learns nothing of it.
            log.exception("crashed")
            exchange.refused_by = "shield"
            await self._send(exchange, CRASHED)
        finally:
            self._count(-counted)
            for release in reversed(exchange.on_end):
                release()
            self._log(exchange)
            current.reset(token)

    async def _answer(self, exchange: Exchange) -> None:
        for name, guard in self.guards:
            answer = await guard(exchange)
            if answer is not None:
                exchange.refused_by = name
                await self._send(exchange, answer)
                return
        await self.protocol.handle_request(exchange.scope, exchange.receive, self._watched(exchange))

    async def _send(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.status:
            return
        exchange.status = answer.status
        headers, body = answer.render(exchange.request_id, exchange.rpc_id)
        headers += exchange.response_headers
        await exchange.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else body})

    def _watched(self, exchange: Exchange) -> Send:
        send = exchange.send
        own = [(b"x-request-id", exchange.request_id.encode()), *exchange.response_headers]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        return watched

    def _log(self, exchange: Exchange) -> None:
        if exchange.refused_by in {"health", None} and exchange.status < WORTH_A_WARNING:
            return
        log.info(
            "refused",
            layer=exchange.refused_by,
            status=exchange.status,
            duration_ms=round((time.monotonic() - exchange.started) * 1000, 1),
        )

    def _input_schema(self, name: str) -> dict[str, object] | None:
        tool = self.server.declared.get(name)
        return tool.input_schema if tool else None
