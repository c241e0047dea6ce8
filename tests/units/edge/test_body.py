"""Bodies have a size and a time."""

from __future__ import annotations

import asyncio

import pytest
from live import KEY, SECONDS, live
from wire import ERAS, Era, Wire, opening, request


@pytest.mark.parametrize("era", ERAS)
async def test_a_body_that_grows_over_the_limit_is_cut(era: Era) -> None:
    """Chunks without a declared size are counted as they come."""
    with live(MCP_MAX_BODY_BYTES="2048") as small:
        async with Wire(small.url, KEY) as wire:
            headers, _ = request(era, *opening(era), key=KEY)

            async def chunks():  # noqa: ANN202 - a generator of bytes
                for _ in range(10):
                    yield b" " * 1024

            answer = await wire.http.post(f"{small.url}/mcp", content=chunks(), headers=headers)

    assert answer.status_code == 413


@pytest.mark.parametrize("era", ERAS)
async def test_a_slow_body_ends_at_its_deadline_and_gives_its_slot_back(era: Era) -> None:
    """Half a request is answered 408; the slot that it held is free again."""
    with live(MCP_BODY_TIMEOUT_SECONDS="0.3", MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as slow:
        headers, body = request(era, *opening(era), key=KEY)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(slow.url.rpartition(":")[2]))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode())
        writer.write(body[:10])
        answer = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
        async with Wire(slow.url, KEY) as wire:
            after = await wire.ask(era, *opening(era))

    assert b" 408 " in answer
    assert after.status == 200


async def test_a_stream_whose_request_has_no_end_ends_at_its_deadline() -> None:
    """A GET that announces a body and never sends it is answered 408, and is no stream."""
    with live(MCP_BODY_TIMEOUT_SECONDS="0.3", MCP_LEGACY="stateful") as slow:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(slow.url.rpartition(":")[2]))
        writer.write(
            f"GET /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n"
            "accept: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()

    assert b" 408 " in answer
