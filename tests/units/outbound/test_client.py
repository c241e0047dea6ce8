"""The HTTP client of a call: in time, bounded, retried only where that is safe, and silent about what it sends."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
from captured import captured
from in_process import call
from live import ENVIRONMENT, KEY, Live, free_port, settings_from
from pydantic import Field
from support.pgbouncer import certificates
from wire import ERAS, Era, Wire

from hardening import Context, Principal, harden, tool
from hardening.calls.context import CallOverError
from hardening.errors import Busy, PermissionDenied, Timeout, TooLarge, UpstreamUnavailable
from hardening.lifecycle.startup import opened
from hardening.outbound import client as module
from hardening.outbound.answers import Answer
from hardening.outbound.breaker import Breaker
from hardening.outbound.client import Outbound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECONDS = 20.0


class Upstream:
    """Another system on this machine, which answers by the path."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.url = ""
        self.dropping = 0
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: C901 - one branch for each path
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            writer.close()
            return
        self.heads.append(head)
        path = head.split(" ")[1].partition("?")[0]
        if self.dropping:
            self.dropping -= 1
        elif path == "/slow":
            await asyncio.sleep(3600)
        elif path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x" * 65536)
                await writer.drain()
        elif path == "/trickle":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        elif path == "/packed":
            packed = gzip.compress(b"ok")
            head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
            writer.write(head + packed)
            await reader.read()
            self.left.set()
        elif path == "/other-origin":
            moved = self.url.replace("127.0.0.1", "127.0.0.2") + "/page"
            writer.write(f"HTTP/1.1 307 X\r\nlocation: {moved}\r\ncontent-length: 0\r\n\r\n".encode())
        elif path == "/cookie":
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: who=me\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        else:
            status = 503 if path == "/unwell" else 200
            kept = "keep-alive" if path == "/stay" else "close"
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: {kept}\r\n\r\nok".encode())
            if path == "/stay":
                await reader.read()
                self.left.set()
        writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Another system."""
    upstream = Upstream()
    running: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(handle(reader, writer))
        running.add(task)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await upstream(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield upstream
    server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class Patient:
    """A call with ten seconds left."""

    def remaining_seconds(self) -> float:
        """Return them."""
        return 10


@tool(read_only=True, open_world=True, timeout_seconds=2)
async def fetch(
    url: Annotated[str, Field(max_length=300)],
    ctx: Context,
    method: Annotated[str, Field(max_length=10)] = "GET",
) -> str:
    """Fetch a page, and return what it says."""
    answer = await ctx.http.request(method, url, content=b"a body" if method == "POST" else None)
    return answer.raise_for_status().text


def build(settings: Any) -> Any:
    """Return a server with this tool."""
    return harden(settings, tools=(fetch,))


ALLOWED = ENVIRONMENT | {"MCP_HTTP_ALLOW": "127.0.0.0/8"}


async def kind_of(server: Any, url: str, **arguments: Any) -> str:
    """Return the kind of failure of a call, or ok."""
    result = await call(server, "fetch", {"url": url, **arguments})
    return result.meta["hardening/error"]["kind"] if result.is_error else "ok"


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_fetches_on_the_wire(upstream: Upstream, era: Era) -> None:
    """What is allowed is fetched, what is inside is a typed failure, in both eras; the metric names hosts only."""
    with Live(settings_from(ALLOWED), build) as live:
        async with Wire(live.url, KEY) as wire:
            for url, expected in ((f"{upstream.url}/page?q=s3cret", None), ("http://10.0.0.1/", "permission_denied")):
                reply = await wire.ask(era, "tools/call", {"name": "fetch", "arguments": {"url": url}})
                assert (reply.result.get("_meta") or {}).get("hardening/error", {}).get("kind") == expected
        metrics = live.do(live.app.metrics.render).decode()

    assert 'mcp_http_requests_total{host="127.0.0.1",outcome="ok"} 1.0' in metrics
    assert 'mcp_http_requests_total{host="other",outcome="refused"} 1.0' in metrics
    assert "s3cret" not in metrics


@pytest.mark.parametrize("path", ["/slow", "/trickle"])
async def test_a_request_ends_with_its_call(upstream: Upstream, path: str) -> None:
    """Neither a silent host nor one that sends a byte at a time holds a call beyond its 2 s."""
    async with opened(server := build(settings_from(ALLOWED))):
        started = time.monotonic()
        assert await kind_of(server, upstream.url + path) == "timeout"
        assert time.monotonic() - started < 4


@pytest.mark.parametrize("path", ["/slow", "/trickle"])
async def test_a_request_of_a_task_ends_with_the_deadline_too(upstream: Upstream, path: str) -> None:
    """Also a task that nobody cancels ends its request in time."""

    class Call:
        until = time.monotonic() + 0.5

        def remaining_seconds(self) -> float:
            return max(0.0, self.until - time.monotonic())

    outbound = Outbound(settings_from(ALLOWED), lambda *_: None)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Timeout):
            await outbound.client(Call()).get(upstream.url + path)
    await outbound.aclose()


async def test_nothing_of_the_environment_stands_between(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies and credentials of the machine are not used: a proxy would reach the inside, a password is nobody's."""
    proxied: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxied.append(await reader.read(1000))
        writer.close()

    passwords = tmp_path / "netrc"
    passwords.write_text("machine 127.0.0.1 login somebody password s3cret\n")
    passwords.chmod(0o600)
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as standing:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{standing.sockets[0].getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NETRC", str(passwords))
        async with opened(server := build(settings_from(ALLOWED))):
            assert await kind_of(server, upstream.url + "/page") == "ok"
            assert await kind_of(server, "http://10.0.0.1/") == "permission_denied"

    assert proxied == []
    assert len(upstream.heads) == 1
    assert "authorization" not in upstream.heads[0].lower()
    # With connections of our own the library looks at neither today, whatever this says.
    assert not Outbound(settings_from(ALLOWED), lambda *_: None).client(Patient()).trust_env


async def test_what_the_other_system_says_reaches_the_tool(upstream: Upstream) -> None:
    """Status, header fields and body come as they were sent."""
    outbound = Outbound(settings_from(ALLOWED), lambda *_: None)
    answer = await outbound.client(Patient()).get(upstream.url + "/cookie")
    phrase = (await outbound.client(Patient()).get(upstream.url + "/page")).reason_phrase
    await outbound.aclose()

    assert (answer.status_code, answer.text, answer.http_version) == (200, "ok", "HTTP/1.1")
    assert answer.headers["set-cookie"] == "who=me"
    assert phrase == "X"


async def test_each_request_is_counted_by_what_came_of_it(upstream: Upstream) -> None:
    """A connection that fails is an error as an answer of 503 is; what is on the inside is refused."""
    counted: list[tuple[Any, ...]] = []
    outbound = Outbound(settings_from(ALLOWED), lambda *answered: counted.append(answered))
    client = outbound.client(Patient())
    await client.get(upstream.url + "/page")
    await client.get(upstream.url + "/unwell")
    upstream.dropping = 1
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.post(upstream.url)
    with pytest.raises(PermissionDenied):
        await client.get("http://10.0.0.1/")
    await outbound.aclose()

    assert [answered[:4] for answered in counted] == [
        ("127.0.0.1", "ok", "GET", 200),
        ("127.0.0.1", "error", "GET", 503),
        ("127.0.0.1", "error", "POST", None),
        ("10.0.0.1", "refused", "GET", None),
    ]
    assert all(0 <= answered[4] < SECONDS for answered in counted)


async def test_an_answer_is_bounded(upstream: Upstream) -> None:
    """8 MiB at most, and nothing compressed, whose size nobody knows."""
    async with opened(server := build(settings_from(ALLOWED | {"MCP_HTTP_MAX_RESPONSE_BYTES": "100000"}))):
        assert await kind_of(server, upstream.url + "/endless") == TooLarge.kind
        assert await kind_of(server, upstream.url + "/packed") == UpstreamUnavailable.kind
        # What nobody reads keeps no connection.
        async with asyncio.timeout(SECONDS):
            await upstream.left.wait()
    assert "accept-encoding: identity" in upstream.heads[0].lower()


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("HEAD", 2), ("POST", 1), ("DELETE", 1), ("PUT", 1)])
async def test_only_get_and_head_are_tried_again(upstream: Upstream, method: str, times: int) -> None:
    """Once more after a connection that failed; what may have had an effect is sent once."""
    async with opened(server := build(settings_from(ALLOWED))):
        upstream.dropping = 10
        assert await kind_of(server, upstream.url, method=method) == "upstream_unavailable"
        assert len(upstream.heads) == times
        upstream.dropping = 1
        assert (await kind_of(server, upstream.url, method=method) == "ok") == (times == 2)


