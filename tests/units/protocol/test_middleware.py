"""Every message: nothing untrue about the server, nothing of an exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured
from live import ENVIRONMENT, KEY, Live, live, settings_from
from mcp import MCPError
from mcp.types import RequestParams
from wire import ERAS, MODERN, Era, Reply, Wire, opening, request

from hardening import HardeningSettings, harden
from hardening.protocol.middleware import error_boundary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from hardening.server import HardenedServer

SENTINEL = "sentinel-value"
LISTINGS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


def bare(settings: HardeningSettings) -> HardenedServer:
    """Return a server with nothing at all, and a method of its own that fails in several ways."""
    server = harden(settings, tools=())

    async def fail(_: Any, params: Failing) -> Any:
        raised: dict[str, BaseException] = {
            "crash": RuntimeError(SENTINEL),
            "value": ValueError(SENTINEL),
            "exit": SystemExit(SENTINEL),
            "group": ExceptionGroup(SENTINEL, [RuntimeError(SENTINEL)]),
            "timeout": TimeoutError(SENTINEL),
            "protocol": MCPError(-31000, "In these words."),
        }
        if params.how == "validation":
            Failing.model_validate({"how": [SENTINEL]})
        raise raised[params.how]

    # What an extension of the protocol does; nothing here is around it but the boundary of every message.
    server._lowlevel_server.add_request_handler("test/fail", Failing, fail)  # noqa: SLF001 - no public way yet
    return server


class Failing(RequestParams):
    """Parameters of the method that fails."""

    how: str


@pytest.fixture(scope="module")
def empty() -> Iterator[Live]:
    """A server without tools, prompts and resources."""
    with Live(settings_from(ENVIRONMENT), bare) as running:
        yield running


@pytest.fixture
async def empty_wire(empty: Live) -> AsyncIterator[Wire]:
    """A raw client of the empty server."""
    async with Wire(empty.url, KEY) as client:
        yield client


async def opened(wire: Wire, era: Era) -> Reply:
    """Open as a client of that era does."""
    return await wire.ask(era, *opening(era))


@pytest.mark.parametrize("era", ERAS)
async def test_only_what_is_there_is_advertised(wire: Wire, empty_wire: Wire, era: Era) -> None:
    """A capability is there when it can be used."""
    full = (await opened(wire, era)).result["capabilities"]
    none = (await opened(empty_wire, era)).result["capabilities"]

    assert {name for name in full if name != "extensions"} == {"tools", "prompts", "resources"}
    assert {name for name in none if name != "extensions"} == {"tools"}


@pytest.mark.parametrize("era", ERAS)
async def test_no_notification_is_promised_that_cannot_come(era: Era) -> None:
    """Changes are promised where streams carry them: not to older clients, not where replicas share nothing."""
    keys = "0123456789abcdef0123456789abcdef"
    with live(MCP_REPLICAS="2", MCP_REQUEST_STATE_KEYS=keys) as several, live() as alone:
        promised: list[bool] = []
        for server in (several, alone):
            async with Wire(server.url, KEY) as client:
                parts = (await opened(client, era)).result["capabilities"].values()
            promised.append(any(part.get("listChanged") or part.get("subscribe") for part in parts))

    assert promised == [False, era == "modern"]


@pytest.mark.parametrize("era", ERAS)
async def test_every_listing_can_be_asked_for(wire: Wire, empty_wire: Wire, era: Era) -> None:
    """What is advertised can be listed, on one page, and an empty list of tools is a list."""
    for method in LISTINGS:
        key = {"templates/list": "resourceTemplates"}.get(method.partition("/")[2], method.partition("/")[0])
        full = await wire.ask(era, method)
        assert full.result[key]
        assert "nextCursor" not in full.result

    none = await empty_wire.ask(era, "tools/list")
    assert none.result["tools"] == []


async def test_tools_are_listed_in_one_order(wire: Wire) -> None:
    """Both eras list the same tools, sorted by name (2026-07-28, Tools)."""
    modern, legacy = [(await wire.ask(era, "tools/list")).result["tools"] for era in ERAS]
    names = [tool["name"] for tool in modern]

    assert names == sorted(names)
    assert modern == legacy


@pytest.mark.parametrize("method", ["server/discover", *LISTINGS])
async def test_listings_say_how_long_they_hold(wire: Wire, method: str) -> None:
    """Each has a time and a scope, without which some clients refuse it (2026-07-28, Caching)."""
    result = (await wire.ask("modern", method)).result

    assert (result["ttlMs"], result["cacheScope"]) == (60_000, "private")
    assert result["resultType"] == "complete"


async def test_what_is_read_says_how_long_it_holds(wire: Wire) -> None:
    """A resource is fresh when it is read and nobody else's (2026-07-28, Caching)."""
    result = (await wire.ask("modern", "resources/read", {"uri": "sample://text"})).result

    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


