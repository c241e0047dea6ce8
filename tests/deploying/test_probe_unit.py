"""The systemd unit that probes every minute: accepted by systemd, confined, and its command writes what alerts read."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from support.programs import PROBE_KEY, find, run
from support.servers import Server, install

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

SECONDS = 30
# systemd's own measure, from 0 (confined) to 10.
EXPOSED_AT_MOST = 2.0


@pytest.fixture(scope="module")
def installed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that can be run."""
    project = template.project({"database": "none"}, tmp_path_factory.mktemp("looked-at") / "project")
    install(project)
    return project


def service(project: Path) -> configparser.SectionProxy:
    """Return what the unit says about the process."""
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(project / "deploy/systemd/mcp-probe@.service", "utf-8")
    return unit["Service"]


def test_systemd_accepts_it(project: Path, tmp_path: Path) -> None:
    """Every line is one that systemd knows, for an instance as it is started."""
    unit = shutil.copy(project / "deploy/systemd/mcp-probe@.service", tmp_path / "mcp-probe@weather.service")

    done = run(find("systemd-analyze"), "verify", unit, env={"SYSTEMD_LOG_LEVEL": "warning"})

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_confined(project: Path) -> None:
    """It may open connections and write one folder."""
    said = run(
        find("systemd-analyze"), "security", "--offline=yes", project / "deploy/systemd/mcp-probe@.service"
    ).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)

    assert level
    assert float(level[1]) <= EXPOSED_AT_MOST
    assert service(project)["ReadWritePaths"] == "/var/lib/prometheus/node-exporter"


async def test_its_command_writes_what_the_alerts_read(installed: Path, tmp_path: Path) -> None:
    """Every minute, compared with the contract: healthy first; another contract is drift, and still service."""
    said = service(installed)
    assert said["Restart"] == "always"
    assert said["Environment"] == "MCP_PROBE_ERA=modern,legacy"
    assert said["LoadCredential"] == "tools.json:/etc/mcp-probe/%i.json"
    contract = json.loads((installed / "schema/tools.json").read_text("utf-8"))
    command = said["ExecStart"]
    assert " --every 60 " in command

    async with Server(installed, proxy="http://127.0.0.1", MCP_TRUSTED_PROXY_HOPS="0") as server:
        for name, drifted in (("weather", 0), ("other", 1)):
            contract["tools"][0]["description"] += " Changed." * drifted
            (tmp_path / "tools.json").write_text(json.dumps(contract), "utf-8")
            given = {
                "/usr/bin/python3": sys.executable,
                "/opt/mcp-probe/probe.py": str(installed / "src/weather_server/hardening/probe.py"),
                "/var/lib/prometheus/node-exporter": str(tmp_path),
                "${CREDENTIALS_DIRECTORY}": str(tmp_path),
                "${MCP_PROBE_ERA}": "modern,legacy",
                "${MCP_PROBE_URL}": f"http://{server.address}/mcp",
                "%i": name,
            }
            shown = command
            for written, meant in given.items():
                assert written in shown
                shown = shown.replace(written, meant)
            child = await asyncio.create_subprocess_exec(
                *shown.split(), env={**os.environ, "MCP_PROBE_KEY": PROBE_KEY}, stdout=asyncio.subprocess.PIPE
            )
            try:
                assert child.stdout
                line = await asyncio.wait_for(child.stdout.readline(), SECONDS)
            finally:
                child.terminate()
                await child.wait()
            text = (tmp_path / f"mcp_probe_{name}.prom").read_text("utf-8")
            assert (b"drifted" if drifted else b"healthy") in line
            for era in ("modern", "legacy"):
                assert re.search(rf'^mcp_probe_serving{{.*era="{era}"}} 1.0$', text, re.MULTILINE)
                assert re.search(
                    rf'^mcp_probe_verdict{{.*era="{era}",verdict="drifted"}} {drifted}.0$', text, re.MULTILINE
                )
