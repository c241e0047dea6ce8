"""An hour of mixed traffic against a rendered server, in both eras: what it holds must stay what it was.

`MINUTES` says how long (60), `RATE` how many requests a second (20), `EVERY` how many seconds lie between
two samples (60). The first argument is a project that is set up; without one, a project is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parent.parent / "scripts"))
sys.path.append(str(Path(__file__).parent.parent / "tests"))

import demo
import httpx2
from support.postgres import Postgres
from support.watched_server import OPEN, Watched, good_call, until

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES = float(os.environ.get("MINUTES", "60"))
RATE = float(os.environ.get("RATE", "20"))
EVERY = float(os.environ.get("EVERY", "60"))
CLIENTS = 8
# What an allocator keeps or gives back from one sample to the next.
MEMORY_KIB = 8192
# A connection or task that is just being closed.
SLACK = 3
# Sessions that nobody ends are there for so long; samples are taken after it.
IDLE_SECONDS = 2
SETTINGS = {
    **OPEN,
    "MCP_TOOL_TIMEOUT_SECONDS": "3",
    "MCP_DRAIN_TIMEOUT_SECONDS": "25",
    "MCP_SESSION_IDLE_SECONDS": str(IDLE_SECONDS),
    "MCP_MAX_SESSIONS_PER_PRINCIPAL": "1000",
    # A pool that grows with its load is no leak.
    "MCP_POOL_MIN_SIZE": "4",
    "MCP_POOL_MAX_SIZE": "4",
}
POINT = {"x": 1, "y": 2}
CALLS: tuple[tuple[str, Callable[[int], dict[str, Any]]], ...] = (
    ("echo", lambda number: {"text": f"text {number}"}),
    ("scalars", lambda _: {"integer": 1, "number": 0.5, "flag": True, "code": "AB", "choice": 3}),
    ("shapes", lambda _: {"line": {"points": [POINT] * 5}, "weights": {"a": 1}, "either": 1, "names": ["a"]}),
    ("steps", lambda _: {"count": 20}),
    ("through", lambda number: {"text": "x" * (number % 200)}),
    ("echo", lambda _: {"text": 5}),
    ("nobody", lambda _: {}),
    ("slow", lambda number: {"seconds": number % 3 / 100}),
    ("days", lambda _: {"day": "2026-11-22"}),
)


class SoakError(Exception):
    """Something was not flat; the message says what."""


@dataclass
class Sample:
    """What a server holds while nobody asks for anything."""

    memory_kib: float
    descriptors: float
    threads: float
    tasks: float
    sessions: float
    streams: float
    pool: float

    @classmethod
    def of(cls, server: Watched) -> Sample:
        """Take one, when everything that was asked for is answered."""
        until(lambda: not server.metrics()["mcp_in_flight"])
        # Sessions are counted anew when somebody asks for one.
        server.open_session()
        tasks = server.call("modern", "tasks", {})["structuredContent"]["result"]
        said = server.metrics()
        held = (said["mcp_sessions"], said["mcp_streams"], said["mcp_pool_size"])
        return cls(server.memory_kib(), server.descriptors(), server.threads(), tasks, *held)

    def __str__(self) -> str:
        held = "  ".join(f"{part.name} {getattr(self, part.name):.0f}" for part in fields(self)[1:])
        return f"memory {self.memory_kib / 1024:.1f} MiB  {held}"


class Traffic:
    """Clients of one server; they pause while a sample is taken."""

    def __init__(self, server: Watched, *, sessions: bool, seed: int) -> None:
        self.server = server
        self.sessions = sessions
        self.chance = random.Random(seed)  # noqa: S311 - for variety, not for secrets
        self.sent = 0
        self.going = asyncio.Event()
        self.over = False

    async def client(self) -> None:
        """Ask for this and that."""
        while not self.over:
            await self.going.wait()
            async with httpx2.AsyncClient(timeout=30, trust_env=False) as http:
                session = ""
                while self.going.is_set() and not self.over:
                    if self.sessions and (not session or self.chance.random() < 0.05):  # noqa: PLR2004 - now and then
                        session = await asyncio.to_thread(self.server.open_session)
                    await self._ask(http, session)
                    await asyncio.sleep(self.chance.expovariate(RATE / CLIENTS))

    async def _ask(self, http: httpx2.AsyncClient, session: str) -> None:
        self.sent += 1
        era = self.chance.choice(["modern", "legacy"])
        name, arguments = self.chance.choice(CALLS)
        headers, body = good_call(era, name, arguments(self.sent))
        if era == "legacy" and session:
            headers["Mcp-Session-Id"] = session
        kind = self.chance.random()
        if kind < 0.03:  # noqa: PLR2004 - shares of odd requests
            body = body[: len(body) // 2]
        elif kind < 0.06:  # noqa: PLR2004 - the same
            headers.pop("Authorization")
        if kind > 0.95:  # noqa: PLR2004 - the same
            # A client that goes away in the middle of a call.
            headers, body = good_call("modern", "slow", {"seconds": 0.5})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await http.post(f"{self.server.url}/mcp", headers=headers, content=body)
            return
        answer = await http.post(f"{self.server.url}/mcp", headers=headers, content=body)
        if answer.status_code >= 500:  # noqa: PLR2004 - a status of HTTP
            raise SoakError(f"an answer of {answer.status_code}: {answer.text}")


async def soak(servers: dict[str, Watched]) -> None:
    """Load the servers, look at them, and fail when one holds more and more."""
    all_traffic = {
        name: Traffic(server, sessions=name == "stateful", seed=seed)
        for seed, (name, server) in enumerate(servers.items())
    }
    clients = [asyncio.ensure_future(traffic.client()) for traffic in all_traffic.values() for _ in range(CLIENTS)]
    samples: dict[str, list[Sample]] = {name: [] for name in servers}
    started = time.monotonic()
    print(f"{MINUTES:g} minutes, {RATE:g} requests a second to each of {len(servers)} servers", flush=True)
    while time.monotonic() - started < MINUTES * 60:
        for traffic in all_traffic.values():
            traffic.going.set()
        done, _ = await asyncio.wait(clients, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
        for client in done:
            client.result()
        for traffic in all_traffic.values():
            traffic.going.clear()
        await asyncio.sleep(IDLE_SECONDS + 1)
        for name, traffic in all_traffic.items():
            # In a thread: the clients have to end meanwhile.
            sample = await asyncio.to_thread(Sample.of, traffic.server)
            samples[name].append(sample)
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:5.1f} min  {name:9}  {traffic.sent:7} requests  {sample}", flush=True)
    for traffic in all_traffic.values():
        traffic.over = True
        traffic.going.set()
    await asyncio.gather(*clients)
    problems = [problem for name in servers for problem in grown(name, samples[name])]
    problems += [f"{name}: {fault}" for name, server in servers.items() for fault in server.faults()[:3]]
    problems += [f"{name}: ended with {code}" for name, server in servers.items() if (code := server.end())]
    if problems:
        raise SoakError("\n".join(problems))


def grown(server: str, samples: list[Sample]) -> list[str]:
    """Say what the later half of the samples holds more of than the earlier one, its first tenth left out."""
    warm = samples[len(samples) // 10 :]
    earlier, later = warm[: (len(warm) + 1) // 2], warm[len(warm) // 2 :]
    found: list[str] = []
    for part in fields(Sample):
        # By their smallest: what is in use for a moment is no growth.
        before, after = (min(getattr(sample, part.name) for sample in half) for half in (earlier, later))
        allowed = MEMORY_KIB if part.name == "memory_kib" else SLACK
        if after - before > allowed:
            found.append(f"{server}: {part.name} grew from {before:.0f} to {after:.0f}")
    return found


def main() -> int:
    """Soak; return the exit code."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        project = Path(sys.argv[1]) if len(sys.argv) > 1 else demo.render(folder)
        if len(sys.argv) == 1:
            demo.run("git", "init", "--quiet", cwd=project)
            demo.run("make", "setup", cwd=project)
        database = stack.enter_context(Postgres()).url
        servers = {
            legacy: stack.enter_context(
                Watched(
                    project,
                    folder / f"{legacy}.log",
                    environment={**SETTINGS, "DATABASE_URL": database, "MCP_LEGACY": legacy},
                )
            )
            for legacy in ("stateless", "stateful")
        }
        try:
            asyncio.run(soak(servers))
        except (SoakError, httpx2.HTTPError, AssertionError) as error:
            print(error or type(error).__name__, file=sys.stderr)
            return 1
    print("Flat.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
