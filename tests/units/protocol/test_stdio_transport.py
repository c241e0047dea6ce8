"""Messages on standard input and output: which are let in, what each is answered, and whose it is; no process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from captured import captured
from mcp.shared.message import SessionMessage
from mcp.types import ErrorData, JSONRPCError, JSONRPCNotification, JSONRPCResponse

from hardening.exchange import Principal, current
from hardening.protocol.stdio_transport import StdioTransport
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
SECONDS = 20.0


class Lines:
    """What a client writes, line by line, and then the end."""

    def __init__(self, *lines: bytes | None) -> None:
        self.left = list(lines)

    async def next(self) -> tuple[bytes | None, bool]:
        """Return the next line."""
        return (self.left.pop(0), False) if self.left else (b"", True)


class Client:
    """The other end of one transport."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def transport(self, *lines: bytes | None, **settings: Any) -> StdioTransport:
        """Return a transport that reads these lines."""
        return StdioTransport(HardeningSettings(**settings), Lines(*lines), self.writing)  # type: ignore[arg-type]

    def written(self) -> list[dict[str, Any]]:
        """Return what was written, line by line."""
        try:
            text = os.read(self.reading, 65_536)
        except BlockingIOError:
            return []
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that reads what is written to it."""
    client = Client()
    yield client
    os.close(client.reading)
    os.close(client.writing)


def asking(rpc_id: object = None, method: str = "ping", **params: Any) -> bytes:
    """Return a line that asks; without an id it is a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message | ({} if rpc_id is None else {"id": rpc_id})).encode()


async def taken(transport: StdioTransport, number: int) -> list[SessionMessage]:
    """Return so many messages that are let in."""
    async with asyncio.timeout(SECONDS):
        return [await transport.receive() for _ in range(number)]


async def test_what_is_not_let_in_is_answered_and_the_next_line_is_read(client: Client) -> None:
    """Its id, its kind, its code and when to try again; blank lines are nothing."""
    transport = client.transport(
        *(b"", b" \t\r", b"{", None, b"[]", asking(1), asking("1"), asking(2), asking(3), asking(4)),
        max_in_flight_per_principal=3,
    )
    await taken(transport, 3)
    transport.leaving = True
    transport._lines.left[:] = [asking(4), asking(5), asking(None, "notifications/initialized")]  # type: ignore[attr-defined]  # noqa: SLF001
    await taken(transport, 1)

    refused = [(one["id"], one["error"]["code"], one["error"]["data"]) for one in client.written()]
    assert [(rpc_id, code, data["kind"], data.get("retryAfter")) for rpc_id, code, data in refused] == [
        (None, -32700, "parse_error", None),
        (None, -32600, "too_large", None),
        (None, -32600, "invalid_request", None),
        ("1", 503, "duplicate_id", 1),
        (4, 503, "draining", 1),
        (5, 503, "draining", 1),
    ]
    assert all(len(data["reference"]) == 16 for _, _, data in refused)
    assert set(transport.in_flight) == {"1", "2", "3"}


async def test_so_many_are_answered_at_once_and_no_more(client: Client) -> None:
    """An answer, an error and a cancellation make room; a notification needs none."""
    lines = [asking(1), asking(2), asking(3), asking(None, "notifications/initialized")]
    transport = client.transport(*lines, max_in_flight_per_principal=2)
    await taken(transport, 3)
    assert [(one["id"], one["error"]["data"]["kind"]) for one in client.written()] == [(3, "concurrency")]
    idle = asyncio.create_task(transport.idle())
    await transport.send(SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={})))
    assert set(transport.in_flight) == {"1", "2"}
    await transport.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={})))
    transport._lines.left[:] = [asking(4), asking(None, "notifications/cancelled", requestId=4)]  # type: ignore[attr-defined]  # noqa: SLF001
    await taken(transport, 2)
    assert set(transport.in_flight) == {"2"}
    assert not idle.done()
    await transport.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=2, error=ErrorData(code=-1, message="x"))))
    await asyncio.wait_for(idle, SECONDS)

    assert [one.get("id") for one in client.written()] == [None, 1, 2]


async def test_whose_a_message_is(client: Client) -> None:
    """An older client says once who it is; each message is found by log lines of what it begins, and by no other."""
    opening = asking(0, "initialize", protocolVersion="2025-06-18", clientInfo={"name": "desk"})
    transport = client.transport(opening, asking(1), asking(2, "tools/list", _meta=VERSION))
    seen: list[Any] = []
    for rpc_id in ("0", "1", "2"):
        await taken(transport, 1)
        assert transport.last_context is not None
        seen.append(transport.last_context[current])
        assert seen[-1] is transport.in_flight[rpc_id]
        # As the middleware of the protocol notes it.
        seen[-1].client_name = seen[-1].client_name or ("desk" if rpc_id == "0" else "")
    assert current.get() is None

    assert {one.principal for one in seen} == {Principal("none", "stdio")}
    assert [(one.era, one.protocol_version, one.client_name) for one in seen] == [
        ("legacy", "2025-03-26", "desk"),
        ("legacy", "2025-06-18", "desk"),
        ("modern", "2026-07-28", ""),
    ]


async def test_refusals_have_a_line_each(client: Client, tmp_path: Path) -> None:
    """Of this transport with its reason, and of the protocol with the code of its error."""
    transport = client.transport(b"{", asking(1))
    with captured(tmp_path / "log") as log:
        await taken(transport, 1)
        await transport.send(
            SessionMessage(JSONRPCError(jsonrpc="2.0", id=1, error=ErrorData(code=-32601, message="x")))
        )
        lines = [
            (line["layer"], line["error_code"], line["status"]) for line in log.lines() if line["msg"] == "refused"
        ]

    assert lines == [("stdio", "parse_error", 400), ("protocol", -32601, 0)]


async def test_the_end_of_the_input_waits_for_what_is_in_flight(client: Client) -> None:
    """It is told at once; the SDK's loop ends when it is closed, also while a line is waited for."""
    transport = client.transport(asking(1))
    await taken(transport, 1)
    last = asyncio.create_task(transport.receive())
    async with asyncio.timeout(SECONDS):
        await transport.ended.wait()
    await asyncio.sleep(0)
    assert not last.done()
    transport.close()
    with pytest.raises(anyio.EndOfStream):
        await asyncio.wait_for(last, SECONDS)
    assert [one async for one in transport] == []


async def test_a_client_that_has_gone_is_the_end() -> None:
    """What cannot be written is nobody's fault, and nothing waits for it."""
    client = Client()
    transport = client.transport()
    os.close(client.reading)
    await transport.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={})))
    os.close(client.writing)

    assert transport.ended.is_set()