async def test_a_host_that_fails_is_left_alone(upstream: Upstream) -> None:
    """After five failures in a row calls fail at once, and the caller is told when to try again."""
    async with opened(server := build(settings_from(ALLOWED))):
        kinds = [await kind_of(server, upstream.url + "/unwell") for _ in range(7)]
        assert set(kinds) == {"upstream_unavailable"}
        assert len(upstream.heads) == 5
        result = await call(server, "fetch", {"url": upstream.url})
        assert 25 < result.meta["hardening/error"]["retryAfterSeconds"] <= 30
        assert await kind_of(server, upstream.url.replace("127.0.0.1", "127.0.0.2") + "/x") != "ok"


async def test_why_a_host_is_left_alone_is_one_line(tmp_path: Path) -> None:
    """A certificate that is not good, or has expired, is told from a host that is away; the line names no host."""
    certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls) as there:
        port = there.sockets[0].getsockname()[1]
        with captured(tmp_path / "log") as log:
            async with opened(server := build(settings_from(ALLOWED))):
                kinds = {await kind_of(server, f"https://127.0.0.1:{port}/") for _ in range(7)}
                refused = {await kind_of(server, f"http://127.0.0.1:{free_port()}/")}
            lines = [line for line in log.lines() if line["msg"] == "host left alone"]
    assert kinds | refused == {"upstream_unavailable"}
    assert [line["error_type"] for line in lines] == ["ssl.SSLCertVerificationError"]
    assert str(port) not in str(lines)


