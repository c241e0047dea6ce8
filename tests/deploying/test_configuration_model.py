"""What each file of a deployment says, whole: its numbers, switches, names and how many of them there are.

Other tests show that it works; this one, that nothing else is said beside it.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODEL = Path(__file__).with_name("configuration.yaml")
DIGEST = re.compile(r"(:[\w.-]+)?@sha256:[0-9a-f]{64}")
# What is compared by itself, or has tests of its own; whatever else a rule or a panel says is compared as well.
OF_RULES = {"name", "rules", "alert", "expr", "for", "labels", "annotations", "severity"}
OF_PANELS = {"id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "targets", "options"}
OF_TARGETS = {"refId", "datasource", "expr", "legendFormat"}


def directives(text: str) -> list[str]:
    """Return the directives of a proxy, in their order; where a block ends, there is a bracket."""
    bare = re.sub(r"^\s*#.*$|\s+#[^'\"\n]*$", "", text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in bare.splitlines() if line.strip()]


def instructions(text: str) -> list[str]:
    """Return the instructions of an image, each in one line."""
    bare = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in re.sub(r"\\\n", " ", bare).splitlines() if line.strip()]


def unit(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of a unit of systemd."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] - as its documentation has it
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


def lines(text: str) -> list[str]:
    """Return the lines of a file of which the order counts, without comments."""
    return [line for line in text.splitlines() if line and line[0] != "#"]


def others(said: dict[str, Any], known: set[str]) -> list[dict[str, Any]]:
    """Return what is said besides, as one more entry, or none."""
    more = {key: value for key, value in said.items() if key not in known}
    return [more] if more else []


def alerts(text: str) -> dict[str, list[Any]]:
    """Return each alert: how grave it is, after how long, and of what; and what it, or its group, says besides."""
    return {
        rule["alert"]: [
            *(rule["labels"]["severity"], rule.get("for", "0s"), " ".join(rule["expr"].split())),
            *others(group | rule | rule["labels"], OF_RULES),
        ]
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    }


def dashboard(text: str) -> dict[str, Any]:
    """Return what a dashboard shows; what all panels have in common is said once."""
    said = json.loads(text)
    panels = said.pop("panels")
    shown = [panel for panel in panels if panel["type"] != "row"]
    variables = said.pop("templating")["list"]
    return {
        **said,
        "variables": {one["name"]: {key: one[key] for key in sorted(one.keys() - {"definition"})} for one in variables},
        "rows": [[panel["id"], panel["title"], panel["collapsed"]] for panel in panels if panel["type"] == "row"],
        "data sources": distinct(source["datasource"] for panel in shown for source in [panel, *panel["targets"]]),
        "options": {
            kind: distinct(panel["options"] for panel in shown if panel["type"] == kind)
            for kind in ("timeseries", "stat")
        },
        "panels": {
            panel["title"]: {
                "id": panel["id"],
                "type": panel["type"],
                **panel["fieldConfig"]["defaults"],
                "queries": {
                    target["legendFormat"]: [target["expr"], *more]
                    if (more := others(target, OF_TARGETS))
                    else target["expr"]
                    for target in panel["targets"]
                },
                **{f"also {key}": value for key, value in panel.items() if key not in OF_PANELS},
                **{f"for {one['matcher']}": one for one in panel["fieldConfig"]["overrides"]},
            }
            for panel in shown
        },
    }


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return values without those that are there already."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


READERS: dict[str, Callable[[str], Any]] = {
    ".dockerignore": lines,
    "server.json": json.loads,
    "scripts/secretlint.json": json.loads,
    "deploy/compose/env.example": lines,
    "deploy/kubernetes/overlays/production/settings.env": lines,
    "compose.yaml": yaml.safe_load,
    "fly.toml": tomllib.loads,
    "railway.json": json.loads,
    "Dockerfile": instructions,
    "deploy/prometheus/prometheus.yaml": yaml.safe_load,
    "deploy/prometheus/alerts.yaml": alerts,
    "deploy/grafana/mcp-server.json": dashboard,
    "deploy/systemd/mcp-probe@.service": unit,
    "deploy/helm/Chart.yaml": yaml.safe_load,
    "deploy/helm/values.yaml": yaml.safe_load,
    "deploy/caddy/Caddyfile": directives,
    "deploy/nginx/mcp-server.conf": directives,
    "deploy/nginx/mcp-server-proxy.conf": directives,
}


def said(project: Path, file: str) -> Any:
    """Return what a file says, without versions and digests of images, which a bot moves."""
    return READERS[file](re.sub(DIGEST, "", (project / file).read_text("utf-8")))


@pytest.mark.parametrize("file", READERS)
def test_a_file_says_what_is_listed_and_nothing_else(project: Path, file: str) -> None:
    """No port more, no privilege, no retry, no shorter wait, no other name: each is changed here too, on purpose."""
    assert said(project, file) == yaml.safe_load(MODEL.read_text("utf-8"))[file]


def test_every_directive_is_read(project: Path) -> None:
    """Only comments are left out: what they hide would not be compared."""
    for file in ("deploy/caddy/Caddyfile", "deploy/nginx/mcp-server.conf", "deploy/nginx/mcp-server-proxy.conf"):
        lines = [" ".join(line.split()) for line in (project / file).read_text("utf-8").splitlines()]

        assert directives((project / file).read_text("utf-8")) == [line for line in lines if line and line[0] != "#"]
