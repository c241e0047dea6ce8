"""Whoever never finishes the head of a request is closed at a deadline, and so is whoever sends too much of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

import pytest
import sample
from captured import captured
from live import KEY, OTHER_KEY, Live, Process, live
from wire import SECONDS, Wire, request

if TYPE_CHECKING:
    from pathlib import Path

START = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n"


async def connect(
    server: Live, address: str = "127.0.0.1", *, unread: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send nothing; `unread` takes as little as can be of what comes."""
    sock = socket.socket()
    if unread:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.bind((address, 0))
    sock.settimeout(0)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(server.url.rpartition(":")[2])))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024 if unread else 2**16)
    if unread:
        writer.transport.pause_reading()
    return reader, writer


def a_request(key: str = "") -> bytes:
    """Return a request of a caller, or of a stranger, which is answered with 401."""
    headers, body = request("modern", "tools/list", key=key)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return START + f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def answered(server: Live, sent: bytes, address: str = "127.0.0.1") -> asyncio.StreamWriter:
    """Open a connection, ask, and wait for the answer; the connection waits for the next request."""
    reader, writer = await connect(server, address)
    writer.write(sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
    await asyncio.wait_for(reader.readexactly(int(length.rpartition(b" ")[2])), SECONDS)
    return writer


@pytest.mark.parametrize("sent", [b"", START, START + b"x-slow: "], ids=["nothing", "half a head", "half a header"])
async def test_a_head_that_does_not_come_ends_at_its_deadline(sent: bytes) -> None:
    """408, and the connection is closed."""
    with live(MCP_BODY_TIMEOUT_SECONDS="0.3") as server:
        reader, writer = await connect(server)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [START, START + b"content-length: 9\r\n\r\n{"], ids=["half a head", "half a body"])
async def test_the_next_request_of_a_connection_has_a_deadline_too(sent: bytes) -> None:
    """Two requests that were answered buy the third no time: 408 for its head, and an end for its body."""
    with live(MCP_BODY_TIMEOUT_SECONDS="0.5") as server:
        reader, writer = await connect(server)
        for _ in range(2):
            # In two pieces, so that each of them has begun to wait.
            writer.write(LIVEZ[:20])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(LIVEZ[20:])
            assert (await asyncio.wait_for(reader.readuntil(b'"live"}'), 5)).startswith(b"HTTP/1.1 200 ")
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408 " if sent == START else b"HTTP/1.1 415 ")


async def test_a_drip_of_headers_does_not_extend_the_deadline() -> None:
    """Slowloris: a byte now and then keeps nothing open."""
    with live(MCP_BODY_TIMEOUT_SECONDS="0.5") as server:
        reader, writer = await connect(server)
        writer.write(START)
        answer = asyncio.ensure_future(reader.read())
        for number in range(40):
            if (await asyncio.wait([answer], timeout=0.1))[0]:
                break
            writer.write(f"x-{number}: a\r\n".encode())
        writer.close()

    assert answer.done()
    # What is on its way when the server closes may take the answer away with it.
    reset = isinstance(answer.exception(), ConnectionError)
    assert reset or answer.result().startswith(b"HTTP/1.1 408 ")


async def test_a_head_without_end_is_cut() -> None:
    """No header, however long, fills the memory."""
    with live() as server:
        reader, writer = await connect(server)
        writer.write(START + b"x-long: " + b"a" * 65_600)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 431 ")


LIVEZ = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def test_a_connection_too_many_takes_the_place_of_an_idle_stranger() -> None:
    """16 silent connections keep nobody out: the 17th is served, and the oldest of them is closed."""
    with live(MCP_MAX_CONNECTIONS="16") as server:
        held = [await connect(server) for _ in range(16)]
        reader, writer = await connect(server)
        writer.write(LIVEZ)
        answer = await asyncio.wait_for(reader.readuntil(b'"live"}'), 5)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(held[0][0].read(), 5) == b""
        held[15][1].write(LIVEZ)
        last = await asyncio.wait_for(held[15][0].readuntil(b'"live"}'), 5)
        for _, other in (*held, (reader, writer)):
            other.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert last.startswith(b"HTTP/1.1 200 ")


