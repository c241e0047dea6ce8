"""Fly.io, Railway and the registry get what they accept; each target has its own files and no other."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from support.harness import files
from support.programs import run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

OWNED = {
    "kubernetes": "deploy/kubernetes",
    "fly": "fly.toml",
    "railway": "railway.json",
    "compose": "compose.yaml",
}
OF_WORKFLOWS = re.compile(r"\bvars\.(MCP_[A-Z_]+)")
ALWAYS = (
    "Dockerfile",
    ".dockerignore",
    "deploy/caddy",
    "deploy/nginx",
    "deploy/prometheus",
    "deploy/grafana",
    "deploy/systemd",
)


@pytest.fixture(scope="module")
def known(project: Path) -> set[str]:
    """Every variable that the server knows, from its own command."""
    done = run(
        *(sys.executable, "-m", "weather_server", "settings", "--env-file"),
        cwd=project,
        env={"PYTHONPATH": str(project / "src")},
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"\b(MCP_[A-Z_]+|[A-Z]+_URL|HOST|PORT)\b", done.stdout))


@pytest.mark.parametrize("targets", [[], ["fly"], ["kubernetes", "compose"], ["railway"]])
def test_a_target_brings_its_files_and_no_others(template: Template, targets: list[str]) -> None:
    """`deploy_targets` selects whole files and directories; the image is always there."""
    root = template.render({"deploy_targets": targets})

    assert {name for name, path in OWNED.items() if (root / path).exists()} == set(targets)
    assert [path for path in ALWAYS if not (root / path).exists()] == []
    assert {path.name for path in (root / "deploy").iterdir()} - {"kubernetes", "compose"} == {
        "caddy",
        "nginx",
        "postgres",
        "prometheus",
        "grafana",
        "systemd",
    }
    assert (root / "deploy/compose").exists() == ("compose" in targets)
    assert (root / "scripts/compose-env.sh").exists() == ("compose" in targets)


def test_fly_drains_and_keeps_running(project: Path) -> None:
    """SIGTERM in place of Fly's SIGINT, two machines that are not stopped when idle, readiness asked."""
    fly: dict[str, Any] = tomllib.loads((project / "fly.toml").read_text(encoding="utf-8"))
    service = fly["http_service"]

    assert fly["app"] == "weather-server"
    assert fly["kill_signal"] == "SIGTERM"
    assert isinstance(fly["kill_timeout"], int)
    assert service["force_https"] is True
    assert service["auto_stop_machines"] == "off"
    assert service["min_machines_running"] >= int(fly["env"]["MCP_REPLICAS"])
    assert [check["path"] for check in service["checks"]] == ["/readyz"]
    assert all(isinstance(value, str) for value in fly["env"].values())


def test_fly_leaves_refusing_to_the_server(project: Path) -> None:
    """The proxy's hard limit is not below what the server itself admits, with its Retry-After."""
    fly = tomllib.loads((project / "fly.toml").read_text(encoding="utf-8"))
    text = (project / "src/weather_server/hardening/settings/__init__.py").read_text(encoding="utf-8")
    admitted = sum(
        int(re.search(rf"{name}: int = count\((\d+)", text)[1])  # type: ignore[index]
        for name in ("max_in_flight", "max_streams")
    )

    assert fly["http_service"]["concurrency"]["hard_limit"] >= admitted


def test_railway_drains(project: Path) -> None:
    """Graces are numbers (strings are refused there), and traffic waits for readiness."""
    railway = json.loads((project / "railway.json").read_text(encoding="utf-8"))

    assert railway["build"] == {"builder": "DOCKERFILE", "dockerfilePath": "Dockerfile"}
    assert railway["deploy"]["healthcheckPath"] == "/readyz"
    assert type(railway["deploy"]["drainingSeconds"]) is int
    assert type(railway["deploy"]["overlapSeconds"]) is int