def test_one_request_tries_whether_the_host_is_back() -> None:
    """After 30 s one request goes through, further ones when it has succeeded."""
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(5):
        breaker.check("a")
        breaker.failed("a")
    with pytest.raises(UpstreamUnavailable):
        breaker.check("a")
    breaker.check("b")
    now[0] = 30.0
    breaker.check("a")
    with pytest.raises(UpstreamUnavailable):
        breaker.check("a")
    breaker.succeeded("a")
    breaker.check("a")


def test_the_table_of_hosts_is_bounded() -> None:
    """Names without end take no memory without end: the last 1000 are remembered."""
    breaker = Breaker()
    for number in range(3000):
        breaker.failed(str(number))

    assert len(breaker._circuits) == 1000  # noqa: SLF001 - its size is the promise


async def test_callers_share_no_cookies(upstream: Upstream) -> None:
    """A cookie that one call is given is sent by no other."""
    async with opened(server := build(settings_from(ALLOWED))):
        for _ in range(2):
            await kind_of(server, upstream.url + "/cookie")

    assert not any("cookie: who" in head.lower() for head in upstream.heads)


async def test_nothing_of_a_request_is_logged(upstream: Upstream, tmp_path: Path) -> None:
    """Neither query nor body nor header, at any level."""
    with captured(tmp_path / "log", level="debug") as log:
        async with opened(server := build(settings_from(ALLOWED))):
            await kind_of(server, f"{upstream.url}/page?token=s3cret-of-a-query")
            await kind_of(server, f"{upstream.url}/unwell?token=s3cret-of-a-query", method="POST")
        text = log.text()

    assert "tool call" in text
    for part in ("s3cret", "/page", "127.0.0.1", "a body"):
        assert part not in text


async def test_connections_end_with_the_server(upstream: Upstream) -> None:
    """A connection that the other system holds open is closed, and a client that was kept reaches nothing any more."""
    kept: list[httpx2.AsyncClient] = []

    @tool(read_only=True)
    async def keep(url: Annotated[str, Field(max_length=300)], ctx: Context) -> str:
        """Keep the client for later."""
        kept.append(ctx.http)
        return (await kept[0].get(url)).text

    async with opened(server := harden(settings_from(ALLOWED), tools=(keep,))):
        assert not (await call(server, "keep", {"url": upstream.url + "/stay"})).is_error
        assert not upstream.left.is_set()
        assert [one.is_idle() for one in kept[0]._transport._outbound._pool.connections] == [True]  # noqa: SLF001
    async with asyncio.timeout(SECONDS):
        await upstream.left.wait()
    with pytest.raises(UpstreamUnavailable):
        await kept[0].get(upstream.url)
    assert len(upstream.heads) == 1


