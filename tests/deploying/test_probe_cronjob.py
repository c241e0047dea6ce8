"""The probe that runs in another cluster: accepted there, restricted, and its command looks for real."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import kubernetes_validate
import pytest
from support.kubernetes import Manifest, build, of_kind, restricted
from support.programs import PROBE_KEY
from support.servers import Server, install

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template


@pytest.fixture(scope="module")
def job(project: Path) -> Manifest:
    """The CronJob, as kustomize builds it."""
    return of_kind(build(project / "deploy/kubernetes/probe"), "CronJob")


@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_it_is_accepted(job: Manifest, version: str) -> None:
    """Every field is one of the API's, and the pod fits the restricted profile."""
    kubernetes_validate.validate(job, version, strict=True)

    assert restricted(job["spec"]["jobTemplate"]["spec"]["template"]["spec"]) == []


def test_a_look_ends_before_the_next(job: Manifest) -> None:
    """Every minute, one look, without a second try that would make the alert late."""
    spec = job["spec"]

    assert spec["schedule"] == "* * * * *"
    assert spec["concurrencyPolicy"] == "Replace"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 60
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_a_look_needs_the_released_contract(job: Manifest) -> None:
    """It comes from a ConfigMap that is required: without it no job succeeds, and the alert says so."""
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (volume,) = spec["volumes"]
    (mount,) = spec["containers"][0]["volumeMounts"]

    assert volume["configMap"] == {"name": "mcp-server-contract"}
    assert mount == {"name": volume["name"], "mountPath": "/contract", "readOnly": True}


@pytest.fixture(scope="module")
def installed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that can be run."""
    project = template.project({"database": "none"}, tmp_path_factory.mktemp("looked-at") / "project")
    install(project)
    return project


@pytest.mark.parametrize(
    ("key", "renamed", "settings", "code", "verdict", "eras"),
    [
        (PROBE_KEY, "", {}, 0, "healthy", {"modern", "legacy"}),
        (PROBE_KEY, "", {"MCP_PROBE_ERA": "modern"}, 0, "healthy", {"modern"}),
        (PROBE_KEY, "another", {}, 4, "drifted", {"modern", "legacy"}),
        ("wrong", "", {}, 3, "auth_refused", {"modern", "legacy"}),
    ],
    ids=["healthy", "one era", "drifted", "refused"],
)
async def test_the_command_looks(  # noqa: PLR0913, PLR0917 - a row of the table
    job: Manifest,
    installed: Path,
    tmp_path: Path,
    key: str,
    renamed: str,
    settings: dict[str, str],
    code: int,
    verdict: str,
    eras: set[str],
) -> None:
    """The command finds the probe in the image, asks the server in each era, compares, and ends as the probe does."""
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    python, option, code_text = container["command"]
    assert (python, option) == ("python", "-c")
    assert "/app/project/*/" in code_text
    assert '"/contract/tools.json"' in code_text
    contract = json.loads((installed / "schema/tools.json").read_text("utf-8"))
    contract["tools"][0]["name"] = renamed or contract["tools"][0]["name"]
    (tmp_path / "tools.json").write_text(json.dumps(contract), "utf-8")
    code_text = code_text.replace("/app/project", str(installed / "site")).replace("/contract", str(tmp_path))

    async with Server(installed, proxy="http://127.0.0.1", MCP_TRUSTED_PROXY_HOPS="0") as server:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code_text],
            env={**os.environ, "MCP_PROBE_URL": f"http://{server.address}/mcp", "MCP_PROBE_KEY": key, **settings},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    assert done.returncode == code, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == verdict
    assert json.loads(done.stdout)["eras"].keys() == eras
