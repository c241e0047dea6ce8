"""A real Prometheus with the shipped files scrapes a replica by its address, and loads every rule."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from support.mcp_client import post, tool_call
from support.programs import KEY, PROBE_KEY, find
from support.projects import WITHOUT_DATABASE
from support.proxies import free_port
from support.servers import Server, install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.harness import Template

SECONDS = 30


class Prometheus:
    """What it says over its API."""

    def __init__(self, port: int) -> None:
        self.client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=5)

    async def get(self, path: str, **parameters: str) -> Any:
        """Ask once."""
        return (await self.client.get(path, params=parameters)).json()["data"]

    async def until(self, holds: Callable[[Any], object], path: str, **parameters: str) -> Any:
        """Ask until it holds."""
        said: Any = None
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    try:
                        said = await self.get(path, **parameters)
                        if holds(said):
                            return said
                    except (httpx2.TransportError, ValueError, LookupError):
                        pass
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"not within {SECONDS} s: {said}") from None


@pytest.fixture(scope="module")
def installed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that can be run."""
    root = shutil.copytree(template.render(WITHOUT_DATABASE), tmp_path_factory.mktemp("scraped") / "p")
    install(root)
    return root


@pytest.fixture
async def server(installed: Path) -> AsyncIterator[Server]:
    """A replica behind a public name: its own address is not one that clients may use."""
    everywhere = "0.0.0.0"  # noqa: S104 - as in a pod; the test itself stays on this machine
    async with Server(installed, proxy="https://mcp.example.com", HOST=everywhere) as server:
        yield server


@pytest.fixture
async def prometheus(server: Server, installed: Path, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """Prometheus with the shipped configuration; only the target and the pace are those of the test."""
    folder = shutil.copytree(installed / "deploy/prometheus", tmp_path / "prometheus")
    text = (folder / "prometheus.yaml").read_text("utf-8")
    assert "server:8000" in text
    assert text.count("_interval: 15s") == 2
    text = text.replace("server:8000", server.address).replace("_interval: 15s", "_interval: 1s")
    (folder / "prometheus.yaml").write_text(text, "utf-8")
    (folder / "mcp-probe-key").write_text(PROBE_KEY, "ascii")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        find("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    asked = Prometheus(port)
    try:
        yield asked
    finally:
        await asked.client.aclose()
        process.terminate()
        await process.wait()


async def test_a_replica_is_scraped_by_its_address(prometheus: Prometheus, server: Server) -> None:
    """Host is the address of the pod, which no client may use; the key is that of the probe."""
    headers, body = tool_call("modern", KEY, "countdown", {"steps": 1, "step_seconds": 0.05}, host="mcp.example.com")
    async with httpx2.AsyncClient() as client:
        reply = await post(client, f"http://{server.address}/mcp", (headers, body))
    assert reply.result

    targets = await prometheus.until(lambda said: said["activeTargets"][0]["health"] != "unknown", "/targets")
    assert targets["activeTargets"][0]["lastError"] == ""
    counted = await prometheus.until(
        lambda said: said["result"] and said["result"][0]["value"][1] == "1",
        "/query",
        query='mcp_tool_calls_total{tool="countdown",outcome="ok"}',
    )

    assert counted["result"][0]["metric"]["job"] == "mcp-server"


async def test_every_rule_is_loaded_and_evaluated(prometheus: Prometheus) -> None:
    """None is wrong for the series that a real server gives."""
    groups = await prometheus.until(
        lambda said: said["groups"] and all(r["health"] != "unknown" for g in said["groups"] for r in g["rules"]),
        "/rules",
    )

    rules = [rule for group in groups["groups"] for rule in group["rules"]]
    assert rules
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


async def test_every_query_of_the_dashboard_finds_the_server(
    prometheus: Prometheus, server: Server, installed: Path
) -> None:
    """With its variables at "All", each query has an answer, but for what is not there: database, probe, ctx.http."""
    headers, body = tool_call("modern", KEY, "countdown", {"steps": 1, "step_seconds": 0.05}, host="mcp.example.com")
    async with httpx2.AsyncClient() as client:
        for message in (body, b"no JSON"):
            await post(client, f"http://{server.address}/mcp", (headers, message))
    await prometheus.until(lambda said: said["result"], "/query", query='rate(mcp_refused_total{status="400"}[30s])')
    panels = json.loads((installed / "deploy/grafana/mcp-server.json").read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]

    silent: list[str] = []
    for query in queries:
        shown = re.sub(r'=~"\$\w+"', '=~".*"', query).replace("$__rate_interval", "30s")
        if not (await prometheus.get("/query", query=shown))["result"]:
            silent.append(query)

    assert len(queries) > 25
    assert [query for query in silent if not re.search(r"mcp_(pool|database|probe|http)_", query)] == []


async def test_nobody_else_reads_the_metrics(server: Server) -> None:
    """Without the probe's key there is nothing to see, whatever the Host."""
    async with httpx2.AsyncClient(base_url=f"http://{server.address}") as client:
        anonymous = await client.get("/metrics")
        of_a_client = await client.get("/metrics", headers={"authorization": f"Bearer {KEY}"})

    assert anonymous.status_code in {401, 421}
    assert of_a_client.status_code in {403, 421}
    assert "mcp_" not in anonymous.text + of_a_client.text
