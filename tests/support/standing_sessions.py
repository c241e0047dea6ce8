"""Stateful sessions that stand open while something else breaks, and what has to be true of them afterwards."""

from __future__ import annotations

import asyncio
import http.client
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from support.watched_server import Watched, good_call, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

IN_USE, IDLE = 4, 2
# What the first call of a session may take after the fault.
FIRST_CALL_SECONDS = 1.0


@asynccontextmanager
async def standing(server: Watched) -> AsyncGenerator[list[str]]:
    """Open sessions, and yield those that loads may use; of a server without sessions there are none.

    Others stand idle, each with a stream for what the server might say. When the block ends, these streams are still
    open, the first call of each is answered, and after their end nothing of any session is left.
    """
    if not await asyncio.to_thread(server.open_session):
        yield []
        return
    with ExitStack() as stack:
        await asyncio.to_thread(until, lambda: server.metrics()["mcp_sessions"] == 1)
        before = await asyncio.to_thread(tasks, server)
        sessions = [await asyncio.to_thread(server.open_session) for _ in range(IN_USE + IDLE)]
        streams = [await asyncio.to_thread(stream, server, one, stack) for one in sessions[IN_USE:]]
        yield sessions[:IN_USE]
        assert not any(one.isclosed() for one in streams)
        for one in sessions[IN_USE:]:
            async with asyncio.timeout(FIRST_CALL_SECONDS):
                result = await asyncio.to_thread(server.call, "legacy", "through", {"text": "again"}, one)
            assert result["content"][0]["text"] == "again"
        assert server.metrics()["mcp_sessions"] == 1 + len(sessions)
        stack.close()
        for one in sessions:
            assert await asyncio.to_thread(server.end_session, one) == 200
    await asyncio.to_thread(until, lambda: server.metrics()["mcp_sessions"] == 1)
    await asyncio.to_thread(until, lambda: tasks(server) <= before)


def tasks(server: Watched) -> int:
    """Return how many tasks run in a server."""
    return int(server.call("modern", "tasks", {})["structuredContent"]["result"])


def stream(server: Watched, session: str, stack: ExitStack) -> http.client.HTTPResponse:
    """Open the stream of a session; it is closed with the stack."""
    head, _ = good_call("legacy", "", {})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    stack.callback(connection.close)
    connection.request("GET", "/mcp", headers={**head, "Accept": "text/event-stream", "Mcp-Session-Id": session})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer
