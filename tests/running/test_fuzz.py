"""Nothing unexpected gets out, whatever is sent: statuses, codes, texts, log lines, memory, slots, connections."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from support.dev_server import KEY, PROBE_KEY
from support.fuzz_cases import CASES
from support.fuzz_grammar import CANARY, Input, Known, inputs
from support.harness import ROOT
from support.raw_http import Connection, Reply, wrong
from support.watched_server import OPEN, SECONDS, Watched, good_call, message_in, until

# The near misses are those that the render's own tests of its schemas use.
sys.path.append(str(ROOT / "template/tests/support"))
from json_values import accepts, near

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = int(os.environ.get("FUZZ_SEED", "1"))
EXAMPLES = 150
INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))
CONNECTIONS = 12
SESSIONS = 30
# A grammar whose inputs are all refused at the first wall would prove nothing.
USUAL_STATUSES = {200, 202, 400, 401, 403, 404, 405, 408, 415, 421}
MOST_SHOWN = 5
# What an allocator keeps, and no more: it does not depend on the number of inputs.
FLAT_KIB = 16_384
QUICK = {
    "MCP_BODY_TIMEOUT_SECONDS": "1",
    "MCP_TOOL_TIMEOUT_SECONDS": "3",
    "MCP_DRAIN_TIMEOUT_SECONDS": "25",
    "MCP_MAX_SESSIONS_PER_PRINCIPAL": "1000",
    # A pool that grows with its load is no leak.
    "MCP_POOL_MIN_SIZE": "4",
    "MCP_POOL_MAX_SIZE": "4",
}


class Run:
    """Inputs from one source, shared by several connections, and what was wrong with the answers."""

    def __init__(self, server: Watched, source: Iterator[Input], count: int) -> None:
        self.server = server
        self.source = source
        self.left = count
        self.wrong: list[tuple[str, Input, Reply | None]] = []
        self.seen: Counter[int] = Counter()

    async def all(self) -> None:
        """Send all of them."""
        await asyncio.gather(*(self._work() for _ in range(CONNECTIONS)))

    async def _work(self) -> None:
        connection = Connection(self.server.port)
        while self.left and len(self.wrong) < MOST_SHOWN:
            self.left -= 1
            sent = next(self.source)
            try:
                reply = await connection.send(sent)
            except TimeoutError:
                self.wrong.append(("no answer in time", sent, None))
                break
            self.seen[reply.status if reply else 0] += 1
            if fault := wrong(sent, reply):
                self.wrong.append((fault, sent, reply))
        await connection.close()


def shown(faults: list[tuple[str, Input, Reply | None]]) -> str:
    """Say what went wrong, with the input as it can be kept in `fuzz_cases.py`."""
    return "\n".join(f"{fault}\n{sent!r}\n{str(reply)[:2000]}" for fault, sent, reply in faults)


@pytest.mark.slow
@pytest.mark.parametrize(("legacy", "share"), [("stateless", 0.7), ("stateful", 0.3)])
async def test_nothing_unexpected_gets_out(
    project: Path, tmp_path: Path, database: str, legacy: str, share: float
) -> None:
    """Statuses and codes of the table, in time; no fault in the log; memory, slots and descriptors as before."""
    environment = {**OPEN, **QUICK, "MCP_LEGACY": legacy, "DATABASE_URL": database}
    with Watched(project, tmp_path / "log", environment=environment) as server:
        server.call("modern")
        server.call("modern", "keep_note", {"body": "hello"})
        before = server.descriptors()
        sessions = tuple(server.open_session() for _ in range(SESSIONS)) if legacy == "stateful" else ()
        known = Known((KEY, KEY, KEY, PROBE_KEY), sessions)
        again = [
            replace(case, raw=case.raw.replace(b"SESSION", server.open_session().encode())) for case in CASES.values()
        ]
        chance = random.Random(f"{SEED} {legacy}")  # noqa: S311 - for variety, not for secrets
        source = chain(again, inputs(chance, known))
        warm = Run(server, source, round(INPUTS * share * 0.3))
        await warm.all()
        memory = server.memory_kib()
        run = Run(server, source, round(INPUTS * share * 0.7))
        await run.all()
        grown = server.memory_kib() - memory

        assert not warm.wrong + run.wrong, shown(warm.wrong + run.wrong)
        assert not server.faults() + server.errors(), (server.faults() + server.errors())[:3]
        assert not [line for line in server.log.read_text("utf-8").splitlines() if CANARY in line][:3]
        for era in ("modern", "legacy"):
            session = server.open_session() if era == "legacy" else ""
            assert server.call(era, session=session)["content"][0]["text"] == "hello"
        until(lambda: server.descriptors() <= before)
        until(lambda: not any(server.metrics()[f"mcp_{name}"] for name in ("in_flight", "streams")))
        assert grown < FLAT_KIB
        assert server.end() == 0
        assert server.lines()[-1]["msg"] == "stopped"
    seen = warm.seen + run.seen
    assert set(seen) >= USUAL_STATUSES
    sys.stdout.write(f"{legacy}: {seen.total()} inputs, {dict(sorted(seen.items()))}, {grown} KiB\n")


# Schema and validator agree on these; what a day is, or a text of the database, is told more loosely.
EXACT = ("bare", "echo", "scalars", "shapes", "steps")
LOOSE = ("days", "through")


@pytest.mark.slow
def test_arguments_are_what_the_advertised_schema_says(project: Path, tmp_path: Path, database: str) -> None:
    """Values that fit a listed schema are taken, near misses refused by their rule, in both eras alike."""
    with Watched(project, tmp_path / "log", environment={**OPEN, "DATABASE_URL": database}) as server:
        schemas = {tool["name"]: tool["inputSchema"] for tool in server.tools()}
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)) as connection:
            for name in (*EXACT, *LOOSE):
                _agree(connection, name, schemas[name])
        assert not server.faults()


def _agree(connection: http.client.HTTPConnection, tool: str, schema: dict[str, Any]) -> None:
    @given(near(schema, schema))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    def check(arguments: Any) -> None:
        said = {_outcome(connection, era, tool, arguments) for era in ("modern", "legacy")}
        # No arguments at all are an empty object.
        actual = {} if arguments is None else arguments
        fits = isinstance(actual, dict) and accepts(schema, actual)
        assert said == {"taken" if fits else "refused"} or (tool in LOOSE and len(said) == 1)

    check()


def _outcome(connection: http.client.HTTPConnection, era: str, tool: str, arguments: Any) -> str:
    head, body = good_call(era, tool, arguments)
    connection.request("POST", "/mcp", body, head)
    text = connection.getresponse().read().decode()
    message = message_in(text)
    if "error" in message:
        assert message["error"]["code"] == -32602, text
        return "refused"
    result = message["result"]
    if not result.get("isError"):
        return "taken"
    assert result["_meta"]["hardening/error"]["kind"] == "invalid_input", text
    return "refused"
