"""An answer is JSON until there is something to send before it; comments keep it alive; leaving ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import NoBackChannelError

from hardening.exchange import open_exchange
from hardening.protocol.response_writer import PING, ResponseWriter

if TYPE_CHECKING:
    from starlette.types import Message

SECONDS = 5.0


class Connection:
    """The connection of one request, as uvicorn shows it."""

    def __init__(self, meta: dict[str, Any] | None = None) -> None:
        self.sent: list[Message] = []
        self.changed = asyncio.Event()
        self.left = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
        self.exchange = open_exchange(scope, self.receive, self.send)
        self.exchange.rpc_id = 1
        self.exchange.params = {"_meta": meta or {}}

    async def receive(self) -> Message:
        """Wait until the client leaves."""
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Keep what is sent."""
        self.sent.append(message)
        self.changed.set()

    def reply(self, ping_seconds: float = 60) -> ResponseWriter:
        """Return the answer that is to be made."""
        return ResponseWriter(self.exchange, self.receive, self.send, ping_seconds)

    @property
    def body(self) -> bytes:
        """Everything that was sent after the head."""
        return b"".join(message.get("body", b"") for message in self.sent)

    def header(self, name: bytes) -> bytes:
        """Return a header of the answer."""
        return dict(self.sent[0]["headers"])[name]


async def test_an_answer_that_comes_at_once_is_json() -> None:
    """No stream, no task that waits: a head with a length, and the message."""
    connection = Connection()
    with connection.reply() as reply:
        pass
    await reply.finish(b"{}", 400)

    assert connection.sent[0]["status"] == 400
    assert connection.header(b"content-type") == b"application/json"
    assert connection.header(b"content-length") == b"2"
    assert connection.body == b"{}"


async def test_a_notification_makes_it_a_stream() -> None:
    """The head goes out with the first one, tells proxies to keep their hands off, and the answer is the last event."""
    connection = Connection({"progressToken": "p"})
    with connection.reply() as reply:
        await reply.progress(1, 2, "half")
        await reply.notify("notifications/message", None)
    await reply.finish(b'{"id":1}', 400)

    assert connection.sent[0]["status"] == 200
    assert connection.header(b"content-type") == b"text/event-stream"
    assert connection.header(b"x-accel-buffering") == b"no"
    events = connection.body.decode().split("\r\n\r\n")
    assert events[0].startswith('event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"')
    assert '"progressToken":"p","progress":1,"total":2,"message":"half"' in events[0]
    assert events[2:] == ['event: message\r\ndata: {"id":1}', ""]
    assert [message.get("more_body", False) for message in connection.sent[1:]] == [True, True, False]


@pytest.mark.parametrize("token", [None, True])
async def test_progress_nobody_has_asked_for_is_not_sent(token: object) -> None:
    """Without a token that could name the request, nothing is sent before the answer."""
    connection = Connection({"progressToken": token})
    with connection.reply() as reply:
        await reply.progress(1)

    assert connection.sent == []


async def test_silence_is_filled_with_comments() -> None:
    """A proxy that cuts what is silent sees a stream; the answer follows as its last event."""
    connection = Connection()
    async with asyncio.timeout(SECONDS):
        with connection.reply(ping_seconds=0.05) as reply:
            while connection.body.count(PING) < 2:
                connection.changed.clear()
                await connection.changed.wait()
        await reply.finish(b"{}", 200)

    assert connection.header(b"content-type") == b"text/event-stream"
    assert connection.body.endswith(b"data: {}\r\n\r\n")


async def test_a_client_that_leaves_cancels_what_is_done_for_it() -> None:
    """The task that answers is cancelled, and knows that it was for this."""
    connection = Connection()

    async def answer() -> tuple[bool, bool]:
        reply = connection.reply()
        try:
            with reply:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return reply.client_gone(), reply.cancel_requested.is_set()
        return False, False

    answering = asyncio.ensure_future(answer())
    connection.left.set()
    # Not cancelled by a deadline of this test: that would be the end which is asked for.
    ended, _ = await asyncio.wait({answering}, timeout=SECONDS)
    answering.cancel()
    assert ended
    assert await answering == (True, True)
    assert connection.sent == []


async def test_another_end_of_the_call_is_not_taken_for_the_clients() -> None:
    """What the server itself cancels stays cancelled."""
    reply = Connection().reply()
    assert not reply.client_gone()


async def test_nobody_can_be_asked_in_the_middle_of_an_answer() -> None:
    """There is no way back for what the client would say."""
    with Connection().reply() as reply, pytest.raises(NoBackChannelError):
        await reply.send_raw_request("roots/list", None)
