"""What the HTTP client of a call decides, each decision alone: no other system, one row for each case."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2
import pytest
from captured import calling
from live import ENVIRONMENT, settings_from

from hardening.calls.event_loop import OtherLoopError
from hardening.errors import Busy, PermissionDenied, Timeout, UpstreamUnavailable
from hardening.exchange import Principal
from hardening.outbound import client as module
from hardening.outbound.addresses import GuardedBackend
from hardening.outbound.breaker import Breaker
from hardening.outbound.client import Outbound

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "http://127.0.0.1:1/page"


class Call:
    """A call with some seconds left."""

    def __init__(self, seconds: float = 10) -> None:
        self.seconds = seconds

    def remaining_seconds(self) -> float:
        """Return them."""
        return self.seconds


@pytest.fixture
def outbound(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Outbound]:
    """Make a client whose connections give, or raise, what is said; `sent` has each request."""

    def make(*said: Any) -> Outbound:
        given = Outbound(settings_from(ENVIRONMENT), lambda *_: None)
        answers = list(said)
        given.sent = []  # type: ignore[attr-defined]

        async def handle(request: httpx2.Request) -> httpx2.Response:
            given.sent.append(request)  # type: ignore[attr-defined]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, BaseException):
                raise answer
            return httpx2.Response(answer, content=b"ok")

        monkeypatch.setattr(given, "handle_async_request", handle)
        return given

    return make


@pytest.mark.parametrize(("left", "connect", "pool"), [(12, 5.0, 5.0), (3, 3, 1.5)])
async def test_each_part_of_a_request_has_a_deadline(outbound: Any, left: float, connect: float, pool: float) -> None:
    """The whole request has what is left of the call; connecting has 5 s of it at most, a free connection half."""
    given = outbound(200)
    await given.client(Call(left)).get(URL)
    assert given.sent[0].extensions["timeout"] == {"connect": connect, "read": left, "write": left, "pool": pool}


@pytest.mark.parametrize(
    ("said", "failures"),
    [
        (200, 0),
        (404, 0),
        (500, 0),
        (502, 1),
        (503, 1),
        (504, 1),
        (httpx2.ConnectError("x"), 1),
        (httpx2.ReadError("x"), 1),
        (httpx2.ReadTimeout("x"), 1),
        (httpx2.RemoteProtocolError("x"), 1),
        (PermissionDenied("x"), 0),
    ],
    ids=str,
)
async def test_what_counts_as_a_failure_of_a_host(outbound: Any, said: Any, failures: int) -> None:
    """An answer that says so, or none; what this server refuses says nothing about the host."""
    given = outbound(said)
    for _ in range(4):
        given.breaker.failed("127.0.0.1:1")
    try:
        await given.client(Call()).post(URL)
    except (httpx2.TransportError, PermissionDenied) as error:
        assert error is said  # noqa: PT017 - what is no error has no answer to look at either
    circuit = given.breaker._circuits.get("127.0.0.1:1")  # noqa: SLF001 - what it remembers
    assert (circuit.failures if circuit else 0) == {200: 0, 404: 0, 500: 0}.get(said, 4 + failures)


@pytest.mark.parametrize(("seconds", "failures"), [(0.9, 0), (1.0, 1), (5.0, 1)])
async def test_a_call_with_hardly_any_time_left_says_nothing_about_a_host(
    outbound: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, failures: int
) -> None:
    """A host that was silent for 1 s or longer has failed; the caller hears of a timeout either way."""
    now = iter([100.0, *[100.0 + seconds] * 3])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    given = outbound(TimeoutError())
    with pytest.raises(Timeout):
        await given.client(Call()).get(URL)
    circuits = given.breaker._circuits.values()  # noqa: SLF001 - what it remembers
    assert [circuit.failures for circuit in circuits] == [1] * failures


async def chunks() -> Any:
    """Yield a body that can be sent once."""
    yield b"a body"


@pytest.mark.parametrize("error", [httpx2.ConnectError("x"), httpx2.ReadError("x"), httpx2.RemoteProtocolError("x")])
@pytest.mark.parametrize(
    ("method", "body", "times"),
    [
        ("GET", None, 2),
        ("HEAD", None, 2),
        ("GET", chunks, 1),
        ("POST", None, 1),
        ("PATCH", None, 1),
        ("OPTIONS", None, 1),
    ],
)
async def test_what_is_sent_once_more(
    outbound: Any, error: Exception, method: str, body: Callable[[], Any] | None, times: int
) -> None:
    """GET and HEAD with a body that is still there, once; the second failure is the caller's."""
    given = outbound(error, error, 200)
    with pytest.raises(type(error)):
        await given.client(Call()).request(method, URL, content=body() if body else None)
    assert len(given.sent) == times


