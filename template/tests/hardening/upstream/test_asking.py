"""What asks the person rests on the SDK: resolvers, sealed state, sessions, and the loop over standard input."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import alias
import httpx2
import pytest
from live import ENVIRONMENT, KEY, Live, settings_from
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Elicit, Resolve
from mcp.types import ElicitResult
from pydantic import BaseModel, ConfigDict, Field
from wire import ERAS, META, SECONDS, Era, Wire, opening

from hardening import Context, harden, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hardening import HardeningSettings
    from hardening.server import HardenedServer

CAN = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
RAN: list[str] = []
SUPPORT = Path(alias.__file__).parent


class Sure(BaseModel):
    """What a person is asked."""

    model_config = ConfigDict(extra="forbid")

    ok: bool


async def sure(name: str, ctx: Context) -> Elicit[Sure]:
    """Ask whether it may be deleted."""
    return Elicit(f"{ctx.principal.name}, delete {name}?", Sure)


@tool(read_only=False)
async def wipe(name: Annotated[str, Field(max_length=50)], answer: Annotated[Sure, Resolve(sure)]) -> str:
    """Delete something after the person was asked."""
    RAN.append(f"{name} {answer.ok}")
    return "deleted"


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose tool asks."""
    return harden(settings, tools=(wipe,))


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """The tool on a socket, with sessions for older clients."""
    with Live(settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful"}), build) as running:
        yield running


@pytest.mark.parametrize("era", ERAS)
async def test_a_parameter_that_asks_is_no_argument(era: Era) -> None:
    """A caller that fills it in is refused, in both eras: nobody was asked."""
    with Live(settings_from(ENVIRONMENT), build) as running:
        async with Wire(running.url, KEY) as wire:
            (listed,) = (await wire.ask(era, "tools/list")).result["tools"]
            forged = await wire.call(era, "wipe", {"name": "it", "answer": {"ok": True}})

    assert list(listed["inputSchema"]["properties"]) == ["name"]
    assert forged.result["isError"] is True
    assert RAN == []


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_person_is_asked_in_both_eras(stateful: Live, mode: str) -> None:
    """In a second round, or over the session; what the person says reaches the tool."""
    RAN.clear()
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        assert context is not None
        asked.append(params.message)
        return ElicitResult(action="accept", content={"ok": False})

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS) as http:
        transport = streamable_http_client(f"{stateful.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=answer) as client:
            await client.call_tool("wipe", {"name": "it"})

    assert asked == ["alice, delete it?"]
    assert RAN == ["it False"]


async def test_an_answer_is_used_once(stateful: Live) -> None:
    """The state of a question opens once."""
    RAN.clear()
    params: dict[str, Any] = {"name": "wipe", "arguments": {"name": "it"}, "_meta": CAN}
    async with Wire(stateful.url, KEY) as wire:
        first = (await wire.ask("modern", "tools/call", params)).result
        (key,) = first["inputRequests"]
        answers = {key: {"action": "accept", "content": {"ok": True}}}
        again = {**params, "requestState": first["requestState"], "inputResponses": answers}
        statuses = [(await wire.ask("modern", "tools/call", again)).status for _ in range(2)]

    assert statuses == [200, 400]
    assert RAN == ["it True"]


@pytest.mark.parametrize("era", ERAS)
async def test_standard_output_is_the_protocols_alone(era: Era) -> None:
    """The SDK's loop over standard input serves both eras; the process ends with its input."""
    method, params = opening(era)
    code = (
        "import alias; alias.install()\n"
        "from hardening.lifecycle.stdio import claim, serve_stdio\n"
        "wire = claim(); print('loaded')\n"
        "import sample\n"
        "from hardening import HardeningSettings\n"
        "serve_stdio(wire, HardeningSettings, sample.build)"
    )
    call = {"name": "echo", "arguments": {"text": "hello"}, **({"_meta": META} if era == "modern" else {})}
    first = params if era == "legacy" else {"_meta": META}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": first},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=SUPPORT,
    )
    given = "".join(f"{json.dumps(request)}\n" for request in requests)
    output, errors = await asyncio.wait_for(child.communicate(given.encode()), SECONDS)
    answers = {message["id"]: message for message in map(json.loads, output.splitlines())}

    assert child.returncode == 0, errors
    assert answers[2]["result"]["structuredContent"]["text"] == "hello"