async def test_who_has_authenticated_keeps_its_connection() -> None:
    """With 16 connections of callers that wait for their next request, the 17th is closed at once, until one ends."""
    one = a_request(KEY)
    with live(MCP_MAX_CONNECTIONS="16") as server:
        held = [await connect(server) for _ in range(16)]
        for reader, writer in held:
            writer.write(one)
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200 ")
        reader, writer = await connect(server)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(refused(reader, writer), 5)
        held[0][1].close()
        async with Wire(server.url, KEY) as wire, asyncio.timeout(5):
            while True:
                try:
                    alive = await wire.get("/livez")
                except Exception:  # noqa: BLE001, S112 - until there is room
                    continue
                break
        for _, other in held:
            other.close()

    assert alive.status == 200


async def test_one_address_cannot_take_every_connection(tmp_path: Path) -> None:
    """A connection too many of one address is closed, with one line and one count; behind a proxy it is not."""
    with live(MCP_MAX_CONNECTIONS_PER_ADDRESS="4") as server, captured(tmp_path / "log") as log:
        held = [await answered(server, a_request(KEY)) for _ in range(4)]
        reader, writer = await connect(server)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(refused(reader, writer), 5)
        [line] = [line for line in log.lines() if line["msg"] == "refused"]
        counted = server.app.metrics.registry.get_sample_value(
            "mcp_refused_total", {"layer": "connection", "status": "429"}
        )
        for other in held:
            other.close()
    with live(MCP_MAX_CONNECTIONS_PER_ADDRESS="4", MCP_TRUSTED_PROXY_HOPS="1") as server:
        held = [await answered(server, a_request(KEY)) for _ in range(4)]
        reader, writer = await connect(server)
        writer.write(LIVEZ)
        behind = await asyncio.wait_for(reader.readuntil(b'"live"}'), 5)
        for other in (*held, writer):
            other.close()

    assert (line["layer"], line["limit"], line["status"]) == ("connection", "connections_address", 429)
    assert counted == 1
    assert behind.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", LIVEZ], ids=["silent", "answered"])
async def test_strangers_do_not_keep_others_of_their_address_out(tmp_path: Path, sent: bytes) -> None:
    """Behind one address (an office), one more takes the place of the oldest idle stranger there; a line tells it."""
    with live(MCP_MAX_CONNECTIONS_PER_ADDRESS="4") as server, captured(tmp_path / "log") as log:
        held = [await answered(server, a_request(KEY))]
        elsewhere = await answered(server, LIVEZ, "127.0.0.2")
        held += [await answered(server, sent) if sent else (await connect(server))[1] for _ in range(3)]
        held += [await answered(server, a_request(KEY)) for _ in range(3)]
        # Now all of them are callers'.
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(refused(*await connect(server)), SECONDS)
        limits = [line["limit"] for line in log.lines() if line.get("layer") == "connection"]
        for writer in (elsewhere, *held):
            writer.close()

    assert limits == ["connections_address"] * 4


async def test_one_caller_from_many_addresses_does_not_keep_others_out() -> None:
    """Of one key as many idle connections are kept as of one address (4); further ones make room like a stranger's."""
    with live(MCP_MAX_CONNECTIONS="16", MCP_MAX_CONNECTIONS_PER_ADDRESS="4") as server:
        held = [await answered(server, a_request(KEY), f"127.0.1.{number % 8 + 1}") for number in range(16)]
        others = [await answered(server, a_request(OTHER_KEY), f"127.0.2.{number + 1}") for number in range(4)]
        alive = await answered(server, LIVEZ, "127.0.3.1")
        for writer in (*held, *others, alive):
            writer.close()


