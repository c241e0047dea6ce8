"""What guards and SDK read is the same: a header with one value comes once, and the lines of a list are read as one."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from live import KEY, live
from wire import ERAS, SECONDS, Era, Reply, Wire, opening, read, request

SINGLE = [
    "authorization",
    "host",
    "content-type",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "mcp-param-region",
    "last-event-id",
    "origin",
    "traceparent",
    "user-agent",
]


async def send(url: str, era: Era, method: str, more: list[tuple[str, str]], **params: object) -> Reply:
    """Send a good request with these header lines in place of its own."""
    headers, body = request(era, method, params, key=KEY)
    host = url.removeprefix("http://")
    usual = {"host": host, "connection": "close", "content-length": str(len(body)), **headers}
    lines = [(name, value) for name, value in usual.items() if name not in {name.lower() for name, _ in more}]
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = "".join(f"{name}: {value}\r\n" for name, value in [*lines, *more])
    writer.write(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(SECONDS):
        answer = await reader.read()
    writer.close()
    start, _, content = answer.partition(b"\r\n\r\n")
    first, *rest = start.decode().split("\r\n")
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in rest)]
    return read(int(first.split(" ")[1]), httpx2.Headers(pairs), content)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("era", ERAS)
async def test_a_header_with_one_value_comes_once(wire: Wire, era: Era, name: str) -> None:
    """400, whether the two values are the same or not."""
    usual, _ = request(era, "tools/call", {"name": "echo"}, key=KEY)
    value = {**usual, "host": wire.url.removeprefix("http://"), "mcp-param-region": "a"}.get(name, "one")
    for other in (value, "another"):
        more = [(name, value), (name.upper(), other)]
        reply = await send(wire.url, era, "tools/call", more, name="echo", arguments={"text": "a"})

        assert reply.status == 400
        assert reply.error["data"]["kind"] == "repeated_header"
        assert reply.headers["x-request-id"]


async def test_two_versions_do_not_open_an_era_that_is_refused() -> None:
    """`MCP_LEGACY=refuse` cannot be passed by a second version."""
    with live(MCP_LEGACY="refuse") as server:
        more = [("mcp-protocol-version", "2025-11-25"), ("mcp-protocol-version", "2025-06-18")]
        reply = await send(server.url, "legacy", "tools/list", more)

    assert reply.status == 400
    assert "result" not in reply.message


@pytest.mark.parametrize("mode", ["stateless", "stateful"])
@pytest.mark.parametrize("era", ERAS)
async def test_the_lines_of_a_list_are_read_as_one(era: Era, mode: str) -> None:
    """`Accept` may come on two lines (RFC 9110, 5.3); the SDK reads both, as the guards do."""
    with live(MCP_LEGACY=mode) as server:
        more = [("accept", "application/json"), ("accept", "text/event-stream")]
        method, params = opening(era)
        reply = await send(server.url, era, method, more, **params)

    assert reply.status == 200


async def test_other_headers_may_repeat(wire: Wire) -> None:
    """What nothing here reads is no reason to refuse."""
    more = [
        ("x-anything", "1"),
        ("x-anything", "2"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
    ]
    reply = await send(wire.url, "modern", "tools/list", more)

    assert reply.status == 200
