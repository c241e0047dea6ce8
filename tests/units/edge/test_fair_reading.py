"""Whoever sends as fast as it can takes its share of the event loop, and no more."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
import uvloop
from live import SECONDS
from uvicorn.server import ServerState

from hardening.edge.connections import bounded
from hardening.logs.access_log import AccessLog
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Callable

# More than the system keeps for one connection.
MUCH = 4_000_000
START = b"POST /mcp HTTP/1.1\r\nhost: h\r\n"


async def refuses(_: Any, __: Any, send: Callable[[Any], Any]) -> None:
    """Answer by the head alone, as nobody known is answered."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_one_long_segment_of_a_connection_is_read_in_a_turn() -> None:
    """Of a body that is sent behind its refusal as fast as it goes, 256 kB at most are read before the next turn."""
    turns: list[int] = [0]

    class Counted(bounded(HardeningSettings(), AccessLog(), 16)):  # type: ignore[misc] - made by a function
        def data_received(self, data: bytes) -> None:
            turns[-1] += len(data)
            super().data_received(data)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(refuses, log_config=None)
        listener = socket.create_server(("127.0.0.1", 0))
        # Doubled by the system; inherited by connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        server = await loop.create_server(lambda: Counted(config, ServerState(), {}), sock=listener)
        client = socket.create_connection(listener.getsockname())
        length = b"content-length: %d\r\n\r\n" % MUCH
        sender = threading.Thread(target=client.sendall, args=(START + length + b"a" * MUCH,))
        sender.start()
        deadline = loop.time() + SECONDS
        while sum(turns) < MUCH and loop.time() < deadline:
            # Meanwhile the system takes what is sent.
            time.sleep(0.01)  # noqa: ASYNC251 - a loop that has much else to do
            turns.append(0)
            await asyncio.sleep(0)
        client.close()
        server.close()
        await asyncio.to_thread(sender.join)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())

    assert sum(turns) >= MUCH
    assert 131_072 <= max(turns) <= 256_000
