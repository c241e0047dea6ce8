"""What runs the server keeps its promises: image, Compose, Kubernetes, proxies, platforms and workflows, as they are.

A promise for a platform that this project does not deploy to is not asked for.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import alias
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

SECONDS = 60
POD = "deploy/kubernetes/base/deployment.yaml: spec.template.spec"
SERVER = f"{POD}.containers.-"
POLICY = "deploy/kubernetes/base/network-policy.yaml: spec"
OUTSIDE = f"{POLICY}.egress.-.to.-.ipBlock.except.-"
INGRESS = "deploy/kubernetes/components/ingress-nginx/ingress.yaml: metadata.annotations.nginx.ingress.kubernetes.io"
INSIDE = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "::1/128")
GATES = ("check", "test", "protocol", "conformance", "contract", "image", "boot", "audit", "secrets", "workflows")
PUBLIC = ["/mcp", "/.well-known/oauth-protected-resource/mcp"]
PROXIES = (
    "deploy/caddy/Caddyfile",
    "deploy/kubernetes/components/gateway/http-route.yaml",
    "deploy/kubernetes/components/ingress-nginx/ingress.yaml",
    "deploy/nginx/mcp-server.conf",
)

# What is written, and where: file and keys, or file and line.
PROMISES = {
    "dependencies are those of the lock, without tools": ["Dockerfile: RUN uv sync --locked --no-dev *"],
    "SIGTERM stops the image": ["Dockerfile: STOPSIGNAL SIGTERM"],
    "a pod is never root": [f"{POD}.securityContext.runAsNonRoot: true", f"{POD}.securityContext.runAsUser: [1-9]*"],
    "a pod cannot write to its image": [f"{SERVER}.securityContext.readOnlyRootFilesystem: true"],
    "a pod has no capability": [f"{SERVER}.securityContext.capabilities.drop.-: ALL"],
    "a pod cannot gain privileges": [f"{SERVER}.securityContext.allowPrivilegeEscalation: false"],
    "system calls are filtered": [f"{POD}.securityContext.seccompProfile.type: RuntimeDefault"],
    "a pod has no token for the cluster": [f"{POD}.automountServiceAccountToken: false"],
    "memory has a bound": [f"{SERVER}.resources.limits.memory: *Mi"],
    "balancers learn of the end of a pod first": [f"{SERVER}.lifecycle.preStop.sleep.seconds: [1-9]*"],
    "a database that is away restarts nothing": [f"{SERVER}.livenessProbe.httpGet.path: /livez"],
    "only a ready replica gets calls": [f"{SERVER}.readinessProbe.httpGet.path: /readyz"],
    "a replica goes when its successor is there": [
        "deploy/kubernetes/base/deployment.yaml: spec.strategy.rollingUpdate.maxUnavailable: 0"
    ],
    "nothing comes in that is not listed": [f"{POLICY}.policyTypes.-: Ingress"],
    "nothing goes out that is not listed": [f"{POLICY}.policyTypes.-: Egress"],
    "a tool cannot be tricked into the inside": [f"{OUTSIDE}: {network}" for network in INSIDE],
    "what protects the pods is applied": [
        f"deploy/kubernetes/base/kustomization.yaml: resources.-: {name}.yaml"
        for name in ("network-policy", "pod-disruption-budget", "horizontal-pod-autoscaler", "service-account")
    ],
    "the cluster refuses privileged pods": [
        "deploy/kubernetes/base/namespace.yaml: metadata.labels.pod-security.kubernetes.io/enforce: restricted"
    ],
    "the Ingress passes each event on at once": [f"{INGRESS}/proxy-buffering: off"],
    "the Ingress repeats no call that was sent": [f"{INGRESS}/proxy-next-upstream: error timeout"],
    "nginx passes each event on at once": ["deploy/nginx/mcp-server-proxy.conf: proxy_buffering off;"],
    "nginx repeats no call that was sent": ["deploy/nginx/mcp-server-proxy.conf: proxy_next_upstream error timeout;"],
    "nginx states the address by itself": [
        "deploy/nginx/mcp-server-proxy.conf: proxy_set_header X-Forwarded-For $remote_addr;",
        'deploy/nginx/mcp-server-proxy.conf: proxy_set_header Forwarded "";',
    ],
    "nginx keeps nothing of a request, in memory or on a disk": [
        "deploy/nginx/mcp-server-proxy.conf: proxy_request_buffering off;",
        "deploy/nginx/mcp-server.conf: client_body_buffer_size 16k;",
    ],
    "nginx bounds what one address has open": ["deploy/nginx/mcp-server.conf: limit_conn mcp_address 128;"],
    "Caddy keeps nothing of a request, and every refusal arrives": ["deploy/caddy/Caddyfile: enable_full_duplex"],
    "Caddy gives slow senders up": ["deploy/caddy/Caddyfile: read_body 20s"],
    "Caddy states the address by itself": [
        "deploy/caddy/Caddyfile: header_up X-Forwarded-For {client_ip}",
        "deploy/caddy/Caddyfile: trusted_proxies_strict",
    ],
    "Compose bounds the connections of Caddy": ["compose.yaml: services.caddy.ulimits: {nofile: 2048}"],
    "nginx insists on TLS": ["deploy/nginx/mcp-server.conf: add_header Strict-Transport-Security *"],
    "Caddy passes each event on at once": ["deploy/caddy/Caddyfile: flush_interval -1"],
    "Caddy insists on TLS": ["deploy/caddy/Caddyfile: Strict-Transport-Security *"],
    "Fly.io insists on TLS": ["fly.toml: force_https = true"],
    "Fly.io never stops an idle server, and its streams": ['fly.toml: auto_stop_machines = "off"'],
    "Fly.io asks whether the server is ready": ['fly.toml: path = "/readyz"'],
    "Railway asks whether the server is ready": ['railway.json: "healthcheckPath": "/readyz",'],
    "data is reachable for the server alone": ["compose.yaml: networks.data.internal: true"],
    "Compose runs the server without rights": [
        "compose.yaml: services.server.read_only: true",
        "compose.yaml: services.server.cap_drop: [[]ALL]",
    ],
    "only a commit that ci has passed is released": ['.github/workflows/release.yml: if ! [[] "$passed" -gt 0 ]; then'],
    "a release is signed": ['.github/workflows/release.yml: jobs.sign.steps.-.run: cosign sign --yes "$IMAGE"'],
    "only an image of this repository is deployed": [
        ".github/workflows/deploy-kubernetes.yml: gh attestation verify *",
        '.github/workflows/deploy-kubernetes.yml: --signer-workflow "$GITHUB_REPOSITORY/.github/workflows/release.yml"',
    ],
    "a changed Secret reaches the pods": ['scripts/kubernetes.sh: mcp-server/deployed: "$(date -u *)"'],
    "what was deployed is probed": [
        f".github/workflows/deploy-{platform}.yml: jobs.deploy.steps.-.run: bash scripts/gate.sh *new version*"
        for platform in ("kubernetes", "fly", "railway")
    ],
    "what does not serve is rolled back": [
        '.github/workflows/deploy-fly.yml: flyctl deploy --image "$BEFORE"',
        '.github/workflows/deploy-kubernetes.yml: kubectl * rollout undo "deployment/${KUBE_PREFIX}mcp-server" *',
        ".github/workflows/deploy-railway.yml: *deploymentRollback*",
    ],
    "every gate stops a change": [f".github/workflows/ci.yml: jobs.*.steps.-.run: make {gate}" for gate in GATES],
    "a vulnerability that is known stops a change": ["Makefile: uvx pip-audit@* --strict * --require-hashes *"],
    "check is format, lint, types and contract": [
        "Makefile: $(RUN) ruff format --check",
        "Makefile: $(RUN) ruff check",
        "Makefile: $(RUN) pyright",
        "Makefile: $(RUN) python -m $(SERVER) schema check",
    ],
}
# What a project has deleted on purpose is not asked for; `make check` names files of the template that are gone.
needs = {
    name: pytest.mark.skipif(not (alias.ROOT / name).exists(), reason=f"this project has no {name}")
    for name in ("Dockerfile", ".dockerignore", "compose.yaml", "scripts")
}
WORKFLOWS = ("ci", "deploy-fly", "deploy-kubernetes", "deploy-railway", "probe", "release", "template-update")
# What a job may change, and why it has to.
WRITES = {
    "deploy-fly.yml": {"id-token"},  # proves to the registry who it is
    "deploy-kubernetes.yml": {"id-token"},
    "deploy-railway.yml": {"id-token"},
    "probe.yml": {"issues"},  # opens the issue of an outage
    "release.yml": {"actions", "attestations", "contents", "id-token", "packages"},
    "template-update.yml": {"issues"},
}


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (alias.ROOT / name).read_text(encoding="utf-8")


def lines(text: str) -> Iterator[str]:
    """Yield each line without indentation and comments."""
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith("#"):
            yield line.strip()


def keys(text: str) -> Iterator[str]:
    """Yield what YAML says as `path.to.key: value`, an item of a list as `-`; enough for the files of this project."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        body, indent = line.strip(), len(line) - len(line.lstrip())
        if not body or body.startswith("#"):
            continue
        path = [(column, key) for column, key in path if column < indent]
        while body.startswith("- "):
            path.append((indent, "-"))
            body, indent = body[2:].lstrip(), indent + 2
        found = re.fullmatch(r"([^\s:]+|\"[^\"]+\"):(?:\s+(.*))?", body)
        key, value = (found[1].strip('"'), found[2] or "") if found else ("", body)
        path += [(indent, key)] if key else []
        value = re.sub(r"(^|\s+)#.*", "", value)
        value = value[1:-1] if re.fullmatch(r"\"[^\"]*\"", value) else value
        if value or not key:
            yield f"{'.'.join(key for _, key in path)}: {value}"


