"""The stack of one server: which protections there are, in which order, and why."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from mcp.types import SubscriptionsListenRequestParams
from sse_starlette.sse import EventSourceResponse

from .access_log import AccessLog
from .addresses import AddressGuard
from .auth import METRICS_PATH, Authentication
from .context import MCP_PATH
from .edge import Edge
from .envelope import Envelope
from .health import LIVE_PATH, READY_PATH, HealthGuard
from .hosts import HostGuard
from .metadata import METADATA_PATH
from .rate_limit import RateLimits
from .request_limits import Body, DeclaredLimits, InFlight, OpenStreams
from .sessions import Sessions
from .shutdown import Drain
from .single import Single
from .standing_streams import StandingStreams
from .subscriptions import LISTEN, Listening, RedisBus
from .telemetry import MetricsGuard, open_metrics, read_from, schema_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from .context import Guard
    from .server import HardenedServer

READ = frozenset({"GET", "HEAD", "OPTIONS"})
STATELESS = frozenset({"POST", "OPTIONS"})
STATEFUL = frozenset({"POST", "GET", "DELETE", "OPTIONS"})


class App:
    """The ASGI application of one server, and what the drain asks of it."""

    def __init__(self, server: HardenedServer) -> None:
        settings = server.hardening
        self.server = server
        self.drain = Drain()
        self.limits = server.limits = RateLimits(settings)
        for tool in server.declared.values():
            self.limits.declare(tool.name, rate_per_minute=tool.declaration.rate_per_minute, cost=tool.declaration.cost)
        scopes = {tool.name: tool.declaration.scopes for tool in server.declared.values()}
        self.authentication = Authentication(settings, tool_scopes=scopes, on_failure=self.limits.auth_failed)
        self.sessions = Sessions(settings)
        self.streams = OpenStreams(settings)
        self.schema_sha256 = schema_sha256(server)
        self.metrics = server.metrics = open_metrics(server, self.schema_sha256)
        read_from(self)
        routes = {
            MCP_PATH: STATEFUL if settings.legacy == "stateful" else STATELESS,
            **dict.fromkeys((LIVE_PATH, READY_PATH, METRICS_PATH, METADATA_PATH), READ),
        }
        # The order of the stack; every request passes it from top to bottom.
        guards: tuple[tuple[str, Guard], ...] = (
            # A foreign page must learn nothing, not even that authentication is missing.
            ("host", HostGuard(settings, any_host=frozenset({LIVE_PATH, READY_PATH, METRICS_PATH}))),
            # The platform has no credential, and its questions are no load.
            ("health", HealthGuard(self.drain, server.database.ping if server.database else None)),
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
            ("streams", self.streams),
            ("sessions", self.sessions),
            # Not of the protocol, and behind everything that protects it.
            ("metrics", MetricsGuard(self.metrics)),
        )
        # A class attribute is how the library is told (its type says that it never changes).
        setattr(EventSourceResponse, "DEFAULT_PING_INTERVAL", settings.stream_ping_seconds)  # noqa: B010
        server.streamable_http_app(
            stateless_http=settings.legacy != "stateful",
            max_request_body_size=settings.max_body_bytes,
            session_idle_timeout=settings.session_idle_seconds,
            max_sessions=settings.max_sessions,
            # The guards above have checked Host and Origin, on every route and not on this one alone.
            host="checked.invalid",
        )
        self.protocol = server.session_manager
        self.protocol.app.get_tool_input_schema = self._input_schema
        self.listen: Listening | None = None
        if server.bus is not None:
            self.listen = Listening(server.bus)
            self.protocol.app.add_request_handler(LISTEN, SubscriptionsListenRequestParams, self.listen)
        self.standing = StandingStreams(self.protocol.handle_request)
        single = Single(
            self.protocol.app,
            self.standing,
            listing=server.written,
            stateless=settings.legacy != "stateful",
            ping_seconds=settings.stream_ping_seconds,
        )
        self.edge = Edge(guards, single, AccessLog(self.metrics), self.sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self.edge(scope, receive, send)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Keep what works in the background alive; leave it when the last call has been answered."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.limits.limiter.aclose)
            await stack.enter_async_context(self.authentication.running())
            if isinstance(self.server.bus, RedisBus):
                await stack.enter_async_context(self.server.bus.running())
            await stack.enter_async_context(self.protocol.run())
            lag = asyncio.ensure_future(self.metrics.watch_loop())
            stack.callback(lag.cancel)
            yield

    def in_flight(self) -> int:
        """Return how many protocol requests are being answered."""
        return self.edge.in_flight()

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await self.edge.idle()

    def end_streams(self) -> None:
        """End the streams that would never end by themselves, each with its result."""
        self.standing.end()
        if self.listen is not None:
            self.listen.close()

    def calls(self) -> list[str]:
        """Return the names of the calls that run."""
        return sorted(self.server.calls.values())

    def cut_short(self) -> list[str]:
        """End the calls that run; see `HardenedServer.cut_short`."""
        return self.server.cut_short()

    def _input_schema(self, name: str) -> dict[str, object] | None:
        tool = self.server.declared.get(name)
        return tool.input_schema if tool else None
