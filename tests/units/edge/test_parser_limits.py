"""What a connection can make the parser keep is bounded in number as well as in bytes, before anybody is known."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json

import pytest
import sample
from live import KEY, Live, live
from wire import ERAS, SECONDS, Era, request

from hardening.exchange import Exchange

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def connect(server: Live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and send nothing."""
    return await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


async def answers(server: Live, sent: bytes) -> bytes:
    """Return everything that comes back until the server closes."""
    reader, writer = await connect(server)
    received = b""
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        async with asyncio.timeout(SECONDS):
            while chunk := await reader.read(65_536):
                received += chunk
    writer.close()
    return received


def chunked(era: Era, method: str = "tools/list", key: str = KEY, after: bytes = b"") -> bytes:
    """Return a request whose body comes in one chunk, and what stands in place of its last line."""
    headers, body = request(era, method, key=key)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{head}\r\n".encode()
    return start + b"%x\r\n%b\r\n0\r\n%b" % (len(body), body, after or b"\r\n")


def refusal(answer: bytes) -> tuple[int, str, bool]:
    """Return status, kind and whether there is an id of the one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    kind = json.loads(body)["error"]["data"]["kind"] if body else ""
    assert b"connection: close" in head
    return int(head.split(b" ")[1]), kind, b"x-request-id: " in head


@pytest.mark.parametrize("key", [KEY, ""], ids=["caller", "stranger"])
@pytest.mark.parametrize("era", ERAS)
async def test_trailers_without_end_are_refused(era: Era, key: str) -> None:
    """The 17th trailer field ends the connection: 400, whoever sends it."""
    with live() as server:
        answer = await answers(server, chunked(era, key=key, after=b"ab:cd\r\n" * 200_000))

    assert refusal(answer) == (400, "trailers", True)


async def test_trailers_of_any_length_are_refused() -> None:
    """16 trailer fields have 8192 bytes together."""
    with live() as server:
        answer = await answers(server, chunked("modern", after=b"a: " + b"b" * 9000 + b"\r\nc: d\r\n\r\n"))

    assert refusal(answer) == (400, "trailers", True)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "two segments"])
async def test_no_field_after_the_head_is_a_header(era: Era, apart: bool) -> None:  # noqa: FBT001
    """A credential in a trailer is none: 401. The same request with its credential in the head is answered."""
    trailer = f"Authorization: Bearer {KEY}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n".encode()
    with live() as server:
        reader, writer = await connect(server)
        sent = chunked(era, key="", after=trailer)
        writer.write(sent[: -len(trailer)] if apart else sent)
        if apart:
            await asyncio.sleep(0.05)
            writer.write(trailer)
        stranger = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()
        reader, writer = await connect(server)
        writer.write(chunked(era, after=trailer))
        caller = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()

    assert stranger.startswith(b"HTTP/1.1 401 ")
    assert caller.startswith(b"HTTP/1.1 200 ")


async def test_the_number_of_fields_is_bounded() -> None:
    """100 fields are read, 101 are 431, however short they are."""
    head = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
    with live() as server:
        served = await answers(server, head + b"a:b\r\n" * 98 + b"connection: close\r\n\r\n")
        refused = await answers(server, head + b"a:b\r\n" * 100 + b"\r\n")

    assert served.startswith(b"HTTP/1.1 200 ")
    assert refusal(refused) == (431, "head_too_big", True)


@pytest.mark.parametrize("start", [b"GET /%b HTTP/1.1\r\n", b"GET / HTTP/1.1\r\na: %b\r\n"], ids=["URL", "field"])
async def test_a_head_of_one_segment_is_bounded_too(start: bytes) -> None:
    """A head that is complete when it is seen for the first time is 431 as well."""
    head = start % (b"a" * 140_000) + b"host: localhost\r\n\r\n"
    with live() as server:
        reader, writer = await connect(server)
        writer.write(b"GET ")
        await asyncio.sleep(0.05)

        def receive() -> None:
            [one] = server.running.http.server_state.connections
            one.data_received(head[4:])

        server.do(receive)
        answer = await asyncio.wait_for(reader.read(), SECONDS)
        writer.close()

    assert refusal(answer) == (431, "head_too_big", True)


async def test_a_body_in_the_segment_of_its_head_is_no_head() -> None:
    """A head and 200,000 bytes of a body that are seen at once are answered."""
    headers, body = request("modern", "tools/call", {"name": "echo", "arguments": {"text": "a" * 200_000}}, key=KEY)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sent = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with live() as server:
        reader, writer = await connect(server)
        writer.write(sent[:4])
        await asyncio.sleep(0.05)

        def receive() -> None:
            [one] = server.running.http.server_state.connections
            one.data_received(sent[4:])

        server.do(receive)
        answer = await asyncio.wait_for(reader.readline(), SECONDS)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_empty_lines_without_end_are_refused() -> None:
    """What comes before a request line counts as head."""
    with live() as server:
        answer = await answers(server, b"\r\n" * 100_000)

    assert refusal(answer)[:2] == (431, "head_too_big")


SMALL = b"11\r\n%b\r\n" % (b" " * 17)


@pytest.mark.parametrize(
    "body",
    [b"1;%b\r\n{\r\n" % (b"a" * 400_000), b"1\r\n{\r\n" * 60_000, SMALL * 20_000],
    ids=["extensions", "tiny chunks", "small chunks"],
)
async def test_the_framing_of_a_body_is_bounded(body: bytes) -> None:
    """Chunk extensions, and more than 1024 chunks of less than 256 bytes, end at 400."""
    sent = chunked("modern")
    head = sent[: sent.index(b"\r\n\r\n") + 4]
    with live() as server:
        answer = await answers(server, head + body)

    assert refusal(answer) == (400, "framing", True)


async def test_the_rest_of_a_refused_body_is_bounded_in_chunks() -> None:
    """A stranger's body goes by behind its 401; with the 1025th small chunk the connection ends, unanswered."""
    head = chunked("modern", key="").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    with live() as server:
        reader, writer = await connect(server)
        writer.write(head + SMALL)
        first = await asyncio.wait_for(reader.readuntil(b"}}}"), SECONDS)
        with contextlib.suppress(ConnectionError):
            writer.write(SMALL * 1024 + b"0\r\n\r\n" + LIVEZ)
            second = await asyncio.wait_for(reader.read(1), SECONDS)
            assert second == b""
        writer.close()

    assert first.startswith(b"HTTP/1.1 401 ")


