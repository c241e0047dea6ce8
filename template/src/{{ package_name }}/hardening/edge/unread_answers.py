"""Limit of unread answers: who takes less than 1024 bytes a second of a waiting one is closed, who sends ahead is 429.

What a request took is given back when its client has taken the answer, not when the answer is in the buffer of the
connection: what is kept for slow readers is bounded by slots.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from .parser_limits import PIPELINED, LimitedParser

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# A client that takes less of a waiting answer in each interval is as good as gone.
SLOWEST_BYTES_PER_SECOND = 1024
# What the system keeps of an answer that is not sent yet, for each connection. Left to itself it keeps megabytes, which
# the container pays for and no limit here counts.
UNSENT_BYTES = 131_072
# What may be sent of further requests before an answer is made and taken.
MAX_AHEAD_BYTES = 65_536
# What a connection offers under this name in the scope of a request: see `UnreadAnswers.when_taken`.
WHEN_TAKEN = "hardening.when_taken"


def keep_little_unsent(listener: socket.socket) -> None:
    """Bound what the system keeps for each connection of `listener`; one that has no such bound keeps more."""
    with suppress(AttributeError, OSError):
        # Connections inherit it (Linux, tcp(7); macOS).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def do_now(action: Callable[[], None]) -> None:
    """Do something at once: nothing keeps answers."""
    action()


class UnreadAnswers(LimitedParser):
    """Uvicorn's connection, which watches whether its client takes what is written, for `seconds` at a time."""

    seconds: ClassVar[float] = 10.0

    _sending: asyncio.TimerHandle | None = None
    _ahead_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn has it
        """Begin with nothing written."""
        super().connection_made(transport)
        self._when_taken: list[Callable[[], None]] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching; nothing is kept any more."""
        self._stop_watching()
        super().connection_lost(exc)
        self._run_when_taken()

    def data_received(self, data: bytes) -> None:
        """Keep little of what is sent ahead of answers, from strangers too."""
        if not (self.pipeline or self.flow.write_paused):
            self._ahead_bytes = 0
        super().data_received(data)
        if not (self.pipeline or self.flow.write_paused):
            return
        self._ahead_bytes += len(data)
        if self._ahead_bytes <= MAX_AHEAD_BYTES or self.refusal is not None:
            return
        self.pipeline.clear()
        if self.flow.write_paused:
            # An answer would wait for whoever does not read.
            self.refusal = PIPELINED
            self._refuse(PIPELINED)
            self.transport.abort()
        else:
            self._reject(PIPELINED)

    def when_taken(self, action: Callable[[], None]) -> None:
        """Do something once the client has taken all but a little of what is written, or has gone."""
        if self.flow.write_paused:
            self._when_taken.append(action)
        else:
            action()

    def _run_when_taken(self) -> None:
        actions, self._when_taken = self._when_taken, []
        for action in actions:
            action()

    def pause_writing(self) -> None:
        """The client does not take what is written; watch it."""
        super().pause_writing()
        self._watch_client()

    def resume_writing(self) -> None:
        """It does again."""
        if not self.transport.is_closing():
            self._stop_watching()
        super().resume_writing()
        self._run_when_taken()

    def _watch_client(self) -> None:
        if self._sending is None:
            unsent = self.transport.get_write_buffer_size()
            self._sending = self.loop.call_later(self.seconds, self._check_client, unsent)

    def _check_client(self, unsent: int) -> None:
        self._sending = None
        left = self.transport.get_write_buffer_size()
        if unsent - left >= self.seconds * SLOWEST_BYTES_PER_SECOND:
            self._watch_client()
        elif left:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