async def test_discovery_names_what_is_spoken(wire: Wire) -> None:
    """A client learns the versions, the name and the instructions without a handshake."""
    result = (await wire.ask("modern", "server/discover")).result

    assert result["supportedVersions"] == [MODERN]
    assert result["instructions"] == "For tests."
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("how", ["crash", "value", "exit", "group", "timeout"])
async def test_no_exception_has_a_text_for_callers(empty_wire: Wire, era: Era, how: str) -> None:
    """Whatever a handler raises, the answer is -32603 with a kind and a reference, in both eras."""
    answer = await empty_wire.ask(era, "test/fail", {"how": how})

    assert answer.status == 200
    assert answer.error["code"] == -32603
    assert answer.error["data"]["kind"] == ("timeout" if how == "timeout" else "internal")
    assert answer.error["data"]["reference"] == answer.headers["x-request-id"]
    assert SENTINEL not in answer.body.decode()


@pytest.mark.parametrize("era", ERAS)
async def test_no_layer_of_the_library_has_a_text_for_callers(era: Era) -> None:
    """What raises around the boundary of every message, as the SDK's own layers are, is told as little of."""

    async def layer(ctx: Any, call_next: Any) -> Any:
        if ctx.method == "tools/list":
            raise AttributeError(SENTINEL)
        return await call_next(ctx)

    with Live(settings_from(ENVIRONMENT), bare) as running:
        # Others stand further out where spans or metrics are sent.
        chain = running.server.middleware
        chain.insert(chain.index(error_boundary) + 1, layer)
        async with Wire(running.url, KEY) as wire:
            answer = await wire.ask(era, "tools/list")

    assert answer.error["code"] == -32603
    assert answer.error["data"]["kind"] == "internal"
    assert SENTINEL not in answer.body.decode()


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_handler_says_on_purpose_is_said(empty_wire: Wire, era: Era) -> None:
    """A protocol error passes as it is; a value that does not fit is named without itself."""
    said = await empty_wire.ask(era, "test/fail", {"how": "protocol"})
    unfit = await empty_wire.ask(era, "test/fail", {"how": "validation"})

    assert (said.error["code"], said.error["message"]) == (-31000, "In these words.")
    assert (unfit.error["code"], unfit.error["message"]) == (-32602, "Invalid request parameters")
    assert SENTINEL not in unfit.body.decode()


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_method_is_told_apart(wire: Wire, era: Era) -> None:
    """-32601, with 404 in the protocol that has it (2026-07-28, Error codes)."""
    answer = await wire.ask(era, "none/such")

    assert answer.error["code"] == -32601
    assert answer.status == (404 if era == "modern" else 200)


@pytest.mark.parametrize("era", ERAS)
async def test_each_opening_has_a_line(wire: Wire, era: Era, tmp_path: Any) -> None:
    """A handshake or discovery is noted with client, time and outcome; a refused one with its code."""
    method, params = opening(era)
    with captured(tmp_path / "log") as log:
        await wire.ask(era, method, params)
        await wire.ask(era, method, {**params, "capabilities": 5, "cursor": 5, "protocolVersion": 5})
        lines = [line for line in log.lines() if line["msg"] == "client initialized"]

    assert lines[0]["rpc_method"] == method
    assert lines[0]["error_code"] is None
    assert lines[0]["duration_ms"] >= 0
    assert lines[0]["client_name"] == "wire"
    if era == "legacy":
        assert lines[1]["error_code"] == -32602


@pytest.mark.parametrize("era", ERAS)
async def test_a_refused_notification_is_no_fault(empty_wire: Wire, era: Era, tmp_path: Any) -> None:
    """Nobody answers it, and no line of the log looks as if something had broken."""
    with captured(tmp_path / "log") as log:
        for method in ("tools/list", "prompts/list"):
            headers, body = request(era, method, {"cursor": "a"}, key=KEY)
            message = json.loads(body)
            del message["id"]
            answer = await empty_wire.send(json.dumps(message).encode(), headers)
            assert answer.status == 202
        await opened(empty_wire, era)
        lines = log.lines()

    assert [line["level"] for line in lines] == ["info"] * len(lines)


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_method_is_not_given_back(wire: Wire, era: Era) -> None:
    """-32601 says what is wrong and holds nothing that the caller wrote."""
    reply = await wire.ask(era, "made/up-by-a-caller")

    assert reply.error["code"] == -32601
    assert b"made/up" not in reply.body


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", ["prompts/list", "resources/list", "resources/templates/list"])
async def test_what_is_not_advertised_is_not_served(era: Era, method: str) -> None:
    """A server without prompts and resources has no such methods."""
    with Live(settings_from(ENVIRONMENT), bare) as running:
        async with Wire(running.url, KEY) as wire:
            reply = await wire.ask(era, method)

    assert reply.error["code"] == -32601
