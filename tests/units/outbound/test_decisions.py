"""What the HTTP client of a call decides, each decision alone: no other system, one row for each case."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2
import pytest
from live import ENVIRONMENT, settings_from

from hardening.calls.event_loop import OtherLoopError
from hardening.errors import PermissionDenied, Timeout, UpstreamUnavailable
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


@pytest.mark.parametrize(("left", "connect"), [(10, 5.0), (3, 3)])
async def test_each_part_of_a_request_has_a_deadline(outbound: Any, left: float, connect: float) -> None:
    """The whole request has what is left of the call; connecting has 5 s of it at most."""
    given = outbound(200)
    await given.client(Call(left)).get(URL)
    assert given.sent[0].extensions["timeout"] == {"connect": connect, "read": left, "write": left, "pool": left}


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

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        if isinstance(said[0], BaseException):
            raise said[0]
        return [(0, 0, 0, "", (address, 0)) for address in said]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


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
