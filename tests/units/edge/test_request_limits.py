"""How big, how slow, how many at once: each bound holds, and what was taken is given back."""

from __future__ import annotations

import asyncio
import gzip

import pytest
import sample
from live import KEY, OTHER_KEY, PROBE_KEY, Live, live
from wire import ERAS, Era, Wire, opening, request

from hardening.exchange import Principal, open_exchange
from hardening.limits.concurrency import Slots


@pytest.mark.parametrize("era", ERAS)
async def test_a_declared_size_over_the_limit_is_not_read(server: Live, era: Era) -> None:
    """413 before authentication, and before one byte of the body."""
    headers, _ = request(era, *opening(era))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 99999999\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()

    assert b" 413 " in answer


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
        answer = await asyncio.wait_for(reader.readline(), 5)
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
        answer = await asyncio.wait_for(reader.readline(), 5)
        writer.close()

    assert b" 408 " in answer


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


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("era", ERAS)
async def test_other_methods_are_not_served(wire: Wire, era: Era, method: str) -> None:
    """405 with `Allow`, so that an older client does not wait for a stream."""
    headers, _ = request(era, *opening(era), key=KEY)
    async with asyncio.timeout(5):
        reply = await wire.send(b"", headers, method=method)

    assert reply.status == 405
    assert "POST" in reply.headers["allow"]


async def test_other_paths_do_not_exist(wire: Wire) -> None:
    """404 with a sentence that says where the endpoint is."""
    reply = await wire.get("/other")

    assert reply.status == 404
    assert "/mcp" in reply.error["message"]


@pytest.mark.parametrize("era", ERAS)
async def test_one_caller_cannot_take_every_slot(era: Era) -> None:
    """Over its own cap a caller gets 503 with `Retry-After`; another one is answered meanwhile."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as busy:
        async with Wire(busy.url, KEY) as alice, Wire(busy.url, OTHER_KEY) as bob:
            busy.do(sample.RUNNING.clear)
            waiting = asyncio.ensure_future(alice.call(era, "wait", {"seconds": 3}))
            await asyncio.to_thread(until, sample.RUNNING.is_set)
            second = await alice.ask(era, *opening(era))
            other = await bob.ask(era, *opening(era))
            waiting.cancel()

    assert second.status == 503
    assert int(second.headers["retry-after"]) >= 1
    assert other.status == 200


@pytest.mark.parametrize("era", ERAS)
async def test_the_probe_is_answered_when_the_server_is_full(era: Era) -> None:
    """A monitor that is refused because of others would report a fault that is not there."""
    with live(MCP_MAX_IN_FLIGHT="1", MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as full:
        async with Wire(full.url, KEY) as alice, Wire(full.url, OTHER_KEY) as bob, Wire(full.url, PROBE_KEY) as probe:
            full.do(sample.RUNNING.clear)
            waiting = asyncio.ensure_future(alice.call(era, "wait", {"seconds": 3}))
            await asyncio.to_thread(until, sample.RUNNING.is_set)
            refused = await bob.ask(era, *opening(era))
            looked = await probe.ask(era, *opening(era))
            waiting.cancel()

    assert refused.status == 503
    assert looked.status == 200


async def test_open_streams_take_no_slots_of_calls() -> None:
    """A caller that listens can still call."""
    with live(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as server:
        listen = request("modern", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, key=KEY)
        async with Wire(server.url, KEY) as wire:
            stream = wire.http.stream("POST", f"{server.url}/mcp", content=listen[1], headers=listen[0])
            async with stream as listening:
                called = await wire.call("modern", "echo", {"text": "a"})

    assert (listening.status_code, called.status) == (200, 200)


def test_nothing_is_remembered_of_those_who_have_gone() -> None:
    """A slot comes back with the end of its request, and a caller without one takes no memory."""
    slots = Slots(2, 1)
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    exchange = open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent
    alice = Principal("api_key", "alice")
    taken, refused = slots.take(exchange, alice), slots.take(exchange, alice)
    for release in exchange.on_end:
        release()

    assert taken is None
    assert refused is not None
    assert (slots.total, dict(slots.by_principal)) == (0, {})


def until(condition) -> None:  # noqa: ANN001 - any question
    """Wait for a condition of another thread, with a deadline."""
    import time

    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
