"""Each guard of a request's head and body alone, on either side of its bounds: what it refuses, and what it leaves."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from captured import nothing
from structlog.testing import capture_logs

from hardening.edge.accept import Accept, accepted
from hardening.edge.body import Body
from hardening.edge.client_ip import ClientIp, fold
from hardening.edge.connection_table import ConnectionTable
from hardening.edge.connections import BoundedConnection, bounded
from hardening.edge.draining import Drain
from hardening.edge.header_fields import HeaderFields
from hardening.edge.health import Health
from hardening.edge.host_origin import HostOrigin
from hardening.edge.parser_limits import MALFORMED, LimitedParser
from hardening.edge.request_head import RequestHead
from hardening.exchange import Exchange, open_exchange
from hardening.logs.access_log import AccessLog
from hardening.logs.throttle import RATE_LIMITED
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hardening.response import Response

ROUTES = {"/mcp": frozenset({"POST", "GET", "OPTIONS"}), "/livez": frozenset({"GET"})}
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {"mcp-protocol-version": "2026-07-28"}


def asked(
    headers: Mapping[str, str] | None = None, method: str = "POST", path: str = "/mcp", client: Any = None
) -> Exchange:
    """Return a request."""
    lines = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "headers": lines, "client": client}
    return open_exchange(scope, nothing, nothing)


def told(answer: Response | None) -> tuple[int, str] | None:
    """Return status and kind."""
    return None if answer is None else (answer.status, answer.kind)


@pytest.mark.parametrize(
    ("headers", "method", "path", "refused"),
    [
        (JSON, "POST", "/mcp", None),
        (JSON, "POST", "/other", (404, "not_found")),
        (JSON, "PUT", "/mcp", (405, "method")),
        (JSON | {"content-length": "1024"}, "POST", "/mcp", None),
        (JSON | {"content-length": "1025"}, "POST", "/mcp", (413, "too_big")),
        (JSON | {"content-length": "-1"}, "POST", "/mcp", (413, "too_big")),
        (JSON | {"content-length": "5".zfill(20)}, "POST", "/mcp", None),
        (JSON | {"content-length": "5".zfill(5000)}, "POST", "/mcp", (413, "too_big")),
        (JSON | {"transfer-encoding": "Chunked"}, "POST", "/mcp", None),
        (JSON | {"transfer-encoding": "gzip, chunked"}, "POST", "/mcp", (415, "encoding")),
        (JSON | {"content-encoding": "Identity"}, "POST", "/mcp", None),
        (JSON | {"content-encoding": "br"}, "POST", "/mcp", (415, "encoding")),
        (JSON | {"content-type": "Application/JSON ; charset=utf-8"}, "POST", "/mcp", None),
        (JSON | {"content-type": "application/json-seq"}, "POST", "/mcp", (415, "media_type")),
        (JSON | {"content-type": "text/plain", "content-encoding": "gzip"}, "GET", "/mcp", None),
        ({"content-length": "1025"}, "GET", "/livez", (413, "too_big")),
        ({}, "GET", "/livez", None),
        (JSON | {"accept": "text/html"}, "POST", "/mcp", (406, "not_acceptable")),
    ],
)
async def test_a_head(headers: dict[str, str], method: str, path: str, refused: tuple[int, str] | None) -> None:
    """404, 405, 406, 413, 415; 405 says what is served."""
    answer = await RequestHead(HardeningSettings(max_body_bytes=1024), ROUTES)(asked(headers, method, path))

    assert told(answer) == refused
    if answer is not None and answer.status == 405:
        assert answer.headers == ((b"allow", b"GET, OPTIONS, POST"),)


BOTH = "application/json, text/event-stream"


@pytest.mark.parametrize(
    ("legacy", "method", "headers", "refused", "stream", "left"),
    [
        ("stateless", "POST", MODERN | {"accept": BOTH}, False, True, BOTH),
        ("stateless", "POST", MODERN | {"accept": "*/*"}, False, True, "*/*"),
        ("stateless", "POST", MODERN | {"accept": "application/json"}, False, False, BOTH),
        ("stateless", "POST", MODERN, False, False, BOTH),
        ("stateless", "POST", MODERN | {"accept": "text/event-stream"}, True, True, None),
        ("stateless", "POST", MODERN | {"accept": "application/json" + " " * 240 + ";q=1"}, False, False, BOTH),
        ("stateless", "POST", MODERN | {"accept": "application/json;x=" + "y" * 300}, False, False, BOTH),
        ("stateless", "POST", MODERN | {"accept": "text/html;x=" + "y" * 300}, True, True, None),
        ("stateless", "POST", MODERN | {"accept": "*/*" + "," * 2045}, False, True, None),
        ("stateless", "POST", MODERN | {"accept": "*/*" + "," * 2046}, True, True, None),
        ("stateful", "GET", {"accept": "*/*" + "," * 2046}, True, True, None),
        (
            *("stateless", "POST", MODERN | {"accept": "application/json", "mcp-method": "subscriptions/listen"}),
            *(True, True, None),
        ),
        ("stateless", "POST", MODERN | {"mcp-method": "subscriptions/listen"}, False, False, BOTH),
        (
            *("stateful", "POST", MODERN | {"accept": "application/json", "mcp-method": "tools/list"}),
            *(False, False, BOTH),
        ),
        ("stateless", "POST", {"accept": "application/json"}, False, False, BOTH),
        ("stateful", "POST", {"accept": "application/json"}, True, True, None),
        ("stateful", "POST", {}, False, False, BOTH),
        ("stateful", "POST", {"accept": BOTH}, False, True, BOTH),
        ("stateful", "GET", {"accept": "text/event-stream"}, False, True, "text/event-stream"),
        ("stateful", "GET", {"accept": "application/json"}, True, True, None),
        ("stateful", "DELETE", {"accept": "text/html"}, False, True, "text/html"),
    ],
)
def test_what_a_client_takes(  # noqa: PLR0913, PLR0917 - the columns of the table
    legacy: Any,
    method: str,
    headers: dict[str, str],
    refused: bool,  # noqa: FBT001 - a column of the table
    stream: bool,  # noqa: FBT001 - a column of the table
    left: str | None,
) -> None:
    """406, or whether a stream may come; what has been decided here reads as both to the SDK."""
    exchange = asked(headers, method)
    answer = Accept(HardeningSettings(legacy=legacy))(exchange)

    assert told(answer) == ((406, "not_acceptable") if refused else None)
    assert exchange.accepts_stream is stream
    if left is not None:
        sdk = dict(exchange.scope["headers"])
        assert sdk.pop(b"accept").decode() == left
        assert sdk == {name.encode(): value.encode() for name, value in headers.items() if name != "accept"}, (
            "nothing else is taken out"
        )


def test_other_paths_take_anything() -> None:
    """A monitor asks for health with whatever its library says."""
    assert Accept(HardeningSettings())(asked({"accept": "text/html"}, "GET", "/livez")) is None


def pieces(*parts: Any) -> Callable[[], Any]:
    """Return a connection that says this, part by part."""
    left = list(parts)

    async def receive() -> Any:
        await asyncio.sleep(0)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)} if isinstance(part, bytes) else part

    return receive


@pytest.mark.parametrize(
    ("parts", "refused", "body"),
    [
        ([b"a" * 1000, b"b" * 24], None, b"a" * 1000 + b"b" * 24),
        ([b"a" * 1000, b"b" * 25], (413, "too_big"), None),
        ([b""], None, b""),
        ([{"type": "http.request"}], None, b""),
        ([{"type": "http.disconnect"}], (400, "disconnected"), None),
    ],
)
async def test_a_body(parts: list[Any], refused: tuple[int, str] | None, body: bytes | None) -> None:
    """413 beyond its size; it is read once here and once more by the protocol, and then the connection goes on."""
    exchange = asked()
    exchange.receive = pieces(*parts)
    answer = await Body(HardeningSettings(max_body_bytes=1024))(exchange)

    assert (told(answer), exchange.body) == (refused, body)
    if refused is None:
        before = exchange.receive
        assert await before() == {"type": "http.request", "body": body, "more_body": False}
        with pytest.raises(IndexError):
            await before()


async def test_a_body_that_does_not_come() -> None:
    """408, and the connection is closed; that of a GET is read and is no message."""
    slow = asked()
    slow.receive = asyncio.Event().wait  # type: ignore[assignment] - nothing comes
    answer = await Body(HardeningSettings(body_timeout_seconds=0.1))(slow)
    get = asked(method="GET")
    get.receive = pieces(b"x")

    assert answer is not None
    assert (told(answer), answer.headers) == ((408, "too_slow"), ((b"connection", b"close"),))
    assert await Body(HardeningSettings())(get) is None
    assert get.body is None


@pytest.mark.parametrize(
    ("written", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ('"192.0.2.1:80"', "192.0.2.1"),
        ("2001:db8:0:0:1::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ('"[2001:db8::1]:65535"', "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:123456", "unknown"),
        ("192.0.2.256", "unknown"),
        ("[2001:db8::1]x", "unknown"),
        ("_hidden", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_address_is_counted_as(written: str, counted: str) -> None:
    """However a proxy writes it; what is none is one and the same."""
    assert fold(written) == counted


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "192.0.2.1", "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.9, 192.0.2.1", "192.0.2.1"),
        (2, "192.0.2.9, 192.0.2.1 ,, 192.0.2.2", "192.0.2.1"),
        (2, "192.0.2.1", "10.0.0.1"),
        (1, "192.0.2.1, unknown", "10.0.0.1"),
        (1, "192.0.2.1" + "," * 17, "192.0.2.1"),
        (1, "192.0.2.1" + "," * 18, "10.0.0.1"),
        (2, "," * 30_000 + "192.0.2.9, 192.0.2.1, 192.0.2.2", "192.0.2.1"),
    ],
)
async def test_the_client_behind_proxies(hops: int, forwarded: str, address: str) -> None:
    """Only what our own proxies wrote is true."""
    exchange = asked({"x-forwarded-for": forwarded}, client=("10.0.0.1", 1))

    assert await ClientIp(hops)(exchange) is None
    assert exchange.address == address


async def test_what_is_remembered_of_headers_is_short() -> None:
    """256 bytes of `Accept`, 100 characters of an address: a cache of longer ones is megabytes of strangers."""
    fold.cache_clear()
    for end in ("a", "b"):
        await ClientIp(1)(asked({"x-forwarded-for": "fe80::1%" + "z" * 93 + end}, client=("10.0.0.1", 1)))
    assert fold.cache_info().currsize == 2
    accepted.cache_clear()
    for size in (256, 257):
        assert Accept(HardeningSettings())(asked({"accept": "*/*," + "a" * (size - 4)})) is None
    assert accepted.cache_info().currsize == 1


async def test_a_socket_file_has_no_address() -> None:
    """All that come over it are one."""
    exchange = asked()
    await ClientIp(0)(exchange)

    assert exchange.address == "unknown"


class Peer:
    """One end of a connection, without a network."""

    def __init__(self) -> None:
        self.aborted = False
        self.closing = self.paused = False
        self.unsent = 0
        self.written = b""
        self.transport = self

    def abort(self) -> None:
        """Note it."""
        self.aborted = self.closing = True

    def close(self) -> None:
        """Note it."""
        self.closing = True

    def turn_away(self, refusal: Response) -> None:
        """Note it, as a connection does that the table closes for another."""
        assert told(refusal) == (429, "connections_address")
        self.abort()

    def is_closing(self) -> bool:
        """Return whether somebody has closed it."""
        return self.closing

    def get_write_buffer_size(self) -> int:
        """Return what is not sent yet."""
        return self.unsent

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def get_extra_info(self, name: str) -> Any:
        """Return where it is."""
        return {"peername": ("192.0.2.1", 5), "sockname": ("127.0.0.1", 80)}.get(name)

    def pause_reading(self) -> None:
        """Note it."""
        self.paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.paused = False


def test_connections_are_counted_exactly() -> None:
    """Two of an address, three in all; the one idle for longest makes room, and nobody who is busy or known."""
    table, peers = ConnectionTable(3, 2), [Peer() for _ in range(9)]
    connections: Any = peers

    assert [told(table.admit(connections[number], "a")) for number in (8, 0, 1)] == [None, None, None]
    # The first of the address has made room for its third.
    assert [peer.aborted for peer in peers] == [False] * 8 + [True]
    for number in (0, 1):
        table.busy(connections[number])
    assert told(table.admit(connections[2], "a")) == (429, "connections_address")
    table.idle(connections[1])
    assert table.admit(connections[3], "b") is None
    table.idle(connections[0])
    # The first is idle since the others.
    assert table.admit(connections[4], "c") is None
    assert [peer.aborted for peer in peers[:5]] == [False, True, False, False, False]
    for number in (0, 3, 4):
        table.busy(connections[number])
    assert told(table.admit(connections[5], "d")) == (503, "connections")
    table.remove(connections[0])
    table.remove(connections[0])
    table.idle(connections[0])
    assert table.admit(connections[6], "a") is None
    table.busy(connections[6])
    assert told(table.admit(connections[7], "e")) == (503, "connections")
    for number in (3, 4, 6):
        table.remove(connections[number])
    kept = (table._by_address, table._by_caller, table._caller, table._idle, table._idle_of)  # noqa: SLF001
    assert not any(kept), "nothing is kept of those who have gone"


PUBLIC = {"host": "0.0.0.0", "MCP_HOST": "0.0.0.0"}


def guard(public_url: str = "", *, loopback: bool = False, **more: Any) -> HostOrigin:
    """Return the guard for a server that is reached like this."""
    where = "127.0.0.1" if loopback else "0.0.0.0"
    return HostOrigin(HardeningSettings(MCP_HOST=where, public_url=public_url, **more), frozenset({"/livez"}))


@pytest.mark.parametrize(
    ("given", "host", "path", "good"),
    [
        (guard("https://mcp.example.com"), "MCP.example.com", "/mcp", True),
        (guard("https://mcp.example.com"), "mcp.example.com:443", "/mcp", True),
        (guard("https://mcp.example.com"), "mcp.example.com:80", "/mcp", False),
        (guard("http://mcp.example.com"), "mcp.example.com:80", "/mcp", True),
        (guard("http://mcp.example.com"), "mcp.example.com:443", "/mcp", False),
        (guard("https://mcp.example.com:8443"), "mcp.example.com:8443", "/mcp", True),
        (guard("https://mcp.example.com:8443"), "mcp.example.com", "/mcp", False),
        (guard("https://mcp.example.com"), "10.0.0.1", "/livez", True),
        (guard("https://mcp.example.com"), "10.0.0.1", "/metrics", False),
        (guard(allowed_hosts=("Inner:8000",)), "inner:8000", "/mcp", True),
        (guard(allowed_hosts=("Inner:8000",)), "inner", "/mcp", False),
        (guard(loopback=True), "localhost", "/mcp", True),
        (guard(loopback=True), "[::1]:99", "/mcp", True),
        (guard(loopback=True), "127.0.0.1:", "/mcp", False),
        (guard(loopback=True), "localhost:x", "/mcp", False),
        (guard(loopback=True), "::1:99", "/mcp", False),
        (guard(loopback=True), "", "/mcp", False),
        (guard(), "localhost", "/mcp", False),
    ],
)
async def test_a_host(given: HostOrigin, host: str, path: str, good: bool) -> None:  # noqa: FBT001 - a column
    """421 for a foreign one; what is checked is what the exchange is told."""
    exchange = asked({"host": host}, path=path)
    answer = await given(exchange)

    assert told(answer) == (None if good else (421, "host"))
    assert exchange.host == (host.lower() if good and path == "/mcp" else "")


@pytest.mark.parametrize(
    ("given", "origin", "good"),
    [
        (guard("https://h"), "https://H", True),
        (guard("https://h"), "http://h", False),
        (guard("https://h", allowed_origins=("https://App.example.com/",)), "https://app.example.com", True),
        (guard("https://h", allowed_origins=("https://App.example.com/",)), "https://app.example.com:1", False),
        (guard("https://h"), "http://localhost", False),
        (guard("https://h", loopback=True), "http://localhost:3000", True),
        (guard("https://h", loopback=True), "https://[::1]", True),
        (guard("https://h", loopback=True), "ftp://localhost", False),
        (guard("https://h", loopback=True), "http://localhost.evil", False),
        (guard("https://h", loopback=True), "null", False),
    ],
)
async def test_an_origin(given: HostOrigin, origin: str, good: bool) -> None:  # noqa: FBT001 - a column
    """403 for a foreign one; an allowed one may read the answer, and is told what."""
    exchange = asked({"host": "h", "origin": origin})
    answer = await given(exchange)

    assert told(answer) == (None if good else (403, "origin"))
    expected = [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-expose-headers", b"x-request-id, retry-after, www-authenticate, mcp-session-id"),
        (b"vary", b"origin"),
    ]
    assert exchange.response_headers == (expected if good else [])


async def test_a_preflight_to_the_letter() -> None:
    """204, the methods, the headers of both eras and those of arguments, for ten minutes."""
    names = {"access-control-request-headers": f"Mcp-Param-A,mcp-param-{'b' * 128},mcp-param-{'c' * 129},x"}
    exchange = asked({"host": "h", "origin": "https://h"} | names, "OPTIONS")
    answer = await guard("https://h")(exchange)

    assert answer is not None
    assert (answer.status, answer.kind, answer.body) == (204, "preflight", b"")
    assert dict(answer.headers) == {
        b"access-control-allow-methods": b"POST, GET, DELETE",
        b"access-control-allow-headers": (
            b"authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, "
            b"last-event-id, traceparent, tracestate, baggage, mcp-param-a, mcp-param-" + b"b" * 128
        ),
        b"access-control-max-age": b"600",
    }
    assert dict(exchange.response_headers)[b"vary"] == b"origin, access-control-request-headers"


@pytest.mark.parametrize(
    ("method", "path", "unready", "body"),
    [
        ("GET", "/livez", False, b'{"status":"live"}'),
        ("HEAD", "/livez", True, b'{"status":"live"}'),
        ("POST", "/livez", False, None),
        ("GET", "/readyz", False, b'{"status":"ready"}'),
        ("HEAD", "/readyz", True, b'{"status":"unready"}'),
        ("POST", "/readyz", True, None),
        ("GET", "/mcp", True, None),
    ],
)
async def test_health(method: str, path: str, unready: bool, body: bytes | None) -> None:  # noqa: FBT001 - a column
    """200, or 503 for a replica that is about to leave; never from a cache."""
    drain = Drain()
    drain.unready = unready
    answer = await Health(drain)(asked(method=method, path=path))

    assert (answer and answer.body) == body
    if answer is not None:
        assert answer.status == (503 if b"unready" in (body or b"") else 200)
        assert answer.headers == ((b"cache-control", b"no-store"),)


async def test_a_drain_refuses_the_protocol_alone() -> None:
    """503 with a second to wait, and the connection is closed; health and metrics go on."""
    drain = Drain()
    assert await drain(asked()) is None
    drain.unready = True
    assert await drain(asked()) is None
    drain.refusing = True
    answer = await drain(asked())

    assert answer is not None
    assert (told(answer), answer.retry_after) == ((503, "draining"), 1.0)
    assert answer.headers == ((b"connection", b"close"),)
    assert await drain(asked(path="/livez")) is None
    assert (Drain().unready, Drain().refusing) == (False, False)


@pytest.mark.parametrize(
    ("names", "good"),
    [((), True), (("x-anything",), True), (("host",), False), (("mcp-anything",), False), (("via", "date"), False)],
)
async def test_a_field_that_comes_twice(names: tuple[str, ...], good: bool) -> None:  # noqa: FBT001 - a column
    """400 for one that has one value."""
    exchange = asked()
    exchange.repeated = frozenset(name.encode() for name in names)

    assert told(await HeaderFields()(exchange)) == (None if good else (400, "repeated_header"))


# --- Below the requests ------------------------------------------------------------------------------


class Timers:
    """A loop whose time is moved by a test; it starts nothing."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[tuple[float, Any, tuple[Any, ...]]] = []

    def time(self) -> float:
        """Stand still."""
        return self.now

    def call_later(self, seconds: float, action: Any, *given: Any, **_: Any) -> Any:
        """Keep what is to be done."""
        entry = (seconds, action, given)
        self.waiting.append(entry)

        class Handle:
            def cancel(_) -> None:  # noqa: N805 - of the loop around it
                self.waiting = [one for one in self.waiting if one is not entry]

        return Handle()

    def call_soon(self, action: Any, *given: Any, **_: Any) -> Any:
        """Keep what is to be done next."""
        return self.call_later(0, action, *given)

    def create_task(self, work: Any, **_: Any) -> Any:
        """Drop it."""
        work.close()

        class Task:
            def add_done_callback(self, _: Any) -> None: ...

        return Task()

    def fire(self) -> None:
        """Do what is next."""
        _, action, given = self.waiting.pop(0)
        action(*given)


