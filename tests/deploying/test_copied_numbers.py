"""A number that several files repeat is the same in each: one table, one row for each number.

What has to be larger or smaller than another number is the grace chain's, and tested there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PAGE, FIRST = "docs/operations.md", "docs/first-deployment.md"
CADDY, NGINX, PROXY = "deploy/caddy/Caddyfile", "deploy/nginx/mcp-server.conf", "deploy/nginx/mcp-server-proxy.conf"
DEPLOYMENT, BASE = "deploy/kubernetes/base/deployment.yaml", "deploy/kubernetes/base/kustomization.yaml"
SCALER, JOB = "deploy/kubernetes/base/horizontal-pod-autoscaler.yaml", "deploy/kubernetes/probe/cron-job.yaml"
COMPONENTS, VALUES = "deploy/kubernetes/components", "deploy/helm/values.yaml"
SETTINGS, COMPOSE, FLY = "docs/settings.md", "compose.yaml", "fly.toml"
PROMETHEUS, UNIT = "deploy/prometheus/prometheus.yaml", "deploy/systemd/mcp-probe@.service"

# What it is, the number, and each file with the text around it; `#` stands for the number.
NUMBERS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "port of the server",
        "8000",
        [
            ("Dockerfile", r"^EXPOSE #$"),
            ("Dockerfile", r"\bPORT=#$"),
            (DEPLOYMENT, r"containerPort: #$"),
            (COMPOSE, r'PORT: "#"'),
            (COMPOSE, r"MCP_UPSTREAMS: server:#$"),
            (COMPOSE, r"HTTPConnection\('127\.0\.0\.1', #,"),
            (FLY, r"^internal_port = #$"),
            (CADDY, r"MCP_UPSTREAMS:server:#\}"),
            (NGINX, r"^    server server:# "),
            (PROMETHEUS, r"- server:#$"),
            ("Makefile", r"^URL \?= http://127\.0\.0\.1:#/mcp$"),
        ],
    ),
    (
        "user of the image",
        "10001",
        [
            ("Dockerfile", r"^USER #:"),
            ("Dockerfile", r"^USER \d+:#$"),
            *((file, f"runAs{who}: #$") for who in ("User", "Group") for file in (DEPLOYMENT, JOB)),
            *((f"{COMPONENTS}/migrations/job.yaml", f"runAs{who}: #$") for who in ("User", "Group")),
        ],
    ),
    (
        "memory of a replica, MiB",
        "512",
        [
            (DEPLOYMENT, r"limits:\n(?: +.*\n){0,2}? +memory: #Mi$"),
            (VALUES, r"limits:\n(?: +.*\n){0,2}? +memory: #Mi$"),
            (COMPOSE, r"nodev\n    cap_drop: \[ALL\]\n.*\n    mem_limit: #m$"),
            (FLY, r'^memory = "#mb"$'),
        ],
    ),
    ("memory of the probe, MiB", "96", [(JOB, r"limits:\n +memory: #Mi$"), (UNIT, r"^MemoryMax=#M$")]),
    ("memory of Caddy, MiB", "384", [(COMPOSE, r"ulimits: .*\n    mem_limit: #m$"), (PAGE, r"fit its # MiB")]),
    (
        "connections of Caddy",
        "2048",
        [(COMPOSE, r"nofile: #\}"), (COMPOSE, r"by descriptors: # of"), (PAGE, r"\| # descriptors")],
    ),
    (
        "silence that a proxy bears, s",
        "120",
        [
            (CADDY, r"response_header_timeout #s$"),
            (CADDY, r"^\s+read_timeout #s$"),
            (PROXY, r"^proxy_read_timeout #s;$"),
            (f"{COMPONENTS}/ingress-nginx/ingress.yaml", r'proxy-read-timeout: "#"$'),
            (f"{COMPONENTS}/openshift/route.yaml", r"router\.openshift\.io/timeout: #s$"),
            (PAGE, r"^\| Caddy, nginx, Ingress \|.*\| # s \|$"),
            (PAGE, r"^\| Caddy, `deploy/caddy` .*\| asks `/readyz` \| # s \|"),
            (PAGE, r"^\| nginx, `deploy/nginx` .*\| cannot ask \| # s \|"),
            (PAGE, r"^\| NGINX Ingress .*\| # s, in the component \|"),
            (PAGE, r"^\| OpenShift's router .*\| # s, in the component;"),
            (PAGE, r"one that was sent ends after # s;"),
        ],
    ),
    (
        "idle connections to the server, s",
        "60",
        [
            (CADDY, r"^\s+keepalive #s$"),
            (NGINX, r"^\s+keepalive_timeout #s;$"),
            (PAGE, r"^\| Caddy, `deploy/caddy` .*\| # s \| 2 MB"),
            (PAGE, r"^\| nginx, `deploy/nginx` .*\| # s \| 2 MB"),
        ],
    ),
    (
        "idle connections of the server, s",
        "75",
        [(SETTINGS, r"`MCP_KEEP_ALIVE_SECONDS`.*`#"), (PAGE, r"above what the balancer keeps, # unless")],
    ),
    (
        "largest request, MB",
        "2",
        [
            (CADDY, r"max_size #MB$"),
            (NGINX, r"client_max_body_size #m;$"),
            (f"{COMPONENTS}/ingress-nginx/ingress.yaml", r"proxy-body-size: #m$"),
            (PAGE, r"^\| Caddy, `deploy/caddy` .*\| # MB; "),
            (PAGE, r"^\| nginx, `deploy/nginx` .*\| # MB; "),
            (PAGE, r"^\| NGINX Ingress .*\| # MB, in the component"),
            (PAGE, r"bodies that never end, 150 of # MB"),
        ],
    ),
    (
        "wait for a connection, s",
        "2",
        [
            (CADDY, r"dial_timeout #s$"),
            (PROXY, r"proxy_connect_timeout #s;$"),
            (PAGE, r"a call waits # s until another"),
        ],
    ),
    (
        "health checks, s",
        "2",
        [
            (CADDY, r"health_interval #s$"),
            (CADDY, r"health_timeout #s$"),
            (FLY, r'^interval = "#s"$'),
            (FLY, r'^timeout = "#s"$'),
        ],
    ),
    (
        "grace of nginx, s",
        "45",
        [(PAGE, r"`worker_shutdown_timeout #s;`"), (PAGE, r"^\| nginx \| `worker_shutdown_timeout`.*\| # s \|$")],
    ),
    ("grace of Caddy, s", "40", [(CADDY, r"^\s+grace_period #s$"), (PAGE, r"^\| Caddy \| `grace_period`.*\| # s \|$")]),
    (
        "longest tool, s",
        "30",
        [
            (BASE, r"MCP_TOOL_TIMEOUT_SECONDS=#$"),
            (SETTINGS, r"`MCP_TOOL_TIMEOUT_SECONDS`.*`#"),
            (VALUES, r"tool # s"),
            (PAGE, r"^\| longest tool \|.*\| # s \|$"),
        ],
    ),
    (
        "drain, s",
        "35",
        [
            (BASE, r"MCP_DRAIN_TIMEOUT_SECONDS=#$"),
            (SETTINGS, r"`MCP_DRAIN_TIMEOUT_SECONDS`.*`#"),
            (VALUES, r"drain # s"),
            (FLY, r"\+ drain # \+"),
            (DEPLOYMENT, r"\+ drain # \+"),
            (PAGE, r"^\| drain \|.*\| # s \|$"),
            (PAGE, r"=  5 \+ # \+ 5  ="),
        ],
    ),
    (
        "readiness delay, s",
        "5",
        [
            (BASE, r"MCP_READINESS_DELAY_SECONDS=#$"),
            (SETTINGS, r"`MCP_READINESS_DELAY_SECONDS`.*`#"),
            (VALUES, r"readiness delay # s"),
            (FLY, r"Readiness delay # \+"),
            (DEPLOYMENT, r"readiness delay # \+"),
            (PAGE, r"=  # \+ 35 \+ 5  ="),
        ],
    ),
    (
        "server, in all, s",
        "45",
        [
            (PAGE, r"\+ 5  =  # s$"),
            (PAGE, r"^\| server, in all \|.*\| # s \|$"),
            (COMPOSE, r"\+ closing is # s:"),
            (FLY, r"\+ closing 5 = #,"),
        ],
    ),
    (
        "replicas in Kubernetes",
        "6",
        [(BASE, r"MCP_REPLICAS=#$"), (SCALER, r"maxReplicas: #$"), (VALUES, r"^  max: #$")],
    ),
    ("replicas at least", "2", [(SCALER, r"minReplicas: #$"), (VALUES, r"^  min: #$")]),
    (
        "machines on Fly.io",
        "2",
        [
            (FLY, r'^MCP_REPLICAS = "#"$'),
            (FLY, r"^min_machines_running = #$"),
            (FLY, r"fly scale count #\b"),
            (FIRST, r"^fly scale count #$"),
        ],
    ),
    (
        "keep-alive behind GKE's Gateway, s",
        "620",
        [
            (f"{COMPONENTS}/gke-gateway/kustomization.yaml", r"MCP_KEEP_ALIVE_SECONDS=#$"),
            (PAGE, r"600 s, fixed: `MCP_KEEP_ALIVE_SECONDS=#`"),
        ],
    ),
    (
        "whole answer behind GKE's Gateway, s",
        "3600",
        [
            (f"{COMPONENTS}/gke-gateway/backend-policy.yaml", r"timeoutSec: #$"),
            (PAGE, r"^\| Google.*unless set; # s in the component"),
        ],
    ),
    ("pause between two looks, s", "60", [(UNIT, r" --every # "), (PAGE, r"--every # --schema")]),
    (
        "settings or tools are wrong",
        "78",
        [(PAGE, r"^\| # \| settings, tools"), (PAGE, r"RestartPreventExitStatus=#`")],
    ),
    (
        "oldest Kubernetes",
        "1.33",
        [
            (FIRST, r"cluster of # or newer"),
            (PAGE, r"^Kubernetes needs # or newer"),
            (FIRST, r"schemas of Kubernetes # and"),
            (PAGE, r"strictly for # and"),
            ("deploy/helm/Chart.yaml", r'kubeVersion: ">=#\.0-0"$'),
        ],
    ),
]


def differing(project: Path, rows: list[tuple[str, str]], number: str) -> list[str]:
    """Return the places that say another number, or none: file and pattern, with what is there."""
    found: list[str] = []
    for file, pattern in rows:
        text = (project / file).read_text("utf-8")
        said = re.findall(pattern.replace("#", r"([\d.,]*\d)", 1), text, re.MULTILINE)
        if not said or {one.replace(",", "") for one in said} != {number}:
            found.append(f"{file}: {pattern}: {said}")
    return found


@pytest.mark.parametrize(("number", "rows"), [row[1:] for row in NUMBERS], ids=[row[0] for row in NUMBERS])
def test_a_number_is_the_same_wherever_it_stands(project: Path, number: str, rows: list[tuple[str, str]]) -> None:
    """Files, values and pages; a place that no longer says it is named as well."""
    assert differing(project, rows, number) == []


def test_another_number_is_named(project: Path, tmp_path: Path) -> None:
    """One file that says another number, and one that says none any more, are found."""
    rows = [(FLY, r'^memory = "#mb"$'), (COMPOSE, r"^\s+mem_limit: #m$")]
    (tmp_path / FLY).write_text((project / FLY).read_text("utf-8").replace('"512mb"', '"1,024mb"'), "utf-8")
    (tmp_path / COMPOSE).write_text("services: {}\n", "utf-8")

    assert [line.partition(":")[0] for line in differing(tmp_path, rows, "512")] == [FLY, COMPOSE]
    assert differing(tmp_path, rows[:1], "1024") == []