async def test_who_does_not_read_keeps_nobody_out() -> None:
    """A stranger whose answers wait to be taken makes room as an idle one does, whatever it has sent behind them."""

    def states() -> list[tuple[bool, bool]]:
        assert server.running is not None
        open_now = list(server.running.http.server_state.connections)
        return [(one.flow.write_paused, one.cycle is None or one.cycle.response_complete) for one in open_now]

    with live(MCP_MAX_CONNECTIONS="16") as server:
        # Otherwise the system takes thousands of answers in the client's place.
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        held = [await connect(server, f"127.0.1.{number + 1}", unread=True) for number in range(16)]
        async with asyncio.timeout(SECONDS):
            while not all(paused for paused, _ in server.do(states)):
                # Never more than 32 ahead of their answers.
                if all(paused or over for paused, over in server.do(states)):
                    for _, writer in held:
                        writer.write(LIVEZ * 15)
                await asyncio.sleep(0.01)
        for _, writer in held:
            writer.write(LIVEZ)
        await asyncio.sleep(0.05)
        alive = await answered(server, a_request(KEY))
        for _, writer in held:
            writer.transport.abort()
        alive.close()


@pytest.mark.parametrize("cut", [False, True], ids=["in one piece", "head first"])
@pytest.mark.parametrize("offered", [b"h2c", b"websocket"])
async def test_another_protocol_that_is_offered_is_passed_over(tmp_path: Path, offered: bytes, *, cut: bool) -> None:
    """The answer is that of HTTP/1.1 (RFC 9110, section 7.8), body and next request included; the log says nothing."""
    fields = b"connection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nupgrade: " + offered
    with live() as server, captured(tmp_path / "log") as log:
        plain, _, body = a_request(KEY).partition(b"content-length: ")
        length, _, text = body.partition(b"\r\n\r\n")
        framed = (
            b"content-length: " + length + b"\r\n\r\n" + text,
            b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nx: y\r\n\r\n" % (len(text), text),
        )
        reader, writer = await connect(server)
        for one in framed:
            sent = plain + fields + b"\r\n" + one
            at = sent.index(b"\r\n\r\n") + 4 if cut else len(sent)
            writer.write(sent[:at])
            await asyncio.sleep(0.05 if cut else 0)
            # What is behind the body is the next request.
            writer.write(sent[at:] + LIVEZ)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b'"tools"' in await asyncio.wait_for(reader.readuntil(b'{"status":"live"}'), SECONDS)
        writer.close()
        told = [line for line in log.lines() if line["level"] != "info" or line["msg"] == "refused"]

    assert told == []


