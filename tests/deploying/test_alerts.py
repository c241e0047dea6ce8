"""Each alert fires when it should, stays silent when not, and leads to its section of the runbook."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.programs import find, run

if TYPE_CHECKING:
    from pathlib import Path

Series = dict[str, str]

MINUTE = 60
DAY = 86_400
# The clock of the rule tests begins at zero.
AT = "45m"


@dataclass(frozen=True)
class Case:
    """What makes an alert fire, and what looks like it and must not."""

    fires: Series
    silent: Series


def calls(tool: str, *, each_minute: int, outcome: str = "ok") -> Series:
    """A tool that is called steadily."""
    return {f'mcp_tool_calls_total{{tool="{tool}",outcome="{outcome}"}}': f"0+{each_minute}x60"}


def errors(tool: str, kind: str, *, each_minute: int) -> Series:
    """A tool that fails steadily."""
    return {f'mcp_tool_errors_total{{tool="{tool}",kind="{kind}"}}': f"0+{each_minute}x60"}


def durations(tool: str, *, slow: int, fast: int) -> Series:
    """A tool with a deadline of 30 s: so many calls a minute between 10 s and 30 s, so many below 1 s."""
    bucket = 'mcp_tool_duration_seconds_bucket{{tool="{}",le="{}"}}'.format
    return {
        bucket(tool, "1.0"): f"0+{fast}x60",
        bucket(tool, "10.0"): f"0+{fast}x60",
        bucket(tool, "30.0"): f"0+{fast + slow}x60",
        bucket(tool, "+Inf"): f"0+{fast + slow}x60",
        f'mcp_tool_timeout_seconds{{tool="{tool}"}}': "30x60",
    }


def refused(layer: str, status: int, *, each_minute: int) -> Series:
    """A layer that refuses steadily."""
    return {f'mcp_refused_total{{layer="{layer}",status="{status}"}}': f"0+{each_minute}x60"}


def notifications(tool: str, *, each_minute: int) -> Series:
    """A tool that streams."""
    return {f'mcp_notifications_sent_total{{tool="{tool}"}}': f"0+{each_minute}x60"}


def probe(name: str, value: str, **labels: str) -> Series:
    """What the probe writes."""
    shown = ",".join(f'{key}="{text}"' for key, text in {"url": "https://mcp.example.com/mcp", **labels}.items())
    return {f"mcp_probe_{name}{{{shown}}}": value}


def verdict(name: str) -> Series:
    """The probe's verdict."""
    return probe("verdict", "1x60", era="modern", verdict=name) | probe(
        "verdict", "0x60", era="modern", verdict="drifted" if name != "drifted" else "healthy"
    )


