"""Clients that nobody here wrote list the tools, call both of them, and see progress as it happens."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import fastmcp
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from support import node
from support.dev_server import KEY
from support.harness import run

if TYPE_CHECKING:
    from support.dev_server import Dev

STEPS = 4
STEP_SECONDS = 0.25
TOOLS = {"countdown", "keep_note"}
VERSIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


class Progress:
    """Progress events with the time at which each one came."""

    def __init__(self) -> None:
        self.events: list[tuple[float, float | None]] = []
        self.times: list[float] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Note one event."""
        assert message
        self.events.append((progress, total))
        self.times.append(time.monotonic())

    def check(self) -> None:
        """All events came, in order, and one by one."""
        assert self.events == [(step, STEPS) for step in range(1, STEPS + 1)]
        gaps = [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]
        # Had they been collected on the way, they would have come together at the end.
        assert sum(gap > STEP_SECONDS / 2 for gap in gaps) >= STEPS - 2, gaps


@pytest.mark.parametrize("mode", VERSIONS)
async def test_the_official_client(dev: Dev, mode: Any) -> None:
    """The Python SDK's client, by itself and as older ones do."""
    progress = Progress()
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    async with http, Client(streamable_http_client(dev.url, http_client=http), mode=mode) as client:
        listed = await client.list_tools()
        counted = await client.call_tool(
            "countdown", {"steps": STEPS, "step_seconds": STEP_SECONDS}, progress_callback=progress
        )
        kept = await client.call_tool("keep_note", {"body": "hello"})
        version = client.protocol_version

    assert version == VERSIONS[mode]
    assert {tool.name for tool in listed.tools} == TOOLS
    assert counted.structured_content == {"steps": STEPS}
    assert kept.structured_content is not None
    assert kept.structured_content["body"] == "hello"
    progress.check()


async def test_fastmcp(dev: Dev) -> None:
    """The client that most tutorials use."""
    progress = Progress()
    async with fastmcp.Client(dev.url, auth=KEY) as client:
        listed = await client.list_tools()
        counted = await client.call_tool(
            "countdown", {"steps": STEPS, "step_seconds": STEP_SECONDS}, progress_handler=progress
        )
        kept = await client.call_tool("keep_note", {"body": "hello"})

    assert {tool.name for tool in listed} == TOOLS
    assert counted.structured_content == {"steps": STEPS}
    assert kept.structured_content is not None
    assert kept.structured_content["body"] == "hello"
    progress.check()


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [("countdown", {"steps": 2, "step_seconds": 0.05}, "steps"), ("keep_note", {"body": "hello"}, "hello")],
)
def test_the_inspector(dev: Dev, era: str, tool: str, arguments: dict[str, Any], expected: str) -> None:
    """The Inspector's command line, the one that the snippets name, with its strict schema check."""
    inspector = node.command(*node.INSPECTOR, "mcp-inspector")
    usual = ("--cli", dev.url, "--transport", "http", "--protocol-era", era, "--format", "json", "-q")
    header = ("--header", f"Authorization: Bearer {KEY}")
    listed = run(*inspector, *usual, "--method", "tools/list", "--strict", *header, cwd=dev.project).stdout
    call = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
    called = run(*inspector, *usual, *call, *header, cwd=dev.project).stdout

    assert all(name in listed for name in TOOLS)
    assert expected in called
    assert '"isError": true' not in called


@pytest.mark.parametrize("mode", VERSIONS)
async def test_invalid_arguments_are_for_the_model(dev: Dev, mode: Any) -> None:
    """A real client gets a result that says which rule was broken, and not the value."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    async with http, Client(streamable_http_client(dev.url, http_client=http), mode=mode) as client:
        result = await client.call_tool("countdown", {"steps": "forty-two"})

    assert result.is_error
    assert "steps" in str(result.content)
    assert "forty-two" not in str(result.content)
