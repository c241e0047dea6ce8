"""Only the right Host and Origin are answered, on every route, before a credential is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from live import ENVIRONMENT, KEY, Live, live, settings_from
from wire import ERAS, Era, Wire, opening, request

from hardening.edge.host_origin import HostOrigin
from hardening.exchange import open_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

ROUTES = ("/mcp", "/.well-known/oauth-protected-resource/mcp", "/nothing")


@pytest.fixture(scope="module")
def public() -> Generator[Live]:
    """A server that is reached as https://mcp.example.com."""
    with live(
        MCP_PUBLIC_URL="https://mcp.example.com",
        MCP_ALLOWED_HOSTS="internal.example.com:8000",
        MCP_ALLOWED_ORIGINS="https://app.example.com",
    ) as running:
        yield running


@pytest.fixture
async def client(public: Live) -> AsyncIterator[Wire]:
    """A raw client of that server."""
    async with Wire(public.url, KEY) as wire:
        yield wire


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "host", ["mcp.example.com", "MCP.example.com", "mcp.example.com:443", "internal.example.com:8000"]
)
async def test_answers_its_own_hosts(client: Wire, era: Era, host: str) -> None:
    """The public URL and the allowed hosts are answered, whatever their case."""
    reply = await client.ask(era, *opening(era), headers={"host": host})

    assert reply.status == 200


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "host", ["evil.example.com", "mcp.example.com.evil.com", "mcp.example.com:8443", "", "localhost.evil"]
)
async def test_refuses_a_foreign_host_on_every_route(client: Wire, path: str, host: str) -> None:
    """DNS rebinding ends in 421, with or without a key."""
    reply = await client.get(path, host=host, authorization=f"Bearer {KEY}")

    assert reply.status == 421


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "https://mcp.example.com.evil.com", "http://mcp.example.com"]
)
async def test_refuses_a_foreign_origin_on_every_route(client: Wire, path: str, origin: str) -> None:
    """A page from elsewhere, or from nowhere, gets 403."""
    reply = await client.get(path, host="mcp.example.com", origin=origin)

    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("era", ERAS)
async def test_an_allowed_origin_may_read_the_answer(client: Wire, era: Era) -> None:
    """A browser is told so, for that origin alone."""
    headers = {"host": "mcp.example.com", "origin": "https://app.example.com"}
    reply = await client.ask(era, *opening(era), headers=headers)

    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert reply.headers["vary"] == "origin"


@pytest.mark.parametrize("era", ERAS)
async def test_a_preflight_allows_what_either_era_sends(client: Wire, era: Era) -> None:
    """A browser may send each header of a request, without a credential in the question."""
    sent, _ = request(era, *opening(era), key=KEY)
    asked = {"host": "mcp.example.com", "origin": "https://mcp.example.com", "access-control-request-method": "POST"}
    reply = await client.send(b"", asked, method="OPTIONS")

    assert reply.status == 204
    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert set(sent) <= set(allowed)
    # Arguments that a tool repeats in headers, what resumes a stream, and what carries a trace.
    assert {"last-event-id", "tracestate", "baggage"} <= set(allowed)


async def test_a_preflight_allows_arguments_that_are_repeated_in_headers(client: Wire) -> None:
    """Any `Mcp-Param-…` may be sent, 32 of them at most, and no other header that a page asks for."""
    names = ["mcp-param-region", "Mcp-Param-Zone", "x-evil", "mcp-param-", "mcp-param-a b"]
    asked = {"host": "mcp.example.com", "origin": "https://mcp.example.com", "access-control-request-method": "POST"}
    reply = await client.send(b"", asked | {"access-control-request-headers": ", ".join(names)}, method="OPTIONS")
    many = ",".join(f"mcp-param-{number}" for number in range(100))
    bounded = await client.send(b"", asked | {"access-control-request-headers": many}, method="OPTIONS")

    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert [name for name in allowed if name.startswith("mcp-param")] == ["mcp-param-region", "mcp-param-zone"]
    assert "x-evil" not in allowed
    assert reply.headers["vary"] == "origin, access-control-request-headers"
    assert bounded.headers["access-control-allow-headers"].count("mcp-param-") == 32


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:1234", "127.0.0.1:99"])
async def test_a_loopback_server_answers_this_machine(wire: Wire, host: str) -> None:
    """Without a public URL, the names of this machine are the hosts."""
    reply = await wire.ask("modern", "server/discover", headers={"host": host})

    assert reply.status == 200


async def test_a_loopback_server_refuses_a_name_from_outside(wire: Wire) -> None:
    """A page that has rebound its name to 127.0.0.1 still sends its name."""
    reply = await wire.ask("modern", "server/discover", headers={"host": "evil.example.com"})

    assert reply.status == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b"host": b"localhost"}, 421),
        ({b"host": b"127.0.0.1:8000"}, 421),
        ({b"host": b"mcp.example.com", b"origin": b"http://localhost:3000"}, 403),
        ({b"host": b"mcp.example.com", b"origin": b"https://mcp.example.com"}, None),
    ],
)
async def test_a_public_server_knows_no_loopback(headers: dict[bytes, bytes], status: int | None) -> None:
    """Where others can connect, the names of this machine are as foreign as any."""
    environment = {"HOST": "0.0.0.0", "MCP_PUBLIC_URL": "https://mcp.example.com"}
    guard = HostOrigin(settings_from(ENVIRONMENT | environment))
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": list(headers.items())}
    answer = await guard(open_exchange(scope, None, None))  # type: ignore[arg-type] - nothing is received or sent

    assert (answer and answer.status) == status


async def test_health_is_answered_by_address(client: Wire) -> None:
    """A kubelet asks by the pod's address, which is no host of ours."""
    reply = await client.get("/livez", host="10.1.2.3:8000")

    assert reply.status == 200
