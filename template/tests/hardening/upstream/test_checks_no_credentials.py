"""The checks that a reviewer can make without a credential, one each, on a socket.

Each is named by its number in the review list; the depth is in the test file of the module.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from live import KEY, PROBE_KEY, Live, live
from wire import ERAS, SECONDS, Era, Wire, opening, request

from hardening.dev.issuer import LocalIssuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

METADATA = "/.well-known/oauth-protected-resource/mcp"
ROUTES = ("/mcp", "/livez", "/readyz", "/metrics", METADATA, "/nothing")
# Names of what this server is made of, which no answer may contain.
MADE_OF = ("uvicorn", "starlette", "python", "mcpserver", "pydantic", "traceback")

both_eras = pytest.mark.parametrize("era", ERAS)
every_route = pytest.mark.parametrize("path", ROUTES)


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    """A real issuer on loopback."""
    with LocalIssuer() as one:
        yield one


@pytest.fixture(scope="module")
def server(issuer: LocalIssuer) -> Iterator[Live]:
    """A server that takes keys and tokens, and gives up on slow senders soon."""
    with live(
        MCP_AUTH="api_key,jwt",
        MCP_JWT_ISSUER=issuer.url,
        MCP_JWT_AUDIENCE="https://mcp.example.com/mcp",
        MCP_REQUIRED_SCOPES="use",
        MCP_ALLOWED_ORIGINS="https://app.example.com",
        MCP_BODY_TIMEOUT_SECONDS="0.5",
        MCP_RATE_AUTH_FAILURES_PER_MINUTE="10000",
    ) as running:
        yield running


@pytest.fixture
async def stranger(server: Live) -> AsyncIterator[Wire]:
    """A client without a credential."""
    async with Wire(server.url) as client:
        yield client


@every_route
@pytest.mark.parametrize("origin", ["https://evil.example.com", "null"])
async def test_r1_a_foreign_origin_is_403_on_every_route(stranger: Wire, path: str, origin: str) -> None:
    """A page from elsewhere, or from nowhere, gets 403, whatever it asks for and however."""
    for method in ("GET", "POST", "OPTIONS"):
        reply = await stranger.send(b"", {"origin": origin}, method=method, path=path)

        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


@every_route
async def test_r1_no_origin_passes_on_every_route(stranger: Wire, path: str) -> None:
    """A client that is no browser sends none, and is not refused for it."""
    reply = await stranger.get(path)

    assert reply.status not in {403, 421}


@pytest.mark.parametrize("path", ["/mcp", METADATA, "/nothing"])
async def test_r2_a_foreign_host_is_421(stranger: Wire, path: str) -> None:
    """A name that was bound to this address by somebody else is not answered."""
    reply = await stranger.get(path, host="evil.example.com", authorization=f"Bearer {KEY}")

    assert reply.status == 421


def test_r3_it_listens_on_loopback_unless_told_otherwise(server: Live) -> None:
    """Without a setting, only this machine can connect."""
    assert server.listener.getsockname()[0] == "127.0.0.1"


@both_eras
async def test_r4_no_token_is_401_with_a_challenge(stranger: Wire, era: Era) -> None:
    """The challenge names metadata and scope; the metadata can be fetched and name this endpoint."""
    reply = await stranger.ask(era, *opening(era))
    challenge = reply.headers["www-authenticate"]
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    assert found is not None
    metadata = (await stranger.http.get(found[1])).json()

    assert reply.status == 401
    assert 'scope="use"' in challenge
    assert metadata["resource"] == f"{stranger.url}/mcp"


@both_eras
async def test_r4_the_challenge_reaches_a_client_that_is_still_sending(stranger: Wire, era: Era) -> None:
    """A large body is refused unread, and yet its sender gets to read why; then the connection is free again."""
    params = {"name": "echo", "arguments": {"text": "x" * 900_000}}
    replies = [await stranger.ask(era, "tools/call", params) for _ in range(3)]

    assert {reply.status for reply in replies} == {401}


@both_eras
@pytest.mark.parametrize("how", ["query", "audience", "issuer", "expired", "algorithm none", "foreign key"])
async def test_r5_a_token_in_the_query_or_a_bad_one_is_401(
    stranger: Wire, issuer: LocalIssuer, era: Era, how: str
) -> None:
    """A credential counts in its header alone, and only when everything about it is right."""
    audience = "https://mcp.example.com/mcp"
    good = issuer.token(audience, scopes=("use",))
    with LocalIssuer() as other:
        tokens = {
            "query": "",
            "audience": issuer.token("https://other.example.com/mcp", scopes=("use",)),
            "issuer": issuer.token(audience, scopes=("use",), iss="https://evil.example.com"),
            "expired": issuer.token(audience, scopes=("use",), lifetime_seconds=-3600),
            "algorithm none": "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + good.split(".")[1] + ".",
            "foreign key": other.token(audience, scopes=("use",), iss=issuer.url),
        }
    headers, body = request(era, "tools/list", key=tokens[how])
    path = f"/mcp?access_token={good}" if how == "query" else "/mcp"

    assert (await stranger.ask(era, "tools/list", key=good)).status == 200
    assert (await stranger.send(body, headers, path=path)).status == 401


@both_eras
async def test_r6_nothing_is_told_before_authentication(stranger: Wire, era: Era) -> None:
    """What exists and what does not is the same 401."""
    asked: list[tuple[str, dict[str, Any]]] = [
        opening(era),
        ("tools/list", {}),
        ("no/such", {}),
        ("tools/call", {"name": "echo", "arguments": {"text": "hello"}}),
        ("tools/call", {"name": "no_such", "arguments": {}}),
    ]
    replies = [await stranger.ask(era, method, params) for method, params in asked]
    told = {json.dumps({**reply.error, "data": None}) for reply in replies}

    assert {reply.status for reply in replies} == {401}
    assert len(told) == 1


@both_eras
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_r7_another_method_is_405(stranger: Wire, era: Era, method: str) -> None:
    """`Allow` says which one is served."""
    headers, _ = request(era, *opening(era))
    reply = await stranger.send(b"", headers, method=method)

    assert reply.status == 405
    assert "POST" in reply.headers["allow"]


@both_eras
async def test_r7_a_wrong_media_type_is_415(stranger: Wire, era: Era) -> None:
    """A form, which any page can send, is not read."""
    reply = await stranger.ask(era, *opening(era), headers={"content-type": "application/x-www-form-urlencoded"})

    assert reply.status == 415


@both_eras
async def test_r7_a_wrong_accept_is_406(stranger: Wire, era: Era) -> None:
    """A client that could not read the answer is told so."""
    reply = await stranger.ask(era, *opening(era), key=KEY, headers={"accept": "text/html"})

    assert reply.status == 406
    assert "x-request-id" in reply.headers


@both_eras
@pytest.mark.parametrize("key", ["", KEY], ids=["no key", "key"])
async def test_r8_an_oversize_body_is_413(stranger: Wire, era: Era, key: str) -> None:
    """With or without a key, and the sender gets to read it."""
    reply = await stranger.ask(era, "tools/call", {"name": "echo", "arguments": {"text": "x" * 2_000_000}}, key=key)

    assert reply.status == 413


@both_eras
async def test_r8_a_compressed_body_is_415(stranger: Wire, era: Era) -> None:
    """It could unpack to anything."""
    headers, body = request(era, *opening(era), key=KEY)
    reply = await stranger.send(gzip.compress(body), {**headers, "content-encoding": "gzip"})

    assert reply.status == 415


@both_eras
async def test_r8_deep_nesting_is_400(stranger: Wire, era: Era) -> None:
    """No parser is made to recurse."""
    headers, body = request(era, *opening(era), key=KEY)
    deep = body.replace(b'"params": {', b'"params": {"x": ' + b"[" * 5000 + b"]" * 5000 + b", ", 1)
    reply = await stranger.send(deep, headers)

    assert reply.status == 400
    assert reply.error["code"] in {-32600, -32700}


@both_eras
async def test_r8_a_slow_body_is_408(server: Live, era: Era) -> None:
    """Half a request ends at the deadline."""
    headers, body = request(era, *opening(era), key=KEY)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.getsockname()[1])
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode())
    writer.write(body[:10])
    answer = await asyncio.wait_for(reader.read(), SECONDS)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")


@every_route
async def test_r9_cors_names_one_origin_and_answers_name_no_product(stranger: Wire, path: str) -> None:
    """Never `*`; no banner of what this server is made of, in headers or in body."""
    reply = await stranger.get(path, origin="https://app.example.com")
    told = "".join(f"{name}: {value}\n" for name, value in reply.headers.items()) + reply.body.decode()

    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "server" not in reply.headers
    assert not [name for name in MADE_OF if name in told.lower()]


async def test_r10_health_says_nothing_beyond_its_status(stranger: Wire) -> None:
    """No version, no dependency, no count."""
    replies = [await stranger.get(path) for path in ("/livez", "/readyz")]
    expected = {"x-request-id", "cache-control", "content-type", "content-length", "date"}

    assert [reply.body for reply in replies] == [b'{"status":"live"}', b'{"status":"ready"}']
    assert all(set(reply.headers) <= expected for reply in replies)


async def test_r10_metrics_need_the_probe_key(stranger: Wire) -> None:
    """They tell more than health does, so they are for the monitor alone."""
    unknown = await stranger.get("/metrics")
    caller = await stranger.get("/metrics", authorization=f"Bearer {KEY}")
    probe = await stranger.get("/metrics", authorization=f"Bearer {PROBE_KEY}")

    assert (unknown.status, caller.status) == (401, 403)
    assert probe.status not in {401, 403}
