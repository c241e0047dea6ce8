"""Questions over a session, from the side of a client that answers late, twice, in another order or for another."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from captured import captured
from live import ENVIRONMENT, KEY, OTHER_KEY, Live, settings_from
from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel, Field
from queries import eventually
from wire import Wire, opening, request

from hardening import HardeningSettings, harden, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

WORD = "Wolpertinger"
RAN: list[str] = []
Name = Annotated[str, Field(max_length=100)]


class Told(BaseModel):
    """What a person says."""

    word: Name


def note(name: str, told: Told) -> str:
    """Note that a tool ran, and with what."""
    RAN.append(f"{name} {told.word}")
    return told.word


async def say() -> Elicit[Told]:
    """Ask for a word."""
    return Elicit("Say something", Told)


@tool(read_only=False)
async def patient(name: Name, told: Annotated[Told, Resolve(say)]) -> str:
    """Do something after the person was asked."""
    return note(name, told)


@tool(read_only=False, timeout_seconds=3)
async def hasty(name: Name, told: Annotated[Told, Resolve(say)]) -> str:
    """Do something after the person was asked, within three seconds."""
    return note(name, told)


async def mumble() -> Elicit[Told]:
    """Ask with half a character, as in the name of a file that is no UTF-8."""
    return Elicit("Delete \udcff?", Told)


@tool(read_only=False)
async def mumbled(name: Name, told: Annotated[Told, Resolve(mumble)]) -> str:
    """Do something after the person was asked what cannot be sent."""
    return note(name, told)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose tools ask."""
    return harden(settings, tools=(patient, hasty, mumbled))


@pytest.fixture(scope="module")
def stateful() -> Iterator[Live]:
    """The tools on a socket, with sessions for older clients."""
    with Live(settings_from({**ENVIRONMENT, "MCP_LEGACY": "stateful"}), build) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Forget what ran."""
    RAN.clear()


class Session:
    """One session of a client that can be asked."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.wire = wire
        self.headers = {**request("legacy", "ping", key=wire.key)[0], "mcp-session-id": name}

    @asynccontextmanager
    async def call(self, name: str, rpc_id: int, argument: str = "a") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Call a tool, and give the messages of its stream."""
        params = {"name": name, "arguments": {"name": argument}}
        _, body = request("legacy", "tools/call", params, rpc_id=rpc_id)
        url = f"{self.wire.url}/mcp"
        async with self.wire.http.stream("POST", url, content=body, headers=self.headers) as answer:
            yield messages(answer.aiter_lines())

    async def answer(self, question: dict[str, Any], action: str = "accept", word: str = WORD) -> int:
        """Answer a question, and give the status."""
        result = {"action": action, "content": {"word": word}}
        body = json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": result}).encode()
        return (await self.wire.send(body, self.headers)).status


async def messages(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """Read a stream of events."""
    async for line in lines:
        if line.startswith("data:") and line[5:].strip():
            yield json.loads(line[5:])


async def question_of(stream: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Return the next question of a call."""
    asked = await anext(stream)
    assert asked["method"] == "elicitation/create", asked
    return asked