async def refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask, and fail as a client of a closed connection does."""
    writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
    if not await reader.read():
        raise ConnectionResetError


async def test_an_idle_connection_is_kept_between_requests() -> None:
    """The deadline is for a head that has begun; keep-alive has its own."""
    with live(MCP_BODY_TIMEOUT_SECONDS="1") as server:
        reader, writer = await connect(server)
        answers = []
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answers.append(await asyncio.wait_for(reader.readuntil(b'"live"}'), 5))
            # Longer than the deadline of a head.
            await asyncio.wait([asyncio.ensure_future(asyncio.sleep(1.5))])
        writer.close()

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


async def test_a_head_behind_a_running_call_is_bounded_too() -> None:
    """Whoever waits for one answer cannot fill the memory with the head of the next request meanwhile."""
    with live() as server:
        server.do(sample.RUNNING.clear)
        headers, body = request("modern", "tools/call", {"name": "wait", "arguments": {"seconds": 20}}, key=KEY)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        reader, writer = await connect(server)
        writer.write(START + f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(SECONDS):
            while not sample.RUNNING.is_set():
                await asyncio.sleep(0.005)
        writer.write(START + b"x-long: " + b"a" * 200_000)
        answer = b""
        # Closed while it still sends, it may be told so or not.
        with contextlib.suppress(ConnectionResetError):
            answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert answer == b""


async def test_who_leaves_before_all_of_its_answers_is_no_fault_of_the_server() -> None:
    """Requests that wait behind another on their connection are forgotten with it, and no line tells of a crash."""
    headers, body = request("modern", "tools/call", {"name": "echo", "arguments": {"text": "hello"}}, key=KEY)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    one = START + f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    calls = 60
    with Process(MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="100") as server:
        port = int(server.url.rpartition(":")[2])
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(one * (calls // 3))
            await asyncio.wait_for(reader.readuntil(b"hello"), SECONDS)
            writer.transport.abort()
        assert await asyncio.to_thread(server.stop) == 0
        lines = [json.loads(line) for line in server.lines]

    said = [line["msg"] for line in lines]
    usual = {"started", "tool call", "drain: unready", "drain: refusing new work", "drain: complete", "stopped"}
    assert set(said) <= usual | {"refused"}
    # The body of one that has just begun is not read any more.
    assert {(line["layer"], line["status"]) for line in lines if line["msg"] == "refused"} <= {("body", 400)}
    assert 3 <= said.count("tool call") < calls


async def test_the_rest_of_a_refused_body_goes_by() -> None:
    """Whoever is refused while still sending can read why, and use the connection again."""
    headers, _ = request("modern", "tools/list")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with live() as server:
        reader, writer = await connect(server)
        writer.write(START + f"{head}content-length: 300000\r\n\r\n".encode() + b"a" * 1000)
        refused = await asyncio.wait_for(reader.readuntil(b"}}}"), SECONDS)
        writer.write(b"a" * 299_000)
        await writer.drain()
        writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        after = await asyncio.wait_for(reader.readuntil(b'"live"}'), SECONDS)
        writer.close()

    assert refused.startswith(b"HTTP/1.1 401 ")
    assert after.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    """100 for `Expect: 100-continue`, and then the answer (RFC 9110, section 10.1.1)."""
    headers, body = request("modern", "tools/call", {"name": "echo", "arguments": {"text": "hello"}}, key=KEY)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with live() as server:
        reader, writer = await connect(server)
        writer.write(START + f"{head}expect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
        writer.write(body)
        answer = await asyncio.wait_for(reader.readuntil(b"hello"), SECONDS)
        writer.close()

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("last", [b"HTTP/1.1\r\nconnection: close", b"HTTP/1.0\r\nconnection: close", b"HTTP/1.0"])
async def test_the_last_answer_of_a_connection_is_not_lost_with_the_body(tmp_path: Path, last: bytes) -> None:
    """Closing while a body still comes would reset the connection, and take the answer away; nothing behind is read."""
    with live() as server, captured(tmp_path / "log") as log:
        reader, writer = await connect(server)
        head = b"POST /mcp %b\r\nhost: localhost\r\ncontent-length: 300000\r\n\r\n" % last
        writer.write(head + b"a" * 1000)
        await asyncio.wait_for(reader.readuntil(b"}}}"), SECONDS)
        assert not reader.at_eof()
        writer.write(b"a" * 299_000 + head)
        behind = await asyncio.wait_for(reader.read(), SECONDS)
        writer.close()
        refusals = [line["layer"] for line in log.lines() if line["msg"] == "refused"]

    assert behind == b""
    assert refusals == ["declared"]


async def test_the_rest_of_a_last_body_is_waited_for_no_longer_than_a_body() -> None:
    """Two seconds (`MCP_BODY_TIMEOUT_SECONDS`) after its head, whatever still drips."""
    with live(MCP_BODY_TIMEOUT_SECONDS="2") as server:
        reader, writer = await connect(server)
        writer.write(START + b"connection: close\r\ncontent-length: 300000\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"}}}"), SECONDS)
        drips = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and drips < 80:
                writer.write(b"a")
                await asyncio.sleep(0.1)
                drips += 1
        writer.close()

    assert 10 < drips < 80
