"""What is measured, round by round: every server once in each round, so that a busy moment hits them all."""

from __future__ import annotations

import asyncio
import resource
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import load
from client import longest_wait, openings, sessions
from messages import call, dearest, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servers import Server

CONNECTIONS = 32
BASE = "bare"


@dataclass
class Rounds:
    """One number of one server, once a round."""

    values: list[float] = field(default_factory=list[float])

    def median(self) -> float:
        """Return the middle one."""
        return statistics.median(self.values)

    def ratio(self, base: Rounds) -> float:
        """Return the middle one of the ratios within a round."""
        return statistics.median(own / other for own, other in zip(self.values, base.values, strict=True))


Table = dict[str, dict[str, Rounds]]


@dataclass(frozen=True)
class Plan:
    """How long to measure, and whom to tell how far it is."""

    rounds: int
    seconds: float
    say: Callable[[str], None]


def _note(table: Table, server: str, **values: float) -> None:
    for name, value in values.items():
        table.setdefault(server, {}).setdefault(name, Rounds()).values.append(value)


def _asked(era: str, kind: str, server: Server, seconds: float) -> tuple[float, float, float, int]:
    """Return requests per second, p50 and p99 in milliseconds, and how many there were."""
    if kind == "open":
        times = sorted(asyncio.run(openings(server.port, era, seconds, CONNECTIONS)))
        p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
        return len(times) / seconds, p50, p99, len(times)
    request = call(era) if kind == "call" else listing(era)
    try:
        seen = load.run(server.port, request, seconds, CONNECTIONS, keeps=server.keeps and era == "legacy")
    except RuntimeError as error:
        raise RuntimeError(f"{server.name}, {kind}, {era}: {error}\n{server.log.read_text()[-2000:]}") from None
    return seen.per_second, seen.p50_ms, seen.p99_ms, seen.requests


def throughput(servers: Sequence[Server], kind: str, era: str, plan: Plan) -> Table:
    """Measure a call, a listing, or opening and listing, in one era."""
    table: Table = {}
    asked = [server for server in servers if era in server.eras]
    with ExitStack() as running:
        for server in asked:
            running.enter_context(server)
            # The first requests fill caches and compile nothing again.
            _asked(era, kind, server, 1)
        for number in range(plan.rounds):
            for server in asked if number % 2 else reversed(asked):
                cpu = server.cpu_seconds()
                per_second, p50, p99, requests = _asked(era, kind, server, plan.seconds)
                spent = (server.cpu_seconds() - cpu) / requests * 1e3
                _note(table, server.name, per_second=per_second, p50_ms=p50, p99_ms=p99, cpu_ms=spent)
            plan.say(f"{kind} {era}: round {number + 1} of {plan.rounds}")
    return table


def cold_start(servers: Sequence[Server], plan: Plan) -> Table:
    """Measure from the start of a process to its first answered listing, and its memory after that."""
    table: Table = {}
    for number in range(plan.rounds + 1):
        for server in servers:
            with server:
                # The first round writes bytecode and reads files that were not read before.
                if number:
                    started, spent = server.started_seconds, server.started_cpu_seconds
                    # At rest, that is when whatever the start has begun is over.
                    time.sleep(0.5)
                    _note(table, server.name, seconds=started, cpu_seconds=spent, rss_mib=server.rss_mib())
        plan.say(f"cold start: round {number} of {plan.rounds}")
    return table


def beyond_import(server: Server, command: list[str], plan: Plan) -> float:
    """Return how much more CPU a start takes than the import of the SDK alone, as a share of that."""
    shares: list[float] = []
    for number in range(plan.rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        alone = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with server:
            if number:
                shares.append(server.started_cpu_seconds / alone - 1)
    return statistics.median(shares)


def session_memory(servers: Sequence[Server], number: int, plan: Plan) -> Table:
    """Measure what an idle legacy session holds."""
    table: Table = {}
    for at in range(plan.rounds):
        for server in servers:
            with server:
                asyncio.run(sessions(server.port, 50))
                before = server.rss_mib()
                asyncio.run(sessions(server.port, number))
                _note(table, server.name, kib=(server.rss_mib() - before) * 1024 / number)
        plan.say(f"sessions: round {at + 1} of {plan.rounds}")
    return table


def longest_hold(server: Server, plan: Plan) -> dict[str, float]:
    """Measure how many milliseconds longer somebody else waits beside each of the dearest requests."""
    with server:
        waits: dict[str, list[float]] = {}
        for number in range(plan.rounds):
            for era in ("modern", "legacy"):
                for name, request in dearest(era).items():
                    rest = asyncio.run(longest_wait(server.port, None))
                    waited = asyncio.run(longest_wait(server.port, request))
                    waits.setdefault(f"{name}, {era}", []).append((waited - rest) * 1e3)
            plan.say(f"longest hold: round {number + 1} of {plan.rounds}")
    return {name: statistics.median(values) for name, values in waits.items()}


def replicas(make: Callable[[str], Server], plan: Plan) -> Table:
    """Measure one process against two, each with its own load client."""
    table: Table = {}
    with make("one process") as one, make("two processes") as two, make("third") as three:

        async def both() -> list[load.Load]:
            half = CONNECTIONS // 2
            parts = (
                asyncio.to_thread(load.run, each.port, call("modern"), plan.seconds, half, keeps=False)
                for each in (two, three)
            )
            return list(await asyncio.gather(*parts))

        for number in range(plan.rounds):
            alone = load.run(one.port, call("modern"), plan.seconds, CONNECTIONS, keeps=False)
            together = asyncio.run(both())
            _note(table, one.name, per_second=alone.per_second)
            _note(table, two.name, per_second=sum(part.per_second for part in together))
            plan.say(f"replicas: round {number + 1} of {plan.rounds}")
    return table