CASES = {
    "McpServerAbsent": Case({"up": "1x60"}, {'mcp_build_info{version="1"}': "1x60"}),
    "McpToolErrors": Case(
        calls("a", each_minute=100) | errors("a", "upstream_unavailable", each_minute=6),
        # Wrong arguments are the caller's, however many; and a few failures are normal.
        calls("a", each_minute=100)
        | errors("a", "invalid_input", each_minute=90)
        | errors("a", "timeout", each_minute=4),
    ),
    "McpToolBug": Case(
        {'mcp_tool_errors_total{tool="a",kind="internal"}': "0x40 1x20"},
        errors("a", "timeout", each_minute=1) | {'mcp_tool_errors_total{tool="a",kind="internal"}': "3x60"},
    ),
    "McpToolNearDeadline": Case(durations("a", slow=5, fast=95), durations("a", slow=0, fast=100)),
    "McpOverloaded": Case(
        refused("in_flight", 503, each_minute=12),
        refused("drain", 503, each_minute=600) | refused("rate", 429, each_minute=600),
    ),
    "McpPoolWaiting": Case(
        {"mcp_pool_waiting": "3x60", "mcp_pool_idle": "0x60"}, {"mcp_pool_waiting": "0x60", "mcp_pool_idle": "0x60"}
    ),
    "McpEventLoopBlocked": Case({"mcp_event_loop_lag_seconds": "0.5x60"}, {"mcp_event_loop_lag_seconds": "0.01x60"}),
    "McpRestarting": Case(
        {"mcp_process_start_time_seconds": "1x20 2x5 3x5 4x30"}, {"mcp_process_start_time_seconds": "1x20 2x40"}
    ),
    "McpLogLinesLost": Case({"mcp_log_lines_dropped_total": "0x40 7x20"}, {"mcp_log_lines_dropped_total": "7x60"}),
    "McpRateLimited": Case(refused("address_rate", 429, each_minute=90), refused("address_rate", 429, each_minute=30)),
    "McpAuthenticationRefused": Case(
        refused("authentication", 401, each_minute=90), refused("authentication", 401, each_minute=30)
    ),
    "McpDrainStuck": Case({"mcp_draining": "0x40 1x20"}, {"mcp_draining": "0x44 1x1"}),
    "McpNotificationsMissing": Case(
        calls("a", each_minute=1) | notifications("a", each_minute=0),
        # One that streams, and one that never said that it would.
        calls("a", each_minute=1) | notifications("a", each_minute=1) | calls("b", each_minute=9),
    ),
    "McpCallTooOld": Case(
        {"mcp_oldest_call_seconds": f"0+{MINUTE}x60", 'mcp_tool_timeout_seconds{tool="a"}': "20x60"}
        | {'mcp_tool_timeout_seconds{tool="b"}': "30x60"},
        # Past the deadline of one tool, and not yet of the longest by half.
        {"mcp_oldest_call_seconds": "44x60", 'mcp_tool_timeout_seconds{tool="a"}': "20x60"}
        | {'mcp_tool_timeout_seconds{tool="b"}': "30x60"},
    ),
    "McpLimitsDegraded": Case({"mcp_limits_degraded": "0x30 1x30"}, {"mcp_limits_degraded": "0x42 1x3"}),
    "McpReplicasDisagree": Case(
        {'mcp_schema_info{instance="1",sha256="a"}': "1x60", 'mcp_schema_info{instance="2",sha256="b"}': "1x60"},
        {'mcp_schema_info{instance="1",sha256="a"}': "1x60", 'mcp_schema_info{instance="2",sha256="a"}': "1x60"},
    ),
    "McpProbeFailing": Case(probe("serving", "0x60", era="legacy"), probe("serving", "1x60", era="legacy")),
    "McpProbeSilent": Case(
        probe("last_run_timestamp_seconds", "0x60"), probe("last_run_timestamp_seconds", f"0+{MINUTE}x60")
    ),
    "McpSchemaDrift": Case(verdict("drifted"), verdict("healthy")),
    "McpProbeCredentialExpiring": Case(
        probe("credential_expires_timestamp_seconds", f"{10 * DAY}x60"),
        probe("credential_expires_timestamp_seconds", f"{20 * DAY}x60"),
    ),
    "McpCertificateExpiring": Case(
        probe("certificate_expires_timestamp_seconds", f"{10 * DAY}x60", era="modern"),
        probe("certificate_expires_timestamp_seconds", f"{80 * DAY}x60", era="modern"),
    ),
}


@pytest.fixture(scope="module")
def rules(project: Path) -> list[dict[str, Any]]:
    """Every rule that is shipped."""
    groups = yaml.safe_load((project / "deploy/prometheus/alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_prometheus_accepts_rules_and_configuration(project: Path) -> None:
    """As promtool reads them."""
    folder = project / "deploy/prometheus"

    rules = run(find("promtool"), "check", "rules", folder / "alerts.yaml")
    configuration = run(find("promtool"), "check", "config", "--syntax-only", folder / "prometheus.yaml")

    assert rules.returncode == 0, rules.stdout + rules.stderr
    assert configuration.returncode == 0, configuration.stdout + configuration.stderr


def test_each_alert_has_a_case(rules: list[dict[str, Any]]) -> None:
    """None is shipped that was never seen firing."""
    assert [rule["alert"] for rule in rules] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_and_stays_silent(project: Path, tmp_path: Path, name: str) -> None:
    """From synthetic series: the trouble wakes somebody, what resembles it does not."""
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "promql_expr_test": [
                {"expr": firing, "eval_time": AT, "exp_samples": [{"labels": "{}", "value": expected}]}
            ],
        }
        for given, expected in ((CASES[name].fires, 1), (CASES[name].silent, 0))
    ]
    file = tmp_path / "test.yaml"
    document = {"rule_files": [str(project / "deploy/prometheus/alerts.yaml")], "tests": tests}
    file.write_text(yaml.safe_dump(document), "utf-8")

    done = run(find("promtool"), "test", "rules", file)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operator_gets_the_same_rules(project: Path) -> None:
    """The component of Kubernetes and the plain file do not drift apart."""
    plain = yaml.safe_load((project / "deploy/prometheus/alerts.yaml").read_text("utf-8"))
    folder = project / "deploy/kubernetes/components/monitoring"
    custom = yaml.safe_load((folder / "prometheus-rule.yaml").read_text("utf-8"))

    assert custom["spec"]["groups"] == plain["groups"]


def test_each_alert_says_what_to_do(project: Path, rules: list[dict[str, Any]]) -> None:
    """Each links to a heading that exists, with a meaning and an action; no section is left over."""
    page = (project / "docs/operations.md").read_text("utf-8")
    alerts = page[page.index("\n## Alerts") : page.index("\n## What clients see")]
    sections = dict(re.findall(r"^### (\w+)\n(.+?)(?=^##|\Z)", alerts, re.MULTILINE | re.DOTALL))

    assert list(sections) == [rule["alert"] for rule in rules]
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert "\nMeaning: " in sections[rule["alert"]]
        assert "\nAction: " in sections[rule["alert"]]


