"""The checks of the protocols up to 2025-11-25, one each, on a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from live import KEY, OTHER_KEY, Live, live
from wire import ERAS, LEGACY, MODERN, Era, Reply, Wire, opening, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

CLIENT: dict[str, Any] = {"capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """A server with sessions."""
    with live(MCP_LEGACY="stateful") as running:
        yield running


@pytest.fixture(scope="module")
def refusing() -> Iterator[Live]:
    """A server that serves the modern protocol alone."""
    with live(MCP_LEGACY="refuse") as running:
        yield running


@pytest.fixture
async def refused(refusing: Live) -> AsyncIterator[Wire]:
    """A client of that server."""
    async with Wire(refusing.url, KEY) as client:
        yield client


@pytest.mark.parametrize("mode", ["stateless", "stateful"])
@pytest.mark.parametrize(
    ("asked", "agreed"),
    [("2025-03-26", "2025-03-26"), ("2025-06-18", "2025-06-18"), (LEGACY, LEGACY), (MODERN, LEGACY), ("1", LEGACY)],
)
async def test_l1_initialize_agrees_on_a_legacy_version(
    server: Live, stateful: Live, mode: str, asked: str, agreed: str
) -> None:
    """Each older version is spoken; a newer one is never agreed on here."""
    async with Wire({"stateless": server, "stateful": stateful}[mode].url, KEY) as wire:
        reply = await wire.ask("legacy", "initialize", {**CLIENT, "protocolVersion": asked})

    assert reply.result["protocolVersion"] == agreed


async def test_l2_both_eras_list_the_same_tools(wire: Wire) -> None:
    """Name by name and schema by schema."""
    modern, legacy = await wire.ask("modern", "tools/list"), await wire.ask("legacy", "tools/list")

    assert modern.result["tools"] == legacy.result["tools"]


async def test_l3_without_sessions_none_is_minted_and_no_stream_opens(wire: Wire) -> None:
    """Any replica can answer any request."""
    opened = await wire.ask("legacy", *opening("legacy"))
    called = await wire.call("legacy", "echo", {"text": "hello"}, headers={"mcp-session-id": "0" * 32})
    headers, _ = request("legacy", "ping", key=KEY)
    stream = await wire.send(b"", headers, method="GET")

    assert "mcp-session-id" not in opened.headers
    assert called.status == 200
    assert stream.status == 405


async def test_l3_with_sessions_an_unknown_one_is_404(stateful: Live) -> None:
    """The client knows that it has to open a new one; the message's own id comes back."""
    async with Wire(stateful.url, KEY) as wire:
        opened = await wire.ask("legacy", *opening("legacy"))
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        known = await wire.ask("legacy", "tools/list", headers=session)
        unknown = await wire.ask("legacy", "tools/list", headers={"mcp-session-id": "0" * 32})
        headers, _ = request("legacy", "ping", key=KEY)
        ended = await wire.send(b"", {**headers, **session}, method="DELETE")
        after = await wire.ask("legacy", "tools/list", headers=session)

    assert (known.status, unknown.status, ended.status, after.status) == (200, 404, 200, 404)


HARMLESS = {"text": "a"}
REFUSED: dict[str, Callable[[Wire, Era], Awaitable[Reply]]] = {
    "no key": lambda wire, era: wire.ask(era, "tools/list", key=""),
    "a bad key": lambda wire, era: wire.ask(era, "tools/list", key="no-such-key-0123456789-0123456789-01234567"),
    "a foreign host": lambda wire, era: wire.ask(era, "tools/list", headers={"host": "evil.example.com"}),
    "a form": lambda wire, era: wire.ask(era, "tools/list", headers={"content-type": "text/plain"}),
    "too big": lambda wire, era: wire.call(era, "echo", {"text": "x" * 1_100_000}),
    "a crash": lambda wire, era: wire.call(era, "crash", HARMLESS),
    "bad arguments": lambda wire, era: wire.call(era, "echo", {"text": 1}),
    "no such tool": lambda wire, era: wire.call(era, "no_such_tool", HARMLESS),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_l4_refusals_and_failures_are_the_same_in_both_eras(wire: Wire, what: str) -> None:
    """Status, challenge and words; only the reference differs."""
    replies = [await REFUSED[what](wire, era) for era in ERAS]
    told = [comparable(reply) for reply in replies]

    assert told[0] == told[1]
    assert all("x-request-id" in reply.headers for reply in replies)


def comparable(reply: Reply) -> Any:
    """Return what an answer says, without its reference and the members that only one era has."""
    message = reply.message
    body = message.get("error") or {name: message["result"].get(name) for name in ("isError", "content")}
    text = str(body).replace(reply.headers["x-request-id"], "reference")
    # An unknown tool is 400 in the modern protocol (the code decides), and the older ones have no such rule.
    status = reply.status if "-32602" not in text else 0
    return status, reply.headers.get("www-authenticate"), text


@pytest.mark.parametrize("era", ERAS)
async def test_l4_limits_are_the_same_in_both_eras(era: Era) -> None:
    """A caller is counted once, whichever protocol it speaks."""
    with live(MCP_RATE_PRINCIPAL_BURST="2", MCP_RATE_PRINCIPAL_PER_MINUTE="2") as server:
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob:
            replies = [await alice.ask(one, "tools/list", rpc_id=7) for one in (era, *ERAS, era)]
            other = await bob.ask(era, "tools/list")

    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert replies[3].message["id"] == 7
    assert "retry-after" in replies[3].headers
    assert other.status == 200


@pytest.mark.parametrize("version", ["", "2025-03-26", LEGACY])
@pytest.mark.parametrize("method", ["initialize", "tools/list"])
async def test_refusing_names_the_version_to_speak(refused: Wire, version: str, method: str) -> None:
    """One clear answer to the request that was sent, whatever it was."""
    headers, body = request("legacy", method, {**CLIENT, "protocolVersion": LEGACY}, rpc_id="mine", key=KEY)
    headers.pop("mcp-protocol-version", None)
    reply = await refused.send(body, headers | ({"mcp-protocol-version": version} if version else {}))

    assert (reply.status, reply.error["code"]) == (400, -32022)
    assert MODERN in reply.error["message"]
    assert reply.error["data"]["supported"] == [MODERN]
    assert reply.message["id"] == "mine"


async def test_refusing_leaves_modern_clients_alone(refused: Wire) -> None:
    """They notice nothing of it."""
    found, called = await refused.ask("modern", "server/discover"), await refused.call("modern", "echo", {"text": "a"})

    assert found.status == called.status == 200
    assert called.result["structuredContent"]["text"] == "a"


async def test_refusing_comes_after_authentication(refused: Wire) -> None:
    """Nobody unknown learns what is spoken here."""
    reply = await refused.ask("legacy", *opening("legacy"), key="")

    assert reply.status == 401
