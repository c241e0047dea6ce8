"""The commands of the first day can be typed as they stand, as far as that shows without an account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import tool
from support.programs import find, run

if TYPE_CHECKING:
    from pathlib import Path

PLATFORMS = ["Compose, on one machine", "Kubernetes", "Kubernetes with Helm", "Fly.io", "Railway"]
# What the person who types has from elsewhere: the page says of the first one what it is, the shell sets the other.
GIVEN = "ADMIN_URL=postgresql://admin@db/mcp; export ADMIN_URL\n"
SET = {"ADMIN_URL", "PWD"}


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    """The text."""
    return (project / "docs/first-deployment.md").read_text("utf-8")


def blocks(text: str) -> list[str]:
    """Return the commands."""
    return re.findall(r"```console\n(.*?)```", text, re.DOTALL)


def section(page: str, name: str) -> str:
    """Return the text below a heading."""
    found = re.search(rf"\n## {re.escape(name)}\n(.*?)(?=\n## |\Z)", page, re.DOTALL)
    assert found, name
    return found[1]


def test_commands_are_sound(page: str, tmp_path: Path) -> None:
    """All blocks in their order pass the linter of shell scripts."""
    script = tmp_path / "first-day.sh"
    script.write_text("#!/usr/bin/env bash\n" + GIVEN + "\n".join(blocks(page)), "utf-8")

    done = run(tool("shellcheck"), script)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_platform_ends_with_the_probe(page: str, platform: str) -> None:
    """The last command of each looks from outside, with the monitor's key."""
    last = blocks(section(page, platform))[-1].strip().splitlines()[-1]

    assert re.fullmatch(r"MCP_PROBE_KEY=\S+(?: .*\))?(?: SSL_CERT_FILE=\S+)? make probe URL=https://\S+/mcp", last), (
        last
    )


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_variable_is_set_before_it_is_used(page: str, platform: str) -> None:
    """Who types the first section and that of the platform has a value for each name, at the line that reads it."""
    text, known = "\n".join(blocks(section(page, "What every platform needs") + section(page, platform))), set(SET)
    for line in text.splitlines():
        shown = re.sub(r"'[^']*'", "", line)
        assert set(re.findall(r"\$\{?([A-Z_]+)", shown)) - known == set(), line
        known |= set(re.findall(r"(?:^|export | )([A-Z_]+)=", shown))


def test_the_namespace_is_that_of_the_overlay(page: str, project: Path) -> None:
    """The line that sets `NAMESPACE` finds it."""
    pages = page + (project / "docs/operations.md").read_text("utf-8")
    (line,) = set(re.findall(r"^NAMESPACE=\$.+", pages, re.MULTILINE))
    overlay = yaml.safe_load((project / "deploy/kubernetes/overlays/production/kustomization.yaml").read_text("utf-8"))

    assert pages.count(line) == 2
    done = run("bash", "-euc", f'{line}; printf %s "$NAMESPACE"', cwd=project)

    assert (done.returncode, done.stdout) == (0, overlay["namespace"])


def test_several_machines_get_redis(page: str, project: Path) -> None:
    """Without it they would count limits each for itself, and the probe at the end would say `drifted`."""
    (machines,) = re.findall(r'^MCP_REPLICAS = "(\d+)"', (project / "fly.toml").read_text("utf-8"), re.MULTILINE)
    fly = section(page, "Fly.io")
    lines = blocks(fly)[0].splitlines()
    (url,) = [n for n, line in enumerate(lines) if re.search(r'"REDIS_URL=redis://\S+" >> \.env\.production$', line)]

    assert int(machines) > 1
    assert "fly redis create" in lines[url - 1]
    assert "--disable-eviction" in lines[url - 1]
    assert url < lines.index("fly secrets import --stage < .env.production")
    assert "REDIS_URL" in section(page, "Kubernetes")


def test_every_file_and_target_exists(page: str, project: Path) -> None:
    """Scripts, manifests, links and targets of make are those of the project."""
    text = "\n".join(blocks(page))
    named = set(re.findall(r"(?:scripts|deploy|schema)/[\w./-]+", text + page)) | {"fly.toml", "railway.json"}
    makefile = (project / "Makefile").read_text("utf-8")
    targets = {name for line in re.findall(r"\bmake ((?:[a-z]+ ?)+)", text) for name in line.split()}

    assert {name for name in named if not (project / name.rstrip(".")).exists()} == set()
    assert targets - set(re.findall(r"^(\w+):", makefile, re.MULTILINE)) == set()
    for link in re.findall(r"\]\(([\w.-]+\.md)", page):
        assert (project / "docs" / link).exists()


def test_the_file_of_secrets_is_what_the_server_takes(page: str, project: Path, tmp_path: Path) -> None:
    """The block that makes secrets makes them, and `kubectl` makes the Secret of them that the pods name."""
    (made,) = [block for block in blocks(page) if "printf" in block]
    done = run("bash", "-euc", made, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / ".env.production").read_text("utf-8")

    assert re.fullmatch(
        r"MCP_API_KEYS=first:[0-9a-f]{64}\nMCP_PROBE_KEY=[0-9a-f]{64}\nMCP_REQUEST_STATE_KEYS=[0-9a-f]{64}\n", written
    )
    assert (tmp_path / ".env.production").stat().st_mode & 0o777 == 0o600
    assert ".env.*" in (project / ".gitignore").read_text("utf-8").splitlines()
    (command,) = {line for line in "".join(blocks(page)).splitlines() if "create secret generic" in line}
    kubectl, dry = find("kubectl"), " --dry-run=client --output yaml --kubeconfig /dev/null"
    done = run("bash", "-euc", command.replace("kubectl", kubectl, 1) + dry, cwd=tmp_path, env={"NAMESPACE": "weather"})
    assert done.returncode == 0, done.stderr
    secret = yaml.safe_load(done.stdout)
    assert secret["metadata"]["name"] == "mcp-server-secrets"
    assert set(secret["data"]) == {"MCP_API_KEYS", "MCP_PROBE_KEY", "MCP_REQUEST_STATE_KEYS"}


def test_a_sentence_is_a_line(page: str) -> None:
    """One sentence on each line, so that a change shows what changed."""
    prose = re.sub(r"```.*?```|^\|.*$", "", page, flags=re.DOTALL | re.MULTILINE)

    assert [line for line in prose.splitlines() if re.search(r"[.!?] [A-Z]", line)] == []