async def leave_open(ctx: Context, url: str) -> None:
    """Ask for an answer, and leave it as it comes."""
    client = ctx.http
    await client.send(client.build_request("GET", url), stream=True)


@tool(read_only=True, timeout_seconds=30)
async def careless(
    url: Annotated[str, Field(max_length=300)], where: Annotated[str, Field(max_length=20)], ctx: Context
) -> str:
    """Leave the answer of another system open."""
    if where == "background":
        ctx.background(leave_open(ctx, url))
    else:
        await leave_open(ctx, url)
    return "done"


@pytest.mark.parametrize("where", ["call", "background"])
async def test_an_answer_that_is_left_open_ends_with_its_call(upstream: Upstream, where: str) -> None:
    """Its connection is closed long before the deadline: a hundred of them would be all that there are."""
    async with opened(server := harden(settings_from(ALLOWED), tools=(careless,))), asyncio.timeout(SECONDS):
        assert not (await call(server, "careless", {"url": upstream.url + "/stay", "where": where})).is_error
        await server.background.idle()
        await upstream.left.wait()


async def test_a_client_works_as_long_as_what_it_is_used_in(upstream: Upstream) -> None:
    """One that was kept sends nothing after its call; one that a background task is given has the time of the task."""
    kept: list[httpx2.AsyncClient] = []

    async def send(client: httpx2.AsyncClient, url: str) -> None:
        await asyncio.sleep(1.1)
        await client.get(url)

    @tool(read_only=True, timeout_seconds=1)
    async def keep(url: Annotated[str, Field(max_length=300)], ctx: Context) -> str:
        """Keep the client for later."""
        ctx.background(send(ctx.http, url))
        kept.append(ctx.http)
        return "done"

    async with opened(server := harden(settings_from(ALLOWED), tools=(keep,))), asyncio.timeout(SECONDS):
        assert not (await call(server, "keep", {"url": upstream.url})).is_error
        with pytest.raises(CallOverError):
            await kept[0].get(upstream.url)
        assert upstream.heads == []
        await server.background.idle()
    assert server.background.failures == 0
    assert len(upstream.heads) == 1


@tool(read_only=True)
async def with_a_header(
    url: Annotated[str, Field(max_length=300)], value: Annotated[str, Field(max_length=300)], ctx: Context
) -> str:
    """Send a header with the request, wherever that leads."""
    answer = await ctx.http.get(url, headers={"x-key": value, "accept": "text/plain"}, follow_redirects=True)
    return answer.raise_for_status().text


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("", "a"),
        ("example.com", "a"),
        ("ftp://127.0.0.1/", "a"),
        ("http://[::1", "a"),
        ("http://127.0.0.1:99999/", "a"),
        (None, "a\r\nx-other: b"),
    ],
    ids=["empty", "no scheme", "another scheme", "no address", "no port", "two headers"],
)
async def test_what_no_request_can_hold_is_the_callers(upstream: Upstream, url: str | None, value: str) -> None:
    """`invalid_input`, also more often than a host may fail: it is not held against the host, and nothing is sent."""
    async with opened(server := harden(settings_from(ALLOWED), tools=(with_a_header,))):
        for _ in range(6):
            given = {"url": upstream.url if url is None else url, "value": value}
            result = await call(server, "with_a_header", given)
            assert result.meta["hardening/error"]["kind"] == "invalid_input"
        assert upstream.heads == [] or url is None
        assert not (await call(server, "with_a_header", {"url": upstream.url, "value": "a"})).is_error
    assert [head for head in upstream.heads if "x-other" in head] == []


