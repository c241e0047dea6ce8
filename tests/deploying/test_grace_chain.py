"""The render's own check of graces and timeouts notices each number that stops fitting."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KUBERNETES = "deploy/kubernetes/base/deployment.yaml"
INGRESS = "deploy/kubernetes/components/ingress-nginx/ingress.yaml"
SETTINGS = "deploy/kubernetes/base/kustomization.yaml"
CADDY = "deploy/caddy/Caddyfile"
NGINX = "deploy/nginx/mcp-server.conf"
NGINX_PROXY = "deploy/nginx/mcp-server-proxy.conf"


@pytest.fixture(scope="module")
def chain(project: Path) -> Iterator[Any]:
    """The module of the render, with its `hardening`."""
    path = project / "tests/hardening/project/test_grace_chain.py"
    spec = importlib.util.spec_from_file_location("grace_chain_of_the_render", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    paths = [str(project / "src/weather_server"), str(project / "src")]
    packages = {"hardening", "weather_server"}
    before = {name for name in sys.modules if name.partition(".")[0] in packages}
    sys.path[:0] = paths
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.defaults()
    yield module
    for path in paths:
        sys.path.remove(path)
    for name in {n for n in sys.modules if n.partition(".")[0] in packages} - before:
        del sys.modules[name]


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A project that a test may spoil."""
    return shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns(".git"))


def problems(chain: Any, root: Path) -> str:
    """Return all sentences."""
    found = [p for place in chain.places(root) for p in place.problems(chain.longest_tool(root))]
    return "\n".join(found)


def test_every_file_is_read(chain: Any, project: Path) -> None:
    """No file that states a grace is left out."""
    read = {str(place.path.relative_to(project)) for place in chain.places(project)}

    assert read == {
        CADDY,
        NGINX,
        NGINX_PROXY,
        "compose.yaml",
        "fly.toml",
        "railway.json",
        "deploy/helm/values.production.yaml",
        "deploy/kubernetes/base",
        "deploy/kubernetes/overlays/production",
    }


def test_as_shipped_it_fits(chain: Any, project: Path) -> None:
    """The defaults of the settings and the numbers in the files make one chain."""
    assert problems(chain, project) == ""


@pytest.mark.parametrize(
    ("file", "line", "instead"),
    [
        (CADDY, "grace_period 40s", "grace_period 30s"),
        (CADDY, "response_header_timeout 120s", "response_header_timeout 30s"),
        (CADDY, "\tread_timeout 120s", "\tread_timeout 20s"),
        (CADDY, "keepalive 60s", "keepalive 2m"),
        (CADDY, "health_interval 2s", "health_interval 10s"),
        (CADDY, "max_size 2MB", "max_size 1MB"),
        (CADDY, "read_body 20s", "read_body 10s"),
        (NGINX, "client_body_timeout 15s", "client_body_timeout 10s"),
        (NGINX, "keepalive_timeout 60s", "keepalive_timeout 75s"),
        (NGINX, "client_max_body_size 2m", "client_max_body_size 1m"),
        (NGINX_PROXY, "proxy_read_timeout 120s", "proxy_read_timeout 30s"),
        (INGRESS, 'proxy-read-timeout: "120"', 'proxy-read-timeout: "25"'),
        (INGRESS, "proxy-body-size: 2m", "proxy-body-size: 1m"),
        (KUBERNETES, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 50"),
        (KUBERNETES, "                seconds: 5", "                seconds: 15"),
        (SETTINGS, "MCP_DRAIN_TIMEOUT_SECONDS=35", "MCP_DRAIN_TIMEOUT_SECONDS=45"),
        (SETTINGS, "MCP_DRAIN_TIMEOUT_SECONDS=35", "MCP_DRAIN_TIMEOUT_SECONDS=30"),
        (SETTINGS, "MCP_READINESS_DELAY_SECONDS=5", "MCP_READINESS_DELAY_SECONDS=1"),
        ("deploy/kubernetes/overlays/production/settings.env", "MCP_AUTH", "MCP_TOOL_TIMEOUT_SECONDS=40\nMCP_AUTH"),
        ("deploy/helm/values.production.yaml", "  MCP_AUTH", '  MCP_TOOL_TIMEOUT_SECONDS: "40"\n  MCP_AUTH'),
        ("compose.yaml", "    # Readiness delay", "    stop_grace_period: 40s\n    #"),
        ("fly.toml", "kill_timeout = 60", "kill_timeout = 45"),
        ("railway.json", '"drainingSeconds": 60', '"drainingSeconds": 45'),
    ],
)  # fmt: skip
def test_a_number_that_does_not_fit_is_named(chain: Any, copy: Path, file: str, line: str, instead: str) -> None:
    """One spoilt number: one sentence, with the file in it."""
    text = (copy / file).read_text(encoding="utf-8")
    assert line in text
    (copy / file).write_text(text.replace(line, instead), encoding="utf-8")

    folder = file.removesuffix("/deployment.yaml").removesuffix("/kustomization.yaml")
    named = {INGRESS: "deploy/kubernetes"}.get(file, folder.removesuffix("/settings.env"))

    assert f"/{named}" in problems(chain, copy)


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        ({"MCP_DRAIN_TIMEOUT_SECONDS": 60.0}, {"compose.yaml", "fly.toml", "railway.json"}),
        ({"MCP_READINESS_DELAY_SECONDS": 30.0}, {"compose.yaml", "fly.toml", "railway.json"}),
        ({"MCP_TOOL_TIMEOUT_SECONDS": 300.0}, {CADDY, NGINX_PROXY, "compose.yaml", "fly.toml"}),
        ({"MCP_KEEP_ALIVE_SECONDS": 30.0}, {CADDY, NGINX}),
        ({"MCP_STREAM_PING_SECONDS": 80.0}, {CADDY, NGINX_PROXY}),
        ({"MCP_BODY_TIMEOUT_SECONDS": 30.0}, {CADDY, NGINX}),
        ({"MCP_MAX_BODY_BYTES": 8_000_000.0}, {CADDY, NGINX, "deploy/kubernetes/base"}),
    ],
)
def test_a_changed_setting_names_every_file_that_must_follow(
    chain: Any, project: Path, changed: dict[str, float], files: set[str]
) -> None:
    """A new default reaches each file that was derived from the old one."""
    settings = chain.defaults() | changed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "defaults", lambda: settings)
        found = problems(chain, project)

    assert {file for file in files if f"/{file}:" not in found} == set()