async def answers_nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand for the application, which is not what is tested."""


def opened(kind: type[LimitedParser], peer: Peer, loop: Any) -> LimitedParser:
    """Return a connection that has just been made."""
    import uvicorn
    from uvicorn.server import ServerState

    connection = kind(uvicorn.Config(answers_nothing, log_config=None), ServerState(), {}, loop)
    connection.connection_made(peer)  # type: ignore[arg-type] - no network
    return connection


class Noting(LimitedParser):
    """Keeps what is refused."""

    def _refuse(self, refusal: Response) -> None:
        self.refused: list[str] = [*getattr(self, "refused", []), refusal.kind]


HEAD = b"POST /mcp HTTP/1.1\r\nhost: h\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def fields(number: int, value: bytes = b"a") -> bytes:
    """Return so many fields."""
    return b"".join(b"x-%d: %b\r\n" % (at, value) for at in range(number))


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        ([HEAD + fields(99) + b"\r\n"], []),
        ([HEAD + fields(100) + b"\r\n"], ["head_too_big"]),
        ([b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\nhost: h\r\n\r\n"], []),
        ([b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nhost: h\r\n\r\n"], ["head_too_big"]),
        ([b"GET /", *[b"a"] * 8192], ["head_too_big"]),
        ([HEAD + b"x: " + b"a" * (65_536 - 32)], []),
        ([HEAD + b"x: " + b"a" * (65_536 - 31)], ["head_too_big"]),
        ([HEAD + b"x: " + b"a" * (65_536 - 10) + b"\r\n\r\n"], []),
        ([HEAD + b"x: " + b"a" * (65_536 - 9) + b"\r\n\r\n"], ["head_too_big"]),
        ([HEAD + b"x: " + b"a" * 65_536], ["head_too_big"]),
        ([HEAD + b"x: " + b"a" * 65_600 + b"\r\n\r\n"], ["head_too_big"]),
        ([HEAD + b"x: " + b"a" * 60_000 + b"\r\ncontent-length: 9000\r\n\r\n" + b"b" * 9000], []),
        ([CHUNKED + b"1\r\na\r\n0\r\n" + fields(16) + b"\r\n"], []),
        ([CHUNKED + b"1\r\na\r\n0\r\n" + fields(17) + b"\r\n"], ["trailers"]),
        ([CHUNKED + b"1\r\na\r\n0\r\nx: " + b"a" * 8191 + b"\r\n\r\n"], []),
        ([CHUNKED + b"1\r\na\r\n0\r\nx: " + b"a" * 8192 + b"\r\n\r\n"], ["trailers"]),
        ([CHUNKED, *[b"1\r\na\r\n"] * 1024], []),
        ([CHUNKED, *[b"1\r\na\r\n"] * 1025], ["framing"]),
        ([CHUNKED, *[b"ff\r\n" + b"a" * 255 + b"\r\n"] * 1025], ["framing"]),
        ([CHUNKED, *[b"100\r\n" + b"a" * 256 + b"\r\n"] * 1025], []),
        ([CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n", *[b"1\r\na\r\n"] * 1025], ["framing"]),
        ([HEAD + b"content-length: 2000\r\n\r\n", *[b"a"] * 1024], []),
        ([HEAD + b"content-length: 2000\r\n\r\n", *[b"a"] * 1025], ["framing"]),
        ([CHUNKED, b"1;" + b"x" * 60_000 + b"\r\na\r\n"], []),
        ([CHUNKED, *[b"1;" + b"x" * 11_000 + b"\r\na\r\n"] * 6], ["framing"]),
        ([b"GET http://h/mcp HTTP/1.1\r\nHost: H\r\n\r\n"], []),
        ([b"GET http://h?a/b HTTP/1.1\r\nhost: h\r\n\r\n"], ["malformed"]),
        ([b"GET nonsense\r\n\r\n" + b"a" * 70_000], ["malformed"]),
        ([b"GET http://other/mcp HTTP/1.1\r\nhost: h\r\n\r\n"], ["malformed"]),
        ([b"GET http://h/mcp HTTP/1.1\r\n\r\n"], ["malformed"]),
        ([b"GET nonsense\r\n\r\n"], ["malformed"]),
        ([b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n" * 33], []),
        ([b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n" * 34], []),
    ],
)
async def test_what_is_read_of_a_connection(sent: Iterable[bytes], refused: list[str]) -> None:
    """Each bound to the byte, before and after a head; a refusal of what came behind a call waits for its answer."""
    peer = Peer()
    connection: Any = opened(Noting, peer, Timers())
    for piece in sent:
        connection.data_received(piece)
        if connection.refusal is not None:
            break

    found = [] if connection.refusal is None else [connection.refusal.kind]
    assert getattr(connection, "refused", []) == refused
    piped = b"".join(sent).count(b"GET /livez ")
    assert found == (["pipelined"] if piped == 34 else refused)
    assert len(connection.pipeline) == (max(0, min(piped, 33) - 1))


@pytest.mark.parametrize(
    "message",
    [
        [CHUNKED, b"100\r\n" + b"a" * 256 + b"\r\n", b"0\r\n\r\n"],
        [CHUNKED, b"1;" + b"x" * 60_000 + b"\r\na\r\n", b"0\r\n\r\n"],
        [CHUNKED, b"1\r\na\r\n0\r\n" + fields(16), b"\r\n"],
        [HEAD + fields(99), b"\r\n"],
        [HEAD + b"x: " + b"a" * 60_000, b"\r\n\r\n"],
    ],
    ids=["chunks", "framing", "trailers", "fields", "head"],
)
async def test_each_message_of_a_connection_is_counted_anew(message: list[bytes]) -> None:
    """What one message has used up is there for the next one again."""
    connection: Any = opened(Noting, Peer(), Timers())
    for piece in message * 3:
        connection.data_received(piece)

    assert connection.refusal is None
    assert len(connection.pipeline) == 2


@pytest.mark.parametrize(("asked_before", "allowed"), [(127, True), (128, False)])
async def test_a_preflight_looks_at_128_names(asked_before: int, allowed: bool) -> None:  # noqa: FBT001 - a column
    """What stands behind them costs nothing, and is not allowed."""
    names = {"access-control-request-headers": "x," * asked_before + "mcp-param-a" + ",x" * 20_000}
    answer = await guard("https://h")(asked({"host": "h", "origin": "https://h"} | names, "OPTIONS"))

    assert answer is not None
    assert dict(answer.headers)[b"access-control-allow-headers"].endswith(b", mcp-param-a") is allowed


@pytest.mark.parametrize(("answered", "refused"), [(False, ["framing"]), (True, [])])
async def test_requests_that_wait_share_their_small_chunks(answered: bool, refused: list[str]) -> None:  # noqa: FBT001
    """1024 chunks of less than 256 bytes, of one body and of those that wait behind it; with an answer it is anew."""
    connection: Any = opened(Noting, Peer(), Timers())
    for _ in range(2):
        connection.data_received(CHUNKED + b"1\r\na\r\n" * 1024 + b"0\r\n\r\n")
        connection.cycle.response_complete = answered

    assert [one.kind for one in [connection.refusal] if one is not None] == refused


def test_reading_goes_on_in_the_next_turn() -> None:
    """After a long segment; not where a request waits for its answer, or a body to be taken."""
    peer, timers = Peer(), Timers()
    connection: Any = opened(Noting, peer, timers)
    reading: list[bool] = []
    connection.data_received(HEAD + b"content-length: 900000\r\n\r\n")
    connection.cycle.response_complete = True
    for waits, taken in ((False, 0), (True, 0), (False, 70_000)):
        connection.cycle.body = bytearray(taken)
        connection.pipeline.extend([None] * waits)
        connection.data_received(b"a" * 131_072)
        paused = peer.paused
        timers.fire()
        reading += [not paused, not peer.paused]
        connection.pipeline.clear()
        connection.flow.resume_reading()
    connection.data_received(b"a" * 131_071)

    assert reading == [False, True, False, False, False, False]
    assert not peer.paused
    assert timers.waiting == []


async def test_after_a_refusal_bytes_are_dropped_up_to_a_bound() -> None:
    """64 KiB go by, so that the answer is not lost; then the connection is cut."""
    peer = Peer()
    connection: Any = opened(Noting, peer, Timers())
    connection.data_received(b"GET nonsense\r\n\r\n")
    connection.data_received(b"a" * 65_536)
    assert not peer.aborted
    connection.data_received(b"a")

    assert peer.aborted
    assert connection.refused == ["malformed"]


def connected(**settings: Any) -> tuple[Any, Peer, Timers, list[Any]]:
    """Return a bounded connection that has just been made, its other end, its timers, and what the log says."""
    kind = bounded(HardeningSettings(**settings), AccessLog(), 16)
    peer, timers = Peer(), Timers()
    with capture_logs() as lines:
        return opened(kind, peer, timers), peer, timers, lines


async def test_a_slow_head_is_answered_and_closed() -> None:
    """408 to the letter, with a reference of 16 characters that the log has too."""
    connection, peer, timers, _ = connected(body_timeout_seconds=7)
    assert [seconds for seconds, *_ in timers.waiting] == [7]
    with capture_logs() as lines:
        timers.fire()

    (line,) = lines
    reference = line["reference"]
    head, _, body = peer.written.partition(b"\r\n\r\n")
    assert len(reference) == 16
    assert (line["limit"], line["status"], line["layer"]) == ("too_slow", 408, "connection")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\nx-request-id: %b\r\n" % reference.encode())
    assert b"\r\nconnection: close\r\n" in head
    assert b"content-length: %d" % len(body) in head
    assert peer.closing
    assert [seconds for seconds, *_ in timers.waiting] == [7]
    connection.connection_lost(None)
    assert timers.waiting == []


async def test_one_of_an_address_too_many_is_cut_and_told() -> None:
    """The oldest one that is idle, without an answer; the line has a reference of its own."""
    kind = bounded(HardeningSettings(max_connections_per_address=1), AccessLog(), 16)
    behind = bounded(HardeningSettings(max_connections_per_address=1, trusted_proxy_hops=1), AccessLog(), 16)
    with capture_logs() as lines:
        peers = [Peer() for _ in range(2)]
        made = [opened(kind, peer, Timers()) for peer in peers]
        others = [Peer() for _ in range(2)]
        for peer in others:
            opened(behind, peer, Timers())

    assert [peer.aborted for peer in (*peers, *others)] == [True, False, False, False]
    assert [(line["limit"], line["status"], len(line["reference"])) for line in lines] == [
        ("connections_address", 429, 16)
    ]
    made[0].connection_lost(None)
    assert made[0].loop.waiting == []  # type: ignore[attr-defined] - of the test


@pytest.mark.parametrize(
    "framing",
    [b"transfer-encoding: gzip", b"transfer-encoding: chunked\r\ntransfer-encoding: gzip", b"content-length: 5"],
)
def test_a_length_that_cannot_be_behind_an_offer_is_refused(framing: bytes) -> None:
    """With another protocol on offer the parser passes over it; read again, it is refused as without the offer."""
    outcomes: list[list[str]] = []
    for offer in (b"", b"connection: upgrade\r\nupgrade: h2c\r\n"):
        connection = opened(Noting, Peer(), Timers())
        connection.data_received(HEAD + offer + framing + b"\r\n\r\nhello")
        outcomes.append(getattr(connection, "refused", []))

    assert outcomes[0] == outcomes[1] == ([] if b"content-length" in framing else ["malformed"])


async def test_a_stranger_who_does_not_read_counts_as_idle_whatever_it_sends() -> None:
    """From the moment the answer waits to the moment it is taken; while one is made, the connection is in use."""
    connection, *_ = connected()
    request = b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n"
    idle: list[bool] = []
    for step in (
        partial(connection.data_received, request),
        connection.pause_writing,
        partial(connection.data_received, request),
        connection.resume_writing,
    ):
        step()
        idle.append(connection in connection.table._idle)  # noqa: SLF001 - what makes room

    assert idle == [False, True, True, False]
    connection.connection_lost(None)


LIVEZ = b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.mark.parametrize(("more", "refused"), [(65_536, []), (65_537, ["pipelined"])])
async def test_what_is_sent_ahead_of_an_answer_is_bounded_in_bytes(more: int, refused: list[str]) -> None:
    """64 KiB, heads and bodies, behind a request that is being answered; then none of them is kept."""
    connection, peer, *_ = connected()
    connection.data_received(LIVEZ)
    connection.data_received(HEAD + b"content-length: 900000\r\n\r\n" + b"a" * (more - 29 - 26))

    assert [one.kind for one in [connection.refusal] if one is not None] == refused
    assert len(connection.pipeline) == 1 - len(refused)
    assert peer.closing is bool(refused)
    connection.connection_lost(None)


async def test_who_sends_ahead_and_reads_nothing_is_cut() -> None:
    """More than 64 KiB while answers wait to be taken; what was taken meanwhile counts no more."""
    connection, peer, *_ = connected()
    for _ in range(2):
        connection.data_received(LIVEZ)
        connection.cycle.response_complete = True
        connection.pause_writing()
        connection.data_received(HEAD + b"x: " + b"a" * 40_000)
        connection.resume_writing()
        connection.data_received(b"\r\n\r\n")
        connection.cycle.response_complete = True
    assert not peer.aborted
    connection.pause_writing()
    with capture_logs() as lines:
        connection.data_received(HEAD + b"content-length: 900000\r\n\r\n" + b"a" * 70_000)

    assert peer.aborted
    assert [(line["limit"], line["status"]) for line in lines] == [("pipelined", 429)]
    connection.connection_lost(None)


@pytest.mark.parametrize(("taken", "cut"), [(2048, False), (2047, True)])
async def test_who_takes_an_answer_too_slowly_is_cut(taken: int, cut: bool) -> None:  # noqa: FBT001 - a column
    """1 KiB a second, looked at after each interval; whoever has taken all of it is left alone."""
    connection, peer, timers, _ = connected(body_timeout_seconds=2)
    timers.waiting.clear()
    peer.unsent = 10_000
    connection.pause_writing()
    connection.pause_writing()
    assert [seconds for seconds, *_ in timers.waiting] == [2]
    peer.unsent -= taken
    timers.fire()

    assert peer.aborted is cut
    assert len(timers.waiting) == (not cut)
    peer.aborted, peer.closing = False, False
    timers.waiting.clear()
    connection._sending = None  # noqa: SLF001 - as it is after an interval
    connection.pause_writing()
    connection.resume_writing()
    assert timers.waiting == []
    connection.pause_writing()
    peer.closing = True
    connection.resume_writing()
    assert len(timers.waiting) == 1
    peer.unsent = 0
    timers.fire()
    assert not peer.aborted


async def test_a_head_that_has_come_is_waited_for_no_longer() -> None:
    """Its body has a time of its own, and an idle connection one of the server's."""
    connection, _, timers, _ = connected()
    connection.data_received(HEAD)
    assert len(timers.waiting) == 1
    connection.data_received(b"content-type: a\r\n\r\n")

    assert timers.waiting == []
    assert isinstance(connection, BoundedConnection)


