"""The one ASGI layer: asks each guard in turn, then hands over to the protocol; whatever happens, it cleans up.

One layer and not ten, because each further one costs every request.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from .context import MCP_PATH, current, open_exchange
from .errors import Answer
from .sessions import SESSION_HEADER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .access_log import AccessLog
    from .context import Exchange, Guard
    from .sessions import Sessions

log = structlog.get_logger()

CRASHED = Answer(500, "internal", "Internal error. Report the reference to the operator.")


class Edge:
    """The ASGI application.

    Args:
        guards: Protections by name, in their order.
        protocol: What answers a request that all of them let pass.
        access_log: What writes a line for a refusal.
        sessions: What is told of sessions that the protocol opens and ends.
    """

    def __init__(
        self, guards: tuple[tuple[str, Guard], ...], protocol: ASGIApp, access_log: AccessLog, sessions: Sessions
    ) -> None:
        self.guards = guards
        self.protocol = protocol
        self.access_log = access_log
        self.sessions = sessions
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def in_flight(self) -> int:
        """Return how many protocol requests are being answered."""
        return self.running

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; nothing else is served."""
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
            await self._refuse(exchange, "shield", CRASHED)
        finally:
            self._end(exchange, counted=counted)
            current.reset(token)

    async def _answer(self, exchange: Exchange) -> None:
        for name, guard in self.guards:
            answer = await guard(exchange)
            if answer is not None:
                await self._refuse(exchange, name, answer)
                return
        await self.protocol(exchange.scope, exchange.receive, self._watched(exchange))

    async def _refuse(self, exchange: Exchange, name: str, answer: Answer) -> None:
        exchange.refused_by = name
        if exchange.status:
            # The answer has begun; cutting it is all that is left, and the server does that.
            return
        exchange.status = answer.status
        headers, body = answer.render(exchange.request_id, exchange.rpc_id)
        headers += exchange.response_headers
        await exchange.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})

    def _watched(self, exchange: Exchange) -> Send:
        send = exchange.send
        own = [(b"x-request-id", exchange.request_id.encode()), *exchange.response_headers]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                self._note_session(exchange, message)
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # Whoever has read the whole answer may ask again at once, however long the protocol tidies up.
                self._release(exchange)

        return watched

    def _note_session(self, exchange: Exchange, message: Message) -> None:
        if not self.sessions.on:
            return
        if exchange.method == "DELETE" or exchange.status == HTTPStatus.NOT_FOUND:
            self.sessions.ended(exchange)
        for header, value in message.get("headers", ()):
            if header.lower() == SESSION_HEADER and exchange.rpc_method == "initialize":
                self.sessions.opened(exchange, value.decode("latin-1"))

    def _end(self, exchange: Exchange, *, counted: bool) -> None:
        exchange.on_end[:0], exchange.on_done = exchange.on_done, []
        try:
            self._release(exchange)
            self.access_log(exchange)
        except Exception:
            log.exception("crashed")
        finally:
            # What lives on, as the task of a session does, keeps the exchange but not its connection and its body.
            exchange.body, exchange.scope = None, {}
            exchange.receive = exchange.send = _over
            self._count(-counted)

    @staticmethod
    def _release(exchange: Exchange) -> None:
        releases, exchange.on_end = exchange.on_end, []
        try:
            # One that fails keeps no other from running.
            with ExitStack() as ends:
                for release in releases:
                    ends.callback(release)
        except Exception:
            log.exception("crashed")

    def _count(self, change: int) -> None:
        self.running += change
        if self.running:
            self._idle.clear()
        else:
            self._idle.set()


async def _over(*_: object) -> Any:
    """Stand where the connection was."""
    raise RuntimeError("this request has been answered")
