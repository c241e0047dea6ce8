"""However large the messages are, and from whom, everybody else is answered between them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from captured import exchange

from hardening.exchange import Principal
from hardening.protocol.turns import Turns


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
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)

    assert waiting[0].cancelled()