def said(name: str) -> set[str]:
    """Return everything that a file says, by line and, where it is YAML, by key."""
    text = read(name)
    return {*lines(text), *(keys(text) if name.endswith((".yaml", ".yml")) else ())}


def workflows() -> list[str]:
    """Return the workflows of the template that are here; yours are yours."""
    return [f"{name}.yml" for name in WORKFLOWS if (alias.ROOT / f".github/workflows/{name}.yml").exists()]


def services(text: str) -> dict[str, dict[str, str]]:
    """Return what a Compose file says of each service."""
    found: dict[str, dict[str, str]] = {}
    for line in keys(text):
        if match := re.fullmatch(r"services\.([^.:]+)\.(.+?): (.*)", line):
            found.setdefault(match[1], {})[match[2]] = match[3]
    return found


@pytest.mark.parametrize("promise", PROMISES)
def test_the_files_keep_each_promise(promise: str) -> None:
    """Each file that is here says what makes the promise true."""
    for statement in PROMISES[promise]:
        name, _, wanted = statement.partition(": ")
        if (alias.ROOT / name).exists():
            assert fnmatch.filter(said(name), wanted), f"{promise}: {name} must say {wanted}"


@needs["Dockerfile"]
def test_the_server_is_process_one_and_not_root() -> None:
    """No shell stands between SIGTERM and the server, and its user is a number that is not 0."""
    instructions = [line for line in read("Dockerfile").splitlines() if re.match(r"[A-Z]+ ", line)]
    last = {line.partition(" ")[0]: line.partition(" ")[2] for line in instructions}

    assert json.loads(last["CMD"])[-1] == "serve"
    assert "ENTRYPOINT" not in last
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])


