"""Consent: a tool with `confirm=True` runs after a yes of the person, once, with the arguments that the person saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
import structlog
from captured import captured
from live import ENVIRONMENT, KEY, Live, settings_from
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Elicit, Resolve
from mcp.types import ElicitResult
from pydantic import BaseModel, Field
from wire import ERAS, SECONDS, Era, Reply, Wire

from hardening import Context, HardeningSettings, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.calls.lint import undecided
from hardening.contract.command import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

CAN = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
YES = {"action": "accept", "content": {"confirm": True}}
RAN: list[str] = []
log = structlog.get_logger()
Name = Annotated[str, Field(max_length=5000)]


@tool(read_only=False, destructive=True, confirm=True, title="Delete a note")
async def wipe(name: Name) -> str:
    """Delete a note after the person has agreed."""
    RAN.append(name)
    log.info("deleted", kind=name)
    return "deleted"


class Reason(BaseModel):
    """What a person is asked besides."""

    words: str


async def why(name: str) -> Elicit[Reason]:
    """Ask for a reason."""
    return Elicit(f"Why {name}?", Reason)


@tool(read_only=False, destructive=True, confirm=True)
async def wipe_with_reason(name: Name, reason: Annotated[Reason, Resolve(why)]) -> str:
    """Delete a note after the person has agreed and said why."""
    RAN.append(f"{name} {reason.words}")
    return "deleted"


@tool(read_only=False, destructive=True)
async def silent(name: Name) -> str:
    """Delete a note; its author has not decided."""
    RAN.append(name)
    return "deleted"


@tool(read_only=False, destructive=True, confirm=False)
async def unasked(name: Name, ctx: Context) -> str:
    """Delete a note; its author has decided not to ask."""
    RAN.append(f"{ctx.principal.name} {name}")
    return "deleted"


TOOLS = (wipe, wipe_with_reason, silent, unasked)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server of tools that delete."""
    return harden(settings, tools=TOOLS)


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Forget what ran."""
    RAN.clear()


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """The tools on a socket, without sessions."""
    with Live(settings_from(ENVIRONMENT), build) as running:
        yield running


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """The tools on a socket, with sessions for older clients."""
    with Live(settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful"}), build) as running:
        yield running


async def ask(wire: Wire, name: str = "wipe", value: str = "shopping", **more: Any) -> Reply:
    """Call a tool as a modern client does that can ask."""
    return await wire.ask("modern", "tools/call", {"name": name, "arguments": {"name": value}, "_meta": CAN, **more})


def kind(result: dict[str, Any]) -> str:
    """Return the kind of a failed call."""
    return result["_meta"]["hardening/error"]["kind"]


async def test_the_person_sees_the_tool_and_its_arguments_and_then_it_runs_once(wire: Wire) -> None:
    """The question names tool, effect and arguments; after a yes the tool runs, and the yes is used up."""
    first = (await ask(wire)).result
    question = first["inputRequests"]["confirm"]["params"]["message"]
    good = {"requestState": first["requestState"], "inputResponses": {"confirm": YES}}
    before = list(RAN)
    second, third = await ask(wire, **good), await ask(wire, **good)

    assert question == (
        'Delete a note (wipe) is about to run. It may delete or overwrite. Do you agree?\nname: "shopping"'
    )
    assert before == []
    assert second.text == "deleted"
    assert third.error["code"] == -32602
    assert RAN == ["shopping"]


@pytest.mark.parametrize(
    "answer",
    [{"action": "decline"}, {"action": "cancel"}, {"action": "accept", "content": {"confirm": False}}],
)
async def test_a_no_is_a_no(wire: Wire, answer: dict[str, Any]) -> None:
    """Declined, closed, or accepted without the tick: kind `declined`, nothing runs."""
    first = (await ask(wire)).result
    refused = await ask(wire, requestState=first["requestState"], inputResponses={"confirm": answer})

    assert kind(refused.result) == "declined"
    assert RAN == []


@pytest.mark.parametrize("answer", [{"action": "accept"}, {"action": "accept", "content": {}}])
async def test_half_a_yes_is_none(wire: Wire, answer: dict[str, Any]) -> None:
    """An accepted form that does not say yes is refused, and nothing runs."""
    first = (await ask(wire)).result
    refused = await ask(wire, requestState=first["requestState"], inputResponses={"confirm": answer})

    assert kind(refused.result) == "invalid_input"
    assert RAN == []


async def test_a_yes_is_for_the_arguments_that_were_shown(wire: Wire) -> None:
    """With other arguments the same yes is refused."""
    first = (await ask(wire)).result
    more = {"requestState": first["requestState"], "inputResponses": {"confirm": YES}}
    refused = await ask(wire, value="everything", **more)

    assert refused.error["code"] == -32602
    assert RAN == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_does_not_run_it(wire: Wire, era: Era) -> None:
    """Kind `confirmation_required` in both eras, and nothing runs."""
    reply = await wire.call(era, "wipe", {"name": "shopping"})

    assert kind(reply.result) == "confirmation_required"
    assert reply.result["isError"] is True
    assert RAN == []


@pytest.mark.parametrize("era", ERAS)
async def test_an_operator_can_let_it_run_where_nobody_can_be_asked(era: Era) -> None:
    """`MCP_CONFIRM=when_possible`: it runs for clients that cannot ask, and those that can are asked all the same."""
    with Live(settings_from({**ENVIRONMENT, "MCP_CONFIRM": "when_possible"}), build) as running:
        async with Wire(running.url, KEY) as wire:
            ran = await wire.call(era, "wipe", {"name": "shopping"})
            asked = await ask(wire)

    assert ran.text == "deleted"
    assert asked.result["resultType"] == "input_required"
    assert RAN == ["shopping"]


@pytest.mark.parametrize(("confirm", "outcome"), [(True, "deleted"), (False, "declined")])
@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_persons_client_asks_in_both_eras(
    stateful: Live,
    mode: str,
    confirm: bool,  # noqa: FBT001 - what the person ticks
    outcome: str,
) -> None:
    """In rounds or over the session, a yes runs it and a no does not; a second question of the tool's own follows."""
    seen: list[str] = []

    async def answer(_: Any, params: Any) -> ElicitResult:
        seen.append(params.message)
        mine = "words" in params.requested_schema["properties"]
        return ElicitResult(action="accept", content={"words": "old"} if mine else {"confirm": confirm})

    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=SECONDS) as http:
        transport = streamable_http_client(f"{stateful.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=answer) as client:
            result = await client.call_tool("wipe_with_reason", {"name": "shopping"})

    assert outcome in str(result)
    assert (["shopping old"] if confirm else []) == RAN
    assert len(seen) == (2 if confirm else 1)


async def test_nobody_is_asked_about_arguments_that_are_refused(wire: Wire) -> None:
    """What could not run is no question."""
    reply = await ask(wire, value="x" * 5001)

    assert kind(reply.result) == "invalid_input"


async def test_a_value_cannot_hide_a_part_of_itself(wire: Wire) -> None:
    """Characters that hide or reorder text are shown as escapes, and of a long value its length is told."""
    hidden = (await ask(wire, value="a\u202eb\u200bc\nname: x")).result["inputRequests"]["confirm"]["params"]
    long = (await ask(wire, value="x" * 5000)).result["inputRequests"]["confirm"]["params"]

    assert hidden["message"].endswith('\nname: "a\\u202eb\\u200bc\\nname: x"')
    assert "(5002 characters in all)" in long["message"]
    assert len(long["message"]) < 1000


async def test_the_sentence_is_for_the_person_alone(wire: Wire, tmp_path: Path) -> None:
    """Neither the log nor the answer to the model has it, and the argument is scrubbed in the second round too."""
    with captured(tmp_path / "log", level="debug") as written:
        first = (await ask(wire, value="Wolpertinger")).result
        good = {"requestState": first["requestState"], "inputResponses": {"confirm": YES}}
        second = await ask(wire, value="Wolpertinger", **good)
        text = written.text()

    assert "deleted" in second.text
    assert "Wolpertinger" not in text
    assert "about to run" not in text
    assert "about to run" not in second.body.decode()


async def test_a_tool_that_says_nothing_is_served_as_before(wire: Wire) -> None:
    """Neither silence nor `confirm=False` asks; `make check` names the silent ones in one line."""
    replies = [await wire.call("modern", name, {"name": "shopping"}) for name in ("silent", "unasked")]

    assert [reply.text for reply in replies] == ["deleted", "deleted"]
    line = undecided(build(settings_from(ENVIRONMENT)).declared.values())
    assert line == "Decide whether the person is asked first, @tool(destructive=True, confirm=…): silent"


def test_replicas_need_redis_for_it() -> None:
    """Several replicas without Redis could each use the yes: refused at start."""
    settings = settings_from({**ENVIRONMENT, "MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": KEY})

    with pytest.raises(InvalidDeclarationError, match="wipe: set REDIS_URL"):
        build(settings)


def test_make_check_names_the_undecided_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`schema check` says it and still passes: nothing that was served is refused."""
    monkeypatch.chdir(tmp_path)
    codes = [main([action], HardeningSettings, build) for action in ("write", "check")]

    assert codes == [0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "Decide whether the person is asked first, @tool(destructive=True, confirm=…): silent"
    ]
