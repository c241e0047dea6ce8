"""What no file of a deployment may say: a privilege, a way in, a repeated POST, a buffer, a check that is switched off.

The model of these files says what they are; this says what must not stand there, and fails when it is added.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.projects import ANSWERS, WITHOUT_DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.harness import Template

COMPOSE, DOCKERFILE, CADDY = "compose.yaml", "Dockerfile", "deploy/caddy/Caddyfile"
NGINX, NGINX_PROXY = "deploy/nginx/mcp-server.conf", "deploy/nginx/mcp-server-proxy.conf"
PROMETHEUS, SYSTEMD, FLY = "deploy/prometheus/prometheus.yaml", "deploy/systemd/mcp-probe@.service", "fly.toml"
ROLE = "deploy/postgres/role.sql"
# What a service of Compose may say; nothing else gives it the host's network, devices, processes or users.
SERVICE_KEYS = {
    *("build", "image", "command", "init", "user", "environment", "env_file", "ports", "volumes", "networks"),
    *("depends_on", "healthcheck", "stop_grace_period", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt"),
    *("ulimits", "mem_limit", "pids_limit", "restart", "logging"),
}
# What is mounted from the host is read only; a port below 1024 is the only capability.
CAPABILITIES = {"caddy": ["NET_BIND_SERVICE"]}
# What a Dockerfile may be made of; ADD fetches, ONBUILD and VOLUME act later, SHELL changes how RUN is read.
INSTRUCTIONS = {
    *("ARG", "FROM", "COPY", "ENV", "WORKDIR", "RUN", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD", "LABEL"),
}
# What a file may not say, by what it would mean.
NEVER = {
    CADDY: {
        "a call that was sent is sent again": r"^\s*(?:lb_retries|lb_retry_match)\b",
        "an answer is kept": r"^\s*(?:request_buffers|response_buffers|buffer_requests|encode|cache)\b",
        "a stream is cut": r"^\s*(?:write|write_timeout|stream_timeout)\b|flush_interval (?!-1)",
        "the client says who it is": (
            r"header_up [+>]?X-Forwarded-For (?!\{client_ip\})|trusted_proxies static.*/0|private_ranges"
        ),
        "a page of the inside": r"^\s*(?:admin|metrics|pprof|file_server|root|php_fastcgi|templates)\b",
        "TLS that is not looked at": r"tls_insecure_skip_verify|^\s*auto_https|http://",
        "what was asked is written": r"^\s*(?:log|log_credentials|debug)\b",
    },
    NGINX: {
        "a page of the inside": r"^\s*(?:root|alias|autoindex|stub_status|try_files|proxy_pass|location ~.*)\b",
        "the head of a request has no bound": r"large_client_header_buffers|client_max_body_size 0|_timeout 0",
        "old TLS": r"\b(?:SSLv3|TLSv1(?:\.1)?)\b(?!\.)|ssl_verify_client off|listen \d+;",
        "the client says who it is": r"^\s*set_real_ip_from\b",
        "what was asked is written": r"^\s*(?:access_log (?!off)|error_log .*(?:info|debug))",
    },
    NGINX_PROXY: {
        "a call that was sent is sent again": r"non_idempotent|proxy_next_upstream .*(?:http_|invalid_header|updating)",
        "an answer is kept": r"^\s*(?:proxy_cache (?!off)|proxy_store|gzip on|proxy_(?:request_)?buffering on)\b",
        "the client says who it is": r"\$proxy_add_x_forwarded_for|\$http_x_forwarded|\$http_forwarded",
        "a client that leaves is not noticed": r"proxy_ignore_client_abort on",
        "a header of the server is hidden": r"proxy_hide_header|proxy_pass_request_headers off|proxy_method",
    },
    SYSTEMD: {
        "a right is given": r"^(?:AmbientCapabilities|SupplementaryGroups)=|^CapabilityBoundingSet=.",
        "a command runs as root": r"^Exec\w+=[^/\n]*[+!]|^User=root|^Exec(?:StartPre|StartPost|Stop)=",
        "a protection is off": r"^(?:NoNew|Protect|Private|Restrict|Lock)\w+=(?:no|false|off|0)$",
        "more can be written": r"^BindPaths=|^ReadWritePaths=(?!/var/lib/prometheus/node-exporter$)",
    },
    PROMETHEUS: {"TLS that is not looked at": r"insecure_skip_verify", "a key in the file": r"^\s*credentials:"},
    ROLE: {
        "a role that rules": r"\b(?:SUPERUSER|CREATEROLE|CREATEDB|REPLICATION|BYPASSRLS)\b|\bpg_(?:read|write|exec)",
        "everybody": r"GRANT .* TO PUBLIC",
    },
}


@pytest.fixture(scope="module", params=["postgres", "none"])
def root(request: pytest.FixtureRequest, template: Template) -> Path:
    """A project with a database, and one without."""
    return template.render(ANSWERS if request.param == "postgres" else WITHOUT_DATABASE)


def breaches(file: str, text: str) -> list[str]:
    """Return what a file may not say and says."""
    bare = re.sub(r"^\s*(?:#|--).*$", "", text, flags=re.MULTILINE)
    found = [why for why, words in NEVER.get(file, {}).items() if re.search(words, bare, re.MULTILINE)]
    if file == COMPOSE:
        found += compose(yaml.safe_load(text))
    if file == DOCKERFILE:
        found += image(bare)
    if file == FLY:
        found += fly(tomllib.loads(text))
    return found


def compose(said: dict[str, Any]) -> Iterator[str]:
    """Yield what a service has beyond what it needs."""
    for name, service in said["services"].items():
        yield from (f"{name}: {key}" for key in service.keys() - SERVICE_KEYS)
        rules = {
            "capabilities": service.get("cap_add", []) != CAPABILITIES.get(name, []),
            "new privileges": service["security_opt"] != ["no-new-privileges:true"],
            "root": str(service.get("user", "redis")).partition(":")[0] in {"root", "0"},
            "a port for everybody": not all(
                port.startswith("${MCP_BIND:-127.0.0.1}:") for port in service.get("ports", ())
            ),
            "a port around the proxy": "ports" in service and name != "caddy",
            "a folder of the host": any(_writable(volume) for volume in service.get("volumes", ())),
            "secrets of others": service.get("env_file") != ([".env.compose"] if name == "server" else None),
            "no bound": not {"mem_limit", "pids_limit", "logging"} <= service.keys(),
        }
        yield from (f"{name}: {problem}" for problem, broken in rules.items() if broken)
    yield from (
        f"network {name}" for name, one in said["networks"].items() if one not in ({}, None, {"internal": True})
    )


def _writable(volume: str) -> bool:
    source, *_ = volume.split(":")
    return source.startswith(("/", ".", "~")) and not (source.startswith("./deploy/") and volume.endswith(":ro"))


def image(text: str) -> Iterator[str]:
    """Yield instructions that an image of ours does not need."""
    lines = [line.split(maxsplit=1) for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    last = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    users = [rest for word, rest in lines[last:] if word == "USER"]
    yield from (word for word, _ in lines if word not in INSTRUCTIONS)
    if len(users) != 1 or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0]):
        yield "another user, or a second one"
    for word, rest in lines:
        if word in {"ARG", "ENV"} and re.search(r"(?i)(?:KEY|SECRET|TOKEN|PASSWORD)\w*=", rest):
            yield "a secret in a layer"
        if word == "RUN" and re.search(
            r"\bcurl\b|\bwget\b|apt-get install|--privileged|--security=|chmod .*(?:\+s|777)", rest
        ):
            yield "something is fetched, or gets rights"
        if word == "COPY" and (re.search(r"--ch(?:own|mod)=", rest) or "." in rest.split()[:-1]):
            yield "more than is named is copied, or can be changed by the server"
    yield from ("not the server alone" for word, rest in lines if word == "CMD" and not rest.startswith('["'))


def fly(said: dict[str, Any]) -> Iterator[str]:
    """Yield ways in beside the one that asks for TLS, and secrets."""
    yield from (key for key in said.keys() & {"services", "statics", "mounts", "files", "processes", "experimental"})
    yield from (
        f"a secret: {name}"
        for name in said["env"]
        if re.search(r"KEY|SECRET|TOKEN|_URL$", name) and name != "MCP_PUBLIC_URL"
    )
    service = said["http_service"]
    if "http_options" in service or service.get("force_https") is not True:
        yield "plain HTTP"


def test_no_file_undoes_its_promise(root: Path) -> None:
    """No line gives a right, opens a way, keeps or repeats a request, or switches a check off."""
    there = [file for file in (COMPOSE, DOCKERFILE, FLY, *NEVER) if (root / file).exists()]

    assert {file: found for file in there if (found := breaches(file, (root / file).read_text("utf-8")))} == {}
    # A project without a database has no role for it.
    assert {COMPOSE, DOCKERFILE, FLY, *NEVER} - {*there} <= {ROLE}


SERVER = "    init: true\n"
ADDED = [
    (COMPOSE, SERVER, "    privileged: true\n"),
    (COMPOSE, SERVER, "    cap_add: [SYS_ADMIN]\n"),
    (COMPOSE, SERVER, "    network_mode: host\n"),
    (COMPOSE, SERVER, "    pid: host\n"),
    (COMPOSE, SERVER, "    user: root\n"),
    (COMPOSE, SERVER, '    ports: ["8000:8000"]\n'),
    (COMPOSE, SERVER, "    volumes: [/var/run/docker.sock:/var/run/docker.sock]\n"),
    (COMPOSE, SERVER, "    devices: [/dev/kmsg]\n"),
    (COMPOSE, SERVER, "    extra_hosts: [issuer:10.0.0.1]\n"),
    (DOCKERFILE, "USER 10001:10001\n", "USER 0:0\n"),
    (DOCKERFILE, "USER 10001:10001\n", "ADD https://example.com/x /app/x\n"),
    (DOCKERFILE, "USER 10001:10001\n", "ENV MCP_API_KEY=abc\n"),
    (DOCKERFILE, "USER 10001:10001\n", "RUN curl https://example.com/x\n"),
    (DOCKERFILE, "USER 10001:10001\n", "COPY . /app\n"),
    (FLY, "[http_service]\n", "http_options = { h2_backend = true }\n"),
    (FLY, "[env]\n", 'MCP_API_KEYS = "a:b"\n'),
    (FLY, "[env]\n", "[[services]]\ninternal_port = 8000\n[env2]\n"),
    (CADDY, "\t\t\tlb_policy least_conn\n", "\t\t\tlb_retry_match method POST\n"),
    (CADDY, "\t\t\tlb_policy least_conn\n", "\t\t\trequest_buffers 4MB\n"),
    (CADDY, "\t\t\tlb_policy least_conn\n", "\t\t\tstream_timeout 1m\n"),
    (CADDY, "\t\t\tlb_policy least_conn\n", "\t\t\theader_up X-Forwarded-For {header.X-Forwarded-For}\n"),
    (CADDY, "\trequest_body {\n", "\t}\n\tencode gzip\n\tlog\n\trequest_body {\n"),
    (CADDY, "\trequest_body {\n", "\t}\n\tmetrics /metrics\n\trequest_body {\n"),
    (NGINX, "    server_tokens off;\n", "    set_real_ip_from 0.0.0.0/0;\n"),
    (NGINX, "    server_tokens off;\n", "    listen 80;\n"),
    (NGINX, "    server_tokens off;\n", "    ssl_protocols TLSv1 TLSv1.1;\n"),
    (NGINX, "    server_tokens off;\n", "    stub_status;\n"),
    (NGINX, "    server_tokens off;\n", "    client_body_timeout 0;\n"),
    (NGINX_PROXY, "proxy_cache off;\n", "proxy_next_upstream error timeout non_idempotent;\n"),
    (NGINX_PROXY, "proxy_cache off;\n", "proxy_next_upstream error http_503;\n"),
    (NGINX_PROXY, "proxy_cache off;\n", "proxy_request_buffering on;\n"),
    (NGINX_PROXY, "proxy_cache off;\n", "gzip on;\n"),
    (NGINX_PROXY, "proxy_cache off;\n", "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"),
    (SYSTEMD, "NoNewPrivileges=yes\n", "AmbientCapabilities=CAP_SYS_ADMIN\n"),
    (SYSTEMD, "NoNewPrivileges=yes\n", "ProtectHome=no\n"),
    (SYSTEMD, "NoNewPrivileges=yes\n", "User=root\n"),
    (SYSTEMD, "NoNewPrivileges=yes\n", "ExecStartPre=+/bin/true\n"),
    (SYSTEMD, "NoNewPrivileges=yes\n", "ReadWritePaths=/etc\n"),
    (PROMETHEUS, "  - job_name: mcp-server\n", "    tls_config: {insecure_skip_verify: true}\n"),
    (ROLE, "", "ALTER ROLE mcp WITH SUPERUSER;\n"),
    (ROLE, "", "GRANT ALL ON SCHEMA public TO PUBLIC;\n"),
    (ROLE, "", "GRANT pg_execute_server_program TO mcp;\n"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "after", "line"), ADDED)
def test_an_added_line_is_noticed(project: Path, file: str, after: str, line: str) -> None:
    """Each check above can fail."""
    text = (project / file).read_text("utf-8")
    assert after in text
    spoilt = text.replace(after, after + line, 1) if after else text + line

    assert breaches(file, spoilt)