@needs["Dockerfile"]
def test_images_are_what_was_reviewed() -> None:
    """Every image has a digest, so that nobody can put another one in its place."""
    images = re.findall(r"^ARG \w+_IMAGE=(.+)$", read("Dockerfile"), re.MULTILINE)
    if (alias.ROOT / "compose.yaml").exists():
        images += re.findall(r"^    image: (?!\$\{SERVER_IMAGE)(.+)$", read("compose.yaml"), re.MULTILINE)

    assert len(images) >= 2
    assert [image for image in images if not re.search(r"@sha256:[0-9a-f]{64}\}?$", image)] == []


@needs["Dockerfile"]
def test_nothing_can_be_installed_in_the_image() -> None:
    """The stage that runs has no package manager left."""
    (removed,) = re.findall(r"^RUN rm -rf (.+?) && ", read("Dockerfile").replace("\\\n", " "), re.MULTILINE)

    assert {"/usr/local/bin/pip*", "/usr/bin/apt*", "/usr/bin/dpkg*"} <= set(removed.split())


@needs[".dockerignore"]
def test_no_secret_gets_into_an_image() -> None:
    """Only what is named gets into the build: first everything is left out."""
    named = list(lines(read(".dockerignore")))

    assert named[0] == "*"
    assert {line for line in named if line.startswith("!")} <= {
        f"!{name}" for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "src")
    }


