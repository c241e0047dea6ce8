"""What the operator switches off is neither listed nor called."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import alias
import pytest
import sample
from live import ENVIRONMENT, KEY, PROBE_KEY, Live, Process, live, settings_from
from wire import ERAS, Era, Wire

from hardening import Context, HardenedServer, HardeningSettings, harden
from hardening.calls.declaration import InvalidDeclarationError

if TYPE_CHECKING:
    from pathlib import Path

UNKNOWN_TOOL = -32602


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("environment", "off", "on"),
    [
        ({"MCP_TOOLS_ALLOW": "echo,who"}, "crash", "echo"),
        ({"MCP_TOOLS_DENY": "crash"}, "crash", "echo"),
        ({"MCP_READ_ONLY": "true"}, "query", "echo"),
        ({"MCP_TOOLS_ALLOW": "echo,query", "MCP_TOOLS_DENY": "query"}, "query", "echo"),
    ],
    ids=["allow", "deny", "read-only", "both"],
)
async def test_it_is_neither_listed_nor_called(era: Era, environment: dict[str, str], off: str, on: str) -> None:
    """In both eras a tool that is switched off is one that does not exist (-32602); the others run."""
    with live(**environment) as server:
        async with Wire(server.url, KEY) as wire:
            listed = (await wire.ask(era, "tools/list")).result
            refused = await wire.ask(era, "tools/call", {"name": off, "arguments": {"text": "x"}})
            answered = await wire.ask(era, "tools/call", {"name": on, "arguments": {"text": "x"}})

    names = {tool["name"] for tool in listed["tools"]}
    assert off not in names
    assert on in names
    assert listed["_meta"]["hardening/restricted"] is True
    assert refused.error["code"] == UNKNOWN_TOOL
    assert not answered.result.get("isError")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MCP_TOOLS_ALLOW": "ecco"}, "MCP_TOOLS_ALLOW: there is no tool ecco"),
        ({"MCP_TOOLS_DENY": "echo,ecco"}, "MCP_TOOLS_DENY: there is no tool ecco"),
        ({"MCP_TOOLS_ALLOW": "query", "MCP_READ_ONLY": "1"}, "no tool is left"),
    ],
)
def test_a_name_that_means_nothing_ends_the_start(environment: dict[str, str], said: str) -> None:
    """A typing mistake must not leave a tool on, or the server empty: exit 78."""
    with pytest.raises(InvalidDeclarationError, match=said):
        sample.build(settings_from(ENVIRONMENT | environment))
    with Process(**environment) as process:
        assert process.wait() == 78
    assert any(said in line for line in process.lines)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("setting", ["true", "false"])
async def test_a_read_only_server_has_resources_that_change_nothing(era: Era, setting: str) -> None:
    """Their transactions are read-only, as those of its tools are."""

    def build(settings: HardeningSettings) -> HardenedServer:
        server = harden(settings, tools=())

        @server.resource("is://read-only")
        async def is_read_only(ctx: Context) -> str:
            """Whether a transaction of this resource is read-only."""
            return str(ctx.read_only).lower()

        _ = is_read_only
        return server

    with Live(settings_from(ENVIRONMENT | {"MCP_READ_ONLY": setting}), build) as running:
        async with Wire(running.url, KEY) as wire:
            read = (await wire.ask(era, "resources/read", {"uri": "is://read-only"})).result
    assert read["contents"][0]["text"] == setting


def test_the_probe_says_restricted(tmp_path: Path) -> None:
    """Tools that are switched off are no drift; a tool that differs still is."""
    with live() as server:
        document = {
            "tools": [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in server.server.tool_list
            ]
        }
    for name, changed in (("same", False), ("other", True)):
        if changed:
            document["tools"] = [{**tool, "description": "Another one than is served."} for tool in document["tools"]]
        (tmp_path / name).write_text(json.dumps(document))
    with live(MCP_TOOLS_ALLOW="echo,who") as server:
        codes, printed = [], ""
        for name in ("same", "other"):
            done = subprocess.run(
                [
                    sys.executable,
                    str(alias.HARDENING / "probe.py"),
                    f"{server.url}/mcp",
                    "--schema",
                    str(tmp_path / name),
                ],
                env={"MCP_PROBE_KEY": PROBE_KEY},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            codes.append(done.returncode)
            printed += done.stdout + done.stderr
    assert codes == [0, 4], printed
    assert "2 tools (restricted)" in printed
