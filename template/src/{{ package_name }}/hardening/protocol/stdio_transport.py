"""Standard input and output as the SDK's streams: one JSON-RPC message a line, checked as a request body is.

Requests in flight are bounded (`MCP_MAX_IN_FLIGHT_PER_PRINCIPAL`), and each id is answered once at a time; what breaks
a rule, or is too long a line, is answered here, and the connection lives.
Source: 2026-07-28 and 2025-11-25, Transports: stdio.
"""

from __future__ import annotations

import asyncio
from contextvars import Context as Variables
from contextvars import copy_context
from typing import TYPE_CHECKING, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter
from pydantic import ValidationError

from ..exchange import Exchange, current, printable
from ..limits.concurrency import TOO_MANY
from ..logs.access_log import AccessLog
from ..response import Response
from ..routes import INITIALIZE
from .message import INVALID_REQUEST, NOT_A_MESSAGE, MessageCheck
from .sessions import DUPLICATE
from .stdio_exchange import exchange_of
from .stdio_framing import write_line

if TYPE_CHECKING:
    from types import TracebackType

    from ..settings import HardeningSettings
    from .stdio_framing import LineReader


CANCELLED = "notifications/cancelled"
TOO_LARGE = Response(413, "too_large", "The message is too large.", code=INVALID_REQUEST)
LEAVING = Response(503, "draining", "This server is shutting down.", retry_after=1)


class StdioTransport:
    """Both streams of one client.

    Attributes:
        last_context: Context variables of the message that was read last; the SDK runs its handler in them.
        in_flight: Requests that are not answered yet, by the text of their id.
    """

    def __init__(self, settings: HardeningSettings, lines: LineReader, output: int) -> None:
        self.last_context: Variables | None = None
        self.in_flight: dict[str, Exchange] = {}
        self._opening: Exchange | None = None
        self._lines = lines
        self._output = output
        self._check = MessageCheck(settings)
        self._most = settings.max_in_flight_per_principal
        self._writing = asyncio.Lock()
        self._log = AccessLog()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self.ended = asyncio.Event()
        self.leaving = False

    async def idle(self) -> None:
        """Wait until every request is answered."""
        while self.in_flight:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """End the SDK's loop; what is in flight then is given up."""
        self._over.set()

    async def receive(self) -> SessionMessage:
        """Return the next message for the SDK."""
        while True:
            line = asyncio.ensure_future(self._lines.next())
            over = asyncio.ensure_future(self._over.wait())
            await asyncio.wait({line, over}, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if not line.done():
                line.cancel()
                raise anyio.EndOfStream
            text, last = line.result()
            if last:
                self.ended.set()
                await self._over.wait()
                raise anyio.EndOfStream
            if (text is None or text.strip()) and (message := await self._read(text)) is not None:
                return message

    async def _read(self, text: bytes | None) -> SessionMessage | None:
        exchange = exchange_of(text, self._check.values)
        refused = TOO_LARGE if text is None else await self._check(exchange)
        message = None
        if refused is None:
            try:
                message = jsonrpc_message_adapter.validate_json(text or b"", by_name=False)
            except ValidationError:
                refused = NOT_A_MESSAGE
        refused = refused or self._admit(exchange)
        if refused is not None or message is None:
            answer = refused or NOT_A_MESSAGE
            exchange.refused_by, exchange.reason, exchange.status = "stdio", answer.kind, answer.status
            self._log(exchange)
            await self._write(answer.render(exchange.request_id, exchange.rpc_id)[1])
            return None
        if exchange.rpc_method == INITIALIZE:
            self._opening = exchange
        elif self._opening is not None and exchange.era == "legacy":
            # An older client says who it is once.
            exchange.client_name = self._opening.client_name
            exchange.protocol_version = printable(self._opening.params.get("protocolVersion"))[:32]
        token = current.set(exchange)
        self.last_context = copy_context()
        current.reset(token)
        return SessionMessage(message)

    def _admit(self, exchange: Exchange) -> Response | None:
        if exchange.rpc_method == CANCELLED:
            # Nothing is sent for it any more.
            self._answered(exchange.params.get("requestId"))
        if exchange.rpc_method is None or exchange.rpc_id is None:
            return None
        if self.leaving:
            return LEAVING
        if str(exchange.rpc_id) in self.in_flight:
            return DUPLICATE
        if len(self.in_flight) >= self._most:
            return TOO_MANY
        self.in_flight[str(exchange.rpc_id)] = exchange
        return None

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message of the SDK."""
        message = item.message
        await self._write(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        if isinstance(message, JSONRPCError) and (exchange := self.in_flight.get(str(message.id))) is not None:
            exchange.rpc_error = message.error.code
            self._log(exchange)
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            self._answered(message.id)

    def _answered(self, rpc_id: object) -> None:
        if self.in_flight.pop(str(rpc_id), None) is not None:
            self._changed.set()

    async def _write(self, message: bytes) -> None:
        async with self._writing:
            try:
                await asyncio.to_thread(write_line, self._output, message)
            except OSError:
                # The client has gone; nobody waits for what is in flight.
                self.ended.set()

    async def aclose(self) -> None:
        """Leave the descriptors: they are the process's."""

    def __aiter__(self) -> Self:
        """Iterate over messages."""
        return self

    async def __anext__(self) -> SessionMessage:
        """Return the next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    # Names as in the SDK's protocol.
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Leave the descriptors."""
