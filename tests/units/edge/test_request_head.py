"""Request head limits hold before authentication: method, path, media type, encoding, declared size."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from live import KEY, SECONDS, Live
from wire import ERAS, Era, Wire, opening, request


@pytest.mark.parametrize("era", ERAS)
async def test_a_declared_size_over_the_limit_is_not_read(server: Live, era: Era) -> None:
    """413 before authentication, and before one byte of the body."""
    headers, _ = request(era, *opening(era))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 99999999\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readline(), SECONDS)
    writer.close()

    assert b" 413 " in answer


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/jsonp"])
async def test_only_json_is_read(wire: Wire, era: Era, kind: str) -> None:
    """Anything else is 415; a form of a foreign page cannot be JSON."""
    reply = await wire.ask(era, *opening(era), headers={"content-type": kind})

    assert reply.status == 415


@pytest.mark.parametrize("era", ERAS)
async def test_a_compressed_body_is_refused(wire: Wire, era: Era) -> None:
    """A small body could unpack to anything."""
    headers, body = request(era, *opening(era), key=KEY)
    reply = await wire.send(gzip.compress(body), {**headers, "content-encoding": "gzip"})

    assert reply.status == 415


@pytest.mark.parametrize("era", ERAS)
async def test_a_body_that_is_compressed_on_its_way_is_refused(server: Live, era: Era) -> None:
    """`Transfer-Encoding: gzip, chunked` is 415: what guards and the SDK would read is not what was meant."""
    headers, body = request(era, *opening(era), key=KEY)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    fields = headers | {"host": "localhost", "transfer-encoding": "gzip, chunked"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    packed = gzip.compress(body)
    writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n{len(packed):x}\r\n".encode() + packed + b"\r\n0\r\n\r\n")
    async with asyncio.timeout(SECONDS):
        answer = await reader.readuntil(b"\r\n")
    writer.close()

    assert answer.split(b" ")[1] == b"415"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("era", ERAS)
async def test_other_methods_are_not_served(wire: Wire, era: Era, method: str) -> None:
    """405 with `Allow`, so that an older client does not wait for a stream."""
    headers, _ = request(era, *opening(era), key=KEY)
    async with asyncio.timeout(SECONDS):
        reply = await wire.send(b"", headers, method=method)

    assert reply.status == 405
    assert "POST" in reply.headers["allow"]


async def test_other_paths_do_not_exist(wire: Wire) -> None:
    """404 with a sentence that says where the endpoint is."""
    reply = await wire.get("/other")

    assert reply.status == 404
    assert "/mcp" in reply.error["message"]