async def end_of(stream: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer to a call."""
    answer = await anext(stream)
    assert "method" not in answer, answer
    return answer


def kind(answer: dict[str, Any]) -> str:
    """Return the kind of a failed call."""
    return answer["result"]["_meta"]["hardening/error"]["kind"]


@asynccontextmanager
async def sessions(server: Live, *keys: str) -> AsyncIterator[list[Session]]:
    """Open one session for each key; afterwards every slot is given back."""
    method, params = opening("legacy")
    found: list[Session] = []
    wires = [Wire(server.url, key) for key in keys]
    try:
        for wire in wires:
            opened = await wire.ask("legacy", method, {**params, "capabilities": {"elicitation": {}}})
            found.append(Session(wire, opened.headers["mcp-session-id"]))
            ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            await wire.send(json.dumps(ready).encode(), found[-1].headers)
        yield found
        await eventually(
            lambda: server.do(lambda: (server.app.pipeline.in_flight(), server.app.in_flight.slots.total)) == (0, 0)
        )
    finally:
        for wire in wires:
            await wire.http.aclose()


async def test_an_answer_after_the_deadline_runs_nothing(stateful: Live, tmp_path: Path) -> None:
    """The call ends as `timeout` and its question is taken back; what the person says then is in no log line."""
    with captured(tmp_path / "log", level="debug") as log:
        async with sessions(stateful, KEY) as (session,):
            async with session.call("hasty", 7) as stream:
                asked = await question_of(stream)
                closed = await anext(stream)
                answer = await end_of(stream)
            status = await session.answer(asked)
            pinged = await session.wire.ask("legacy", "ping", headers=session.headers, rpc_id=8)
        text = log.text()

    assert kind(answer) == "timeout"
    assert (closed["method"], closed["params"]["requestId"]) == ("notifications/cancelled", asked["id"])
    assert (status, pinged.result, RAN) == (202, {}, [])
    assert WORD.casefold() not in text.casefold()


async def test_a_question_that_cannot_be_written_is_a_failure_at_once(stateful: Live) -> None:
    """The stream would lose it, and the call would wait for an answer to its deadline."""
    async with sessions(stateful, KEY) as (session,), session.call("mumbled", 7) as stream:
        answer = await end_of(stream)

    assert (kind(answer), RAN) == ("internal", [])


@pytest.mark.parametrize("key", [KEY, OTHER_KEY], ids=["of the same caller", "of another caller"])
async def test_a_question_is_answered_in_its_own_session(stateful: Live, key: str) -> None:
    """An answer with its id in another session is no answer; the call goes on waiting for its own."""
    async with sessions(stateful, KEY, key) as (mine, other), mine.call("patient", 7) as stream:
        asked = await question_of(stream)
        await other.answer(asked, word="stolen")
        pinged = await other.wire.ask("legacy", "ping", headers=other.headers, rpc_id=8)
        ran = list(RAN)
        await mine.answer(asked, word="own")
        answer = await end_of(stream)

    assert (pinged.result, ran, RAN) == ({}, [], ["a own"])
    assert answer["result"]["structuredContent"] == {"result": "own"}


async def test_a_session_that_is_deleted_ends_its_questions(stateful: Live, tmp_path: Path) -> None:
    """The call ends at once without an execution, its answer finds no session (404), and its slot is free again."""
    with captured(tmp_path / "log", level="debug") as log:
        async with sessions(stateful, KEY) as (session,):
            async with session.call("patient", 7) as stream:
                asked = await question_of(stream)
                deleted = await session.wire.send(b"", session.headers, method="DELETE")
                rest = [message async for message in stream]
            status = await session.answer(asked)
        text = log.text()

    assert deleted.status == 200
    assert (rest, status, RAN) == ([], 404, [])
    assert WORD.casefold() not in text.casefold()


async def test_questions_are_answered_in_any_order(stateful: Live) -> None:
    """Two calls of one session wait for a person each: the answers come in reverse, and each goes to its own call."""
    async with (
        sessions(stateful, KEY) as (session,),
        session.call("patient", 7, "first") as one,
        session.call("patient", 8, "second") as two,
    ):
        asked = [await question_of(one), await question_of(two)]
        await session.answer(asked[1], word="b")
        second = await end_of(two)
        await session.answer(asked[0], word="a")
        first = await end_of(one)

    assert (first["id"], first["result"]["structuredContent"]) == (7, {"result": "a"})
    assert (second["id"], second["result"]["structuredContent"]) == (8, {"result": "b"})
    assert RAN == ["second b", "first a"]


async def test_a_second_answer_is_none(stateful: Live, tmp_path: Path) -> None:
    """The tool runs once, with the first; the second is taken without a word, and is in no log line."""
    with captured(tmp_path / "log", level="debug") as log:
        async with sessions(stateful, KEY) as (session,):
            async with session.call("patient", 7) as stream:
                asked = await question_of(stream)
                statuses = [await session.answer(asked, word="first"), await session.answer(asked)]
                answer = await end_of(stream)
            statuses.append(await session.answer(asked))
            pinged = await session.wire.ask("legacy", "ping", headers=session.headers, rpc_id=8)
        text = log.text()

    assert answer["result"]["structuredContent"] == {"result": "first"}
    assert (statuses, pinged.result, RAN) == ([202, 202, 202], {}, ["a first"])
    assert WORD.casefold() not in text.casefold()


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_no_with_content_is_a_no(stateful: Live, tmp_path: Path, action: str) -> None:
    """The tool does not run, the model is told `declined`, and what came with the no is in no log line."""
    with captured(tmp_path / "log", level="debug") as log:
        async with sessions(stateful, KEY) as (session,), session.call("patient", 7) as stream:
            await session.answer(await question_of(stream), action)
            answer = await end_of(stream)
        async with Wire(stateful.url, KEY) as wire:
            meta = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
            params = {"name": "patient", "arguments": {"name": "a"}, "_meta": meta}
            asked = (await wire.ask("modern", "tools/call", params)).result
            (key,) = asked["inputRequests"]
            said = {key: {"action": action, "content": {"word": WORD}}}
            more = {"inputResponses": said, "requestState": asked["requestState"]}
            modern = (await wire.ask("modern", "tools/call", {**params, **more})).message
        text = log.text()

    assert (kind(answer), kind(modern), RAN) == ("declined", "declined", [])
    assert WORD.casefold() not in text.casefold()