@pytest.mark.parametrize(
    ("said", "error", "outcome"),
    [
        (httpx2.PoolTimeout("full"), Busy, "refused"),
        (httpx2.UnsupportedProtocol("x"), httpx2.UnsupportedProtocol, "refused"),
        (httpx2.LocalProtocolError("x"), httpx2.LocalProtocolError, "refused"),
        (httpx2.ConnectTimeout("x"), httpx2.ConnectTimeout, "error"),
        (TimeoutError(), Timeout, "error"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
async def test_what_is_counted_of_a_request_without_an_answer(
    outbound: Any, said: Exception, error: type[Exception], outcome: str
) -> None:
    """What this server has not sent is refused, and what nobody has answered is an error, once each."""
    given, counted = outbound(said), []
    given.on_answer = lambda *answered: counted.append(answered[:4])
    with pytest.raises(error):
        await given.client(Call()).post(URL)
    assert counted == [("127.0.0.1", outcome, "POST", None)]


async def test_a_deadline_is_no_reason_to_send_once_more(outbound: Any) -> None:
    """Whatever the method: the host had its time."""
    given = outbound(httpx2.ReadTimeout("x"), 200)
    with pytest.raises(httpx2.ReadTimeout):
        await given.client(Call()).get(URL)
    assert len(given.sent) == 1


async def test_the_connections_are_bounded_and_kept_for_thirty_seconds() -> None:
    """100 at most, 20 of them idle."""
    given = Outbound(settings_from(ENVIRONMENT | {"MCP_HTTP_MAX_RESPONSE_BYTES": "5000"}), lambda *_: None)
    names = ("max_connections", "max_keepalive_connections", "keepalive_expiry")
    assert [getattr(given._pool, f"_{name}") for name in names] == [100, 20, 30.0]  # noqa: SLF001 - httpcore tells nobody
    assert given.max_bytes == 5000
    await given.aclose()


@pytest.fixture
def listener() -> Any:
    """A port that is open on one address of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def resolving(monkeypatch: pytest.MonkeyPatch, *said: Any) -> None:
    """Let every name be resolved to these addresses, or not at all."""

    def resolve(*_: Any, **__: Any) -> list[Any]:
        if isinstance(said[0], BaseException):
            raise said[0]
        return [(0, 0, 0, "", (address, 0)) for address in said]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1", "127.0.0.2", "127.0.0.3"),
        ("127.0.0.2", "127.0.0.1", "127.0.0.3"),
        ("127.0.0.2", "127.0.0.3", "127.0.0.1"),
        ("10.0.0.1", "127.0.0.1"),
    ],
)
async def test_every_address_of_a_name_is_tried_in_turn(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, addresses: tuple[str, ...]
) -> None:
    """One that refuses is not the end, and one that may not be reached is not tried."""
    resolving(monkeypatch, *addresses)
    port = listener.getsockname()[1]
    stream = await GuardedBackend(["127.0.0.0/8"]).connect_tcp("a.test", port, timeout=10)
    assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
    await stream.aclose()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (("127.0.0.2", "127.0.0.3"), httpcore2.ConnectError),
        ((socket.gaierror(-2, "unknown"),), httpcore2.ConnectError),
        ((UnicodeError("label too long"),), httpcore2.ConnectError),
        (("10.0.0.1", "::1"), PermissionDenied),
    ],
    ids=["refused", "unknown", "no name", "inside"],
)
async def test_why_there_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, said: Any, error: type[Exception]
) -> None:
    """In the words of the library, or a refusal of this server."""
    resolving(monkeypatch, *said)
    with pytest.raises(error):
        await GuardedBackend(["127.0.0.0/8"]).connect_tcp("a.test", listener.getsockname()[1], timeout=10)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("billing.internal", True),
        ("Billing.Internal.", True),
        ("a.billing.internal", False),
        ("billing.internal.test", False),
        ("xbilling.internal", False),
        ("internal", False),
    ],
)
async def test_a_name_on_the_inside_is_that_name_alone(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, host: str, *, reached: bool
) -> None:
    """However it is written, and no name that begins or ends like it."""
    resolving(monkeypatch, "127.0.0.1")
    connecting = GuardedBackend(["billing.internal"]).connect_tcp(host, listener.getsockname()[1], timeout=10)
    if reached:
        await (await connecting).aclose()
    else:
        with pytest.raises(PermissionDenied):
            await connecting


async def test_a_socket_file_is_on_the_inside() -> None:
    """Whatever `MCP_HTTP_ALLOW` says."""
    with pytest.raises(PermissionDenied):
        await GuardedBackend(["127.0.0.0/8"]).connect_unix_socket("/run/docker.sock")


async def test_an_allowed_network_is_reached_in_its_other_spelling(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    """IPv4 written as IPv6 is the same address."""
    resolving(monkeypatch, "::ffff:127.0.0.1")
    stream = await GuardedBackend(["127.0.0.0/8"]).connect_tcp("a.test", listener.getsockname()[1], timeout=10)
    await stream.aclose()


def test_the_hosts_that_are_remembered_are_the_last_ones() -> None:
    """One that fails again is kept, and the oldest is forgotten."""
    breaker = Breaker(lambda: 0.0)
    for number in range(1000):
        breaker.failed(str(number))
    for host in ["0"] * 4 + ["another"]:
        breaker.failed(host)
    with pytest.raises(UpstreamUnavailable) as refused:
        breaker.check("0")
    assert refused.value.retry_after_seconds == 30
    remembered = list(breaker._circuits)  # noqa: SLF001 - which ones is the promise
    assert (remembered[0], remembered[-2:], len(remembered)) == ("2", ["0", "another"], 1000)


async def test_a_client_is_used_in_the_loop_of_its_call(outbound: Any) -> None:
    """In another one, as in a thread, its connections would wait for ever: it says so, and sends nothing."""
    given = outbound(200)
    client = given.client(Call())
    with pytest.raises(OtherLoopError):
        await asyncio.to_thread(lambda: asyncio.run(client.get(URL)))
    assert given.sent == []
    assert (await client.get(URL)).status_code == 200


async def test_no_free_connection_is_no_fault_of_a_host(outbound: Any) -> None:
    """`busy`, before the call is over and however often: other hosts have all connections."""
    given = outbound(httpx2.PoolTimeout("full"))
    for _ in range(6):
        with pytest.raises(Busy):
            await given.client(Call()).get(URL)
    assert {request.extensions["timeout"]["pool"] for request in given.sent} == {5.0}
    with pytest.raises(Busy):
        await given.client(Call(4)).get(URL)
    assert given.sent[-1].extensions["timeout"]["pool"] == 2.0
    assert not given.breaker._circuits  # noqa: SLF001 - that it is empty is the promise


@pytest.mark.parametrize(
    ("first", "then", "goes_along"),
    [
        ("https://a.test/x", "https://a.test/y", True),
        ("http://a.test/x", "https://a.test/x", True),
        ("https://a.test/x", "http://a.test/x", False),
        ("http://a.test/x", "http://b.test/x", False),
        ("http://a.test/x", "https://b.test/x", False),
        ("https://a.test/x", "https://a.test:444/x", False),
        ("http://a.test:81/x", "https://a.test/x", False),
        ("https://a.test/x", "https://sub.a.test/x", False),
    ],
)
async def test_what_leaves_the_origin_of_a_request(
    monkeypatch: pytest.MonkeyPatch, outbound: Any, first: str, then: str, goes_along: Any
) -> None:
    """The headers that say who may go with a redirect of one origin, and from HTTP to HTTPS of one host."""
    given = outbound(200)
    sent: list[httpx2.Request] = []

    async def handle(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(302, headers={"location": then}) if len(sent) == 1 else httpx2.Response(200)

    monkeypatch.setattr(given, "handle_async_request", handle)
    headers = {"x-key": "s3cret", "authorization": "Bearer s3cret", "accept-language": "de"}
    await given.client(Call()).get(first, headers=headers, follow_redirects=True)

    assert "x-key" in sent[0].headers
    assert ("x-key" in sent[1].headers, "authorization" in sent[1].headers) == (goes_along, goes_along)
    assert sent[1].headers["accept-language"] == "de"
    assert sent[1].headers["host"] == sent[1].url.netloc.decode()


async def test_a_silent_address_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1 s for each but the last, and never more than its part."""
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    backend = GuardedBackend(["127.0.0.0/8"])
    given: list[tuple[str, float]] = []

    class Inner:
        async def connect_tcp(self, address: str, _: int, timeout: float, *__: Any) -> str:  # noqa: ASYNC109
            given.append((address, timeout))
            if address != "127.0.0.3":
                raise httpcore2.ConnectTimeout
            return "connected"

    monkeypatch.setattr(backend, "_inner", Inner())
    for timeout in (5.0, 1.5):
        assert await backend.connect_tcp("a.test", 1, timeout=timeout) == "connected"

    assert [seconds for _, seconds in given] == [1.0, 1.0, 5.0, 0.5, 0.5, 1.5]


async def test_a_name_server_that_never_answers_holds_its_caller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight lookups of one caller wait; its next one is `busy`, another caller and the event loop look up as before.

    No thread is left when the server ends.
    """
    before = set(threading.enumerate())
    answer, asked = threading.Event(), threading.Semaphore(0)
    real = socket.getaddrinfo

    def resolve(host: str, *given: Any, **options: Any) -> Any:
        if host != "slow.test":
            return real("127.0.0.1", *given, **options)
        asked.release()
        answer.wait(20)
        raise socket.gaierror(-3, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    backend = GuardedBackend(["127.0.0.0/8"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with calling(principal=Principal("api_key", "alice")):
            waiting = [asyncio.ensure_future(backend.connect_tcp("slow.test", port, timeout=20)) for _ in range(8)]
            for _ in waiting:
                assert await asyncio.to_thread(asked.acquire, timeout=10)
            backend.lookups.wait_seconds = 0.05
            with pytest.raises(Busy):
                await backend.connect_tcp("slow.test", port, timeout=20)
        with calling(principal=Principal("api_key", "bob")):
            await (await backend.connect_tcp("fast.test", port, timeout=10)).aclose()
        assert await asyncio.get_running_loop().getaddrinfo("fast.test", port)
        answer.set()
        refused = await asyncio.gather(*waiting, return_exceptions=True)
    looking = [thread for thread in set(threading.enumerate()) - before if thread.name == "lookup"]
    backend.close()
    deadline = time.monotonic() + 10
    for thread in looking:
        await asyncio.to_thread(thread.join, max(0, deadline - time.monotonic()))

    assert {type(error) for error in refused} == {httpcore2.ConnectError}
    assert (len(looking), [thread for thread in looking if thread.is_alive()]) == (9, [])
