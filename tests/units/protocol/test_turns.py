"""However large the messages are, and from whom, everybody else is answered between them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured, exchange
from live import KEY, OTHER_KEY, SECONDS, live
from support.loop_holds import longest_hold
from wire import ERAS, Era, Wire, request

from hardening.exchange import Principal
from hardening.protocol.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path


def large(caller: str) -> Any:
    """Return a large message of a caller."""
    return exchange(body=b" " * 10_000, principal=Principal("api_key", caller))


async def test_one_large_message_begins_in_each_round_and_callers_alternate() -> None:
    """Alice's ten do not stand before Bob's one, and the loop comes round between any two."""
    turns, seen, rounds = Turns(), [], SimpleNamespace(count=0)

    async def one(caller: str) -> None:
        await turns.wait(large(caller))
        seen.append((caller, rounds.count))

    def count() -> None:
        rounds.count += 1
        asyncio.get_running_loop().call_soon(count)

    count()
    await asyncio.gather(*(one("alice") for _ in range(10)), one("bob"))

    assert [caller for caller, _ in seen[:3]].count("bob") == 1
    assert len({number for _, number in seen}) == 11


async def test_a_small_message_waits_for_nobody() -> None:
    """An ordinary call costs no round of the loop."""
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.wait(large("alice"))) for _ in range(5)]
    await asyncio.sleep(0)
    small = turns.wait(exchange(body=b"{}", principal=Principal("api_key", "bob")))
    try:
        small.send(None)
    except StopIteration:
        at_once = True
    await asyncio.gather(*waiting)

    assert at_once


async def test_a_message_whose_caller_has_left_stops_nobody() -> None:
    """The turn of a request that was cancelled goes to the next one."""
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.wait(large("alice"))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), SECONDS)

    assert waiting[0].cancelled()


NESTED = "[" + ",".join(["[" * 50 + "]" * 50] * 190) + "]"
WIDE = "{" + ",".join(f'"k{number}":{number}' for number in range(9900)) + "}"
TEXTS = "[" + ",".join(f'"{number:x<90}"' for number in range(9900)) + "]"
# What Pydantic makes of numbers of this length takes longest for each byte.
NUMBERS = "[" + ",".join(["9" * 4000] * 240) + "]"
CALLERS = 30


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("value", [NESTED, WIDE, TEXTS, NUMBERS], ids=["nested", "wide", "texts", "numbers"])
@pytest.mark.parametrize("place", ["an argument", "an unknown argument", "_meta"])
async def test_no_message_holds_the_event_loop(era: Era, value: str, place: str, tmp_path: Path) -> None:
    """30 of the dearest messages that are let through, of two callers at once: never 50 ms of work without a turn.

    Counted in processor time of the server's thread, so that a busy machine decides nothing.
    """
    arguments = {"an argument": '{"text": VALUE}', "an unknown argument": '{"text": "a", "more": VALUE}'}
    given = arguments.get(place, '{"text": "a"}').replace("VALUE", value)
    with live() as server, captured(tmp_path / "log"):
        async with Wire(server.url, KEY) as alice, Wire(server.url, OTHER_KEY) as bob:

            def message(wire: Wire) -> tuple[dict[str, str], bytes]:
                headers, body = request(era, "tools/call", {"name": "echo", "arguments": {}}, key=wire.key)
                body = body.replace(b'"arguments": {}', f'"arguments": {given}'.encode(), 1)
                if place == "_meta":
                    parsed = json.loads(body)
                    parsed["params"]["_meta"] = {**parsed["params"].get("_meta", {}), "x": json.loads(value)}
                    body = json.dumps(parsed).encode()
                return headers, body

            warm = await alice.send(message(alice)[1], message(alice)[0])
            messages = [(wire, *message(wire)) for wire in (alice, bob) for _ in range(CALLERS // 2)]
            with longest_hold(server) as worst:
                replies = await asyncio.gather(*(wire.send(body, headers) for wire, headers, body in messages))

    assert warm.status == 200
    assert {reply.status for reply in replies} == {200}
    assert worst.seconds < 0.05
