"""Two replicas behind each shipped proxy: updates lose nothing, a crash loses what was in flight."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx2
import pytest

from .mcp_client import ERAS, post, tool_call
from .projects import WITHOUT_DATABASE
from .proxies import KINDS, Kind, Proxy, free_port
from .servers import Server, install
from .tools import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Template

pytestmark = pytest.mark.slow

CLIENTS = 10
# Longer than the health check of Caddy and the fail_timeout of nginx.
SETTLED = 5.0
SHARED = {
    "MCP_REPLICAS": "2",
    "MCP_REQUEST_STATE_KEYS": "0123456789abcdef0123456789abcdef",
    **{
        f"MCP_RATE_{name}": "1000000"
        for name in ("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "PRINCIPAL_PER_MINUTE", "PRINCIPAL_BURST")
    },
}


@pytest.fixture(scope="module")
def generous(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose tool may be called as often as the load asks."""
    root = shutil.copytree(template.render(WITHOUT_DATABASE), tmp_path_factory.mktemp("generous") / "p")
    tool = root / "src/weather_server/tools/countdown.py"
    text = tool.read_text("utf-8")
    assert "rate_per_minute=30" in text
    tool.write_text(text.replace("rate_per_minute=30", "rate_per_minute=1000000"), "utf-8")
    install(root)
    return root


@dataclass
class Load:
    """Clients of both eras that call short and streaming tools, and honour Retry-After."""

    proxy: Proxy
    answered: int = 0
    failed: list[Any] = field(default_factory=list[Any])
    in_flight: int = 0

    async def __aenter__(self) -> Self:
        self._over = asyncio.Event()
        self._clients = [asyncio.ensure_future(self._client(number)) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._clients)

    async def _client(self, number: int) -> None:
        async with self.proxy.client() as client:
            client.headers["host"] = "localhost"
            while not self._over.is_set():
                number += 1
                steps = 1 if number % 4 else 5
                arguments = {"steps": steps, "step_seconds": 0.05 if steps == 1 else 0.2}
                await self._call(client, tool_call(ERAS[number % 2], KEY, "countdown", arguments), steps)

    async def _call(self, client: httpx2.AsyncClient, request: tuple[dict[str, str], bytes], steps: int) -> None:
        self.in_flight += 1
        try:
            while True:
                reply = await post(client, "/mcp", request)
                if "retry-after" not in reply.headers:
                    break
                await asyncio.sleep(float(reply.headers["retry-after"]))
            assert reply.result["structuredContent"] == {"steps": steps}
            # None at all, where the answer was a plain one; else each of them.
            assert len(reply.progress) in {0, steps}
            self.answered += 1
        except (httpx2.TransportError, AssertionError, IndexError) as failure:
            self.failed.append(failure)
        finally:
            self.in_flight -= 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_update_loses_nothing_and_a_crash_only_what_was_in_flight(
    generous: Path, tmp_path: Path, kind: Kind
) -> None:
    """Each replica is replaced under load: no call is lost; one is killed: only its calls are, and the rest go on."""
    ports = [free_port(), free_port()]
    replicas = [await Server(generous, PORT=str(port), **SHARED).__aenter__() for port in ports]
    addresses = [replica.address for replica in replicas]
    try:
        async with Proxy(kind, generous / "deploy", tmp_path, addresses) as proxy, Load(proxy) as load:
            for number, port in enumerate(ports):
                before = load.answered
                replicas[number].process.terminate()
                assert await replicas[number].process.wait() == 0
                replicas[number] = await Server(generous, PORT=str(port), **SHARED).__aenter__()
                await asyncio.sleep(SETTLED)
                assert load.answered > before

            # nginx asks nobody whether he is ready: a call may meet a connection that is being closed.
            # It is told so, and that happens about once in ten thousand calls.
            assert len(load.failed) <= (0 if kind == "caddy" else len(ports))
            assert all("interrupted" in str(failure) for failure in load.failed)

            load.failed.clear()
            at_risk = load.in_flight
            replicas[0].process.kill()
            await asyncio.sleep(SETTLED)
            lost = len(load.failed)
            before = load.answered
            await asyncio.sleep(SETTLED)

            assert lost <= at_risk
            assert len(load.failed) == lost
            assert load.answered > before
    finally:
        for replica in replicas:
            await replica.__aexit__()
