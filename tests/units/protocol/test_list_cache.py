"""A listing and a discovery are made once, look the same each time, and are made again when the tools are others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.types import Tool
from pydantic import ValidationError
from pydantic_core import to_json
from wire import ERAS, LEGACY, META, MODERN, Era, Wire

from hardening.protocol.list_cache import ListCache


class Listed(MCPServer[None]):
    """A server whose tools can be exchanged."""

    def __init__(self) -> None:
        super().__init__("listed", log_level="CRITICAL")
        self.tools = [Tool(name="one", input_schema={"type": "object"})]

    async def list_tools(self) -> list[Tool]:
        """Return the tools as they are now."""
        return self.tools


@dataclass
class Request:
    """What the SDK's chain knows of a request."""

    protocol_version: str = LEGACY
    method: str = "tools/list"
    params: dict[str, Any] | None = None


@dataclass
class Made:
    """The end of the chain: counts how often it is reached."""

    server: Listed
    times: int = 0
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def __call__(self, _: object) -> dict[str, Any]:
        """Make a listing."""
        self.times += 1
        self.results.append({"tools": [tool.name for tool in self.server.tools]})
        return self.results[-1]


async def ask(listing: ListCache, made: Made, **request: Any) -> dict[str, Any]:
    """Ask for one listing."""
    return cast("dict[str, Any]", await listing(cast("Any", Request(**request)), cast("Any", made)))


async def test_it_is_made_once_for_each_version() -> None:
    """Versions differ in what they show."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    answers = [await ask(listing, made) for _ in range(3)]
    await ask(listing, made, protocol_version=MODERN, params={"_meta": META})

    assert made.times == 2
    assert answers[0] == answers[1] == answers[2] == {"tools": ["one"]}
    assert listing.encoded(answers[2]) == to_json(answers[2])


async def test_a_discovery_is_made_once_and_is_no_listing() -> None:
    """Each method has its own answer, and only a listing says that tools are switched off."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    listing.restricted = True
    modern = {"protocol_version": MODERN, "params": {"_meta": META}}
    listed = await ask(listing, made, **modern)
    found = [await ask(listing, made, method="server/discover", **modern) for _ in range(3)]

    assert made.times == 2
    assert listed == {"tools": ["one"], "_meta": {"hardening/restricted": True}}
    assert found == [{"tools": ["one"]}] * 3


async def test_other_tools_are_another_listing() -> None:
    """A registration counts at once."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    before = await ask(listing, made)
    server.tools = [*server.tools, Tool(name="two", input_schema={"type": "object"})]
    after = await ask(listing, made)

    assert after == {"tools": ["one", "two"]}
    assert listing.encoded(before) is None


async def test_what_is_kept_is_not_what_is_given_out() -> None:
    """A layer may add to its answer without changing everybody else's."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    await ask(listing, made)
    changed = await ask(listing, made)
    changed["more"] = True

    assert "more" not in await ask(listing, made)
    assert listing.encoded(changed) is None


async def test_parameters_are_checked_each_time() -> None:
    """A request that is refused is refused before and after the first listing."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    await ask(listing, made)
    with pytest.raises(ValidationError):
        await ask(listing, made, params={"_meta": "no object"})


async def test_other_methods_pass() -> None:
    """Nothing else is kept, whatever it holds."""
    server = Listed()
    listing, made = ListCache(server), Made(server)
    for _ in range(2):
        await ask(listing, made, method="tools/call")

    assert made.times == 2
    assert listing.encoded({"tools": ["one"]}) is None
    assert listing.encoded(None) is None


@pytest.mark.parametrize(("era", "method"), [*((era, "tools/list") for era in ERAS), ("modern", "server/discover")])
async def test_every_client_gets_its_own_id(wire: Wire, era: Era, method: str) -> None:
    """What is written once is the result, not the answer."""
    replies = [await wire.ask(era, method, rpc_id=rpc_id) for rpc_id in (1, "two", 3)]

    assert [reply.message["id"] for reply in replies] == [1, "two", 3]
    assert replies[0].result == replies[1].result == replies[2].result