async def test_a_redirect_elsewhere_gets_no_key(upstream: Upstream) -> None:
    """What the tool has added to a request stays with the origin that it was for; what any request has goes along."""
    port = int(upstream.url.rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream(reader, writer)

    server = harden(settings_from(ALLOWED), tools=(with_a_header,))
    async with await asyncio.start_server(serve, "127.0.0.2", port), opened(server):
        given = {"url": upstream.url + "/other-origin", "value": "s3cret"}
        assert not (await call(server, "with_a_header", given)).is_error

    first, second = upstream.heads
    assert "x-key: s3cret" in first
    assert "s3cret" not in second
    assert "accept: text/plain" in second


async def test_failures_that_one_caller_makes_are_its_own(upstream: Upstream) -> None:
    """A caller who asks for what fails is refused, and another one is served by the same host."""
    alice, bob = Principal("api_key", "alice"), Principal("api_key", "bob")
    async with opened(server := build(settings_from(ALLOWED))):
        for _ in range(6):
            assert (await call(server, "fetch", {"url": upstream.url + "/unwell"}, alice)).is_error
        assert len(upstream.heads) == 5
        assert not (await call(server, "fetch", {"url": upstream.url}, bob)).is_error


def test_a_host_that_fails_for_several_callers_is_left_alone_by_all() -> None:
    """The second caller's failure is enough when there were five; a success of anybody closes the circuit."""
    breaker = Breaker(lambda: 0.0)
    for _ in range(5):
        breaker.failed("a", "alice")
    breaker.check("a", "bob")
    breaker.failed("a", "bob")
    for caller in ("alice", "bob", "carol"):
        with pytest.raises(UpstreamUnavailable):
            breaker.check("a", caller)
    breaker.succeeded("a")
    breaker.check("a", "alice")


async def test_an_answer_that_is_no_json_is_the_other_systems(upstream: Upstream) -> None:
    """`upstream_unavailable`, as for the page of a proxy; who catches what `json` raises catches it as before."""

    @tool(read_only=True)
    async def read(url: Annotated[str, Field(max_length=300)], ctx: Context) -> str:
        """Read JSON of another system."""
        return str((await ctx.http.get(url)).json())

    async with opened(server := harden(settings_from(ALLOWED), tools=(read,))):
        result = await call(server, "read", {"url": upstream.url})
    assert result.meta["hardening/error"]["kind"] == "upstream_unavailable"
    with pytest.raises(json.JSONDecodeError) as raised:
        Answer(200, content=b"s3cret").json()
    assert "s3cret" not in str(vars(raised.value))
    assert Answer(200, content=b"[1]").json() == [1]


async def test_one_caller_holds_a_share_of_the_connections(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 of all 100: the next one is `busy`, another caller is served, and an answer that is closed makes room."""
    monkeypatch.setattr(module, "POOL_SECONDS", 0.2)
    held, served = asyncio.Event(), asyncio.Event()

    @tool(read_only=True)
    async def hold(url: Annotated[str, Field(max_length=300)], ctx: Context) -> str:
        """Hold as many answers open as there may be, and ask for one more."""
        http = ctx.http
        answers = [await http.send(http.build_request("GET", url + "/stay"), stream=True) for _ in range(50)]
        held.set()
        await served.wait()
        with pytest.raises(Busy):
            await http.get(url)
        await answers[0].aclose()
        return (await http.get(url)).text

    alice, bob = Principal("api_key", "alice"), Principal("api_key", "bob")
    async with opened(server := harden(settings_from(ALLOWED), tools=(hold, fetch))), asyncio.timeout(SECONDS):
        holding = asyncio.create_task(call(server, "hold", {"url": upstream.url}, alice))
        await held.wait()
        assert not (await call(server, "fetch", {"url": upstream.url}, bob)).is_error
        assert (await call(server, "fetch", {"url": upstream.url}, alice)).meta["hardening/error"]["kind"] == "busy"
        served.set()
        assert (await holding).structured_content == {"result": "ok"}


async def test_a_request_that_fails_gives_its_connection_back(upstream: Upstream) -> None:
    """To the share of its caller, whether it is refused or cancelled, also while it waits for a connection."""
    outbound = Outbound(settings_from(ALLOWED), lambda *_: None)
    http = outbound.client(Patient())
    async with asyncio.timeout(SECONDS), http.stream("GET", upstream.url + "/stay"):
        for _ in range(50):
            with pytest.raises(PermissionDenied):
                await http.get("http://10.0.0.1/")
        requests = [asyncio.ensure_future(http.get(upstream.url + "/slow")) for _ in range(60)]
        while len(upstream.heads) < 50:
            await asyncio.sleep(0.01)
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
        assert (await http.get(upstream.url + "/page")).status_code == 200
    assert len(upstream.heads) == 51
    await outbound.aclose()
