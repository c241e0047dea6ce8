"""The issuer's keys: against a real issuer on loopback that rolls over, fails, stalls and lies."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from httpx2 import ConnectError, create_ssl_context
from jwt.algorithms import ECAlgorithm
from structlog.testing import capture_logs

from hardening.auth import jwks
from hardening.auth.issuer_metadata import (
    MAX_DOCUMENT_BYTES,
    MAX_FETCH_BYTES,
    FetchError,
    open_client,
    read_document,
)
from hardening.auth.jwks import COOLDOWN_SECONDS, MAX_AGE_SECONDS, REFRESH_SECONDS, Keys
from hardening.exchange import current, open_exchange
from hardening.http_answers import Budget

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

PUBLIC = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
DEADLINE_SECONDS = 10


class Clock:
    """Monotonic time that passes when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Issuer:
    """An issuer that answers exactly what a test wants, and counts who asks."""

    def __init__(self) -> None:
        self.url = ""
        self.request = b""
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]] = {}
        # A test that takes the gate away holds every answer back until it puts it there again.
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    def publish(self, *kids: str) -> None:
        """Publish keys of these ids, and metadata that lead to them."""
        self.answers["/keys"] = reply({"keys": [PUBLIC | {"kid": kid} for kid in kids]})
        metadata = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.answers["/.well-known/oauth-authorization-server"] = reply(metadata)

    def keys(self, clock: Clock | None = None, path: str = "/keys") -> Keys:
        """Return the object under test, looking at this issuer."""
        return Keys(self.url, f"{self.url}{path}" if path else "", clock=clock or Clock())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            self.request = await reader.readuntil(b"\r\n\r\n")
            path = self.request.split(b" ")[1].decode()
            self.asked[path] += 1
            answer = self.answers.get(path, reply({}, status="404 Not Found"))
            self.arrived.set()
            await self.gate.wait()
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def reply(document: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an HTTP response; bytes are sent as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def listening(issuer: Issuer, port: int = 0) -> AsyncGenerator[Issuer]:
    """Let the issuer listen on a loopback port."""
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", port)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield issuer
    finally:
        issuer.gate.set()
        server.close()


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    """An issuer that publishes one key, `a`."""
    async with listening(Issuer()) as one:
        one.publish("a")
        yield one


async def has(keys: Keys, kid: str) -> bool:
    """Return whether the key is found, within a deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return bool(await keys.find(kid, "ES256"))


async def unavailable(keys: Keys, kid: str = "a") -> float:
    """Return after how many seconds a retry may help; fail if the keys are there."""
    with pytest.raises(jwks.KeysUnavailableError) as caught:
        await has(keys, kid)
    return caught.value.retry_after


async def until_idle() -> None:
    """Wait for the fetch behind the callers' backs."""
    fetches = [task for task in asyncio.all_tasks() if "Keys._refresh" in repr(task)]
    if fetches:
        await asyncio.wait(fetches, timeout=DEADLINE_SECONDS)


async def test_keys_are_found_by_discovery(issuer: Issuer) -> None:
    """Without an address of the keys, the metadata of RFC 8414 lead there."""
    assert await has(issuer.keys(path=""), "a")
    assert issuer.asked == {"/.well-known/oauth-authorization-server": 1, "/keys": 1}


async def test_authorities_are_read_once(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this machine, which takes a while on the event loop; every fetch has them, and checks certificates."""
    given: list[Any] = []

    def opened(url: str, tls: Any, budget: Budget, *, outside: bool) -> Any:
        given.append(tls)
        return open_client(url, tls, budget, outside=outside)

    monkeypatch.setattr(jwks, "open_client", opened)
    clock = Clock()
    keys = issuer.keys(clock, path="")
    assert await has(keys, "a")
    clock.now += MAX_AGE_SECONDS
    assert await has(keys, "a")
    await until_idle()

    assert len(given) == 3
    assert {id(tls) for tls in given} == {id(given[0])}
    assert isinstance(given[0], ssl.SSLContext)
    assert (given[0].verify_mode, given[0].check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    "place",
    [
        "/.well-known/oauth-authorization-server/tenants/one",
        "/.well-known/openid-configuration/tenants/one",
        "/tenants/one/.well-known/openid-configuration",
    ],
)
async def test_an_issuer_with_a_path_is_found_at_each_of_its_places(issuer: Issuer, place: str) -> None:
    """Both discovery documents are looked for where their specifications put them."""
    tenant = f"{issuer.url}/tenants/one"
    issuer.answers[place] = reply({"issuer": tenant, "jwks_uri": f"{issuer.url}/keys"})

    assert await has(Keys(tenant, clock=Clock()), "a")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"issuer": "https://evil.example.com", "jwks_uri": "{url}/keys"}, "issuer_mismatch"),
        ({"issuer": "{url}/", "jwks_uri": "{url}/keys"}, "issuer_trailing_slash"),
        ({"jwks_uri": "{url}/keys"}, "issuer_mismatch"),
        ({"issuer": "{url}"}, "unsafe_jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": 5}, "unsafe_jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": "http://keys.example.com/keys"}, "unsafe_jwks_uri"),
        ({"issuer": "{url}", "jwks_uri": "file:///etc/passwd"}, "unsafe_jwks_uri"),
    ],
    ids=str,
)
async def test_metadata_that_cannot_be_trusted_are_not_used(
    issuer: Issuer, metadata: dict[str, Any], code: str
) -> None:
    """Metadata of another issuer, or an unsafe address of keys, make the keys unavailable."""
    text = json.dumps(metadata).replace("{url}", issuer.url).encode()
    # The other places answer 404, which says less.
    issuer.answers["/.well-known/oauth-authorization-server"] = reply(text)

    with capture_logs() as lines:
        await unavailable(issuer.keys(path=""))

    assert [(line["error_code"], line["setting"]) for line in lines] == [(code, "MCP_JWT_ISSUER")]
    assert issuer.asked["/keys"] == 0


async def test_documents_are_asked_for_uncompressed(issuer: Issuer) -> None:
    """An issuer that could compress is asked not to, since only plain documents are read."""
    assert await has(issuer.keys(), "a")
    assert b"accept-encoding: identity" in issuer.request.lower()


@pytest.mark.parametrize(
    ("address", "url", "setting"),
    [
        ("http://login.example.com", "", "MCP_JWT_ISSUER"),
        ("", "", "MCP_JWT_ISSUER"),
        ("https://login.example.com", "http://login.example.com/keys", "MCP_JWT_JWKS_URL"),
        ("https://login.example.com", "http://127.0.0.1/keys", "MCP_JWT_JWKS_URL"),
    ],
)
def test_plain_http_is_refused_at_start(address: str, url: str, setting: str) -> None:
    """Keys that anyone on the way could replace are refused, naming the setting."""
    with pytest.raises(ValueError, match=setting):
        Keys(address, url)


@pytest.mark.parametrize("warm", [True, False])
async def test_a_hundred_unknown_ids_at_once_cause_one_fetch(issuer: Issuer, warm: bool) -> None:  # noqa: FBT001
    """Callers that need the same fetch share it."""
    keys = issuer.keys()
    if warm:
        assert await has(keys, "a")
    issuer.asked.clear()

    found = await asyncio.gather(*(has(keys, f"made up {number}") for number in range(100)))

    assert not any(found)
    assert issuer.asked["/keys"] == 1


async def test_made_up_ids_cannot_hammer_the_issuer(issuer: Issuer) -> None:
    """Unknown ids cause three fetches in 30 seconds, however many arrive; in between nobody can say that one is bad."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    refused = 0

    for seconds in range(90):
        clock.now = 1000.0 + seconds
        with contextlib.suppress(jwks.KeysUnavailableError):
            refused += not await has(keys, f"made up {seconds}")

    assert issuer.asked["/keys"] == 9
    assert refused == 8


async def test_a_forged_token_does_not_make_a_rollover_wait(issuer: Issuer) -> None:
    """After an unknown id has caused a fetch, the next one is asked for at once: no good token is refused."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    assert not await has(keys, "made up")
    clock.now += 1
    issuer.publish("a", "b")

    assert await has(keys, "b")


async def test_an_unknown_id_is_in_doubt_while_the_issuer_may_not_be_asked(issuer: Issuer) -> None:
    """A key that is published in a pause is 503 until the pause is over, and never 401."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    for number in range(2):
        clock.now += 1
        assert not await has(keys, f"made up {number}")
    issuer.publish("a", "b")

    wait = await unavailable(keys, "b")
    clock.now += wait

    assert wait == 28
    assert await has(keys, "b")


async def test_every_key_of_an_id_is_there(issuer: Issuer) -> None:
    """An issuer that publishes a new key beside an old one of the same id: both are tried."""
    other = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    issuer.answers["/keys"] = reply({"keys": [PUBLIC | {"kid": "a"}, other | {"kid": "a"}]})

    assert len(await issuer.keys().find("a", "ES256")) == 2


async def test_a_place_that_is_closed_says_nothing_about_the_next(issuer: Issuer) -> None:
    """Metadata are found at the second place when the first one ends the connection."""
    metadata = issuer.answers.pop("/.well-known/oauth-authorization-server")

    async def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    issuer.answers["/.well-known/oauth-authorization-server"] = hang_up
    issuer.answers["/.well-known/openid-configuration"] = metadata

    assert await has(issuer.keys(path=""), "a")


async def test_a_document_in_tiny_chunks_holds_nobody_up(issuer: Issuer) -> None:
    """2,048 pieces are read and no more, and the event loop is never held for longer than 50 ms."""

    async def chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000)

    issuer.answers["/keys"] = chunks
    late = 0.0

    async def prober() -> None:
        nonlocal late
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            late = max(late, time.thread_time() - before)

    keys = issuer.keys()
    with pytest.raises(jwks.KeysUnavailableError):
        await has(keys, "warm")
    keys = issuer.keys()
    task = asyncio.create_task(prober())
    started = time.thread_time()
    with pytest.raises(jwks.KeysUnavailableError):
        await has(keys, "a")
    seconds = time.thread_time() - started
    task.cancel()

    assert seconds < 1.0
    assert late < 0.25


async def test_a_rollover_fails_no_request(issuer: Issuer) -> None:
    """A token signed with a key that was published a moment ago is verified at once."""
    keys = issuer.keys()
    assert await has(keys, "a")

    issuer.publish("b")

    assert await has(keys, "b")


async def test_a_rollover_during_a_refresh_fails_no_request(issuer: Issuer) -> None:
    """A refresh that read the old set before the rollover does not decide about the new key."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    clock.now += REFRESH_SECONDS
    issuer.gate.clear()
    issuer.arrived.clear()
    assert await has(keys, "a")
    await asyncio.wait_for(issuer.arrived.wait(), DEADLINE_SECONDS)

    issuer.publish("b")
    answers = [asyncio.create_task(has(keys, "b")) for _ in range(20)]
    issuer.gate.set()

    assert all(await asyncio.gather(*answers))
    assert issuer.asked["/keys"] == 3


async def test_a_refresh_makes_nobody_wait(issuer: Issuer) -> None:
    """When the set is due, callers go on with the old one while the new one is fetched."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    clock.now += REFRESH_SECONDS
    issuer.publish("b")
    issuer.gate.clear()

    assert all([await has(keys, "a") for _ in range(20)])

    issuer.gate.set()
    await until_idle()
    assert issuer.asked["/keys"] == 2
    # The old key is gone with the old set: a withdrawn key is not believed for longer.
    assert not await has(keys, "a")


async def test_an_outage_is_survived_for_an_hour_and_no_longer(issuer: Issuer) -> None:
    """The last set serves while the issuer is away, until it is too old to be believed."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    issuer.answers["/keys"] = reply({}, status="500 Oops")

    with capture_logs() as lines:
        while clock.now < 1000.0 + MAX_AGE_SECONDS - 60:
            clock.now += 60
            assert await has(keys, "a")
            await until_idle()
        clock.now = 1000.0 + MAX_AGE_SECONDS
        await unavailable(keys)
        issuer.publish("a")
        clock.now += COOLDOWN_SECONDS
        assert await has(keys, "a")

    events = [(line["event"], line.get("error_code")) for line in lines]
    assert events == [
        ("issuer keys unavailable", "bad_status"),
        ("issuer keys available", None),
    ]


async def test_an_unknown_id_during_an_outage_is_not_the_callers_fault(issuer: Issuer) -> None:
    """While the issuer cannot be asked, a new key id is undecided and not refused."""
    keys = issuer.keys()
    assert await has(keys, "a")
    issuer.answers["/keys"] = reply({}, status="503 Later")

    assert 0 < await unavailable(keys, "b") <= COOLDOWN_SECONDS
    assert 0 < await unavailable(keys, "b") <= COOLDOWN_SECONDS
    assert await has(keys, "a")


async def test_an_issuer_that_is_down_is_asked_once_in_a_cooldown() -> None:
    """A refused connection is answered at once and not tried again by every request."""
    clock = Clock()
    async with listening(Issuer()) as issuer:
        port = int(issuer.url.rpartition(":")[2])
    keys = issuer.keys(clock)

    assert await unavailable(keys) == COOLDOWN_SECONDS

    async with listening(issuer, port):
        issuer.publish("a")
        clock.now += COOLDOWN_SECONDS - 1
        assert await unavailable(keys) == 1
        assert not issuer.asked
        clock.now += 1
        assert await has(keys, "a")


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, for ever, so that no single read takes long."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def hang(writer: asyncio.StreamWriter) -> None:
    """Send nothing, ever."""
    del writer
    await asyncio.Event().wait()


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send spaces without end and without a length."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" " * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(drip, "TimeoutError", id="slow"),
        pytest.param(hang, "TimeoutError", id="silent"),
        pytest.param(flood, "document_too_large", id="endless"),
        pytest.param(reply(b" " * (MAX_DOCUMENT_BYTES + 1)), "document_too_large", id="huge"),
        pytest.param(reply(b"<html>"), "document_not_json", id="html"),
        pytest.param(reply(b"[" * 100_000), "document_not_json", id="deep"),
        pytest.param(reply(b"\xff\xfe\x00"), "document_not_json", id="binary"),
        pytest.param(reply([PUBLIC]), "document_not_json", id="list"),
        pytest.param(reply({"keys": "a"}), "no_usable_key", id="wrong type"),
        pytest.param(reply({}, status="401 No"), "bad_status", id="401"),
        pytest.param(b"nonsense\r\n\r\n", "RemoteProtocolError", id="not http"),
        pytest.param(
            reply({}, status="302 Found", headers="Location: /elsewhere\r\n"),
            "bad_status",
            id="redirect",
        ),
        pytest.param(
            reply(gzip.compress(b" " * 10_000_000), headers="Content-Encoding: gzip\r\n"),
            "document_not_json",
            id="compressed",
        ),
    ],
)
async def test_nothing_an_issuer_sends_gets_further_than_unavailable(
    answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]],
    code: str,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow, endless, redirected or malformed answers end by a deadline, and are logged by kind."""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_SECONDS", 0.3)
    issuer.answers["/elsewhere"] = reply({"keys": [PUBLIC | {"kid": "a"}]})
    issuer.answers["/keys"] = answer
    keys = issuer.keys()

    with capture_logs() as lines:
        await unavailable(keys)

    assert [line["error_code"] for line in lines] == [code]
    assert issuer.asked == {"/keys": 1}


async def test_keys_that_have_moved_are_found_again(issuer: Issuer) -> None:
    """An address from discovery is asked for again when it stops working."""
    clock = Clock()
    keys = issuer.keys(clock, path="")
    assert await has(keys, "a")
    issuer.answers["/keys"] = reply({}, status="410 Gone")
    issuer.answers["/moved"] = reply({"keys": [PUBLIC | {"kid": "b"}]})
    metadata = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/moved"}
    issuer.answers["/.well-known/oauth-authorization-server"] = reply(metadata)

    await unavailable(keys, "b")
    clock.now += COOLDOWN_SECONDS

    assert await has(keys, "b")


async def test_a_caller_that_goes_away_takes_no_fetch_along(issuer: Issuer) -> None:
    """A cancelled request does not fail the others that wait for the same keys."""
    keys = issuer.keys()
    issuer.gate.clear()
    first, second = (asyncio.create_task(has(keys, "a")) for _ in range(2))
    await asyncio.wait_for(issuer.arrived.wait(), DEADLINE_SECONDS)

    first.cancel()
    issuer.gate.set()

    assert await second
    assert issuer.asked["/keys"] == 1


async def test_a_caller_that_goes_away_takes_no_refresh_along(issuer: Issuer) -> None:
    """The same holds for a refresh that somebody else's request has started."""
    clock = Clock()
    keys = issuer.keys(clock)
    assert await has(keys, "a")
    clock.now += REFRESH_SECONDS
    issuer.publish("b")
    issuer.gate.clear()
    issuer.arrived.clear()
    assert await has(keys, "a")
    first, second = (asyncio.create_task(has(keys, "b")) for _ in range(2))
    await asyncio.wait_for(issuer.arrived.wait(), DEADLINE_SECONDS)

    first.cancel()
    await asyncio.wait([first], timeout=DEADLINE_SECONDS)
    issuer.gate.set()

    assert await second
    assert issuer.asked["/keys"] == 2


async def test_a_proxy_is_not_asked_for_this_machine(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names for the internet does not see a loopback issuer's traffic."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    assert await has(issuer.keys(), "a")


async def test_keys_are_at_hand_before_the_first_request(issuer: Issuer) -> None:
    """A server that has just started does not make its first caller wait."""
    keys = issuer.keys()

    async with keys.running():
        await asyncio.wait_for(issuer.arrived.wait(), DEADLINE_SECONDS)
        await until_idle()
        issuer.gate.clear()

        assert await has(keys, "a")


async def test_a_start_does_not_wait_for_the_issuer_nor_an_end(issuer: Issuer) -> None:
    """A hanging issuer delays neither start nor shutdown, and leaves no task behind."""
    issuer.gate.clear()
    before = asyncio.all_tasks()

    # Less than the fetch's own deadline, so that only ending it can be this quick.
    async with asyncio.timeout(jwks.FETCH_TIMEOUT_SECONDS / 2), issuer.keys().running():
        await issuer.arrived.wait()

    issuer.gate.set()
    left = {task for task in asyncio.all_tasks() - before if "Keys._refresh" in repr(task)}
    assert not left


async def test_a_fetch_belongs_to_no_caller(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fetch logs does not carry the request id of whoever happened to start it."""
    seen: list[object] = []

    def looking(document: dict[str, Any]) -> dict[Any, Any]:
        seen.append(current.get())
        return {("a", "ES256"): document}

    monkeypatch.setattr(jwks, "usable_keys", looking)
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    token = current.set(open_exchange(scope, None, None))  # type: ignore[arg-type]
    try:
        await has(issuer.keys(), "a")
    finally:
        current.reset(token)

    assert seen == [None]


@pytest.mark.parametrize(("spared", "through"), [("", True), ("127.0.0.1", False), (".example.com", True)])
async def test_a_proxy_of_the_environment_stands_before_the_internet(
    spared: str,
    through: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`HTTPS_PROXY` is asked for the issuer's address, unless `NO_PROXY` names it; its answers are bounded as well."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 103 \r\n\r\n" * 1000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://name:word@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", spared)
    budget = Budget(MAX_FETCH_BYTES)
    async with open_client("https://127.0.0.1:1/", create_ssl_context(), budget, outside=True) as client:
        with pytest.raises((FetchError, ConnectError)):
            await read_document(client, "https://127.0.0.1:1/keys")
    server.close()

    assert [head.split(b"\r\n")[0] for head in asked] == [b"CONNECT 127.0.0.1:1 HTTP/1.1"] * through
    assert all(b"Proxy-Authorization: Basic bmFtZTp3b3Jk" in head for head in asked)
