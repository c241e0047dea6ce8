"""What the drain and the bounds on connections rely on in uvicorn, each promise on a server without our hardening."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from live import SECONDS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hardening.edge.connections import BoundedConnection
from hardening.edge.parser_limits import LimitedParser
from hardening.edge.unread_answers import UnreadAnswers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import FrameType

    from starlette.types import Message, Receive, Scope, Send

REQUEST = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Plain:
    """An application that waits where its path says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.over = asyncio.Event()
        self.last: Message | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `ok`: at once, when released, or never."""
        await receive()
        self.begun.set()
        try:
            if scope["path"] == "/held":
                await self.release.wait()
            if scope["path"] == "/left":
                self.last = await receive()
        finally:
            self.over.set()
        headers = [(b"content-length", b"2"), *[(b"connection", b"close")] * (scope["path"] == "/closed")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


class Server(uvicorn.Server):
    """Keeps the signals it is told of, and does nothing about them."""

    signals: tuple[int, ...] = ()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's form
        """Note a signal."""
        self.signals += (sig,)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, path: bytes) -> bytes:
        """Send a request; return the first line of the answer, of whose body there are two bytes at least."""
        self.writer.write(REQUEST % path)
        async with asyncio.timeout(SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(2)
        return head.partition(b"\r\n")[0]

    async def ended(self) -> bool:
        """Wait for the end of the connection."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read(1) == b""


class Running:
    """A server that answers."""

    def __init__(self, server: Server, listener: socket.socket, app: Plain) -> None:
        self.server = server
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.app = app
        self.task: asyncio.Task[None] | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Client:
        """Open a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return Client(reader, writer)

    async def stopped(self) -> None:
        """Wait until the server has ended."""
        assert self.task is not None
        async with asyncio.timeout(SECONDS):
            await self.task

    def close(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def running(grace_seconds: int | None = None) -> AsyncGenerator[Running]:
    """Serve, configured as `serve` does it."""
    app = Plain()
    config = uvicorn.Config(
        app,
        http=HttpToolsProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    one = Running(server, listener, app)
    one.task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield one
    finally:
        app.release.set()
        one.close()
        server.should_exit = True
        await one.stopped()
        listener.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_signals_come_to_one_method(sig: signal.Signals) -> None:
    """What a subclass does in `handle_exit` is all that happens: here nothing, so the server goes on."""
    async with running() as one:
        os.kill(os.getpid(), sig)
        while not one.server.signals:
            await asyncio.sleep(0.005)
        client = await one.connect()
        answer = await client.ask(b"/")

    assert one.server.signals == (sig,)
    assert answer == b"HTTP/1.1 200 OK"


async def test_an_exit_closes_the_port_and_waits_for_answers() -> None:
    """`should_exit`: nobody is connected any more, idle connections end, and what is being answered is finished."""
    async with running() as one:
        idle, busy = await one.connect(), await one.connect()
        assert await idle.ask(b"/") == b"HTTP/1.1 200 OK"
        one.app.begun.clear()
        held = asyncio.create_task(busy.ask(b"/held"))
        await one.app.begun.wait()
        one.server.should_exit = True

        assert await idle.ended()
        # An idle connection may also have ended by itself. Whoever gets the port next is another program.
        async with asyncio.timeout(SECONDS):
            while one.listener.fileno() != -1:
                await asyncio.sleep(0.005)
        assert not held.done()
        one.app.release.set()
        assert await held == b"HTTP/1.1 200 OK"
        assert await busy.ended()
        await one.stopped()


async def test_the_wait_for_answers_has_a_bound() -> None:
    """`timeout_graceful_shutdown`: what is still being answered then is cancelled, and the server ends."""
    async with running(grace_seconds=1) as one:
        client = await one.connect()
        held = asyncio.create_task(client.ask(b"/held"))
        await one.app.begun.wait()
        one.server.should_exit = True
        await one.stopped()
        async with asyncio.timeout(SECONDS):
            await one.app.over.wait()

        assert not one.app.release.is_set()
        assert await held == b"HTTP/1.1 500 Internal Server Error"


async def test_an_answer_that_says_close_closes() -> None:
    """A refusal during the drain can send its client elsewhere."""
    async with running() as one:
        client = await one.connect()

        assert await client.ask(b"/closed") == b"HTTP/1.1 200 OK"
        assert await client.ended()


async def test_an_application_hears_that_its_client_has_left() -> None:
    """`receive` returns a disconnect: by that, a call whose caller has gone is cancelled."""
    async with running() as one:
        client = await one.connect()
        client.writer.write(REQUEST % b"/left")
        await one.app.begun.wait()
        client.writer.close()
        async with asyncio.timeout(SECONDS):
            await one.app.over.wait()

    assert one.app.last == {"type": "http.disconnect"}


# Called by the table of connections and by the pipeline; uvicorn must not have methods of these names.
FOR_OURS = {"turn_away", "when_taken"}


def test_the_bounds_have_something_to_override() -> None:
    """Each public method of our connection is one of uvicorn's, or what its answers use of a transport."""
    used = set(re.findall(r"self\.transport\.(\w+)", inspect.getsource(RequestResponseCycle)))
    both = {**vars(LimitedParser), **vars(UnreadAnswers), **vars(BoundedConnection)}
    ours = {name for name, value in both.items() if callable(value) and not name.startswith("_")} - FOR_OURS

    assert len(ours) > 5
    assert used == {"write", "close", "is_closing"}
    assert not [name for name in FOR_OURS if hasattr(HttpToolsProtocol, name)]
    assert [name for name in sorted(ours - used) if not callable(getattr(HttpToolsProtocol, name, None))] == []