def expressions(project: Path, rules: list[dict[str, Any]]) -> dict[str, str]:
    """Return every query of rules and dashboard."""
    dashboard = json.loads((project / "deploy/grafana/mcp-server.json").read_text("utf-8"))
    found = {rule["alert"]: rule["expr"] for rule in rules}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_prometheus_accepts_each_query_of_the_dashboard(
    project: Path, tmp_path: Path, rules: list[dict[str, Any]]
) -> None:
    """Each is checked as a recording rule."""
    queries = expressions(project, rules)
    file = tmp_path / "queries.yaml"
    recorded = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries.values())
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), "utf-8")

    done = run(find("promtool"), "check", "rules", file)

    assert done.returncode == 0, done.stdout + done.stderr


# Everything that server and probe can say, said once.
SAY_ALL = """
from weather_server.hardening import metrics, probe

told = metrics.Metrics(version="1", schema_sha256="a", timeouts={"a": 30.0}, streaming=["a"])
told.read(**{name: lambda: 1.0 for name in metrics.READINGS})
for kind in metrics.KINDS:
    told.observe_call("a", "error", kind, 1.0, 1)
told.refused("in_flight", 503)
told.requested("modern", probe=False)
told.acquired(0.1)
print(told.render().decode())

steps = [probe.Step("tools/list", probe.Verdict.HEALTHY, 1.0, "ok")]
eras = tuple(probe.Era(name, steps, "1", "a", 1, "a", 1.0) for name in probe.ERAS)
print(probe.as_metrics(probe.Report("https://mcp.example.com/mcp", 1.0, eras, 1.0)))
"""


@pytest.fixture(scope="module")
def exported(project: Path) -> dict[str, dict[str, set[str]]]:
    """Each metric of server and probe, with its labels and the values that these can have."""
    done = run(sys.executable, "-c", SAY_ALL, env={"PYTHONPATH": str(project / "src")})
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, set[str]]] = {}
    for name, labels in re.findall(r"^(mcp_\w+)(?:\{(.*)\})? ", done.stdout, re.MULTILINE):
        values = found.setdefault(name, {"instance": set()})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            values.setdefault(label, set()).add(value)
    return found


def test_every_query_names_what_is_exported(
    project: Path, rules: list[dict[str, Any]], exported: dict[str, dict[str, set[str]]]
) -> None:
    """A metric, a label or a value that nobody writes would be an alert that never fires."""
    # Statuses, tools and hosts are those of the day.
    open_ended = {"status", "tool", "instance", "layer"}
    unknown: list[str] = []
    for where, query in expressions(project, rules).items():
        named = re.findall(r"\b(mcp_\w+)(?:\{([^}]*)\})?", query)
        labels = set().union(*(exported.get(name, {}) for name, _ in named))
        grouped = ",".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", query))
        unknown += [f"{where}: {name}" for name, _ in named if name not in exported]
        unknown += [f"{where}: {label}" for label in re.findall(r"\w+", grouped) if label not in labels]
        for name, matchers in named:
            for label, value in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', matchers):
                known = exported.get(name, {}).get(label)
                if known is None or (label not in open_ended and not set(value.split("|")) <= known):
                    unknown.append(f"{where}: {name}{{{label}={value}}}")

    assert unknown == []


def test_every_layer_that_is_named_exists(project: Path, rules: list[dict[str, Any]]) -> None:
    """Layers are called as the stack calls them."""
    stack = (project / "src/weather_server/hardening/stack.py").read_text("utf-8")
    layers = set(re.findall(r'^ +\("(\w+)", ', stack, re.MULTILINE))
    named = {
        layer
        for query in expressions(project, rules).values()
        for value in re.findall(r'layer[!=~]+"([^"]+)"', query)
        for layer in value.split("|")
    }
    page = (project / "docs/operations.md").read_text("utf-8")
    named |= set(re.findall(r"`layer` `(\w+)`", page)) | {"address_rate", "principal_rate", "rate"}

    assert named <= layers


def test_the_dashboard_is_complete(project: Path) -> None:
    """Each panel has an explanation and a place of its own."""
    dashboard = json.loads((project / "deploy/grafana/mcp-server.json").read_text("utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    cells = [
        (panel["gridPos"]["y"] + y, panel["gridPos"]["x"] + x)
        for panel in dashboard["panels"]
        for y in range(panel["gridPos"]["h"])
        for x in range(panel["gridPos"]["w"])
    ]

    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert [panel["title"] for panel in panels if not panel["description"]] == []
    assert len(cells) == len(set(cells))