async def test_pipelined_requests_are_bounded() -> None:
    """32 requests may wait behind one; they are answered, and then the next is refused: 429, closed."""
    with live() as server:
        answer = await answers(server, LIVEZ * 200)

    heads = [part.split(b" ")[0] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert heads[-1] == b"429"
    assert heads[:-1] == [b"200"] * (len(heads) - 1)
    assert 33 <= len(heads) - 1 < 200


async def test_a_flood_of_pipelined_requests_keeps_nothing() -> None:
    """8 MB of requests whose answers nobody reads end with their connection, and the server goes on."""
    with live() as server:
        await answers(server, LIVEZ * 200_000)
        cycles = server.do(
            lambda: max((len(one.pipeline) for one in server.running.http.server_state.connections), default=0)
        )
        served = await answers(server, LIVEZ.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))

    assert cycles <= 32
    assert served.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_malformed_behind_a_call_waits_for_its_answer(era: Era) -> None:
    """The call is answered, then the rest is refused with 400."""
    headers, body = request(era, "tools/call", {"name": "wait", "arguments": {"seconds": 0.3}}, key=KEY)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    call = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with live() as server:
        server.do(sample.RUNNING.clear)
        answer = await answers(server, call + b"\x00\r\n\r\n")

    statuses = [part.split(b" ")[0] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400"]
    assert b"waited" in answer


async def test_nothing_of_a_request_stays_with_an_idle_connection() -> None:
    """Head and body are gone when the answer is there; the connection may stay for a minute."""
    headers, body = request("modern", "tools/list")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "x: y\r\n" * 80
    earlier = {id(thing): thing for thing in gc.get_objects() if isinstance(thing, Exchange)}
    with live() as server:
        reader, writer = await connect(server)
        writer.write(
            f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        await asyncio.wait_for(reader.readuntil(b"}}}"), SECONDS)

        def kept() -> list[int]:
            [one] = server.running.http.server_state.connections
            cycle = one.cycle
            exchanges = sum(isinstance(thing, Exchange) and id(thing) not in earlier for thing in gc.get_objects())
            return [len(one.headers), len(one.scope), len(one.url), len(cycle.scope), len(cycle.body), exchanges]

        # The task that has answered ends a moment later.
        await asyncio.sleep(0.1)
        left = server.do(kept)
        writer.close()

    assert left == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("target", "status"),
    [("http://localhost/mcp", 200), ("http://LOCALHOST/mcp", 200), ("http://elsewhere.example.com/mcp", 400)],
)
async def test_a_target_names_the_host_that_the_header_names(era: Era, target: str, status: int) -> None:
    """A whole address as the target is served when its host is the one that was checked; another is 400."""
    sent = (
        chunked(era).replace(b"POST /mcp", f"POST {target}".encode()).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    )
    with live() as server:
        answer = await answers(server, sent)

    assert int(answer.split(b" ")[1]) == status
    assert status == 200 or refusal(answer) == (400, "malformed", True)


async def test_a_tunnel_is_refused() -> None:
    """CONNECT, which names no path, is 400 with a body like every refusal."""
    with live() as server:
        answer = await answers(server, b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n")

    assert refusal(answer) == (400, "malformed", True)
