"""What several replicas share: state that a client carries for them, and cannot read, change or lend."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import sample  # noqa: TC002 - the types of arguments are read at run time
from live import ENVIRONMENT, KEY, OTHER_KEY, Live, settings_from
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from wire import Reply, Wire

from hardening import Context, HardeningSettings, harden, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from hardening.server import HardenedServer

OLD = "old-key-0123456789-0123456789-0123456789"
NEW = "new-key-0123456789-0123456789-0123456789"
REMEMBERED = "what the server remembers"
ASKED = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Sure?", requested_schema={"type": "object", "properties": {"sure": {"type": "boolean"}}}
    )
)
META = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}


@tool(read_only=True)
async def ask(text: sample.Text, ctx: Context) -> str | InputRequiredResult:
    """Ask whether the caller is sure, and remember something meanwhile."""
    if ctx.sdk.request_state is None:
        return InputRequiredResult(input_requests={"sure": ASKED}, request_state=REMEMBERED)
    assert ctx.sdk.request_state == REMEMBERED
    return text


@tool(read_only=True)
async def ask_too(text: sample.Text, ctx: Context) -> str | InputRequiredResult:
    """Ask the same for something else."""
    return await ask(text, ctx)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose tools ask back."""
    return harden(settings, tools=(ask, ask_too))


def replica(keys: str) -> Live:
    """Return one of several processes, with these keys."""
    return Live(settings_from({**ENVIRONMENT, "MCP_REQUEST_STATE_KEYS": keys}), build)


@pytest.fixture(scope="module")
def first() -> Iterator[Live]:
    """A replica that knows the old key alone."""
    with replica(OLD) as running:
        yield running


@pytest.fixture(scope="module")
def second() -> Iterator[Live]:
    """A replica in the middle of a rotation: it seals with the old key and opens with both."""
    with replica(f"{OLD},{NEW}") as running:
        yield running


@pytest.fixture(scope="module")
def third() -> Iterator[Live]:
    """A replica at the end of a rotation: it seals with the new key."""
    with replica(f"{NEW},{OLD}") as running:
        yield running


@pytest.fixture(scope="module")
def stranger() -> Iterator[Live]:
    """A process that shares no key."""
    with Live(settings_from(ENVIRONMENT), build) as running:
        yield running


@pytest.fixture
async def on() -> AsyncIterator[Any]:
    """Return what calls a tool on a replica."""
    async with AsyncExitStack() as stack:

        async def call(server: Live, name: str = "ask", text: str = "yes", key: str = KEY, **more: Any) -> Reply:
            wire = await stack.enter_async_context(Wire(server.url, key))
            return await wire.ask(
                "modern", "tools/call", {"name": name, "arguments": {"text": text}, "_meta": META, **more}
            )

        yield call


def answer(asked: Reply, state: str | None = None) -> dict[str, Any]:
    """Return the parameters of a retry that answers what was asked."""
    assert asked.result["resultType"] == "input_required", asked.message
    return {
        "inputResponses": {"sure": {"action": "accept", "content": {"sure": True}}},
        "requestState": asked.result["requestState"] if state is None else state,
    }


def refused(reply: Reply) -> bool:
    """Return whether the state was not accepted, in a way that says nothing about why."""
    return reply.status == 400 and reply.error["code"] == -32602 and REMEMBERED not in reply.body.decode()


async def test_a_second_round_finds_what_the_first_remembered(on: Any, first: Live) -> None:
    """The state comes back to the tool, and the client cannot read it on the way."""
    asked = await on(first)
    done = await on(first, **answer(asked))

    assert REMEMBERED not in asked.body.decode()
    assert REMEMBERED.encode() not in base64.urlsafe_b64decode(asked.result["requestState"].partition(".")[2] + "===")
    assert done.result["structuredContent"] == {"result": "yes"}


async def test_any_replica_with_the_key_can_go_on(on: Any, first: Live, second: Live, third: Live) -> None:
    """State sealed by one is opened by the others, at every step of a key's rotation."""
    for here, there in ((first, second), (second, first), (second, third), (third, second), (first, third)):
        done = await on(there, **answer(await on(here)))
        assert done.result["structuredContent"] == {"result": "yes"}


ROLLOUTS = [OLD, f"{OLD},{NEW}", f"{NEW},{OLD}", NEW]


@pytest.mark.parametrize("step", range(3), ids=["the new key opens", "the new key seals", "the old key goes"])
async def test_a_key_is_rotated_without_a_lost_conversation(on: Any, step: int) -> None:
    """While one of two replicas has a rollout and the other has not, each goes on with what the other has begun.

    At the last one nothing is open that the old key has sealed: ten minutes have passed.
    """
    with replica(ROLLOUTS[step]) as before, replica(ROLLOUTS[step + 1]) as after:
        for here, there in ((before, after), (after, before)):
            done = await on(there, **answer(await on(here)))
            assert done.result["structuredContent"] == {"result": "yes"}


async def test_a_new_key_that_seals_at_once_loses_conversations(on: Any, first: Live, third: Live) -> None:
    """Why it takes three rollouts: a replica that does not know the new key yet refuses what it has sealed."""
    assert refused(await on(first, **answer(await on(third))))


async def test_without_the_key_nobody_can(on: Any, first: Live, third: Live, stranger: Live) -> None:
    """A process with another key, or with the key of its own life, refuses the state."""
    asked = await on(first)

    assert refused(await on(stranger, **answer(asked)))
    assert refused(await on(first, **answer(await on(third))))
    assert refused(await on(first, **answer(await on(stranger))))
    alone = await on(stranger, **answer(await on(stranger)))
    assert alone.result["structuredContent"] == {"result": "yes"}


@pytest.mark.parametrize("place", [3, 10, 40, -1])
async def test_changed_state_is_refused(on: Any, first: Live, place: int) -> None:
    """One flipped character anywhere is enough."""
    asked = await on(first)
    state = asked.result["requestState"]
    flipped = "A" if state[place] != "A" else "B"
    position = place % len(state)

    assert refused(await on(first, **answer(asked, state[:position] + flipped + state[position + 1 :])))


@pytest.mark.parametrize("state", ["", "v1.", "v1.AAAA", "v2.AAAA", "\U0001f600", "x" * 10_000])
async def test_made_up_state_is_refused(on: Any, first: Live, state: str) -> None:
    """What was never sealed is not opened."""
    assert refused(await on(first, **answer(await on(first), state)))


async def test_state_belongs_to_its_caller_and_its_call(on: Any, first: Live) -> None:
    """Another caller, another tool or other arguments cannot use it (2026-07-28, Multi Round-Trip Requests)."""
    asked = await on(first)

    assert refused(await on(first, key=OTHER_KEY, **answer(asked)))
    assert refused(await on(first, name="ask_too", **answer(asked)))
    assert refused(await on(first, text="no", **answer(asked)))
    assert (await on(first, **answer(asked))).result["structuredContent"] == {"result": "yes"}


async def test_state_expires(on: Any, first: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes after the question the answer is too late."""
    import time

    asked = await on(first)
    later = time.time() + 601
    monkeypatch.setattr(time, "time", lambda: later)

    assert refused(await on(first, **answer(asked)))


async def test_rounds_do_not_mix(on: Any, first: Live) -> None:
    """Many callers at once each get their own answer."""
    texts = [f"text {n}" for n in range(10)]
    asked = await asyncio.gather(*(on(first, text=text) for text in texts))
    done = await asyncio.gather(*(on(first, text=text, **answer(one)) for text, one in zip(texts, asked, strict=True)))

    assert [one.result["structuredContent"]["result"] for one in done] == texts
