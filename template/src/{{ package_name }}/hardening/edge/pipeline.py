"""The ASGI pipeline: asks each guard in turn, then the protocol; the last-resort exception handler (500).

Whatever happens, what a request took is released when it ends. One layer and not ten, because each further one
costs every request.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from ..exchange import current, open_exchange
from ..response import Response
from ..routes import MCP_PATH
from .unread_answers import WHEN_TAKEN, do_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..exchange import Exchange, Guard
    from ..logs.access_log import AccessLog

    WhenTaken = Callable[[Callable[[], None]], None]

log = structlog.get_logger()

CRASHED = Response(500, "internal", "Internal error. Report the reference to the operator.")


class Pipeline:
    """The ASGI application.

    Args:
        guards: Protections by name, in their order.
        inner_app: What answers a request that all of them let pass.
        access_log: What writes a line for a refusal.
    """

    def __init__(self, guards: tuple[tuple[str, Guard], ...], inner_app: ASGIApp, access_log: AccessLog) -> None:
        self.guards = guards
        self.inner_app = inner_app
        self.access_log = access_log
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
        when_taken: WhenTaken = scope.pop(WHEN_TAKEN, do_now)
        exchange = open_exchange(scope, receive, send)
        token = current.set(exchange)
        counted = exchange.path == MCP_PATH
        self._count(counted)
        try:
            await self._answer(exchange, when_taken)
        except Exception:
            # A fault of this code; the caller gets no details.
            log.exception("unhandled exception")
            await self._refuse(exchange, "shield", CRASHED)
        finally:
            self._end(exchange, when_taken, counted=counted)
            current.reset(token)

    async def _answer(self, exchange: Exchange, when_taken: WhenTaken) -> None:
        for name, guard in self.guards:
            answer = await guard(exchange)
            if answer is not None:
                await self._refuse(exchange, name, answer)
                return
        receive = exchange.receive
        await self.inner_app(exchange.scope, receive, self._watched(exchange, when_taken))
        if not exchange.complete and not await _has_left(receive):
            # A fault of what is behind the guards; the caller would wait, or take half an answer for a whole one.
            log.error("request not answered")
            await self._refuse(exchange, "shield", CRASHED)

    async def _refuse(self, exchange: Exchange, name: str, answer: Response) -> None:
        exchange.refused_by = name
        if exchange.status:
            # The answer has begun; cutting it is all that is left, and the server does that. Records say why.
            if not exchange.complete:
                exchange.status = answer.status
            return
        exchange.status = answer.status
        headers, body = answer.render(exchange.request_id, exchange.rpc_id)
        headers += exchange.response_headers
        await exchange.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})

    def _watched(self, exchange: Exchange, when_taken: WhenTaken) -> Send:
        send = exchange.send
        own = [(b"x-request-id", exchange.request_id.encode()), *exchange.response_headers]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                for hook in exchange.on_response_start:
                    hook(exchange, message)
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                exchange.complete = True
                # A client that has read the whole answer may ask again at once, before the protocol has cleaned up.
                exchange.when_work_is_over(partial(when_taken, partial(self._release, exchange)))

        return watched

    def _end(self, exchange: Exchange, when_taken: WhenTaken, *, counted: bool) -> None:
        exchange.on_end[:0], exchange.on_done = exchange.on_done, []
        exchange.on_response_start.clear()
        # In a session the work goes on when the client has left; and an answer is kept until its client has taken it.
        exchange.when_work_is_over(partial(when_taken, partial(self._release, exchange)))
        try:
            self.access_log(exchange)
        except Exception:
            log.exception("unhandled exception")
        finally:
            # What lives on, as the task of a session does, keeps the exchange but not its connection and its message.
            exchange.when_work_is_over(partial(exchange.forget, exchange.scope))
            exchange.body, exchange.scope = None, {}
            exchange.receive = exchange.send = _over
            exchange.answered = True
            exchange.when_work_is_over(partial(when_taken, partial(self._count, -counted)))

    @staticmethod
    def _release(exchange: Exchange) -> None:
        releases, exchange.on_end = exchange.on_end, []
        try:
            # One that fails keeps no other from running.
            with ExitStack() as ends:
                for release in releases:
                    ends.callback(release)
        except Exception:
            log.exception("unhandled exception")

    def _count(self, change: int) -> None:
        self.running += change
        if self.running:
            self._idle.clear()
        else:
            self._idle.set()


async def _has_left(receive: Receive) -> bool:
    """Return whether the client has left, as far as is known at this moment."""

    async def disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(disconnect())
    await asyncio.sleep(0)
    left = leaving.done()
    leaving.cancel()
    return left


async def _over(*_: object) -> Any:
    """Take the place of the connection of a request that has been answered."""
    raise RuntimeError("this request has been answered")