@contextmanager
def answering(status: int) -> Generator[tuple[int, list[str]]]:
    """Answer every request with a status; give the port, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join(SECONDS)


@needs["Dockerfile"]
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_asks_whether_the_server_is_alive(status: int, code: int) -> None:
    """The health check of the image can pass, and can fail."""
    (check,) = re.findall(r"^    CMD (\[.+\])$", read("Dockerfile"), re.MULTILINE)
    with answering(status) as (port, asked):
        command = [sys.executable, *json.loads(check)[1:]]
        done = subprocess.run(command, env={**os.environ, "PORT": str(port)}, check=False, timeout=SECONDS)

    assert (done.returncode, asked) == (code, ["/livez"])


@needs["compose.yaml"]
def test_compose_publishes_the_proxy_alone() -> None:
    """Every service is bounded, and only the proxy is reachable, from this machine unless MCP_BIND says more."""
    text = read("compose.yaml")
    published = [line.strip() for line in text.splitlines() if re.match(r"      - .+:\d+:\d+$|      - .+:\d+$", line)]
    found = services(text)

    assert {name for name, says in found.items() if "ports.-" in says} == {"caddy"}
    assert [line for line in published if not line.startswith("- ${MCP_BIND:-127.0.0.1}:")] == []
    for name, says in found.items():
        assert says["security_opt"] == '["no-new-privileges:true"]', name
        assert {"mem_limit", "pids_limit", "restart"} <= says.keys(), name
    assert set(re.findall(r"\$\{POSTGRES_PASSWORD(..)", text)) <= {":?"}, "a password has no default"
    assert text.count("POSTGRES_PASSWORD_FILE: /proc/sys/kernel/random/uuid") == text.count("  postgres:\n    image:")
    assert re.findall(r"--maxmemory-policy, (\w+)", text) in ([], ["noeviction"]), "a lost counter opens a limit"


def published(name: str) -> list[str]:
    """Return the paths that a proxy's configuration hands to the server, as it names them."""
    text = read(name)
    if name.endswith(".conf"):
        locations = dict(re.findall(r"location (?!@)(.+) \{\s+(.+)$", text, re.MULTILINE))
        assert locations.pop("/") == "return 404;", "what is not named is not there"
        assert set(locations.values()) == {"include mcp-server-proxy.conf;"}
        assert all(location.startswith("= ") for location in locations), "to the letter"
        return [location.removeprefix("= ") for location in locations]
    if name.endswith("Caddyfile"):
        assert "\thandle {\n\t\trespond 404\n\t}" in text, "what is not named is not there"
        return re.findall(r"^\t@public path (.+)\n\thandle @public \{", text, re.MULTILINE)[0].split()
    assert text.count("Exact") == len(PUBLIC), "to the letter"
    return re.findall(r"^ +(?:- )?(?:path|value): (/.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in PROXIES if (alias.ROOT / name).exists()])
def test_proxies_publish_two_paths(name: str) -> None:
    """Health and metrics are for the inside; what is public is named to the letter."""
    assert published(name) == PUBLIC


@pytest.mark.parametrize("name", workflows())
def test_workflows_have_no_more_rights_than_they_need(name: str) -> None:
    """No right by default, each one that writes is known, and no step after the checkout has its token."""
    found = list(keys(read(f".github/workflows/{name}")))
    writes = {line.split(".")[-1].partition(":")[0] for line in found if re.search(r"permissions\..*: write$", line)}
    checkouts = [line for line in found if "uses: actions/checkout@" in line]

    assert "permissions: {}" in found
    assert [line for line in found if re.search(r"permissions: (?!\{\}$)", line)] == []
    assert writes <= WRITES.get(name, set())
    assert len([line for line in found if line.endswith("persist-credentials: false")]) == len(checkouts)
    assert [line for line in found if re.match(r"on\.(pull_request_target|workflow_run)", line)] == []
    assert "pull_request_target" not in read(f".github/workflows/{name}")


@pytest.mark.parametrize("name", workflows())
def test_workflows_run_what_was_reviewed(name: str) -> None:
    """An action is named by its commit, since a tag can be moved; each job has an end."""
    text = read(f".github/workflows/{name}")
    used = re.findall(r"uses: (\S+)", text)

    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    assert text.count("    timeout-minutes: ") == text.count("    runs-on: ")


@pytest.mark.parametrize("name", workflows())
def test_no_step_may_fail_in_silence(name: str) -> None:
    """A gate that does not stop anything is none."""
    text = read(f".github/workflows/{name}")

    assert not re.search(r"continue-on-error|\|\| *(true|:)|set \+e", text)
    if name == "ci.yml":
        assert not re.search(r"^ +if: ", text, re.MULTILINE)


@needs["scripts"]
@pytest.mark.parametrize("name", ["contract", "gate", "image", "protocol"])
def test_scripts_stop_at_the_first_failure(name: str) -> None:
    """What goes on after a failed command reports success."""
    assert "set -euo pipefail" in list(lines(read(f"scripts/{name}.sh")))


def stand_in(folder: Path, **programs: str) -> dict[str, str]:
    """Put programs before those of the machine; return the environment that has them."""
    for name, code in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": os.devnull}


def script(name: str, folder: Path, environment: dict[str, str]) -> int:
    """Run a script of the workflows; return its exit code."""
    bash = shutil.which("bash")
    assert bash, "the workflows' scripts need bash"
    command = [bash, str(alias.ROOT / f"scripts/{name}.sh")]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, timeout=SECONDS, stdout=subprocess.DEVNULL)
    return done.returncode


@needs["scripts"]
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_gate_3_says_what_the_probe_says(code: int, tmp_path: Path) -> None:
    """The deployment goes on if the probe found clients served, and only then."""
    environment = stand_in(tmp_path, python3=f'[ "$1" = -c ] || exit {code}') | {
        "MCP_PROBE_KEY": "key",
        "MCP_PUBLIC_URL": "https://mcp.example.com",
    }

    assert script("gate", tmp_path, environment) == code


@needs["scripts"]
@pytest.mark.parametrize(("breaks", "code"), [(0, 0), (4, 1)])
def test_gate_2_stops_what_breaks_clients(breaks: int, code: int, tmp_path: Path) -> None:
    """A breaking change without a new version does not pass."""
    (tmp_path / "src/package/hardening").mkdir(parents=True)
    python = f'case "$*" in *"check --against"*) exit {breaks} ;; *diff*) exit 4 ;; esac'
    git = 'case "$1" in ls-tree) echo schema/tools.json ;; esac'
    environment = stand_in(tmp_path, python=python, git=git) | {"BASE": "1" * 40}

    assert script("contract", tmp_path, environment) == code
