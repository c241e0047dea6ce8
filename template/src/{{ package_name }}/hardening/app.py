"""The ASGI application of one server: builds every part once, and hands requests to them in the order of `stack.py`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from sse_starlette.sse import EventSourceResponse

from .auth.authentication import Authentication
from .auth.authorization import Authorization, Scopes
from .auth.resource_metadata import ProtectedResource
from .edge.body import Body
from .edge.client_ip import ClientIp
from .edge.draining import Drain
from .edge.header_fields import HeaderFields
from .edge.health import Health
from .edge.host_origin import HostOrigin
from .edge.pipeline import Pipeline
from .edge.request_head import RequestHead
from .limits.concurrency import InFlight, OpenStreams
from .logs.access_log import AccessLog
from .protocol.direct_calls import DirectCalls
from .protocol.long_lived_streams import LongLivedStreams, serve_listen
from .protocol.message import MessageCheck
from .protocol.session_memory import SessionMemory
from .protocol.sessions import Sessions
from .protocol.stateless import StatelessTransport
from .protocol.subscription_bus import RedisBus
from .routes import LIVE_PATH, MCP_PATH, METADATA_PATH, METRICS_PATH, READY_PATH
from .stack import guards_of
from .telemetry.endpoint import MetricsEndpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from .server import HardenedServer

READ = frozenset({"GET", "HEAD", "OPTIONS"})
STATELESS = frozenset({"POST", "OPTIONS"})
STATEFUL = frozenset({"POST", "GET", "DELETE", "OPTIONS"})


class App:
    """The parts of one server, each built once.

    Attributes:
        pipeline: Asks the guards, then the protocol.
        drain: How far a shutdown is.
        streams: Streams without a call (GET of sessions); ended at a drain.
        listening: Streams of `subscriptions/listen`; ended at a drain.
    """

    def __init__(self, server: HardenedServer) -> None:
        settings = server.hardening_settings
        stateful = settings.legacy == "stateful"
        routes = {
            MCP_PATH: STATEFUL if stateful else STATELESS,
            **dict.fromkeys((LIVE_PATH, READY_PATH, METRICS_PATH, METADATA_PATH), READ),
        }
        scopes = Scopes(
            settings.required_scopes,
            {tool.name: tool.declaration.scopes for tool in server.declared.values()},
            settings.implied_scopes,
        )
        issuer = settings.jwt_issuer if "jwt" in settings.auth else ""
        resource = ProtectedResource(issuer, settings.public_url, scopes.required)
        self.server = server
        self.settings = settings
        self.metrics = server.metrics
        self.limits = server.limits
        self.drain = Drain()
        self.header_fields = HeaderFields()
        self.host_origin = HostOrigin(settings, any_host=frozenset({LIVE_PATH, READY_PATH, METRICS_PATH}))
        self.health = Health(self.drain)
        self.request_head = RequestHead(settings, routes)
        self.client_ip = ClientIp(settings.trusted_proxy_hops)
        self.authentication = Authentication(
            settings, resource, on_failure=self.limits.auth_failed, on_doubt=self.limits.auth_in_doubt
        )
        self.in_flight = InFlight(settings)
        self.body = Body(settings)
        self.message = MessageCheck(settings)
        self.authorization = Authorization(scopes, resource)
        self.open_streams = OpenStreams(settings)
        self.sessions = Sessions(settings, on_end=server.on_session_end)
        self.metrics_endpoint = MetricsEndpoint(self.metrics, server.database.ping if server.database else None)
        # A class attribute is how the library is told (its type says that it never changes).
        setattr(EventSourceResponse, "DEFAULT_PING_INTERVAL", settings.stream_ping_seconds)  # noqa: B010
        self.session_manager = server.open_protocol(
            stateless_http=not stateful,
            max_request_body_size=settings.max_body_bytes,
            session_idle_timeout=settings.session_idle_seconds,
            max_sessions=settings.max_sessions,
            # The guards above have checked Host and Origin, on every route and not on this one alone.
            host="checked.invalid",
        )
        self.session_manager.app.get_tool_input_schema = self._input_schema
        self.listening = serve_listen(self.session_manager.app, server.bus)
        sessions = self.session_manager.handle_request
        self.streams = LongLivedStreams(SessionMemory(sessions) if stateful else sessions)
        transport = StatelessTransport(
            self.session_manager.app,
            self.streams,
            list_cache=server.list_cache,
            direct=DirectCalls(self.session_manager.app, self._plain) if settings.direct_calls else None,
            stateless=not stateful,
            ping_seconds=settings.stream_ping_seconds,
        )
        self.pipeline = Pipeline(guards_of(self), transport, AccessLog(self.metrics))
        self._report()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self.pipeline(scope, receive, send)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Keep what works in the background alive; leave it when the last call has been answered."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.limits.limiter.aclose)
            stack.push_async_callback(self.server.used_states.aclose)
            await stack.enter_async_context(self.authentication.running())
            if isinstance(self.server.bus, RedisBus):
                await stack.enter_async_context(self.server.bus.running())
            await stack.enter_async_context(self.session_manager.run())
            stack.callback(self.sessions.close)
            lag = asyncio.ensure_future(self.metrics.event_loop.watch())
            stack.callback(lag.cancel)
            yield

    def _report(self) -> None:
        """Say where the values are that are read when Prometheus asks."""
        limiter, database = self.limits.limiter, self.server.database
        self.metrics.read(
            in_flight=self.pipeline.in_flight,
            oldest_call_seconds=self.server.deadlines.oldest_seconds,
            background_tasks=self.server.background.count,
            background_failures=lambda: self.server.background.failures,
            threads_busy=lambda: self.server.services.threads.busy,
            shared_threads_busy=self.server.services.shared_threads.busy,
            oldest_thread_seconds=self.server.services.oldest_thread_seconds,
            sessions=lambda: len(self.sessions.open),
            streams=lambda: self.open_streams.slots.total,
            draining=lambda: self.drain.unready,
            limits_degraded=lambda: limiter.degraded,
            redis_errors=lambda: limiter.redis_errors,
        )
        if database is not None:
            self.metrics.read(
                database_up=lambda: database.up,
                pool_size=lambda: database.size,
                pool_idle=lambda: database.idle,
                pool_waiting=lambda: database.waiting,
            )

    def _plain(self, name: str) -> bool | None:
        tool = self.server.declared.get(name)
        return tool.results.schema is not None and not tool.results.built if tool else None

    def _input_schema(self, name: str) -> dict[str, object] | None:
        tool = self.server.declared.get(name)
        return tool.input_schema if tool else None