async def test_an_answer_that_is_under_way_is_told_that_its_client_has_gone() -> None:
    """Also when another request came behind it."""
    connection, _, _, _ = connected()
    connection.data_received(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n" * 2)
    first = connection._answering  # noqa: SLF001 - what is being answered
    connection.connection_lost(None)

    assert first.disconnected
    assert first.message_event.is_set()
    assert not connection.pipeline


@pytest.mark.parametrize(
    ("requests", "started", "complete", "written"),
    [
        (0, False, False, True),
        (1, False, False, True),
        (1, True, False, False),
        (2, False, False, False),
        (1, True, True, True),
    ],
)
async def test_a_refusal_is_written_where_http_allows_it(
    requests: int,
    started: bool,  # noqa: FBT001 - a column
    complete: bool,  # noqa: FBT001 - a column
    written: bool,  # noqa: FBT001 - a column
) -> None:
    """Not into an answer that is under way, nor in the place of another one; the connection is closed either way."""
    connection, peer, _, _ = connected()
    connection.data_received(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n" * requests)
    cycle = connection._answering  # noqa: SLF001 - what is being answered
    if cycle is not None:
        cycle.response_started, cycle.response_complete = started, complete
    with capture_logs() as lines:
        connection._refuse(MALFORMED)  # noqa: SLF001 - what the parser calls
        connection._refuse(MALFORMED)  # noqa: SLF001 - once is enough

    assert (bool(peer.written), peer.closing, len(lines)) == (written, True, 1)
    assert cycle is None or cycle.disconnected is not complete


async def test_a_last_answer_is_watched_once_its_body_has_gone_by() -> None:
    """The rest of a refused body is waited for, then the client; who takes nothing does not keep it open."""
    connection, peer, timers, _ = connected(body_timeout_seconds=3)
    connection.data_received(HEAD + b"content-length: 3\r\n\r\nab")
    connection._answering.response_complete = True  # noqa: SLF001 - refused before its body has come
    timers.now = 1.0
    connection.close()
    assert not peer.closing
    # Since the head came.
    assert [seconds for seconds, *_ in timers.waiting] == [2]
    connection.data_received(b"c")

    assert peer.closing
    assert [action for _, action, _ in timers.waiting] == [connection._check_client]  # noqa: SLF001


async def test_an_idle_connection_is_closed_and_watched() -> None:
    """Who takes nothing of what is left to send does not keep it open."""
    connection, peer, timers, _ = connected(body_timeout_seconds=3)
    timers.waiting.clear()
    connection.timeout_keep_alive_handler()

    assert peer.closing
    assert [seconds for seconds, *_ in timers.waiting] == [3]


def test_what_the_server_says_of_bad_clients_is_bounded() -> None:
    """Its own logger writes as many lines of one text in a second as ours."""
    bounded(HardeningSettings(), AccessLog(), 16)

    assert RATE_LIMITED in logging.getLogger("uvicorn.error").filters