@pytest.mark.parametrize(
    "file",
    [
        "compose.yaml",
        "deploy/compose/env.example",
        "fly.toml",
        "Dockerfile",
        "deploy/caddy/Caddyfile",
        "deploy/nginx/mcp-server.conf",
        "deploy/nginx/mcp-server-proxy.conf",
        "deploy/kubernetes/base/kustomization.yaml",
        "deploy/kubernetes/overlays/production/settings.env",
        "deploy/kubernetes/components/external-secret/external-secret.yaml",
        "deploy/kubernetes/components/monitoring/service-monitor.yaml",
        "docs/operations.md",
    ],
)
def test_every_setting_that_is_named_exists(project: Path, known: set[str], file: str) -> None:
    """A file cannot set, or speak of, a variable that the server does not know."""
    # What the operator sets for the files themselves, and for the workflows.
    of_the_files = {
        *("MCP_SITE", "MCP_UPSTREAMS", "MCP_DOMAIN", "MCP_BIND", "MCP_HTTP_PORT", "MCP_HTTPS_PORT"),
        *("MCP_TRUSTED_PROXIES", "MCP_ROLE_PASSWORD", "MCP_PROBE_URL"),
        *OF_WORKFLOWS.findall("".join(flow.read_text("utf-8") for flow in (project / ".github/workflows").iterdir())),
    }
    text = (project / file).read_text(encoding="utf-8")
    named = set(re.findall(r"\bMCP_[A-Z]+(?:_[A-Z]+)*\b(?![_*])", text))

    assert named - known - of_the_files == set()


def test_nothing_follows_a_moving_tag(project: Path) -> None:
    """No file names an image without a tag, or by `latest`."""
    named_files = [project / name for name in files(project)]
    moving = []
    for path in [path for path in named_files if path.suffix not in {".md", ".py"}]:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"^[ -]*(?:image: |ARG \w+_IMAGE=|newTag: )(\S+)$", text, re.MULTILINE)
        # What is only a variable is set by a workflow that insists on a digest.
        for name in [name for name in named if not re.fullmatch(r"\$\w+", name)]:
            image = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", name.strip())
            tag = image if "newTag" in text and ":" not in image else image.partition("@")[0].rpartition(":")[2]
            if not re.match(r"\d", tag) and tag != "dev":
                moving.append(f"{path}: {image}")
        moving += [f"{path}: latest" for _ in re.findall(r":latest\b", text)]

    assert moving == []


def test_pulled_images_are_pinned_by_digest(project: Path) -> None:
    """The tag is for people; what is pulled is the digest."""
    text = (project / "Dockerfile").read_text() + (project / "compose.yaml").read_text()
    named = re.findall(r"(?:^ARG \w+_IMAGE=|_IMAGE:-)([^\s}]+)", text, re.MULTILINE)
    pulled = [image for image in named if not image.startswith("mcp-server:")]

    assert len(pulled) == 5
    assert [i for i in pulled if not re.search(r":\d[\w.-]+@sha256:[0-9a-f]{64}$", i)] == []


@pytest.mark.parametrize(
    ("repository_url", "name", "source"),
    [
        ("https://github.com/example/weather", "io.github.example/weather-server", "github"),
        ("https://git.example.org:8443/team/weather", "org.example.git/weather-server", "git"),
        ("", "com.example/weather-server", None),
    ],
)
def test_the_registry_entry_is_valid(template: Template, repository_url: str, name: str, source: str | None) -> None:
    """Name, description and version follow the registry's rules; the image's label carries the name."""
    description = "Costs $5 & less: it's a forecast"
    root = template.render({"repository_url": repository_url, "description": description})
    entry = json.loads((root / "server.json").read_text(encoding="utf-8"))

    assert entry["name"] == name
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert entry["description"] == description
    assert len(entry["description"]) <= 100
    assert len(entry["title"]) <= 100
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert entry["version"] == pyproject["project"]["version"]
    assert entry.get("repository", {}).get("source") == source
    assert {remote["type"] for remote in entry["remotes"]} == {"streamable-http"}
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    assert f'io.modelcontextprotocol.server.name="{name}"' in dockerfile
    assert r'description="Costs \$5 & less: it' in dockerfile
