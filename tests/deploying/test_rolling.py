"""Replicas behind each shipped proxy, under load: updates lose nothing, a crash loses what was in flight."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import pytest
from support.projects import WITHOUT_DATABASE
from support.proxies import Kind, Proxy, free_port
from support.rolling_load import CLIENTS, GENEROUS, NAMES, Load, with_tools
from support.servers import Server

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

pytestmark = pytest.mark.slow

# The health check of Caddy and the fail_timeout of nginx: after that, nobody is sent to who is not there.
HEALTH_INTERVAL = 2
# What a replica may take to be found again, on a busy machine.
FOUND_SECONDS = 30


@pytest.fixture(scope="module")
def loaded(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the tools that the load calls."""
    return with_tools(template.render(WITHOUT_DATABASE), tmp_path_factory.mktemp("loaded") / "p")


class Replicas:
    """Servers on ports of their own, each of which can be replaced; what all of them logged is kept."""

    def __init__(self, project: Path, number: int) -> None:
        self.project = project
        self.ports = [free_port() for _ in range(number)]
        self.settings = {
            "MCP_REPLICAS": str(number),
            "MCP_REQUEST_STATE_KEYS": "0123456789abcdef0123456789abcdef",
            **GENEROUS,
        }
        self.servers: list[Server] = []
        self.gone: list[Server] = []

    @property
    def addresses(self) -> list[str]:
        """Return where the proxy finds them."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as started:
            for port in self.ports:
                self.servers.append(await started.enter_async_context(self._server(port)))
            started.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            await server.__aexit__()

    async def replace(self, number: int) -> None:
        """Start another one in the place of one that has ended, and wait until it has answered a call."""
        await self.servers[number].__aexit__()
        self.gone.append(self.servers[number])
        self.servers[number] = await self._server(self.ports[number]).__aenter__()
        await self.servers[number].call(FOUND_SECONDS)

    def runs(self, servers: list[Server] | None = None) -> Counter[str]:
        """Return how often each call was run, by its trace, on these servers or on all that there were."""
        every = self.gone + self.servers if servers is None else servers
        return Counter(line["trace_id"] for server in every for line in server.lines if line["msg"] == "tool call")

    def _server(self, port: int) -> Server:
        return Server(self.project, PORT=str(port), **self.settings)


async def update(replicas: Replicas, load: Load) -> None:
    """Replace one after the other, as every platform does."""
    for number, server in enumerate(replicas.servers[:]):
        server.process.terminate()
        assert await server.process.wait() == 0
        await replicas.replace(number)
        await load.more(CLIENTS)


async def crash(replicas: Replicas, load: Load) -> set[str]:
    """Kill one; return the traces of the calls that failed, all of which were in flight on it."""
    load.failed.clear()
    in_flight, begun = set(load.in_flight), load.begun
    victim, *others = replicas.servers
    victim.process.kill()
    await victim.process.wait()
    # What began while it died was sent to it as well.
    while_dying = range(begun + 1, load.begun + 1)

    await asyncio.sleep(HEALTH_INTERVAL)
    lost = set(load.failed)
    await load.more(10 * CLIENTS)

    assert set(load.failed) == lost
    assert [call for call in lost - in_flight if call.number not in while_dying] == []
    # With calls of some seconds among them there is always one.
    assert lost
    # 502 `interrupted`, or the end of an answer that had begun; nobody waits for a timeout.
    for failure in load.failed.values():
        assert any(word in failure for word in ("interrupted", "Incomplete", "Reset")), failure
    assert not {call.trace for call in lost} & set(replicas.runs(others))
    return {call.trace for call in lost}


@pytest.mark.parametrize(("kind", "number", "calls"), [("caddy", 2, 8_000), ("caddy", 4, 14_000), ("nginx", 2, 6_000)])
async def test_an_update_loses_nothing_and_a_crash_only_what_was_in_flight(
    loaded: Path, tmp_path: Path, kind: Kind, number: int, calls: int
) -> None:
    """Each replica is replaced under load: no call is lost; one is killed: its calls are, and the others go on.

    Plain, streaming and failing calls of both eras; each answer is that of its own call, and no call runs twice.
    """
    async with (
        Replicas(loaded, number) as replicas,
        Proxy(kind, loaded / "deploy", tmp_path, replicas.addresses) as proxy,
        Load(proxy) as load,
    ):
        await update(replicas, load)

        # nginx asks no replica whether it is ready: a call may meet the port or a connection in the moment of its end.
        # It is told so. One for each replacement is more than ten updates in a row have shown.
        assert len(load.failed) <= (0 if kind == "caddy" else number), load.failed
        assert all("interrupted" in failure for failure in load.failed.values()), load.failed

        lost = await crash(replicas, load)
        await replicas.replace(0)
        await load.more(max(CLIENTS, calls - len(load.answered)))
        assert len(load.failed) == len(lost), load.failed

    assert set(replicas.runs().values()) == {1}
    assert {(call.name, call.number % 2) for call in load.answered} == {(name, era) for name in NAMES for era in (0, 1)}
    sys.stdout.write(f"{len(load.answered)} calls, {load.refused} of them tried again, {len(lost)} lost by a crash\n")
