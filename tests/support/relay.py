"""A way to a server that a test can slow down, stop, or cut."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# After so long TCP sends again what was lost, at the first time.
RESENT_SECONDS = 0.2


class Relay:
    """Passes bytes on between its own port and a server.

    Args:
        connect: Opens a connection to the server.
    """

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.connect = connect
        self.delay = 0.0
        # Whoever connects is turned away.
        self.away = False
        # Of so many pieces one comes late, as when it was lost and had to be sent again.
        self.lost_one_in = 0
        self._forgotten: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def partition(self) -> None:
        """Pass nothing on from now on; connections stay open, and new ones are taken."""
        self._open.clear()

    def forget(self) -> None:
        """Lose whatever comes on the connections that there are, as a firewall does; new ones are passed on."""
        self._forgotten |= self._tasks

    def drop(self) -> None:
        """Close the connections that there are."""
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        """Pass everything on, also what was held back."""
        self._open.set()
        self.delay = 0.0
        self.lost_one_in = 0
        self.away = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = [writer]
        try:
            if self.away:
                return
            await self._open.wait()
            far_reader, far_writer = await self.connect()
            writers.append(far_writer)
            self._writers.update(writers)
            ways = (self._pass(reader, far_writer, task), self._pass(far_reader, writer, task))
            await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for one in writers:
                self._writers.discard(one)
                one.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: asyncio.Task[None]
    ) -> None:
        pieces = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if connection in self._forgotten:
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                pieces += 1
                if self.lost_one_in and pieces % self.lost_one_in == 0:
                    await asyncio.sleep(RESENT_SECONDS)
                writer.write(data)
                await writer.drain()