def test_who_waits_for_a_deployment_waits_longer(project: Path) -> None:
    """Scripts and workflows give up after what they wait for has done so, which says why; seconds."""

    def number(file: str, pattern: str) -> int:
        found = set(re.findall(pattern, (project / file).read_text("utf-8"), re.MULTILINE))
        assert len(found) == 1, (file, pattern, found)
        return int(found.pop())

    script, flows = "scripts/kubernetes.sh", ".github/workflows/deploy-"
    progress = number(KUBERNETES, r"progressDeadlineSeconds: (\d+)")
    migration = number(script, r"try < (\d+)") * number(script, r"DEPLOY_PAUSE:-(\d+)")
    roll, back = (number(file, r"--timeout (\d+)s") for file in (script, f"{flows}kubernetes.yml"))
    railway = number(f"{flows}railway.yml", r"DEPLOY_TRIES:-(\d+)") * number(f"{flows}railway.yml", r"PAUSE:-(\d+)")
    fly = 60 * number("fly.toml", r'^wait_timeout = "(\d+)m"')
    gate = number("scripts/gate.sh", r"GATE_SECONDS:-(\d+)")
    waits = [
        number("railway.json", rf'"{name}": (\d+)')
        for name in ("healthcheckTimeout", "overlapSeconds", "drainingSeconds")
    ]

    assert migration > number("deploy/kubernetes/components/migrations/job.yaml", r"activeDeadlineSeconds: (\d+)")
    assert min(roll, back) > progress
    assert railway > sum(waits)
    assert number("scripts/image.sh", r"stop -t (\d+)") > number(SETTINGS, r"DRAIN_TIMEOUT_SECONDS=(\d+)") + 5
    for target, longest in (("kubernetes", migration + roll + back), ("railway", 2 * railway), ("fly", 2 * fly)):
        assert 60 * number(f"{flows}{target}.yml", r"^ +timeout-minutes: (\d\d)$") > longest + 2 * gate


def test_a_tool_with_a_longer_deadline_counts(chain: Any, copy: Path) -> None:
    """What the author declares beside a tool is part of the chain."""
    tools = copy / "src/weather_server/tools"
    tools.mkdir(exist_ok=True)
    (tools / "slow.py").write_text("@tool(read_only=True, timeout_seconds=200)\n", encoding="utf-8")

    found = problems(chain, copy)

    assert f"/{NGINX_PROXY}: read timeout of 120 must exceed the longest tool, 200 s" in found
    assert "drain of 35 must exceed the longest tool" in found
