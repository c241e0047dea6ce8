"""Each alert fires when it should, stays silent when not, and leads to its section of the runbook."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.programs import find, run

if TYPE_CHECKING:
    from pathlib import Path

Series = dict[str, str]
# Alerts that fire: name and the labels that say whose they are.
Firing = list[tuple[str, str]]

MINUTE = 60
HOUR = 3_600
DAY = 86_400
# The clock of the rule tests begins at zero; what has fired at any time until then counts.
AT = "58m"
IN_KUBERNETES = {"job": "mcp-server", "namespace": "weather"}
# What the rules of the probe tell apart besides.
PLACES = ("url", "era", "cronjob")


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


def progress(tool: str, *, asked_each_minute: int, sent_each_minute: int) -> Series:
    """A tool that streams."""
    return {
        f'mcp_progress_requested_total{{tool="{tool}"}}': f"0+{asked_each_minute}x60",
        f'mcp_notifications_sent_total{{tool="{tool}"}}': f"0+{sent_each_minute}x60",
    }


def fired(name: str, *, match: str = "=") -> str:
    """Return the query for alerts that have fired, whether they still do or not."""
    return f'last_over_time(ALERTS{{alertstate="firing",alertname{match}"{name}"}}[58m])'


def of(series: Series, **labels: str) -> Series:
    """The same series with further labels, as a scrape adds them."""
    added = ",".join(f'{name}="{text}"' for name, text in labels.items() if text)
    return {
        f"{name.rstrip('}')}{',' if '{' in name else '{'}{added}}}" if added else name: values
        for name, values in series.items()
    }


def replica(instance: str, values: str = "1x60", **server: str) -> Series:
    """A replica that is well: what it says when nothing is wrong."""
    quiet = values.replace("1x", "0x")
    said = {
        "up": values,
        'mcp_build_info{version="1"}': values,
        'mcp_schema_info{sha256="a"}': values,
        "mcp_process_start_time_seconds": values,
        "mcp_database_up": values,
        "mcp_pool_idle": values,
        'mcp_tool_timeout_seconds{tool="a"}': values.replace("1x", "30x"),
        **{
            f"mcp_{name}": quiet
            for name in (
                "draining",
                "event_loop_lag_seconds",
                "limits_degraded",
                "log_lines_dropped_total",
                "oldest_call_seconds",
                "pool_waiting",
            )
        },
    }
    return of(said, instance=instance, **(server or IN_KUBERNETES))


def look(
    region: str = "",
    *,
    serving: str = "1x60",
    drifted: str = "0x60",
    ran: str = f"0+{MINUTE}x60",
    certificate: tuple[int, int] = (-10 * DAY, 80 * DAY),
) -> Series:
    """What `probe --every 60 --textfile` writes in one place, as node_exporter hands it on."""
    probe = "mcp_probe_{}{{{}}}".format
    said = {
        probe("serving", 'era="modern"'): serving,
        probe("verdict", 'era="modern",verdict="drifted"'): drifted,
        probe("last_run_timestamp_seconds", 'place="here"'): ran,
        probe("credential_expires_timestamp_seconds", 'place="here"'): f"{20 * DAY}x60",
        probe("certificate_issued_timestamp_seconds", 'era="modern"'): f"{certificate[0]}x60",
        probe("certificate_expires_timestamp_seconds", 'era="modern"'): f"{certificate[1]}x60",
    }
    url = "https://mcp.example.com/mcp"
    return of(said, url=url, instance=f"probe-{region}", job="mcp-probe", region=region)


def jobs(*, scheduled: str = f"0+{MINUTE}x60", succeeded: str = f"5+{MINUTE}x60", created: str = "0x60") -> Series:
    """What kube-state-metrics says of the CronJob; without `succeeded`, no job of it ever has."""
    said = {"kube_cronjob_status_last_schedule_time": scheduled, "kube_cronjob_created": created}
    if succeeded:
        said["kube_cronjob_status_last_successful_time"] = succeeded
    return of(said, cronjob="mcp-server-probe", namespace="monitoring", job="kube-state-metrics")


CASES = {
    "McpServerAbsent": Case({"up": "0x60"}, {"up": "1x60"}),
    "McpReplicaDown": Case(
        {'up{pod="1"}': "1x20 0x40", 'mcp_build_info{pod="2"}': "1x60"},
        # A start, or an end, that takes a while.
        {'up{pod="1"}': "1x20 0x13 1x27", 'mcp_build_info{pod="2"}': "1x60"},
    ),
    "McpToolErrors": Case(
        calls("a", each_minute=100) | errors("a", "upstream_unavailable", each_minute=6),
        # Wrong arguments are the caller's, however many; and a few failures are normal.
        calls("a", each_minute=100)
        | errors("a", "invalid_input", each_minute=90)
        | errors("a", "timeout", each_minute=4),
    ),
    "McpToolBug": Case(
        {'mcp_tool_errors_total{tool="a",kind="internal"}': "0x40 1x20"},
        errors("a", "invalid_input", each_minute=1) | {'mcp_tool_errors_total{tool="a",kind="internal"}': "3x60"},
    ),
    "McpToolNearDeadline": Case(durations("a", slow=5, fast=95), durations("a", slow=0, fast=100)),
    "McpDatabaseDown": Case({"mcp_database_up": "1x42 0x18"}, {"mcp_database_up": "1x41 0x0 1x18"}),
    "McpOverloaded": Case(
        refused("in_flight", 503, each_minute=12),
        # What drains, is not ready, or cannot ask the issuer is not overloaded.
        refused("drain", 503, each_minute=600)
        | refused("health", 503, each_minute=600)
        | refused("authentication", 503, each_minute=600),
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
    "McpNotificationsMissing": Case(
        progress("a", asked_each_minute=1, sent_each_minute=0),
        # One that streams; clients that do not ask for progress; and a tool that never said that it streams.
        progress("a", asked_each_minute=1, sent_each_minute=1)
        | progress("b", asked_each_minute=0, sent_each_minute=0)
        | calls("b", each_minute=9)
        | calls("c", each_minute=9),
    ),
    "McpCallTooOld": Case(
        {"mcp_oldest_call_seconds": f"0+{MINUTE}x60", 'mcp_tool_timeout_seconds{tool="a"}': "20x60"}
        | {'mcp_tool_timeout_seconds{tool="b"}': "30x60"},
        # Past the deadline of one tool, and not yet of the longest by half.
        {"mcp_oldest_call_seconds": "44x60", 'mcp_tool_timeout_seconds{tool="a"}': "20x60"}
        | {'mcp_tool_timeout_seconds{tool="b"}': "30x60"},
    ),
    "McpThreadTooOld": Case(
        {"mcp_oldest_thread_seconds": f"0+{MINUTE}x60", 'mcp_tool_timeout_seconds{tool="a"}': "30x60"},
        {"mcp_oldest_thread_seconds": "44x60", 'mcp_tool_timeout_seconds{tool="a"}': "30x60"},
    ),
    "McpBackgroundFailing": Case(
        {"mcp_background_failures_total": "0+1x60"}, {"mcp_background_failures_total": "0x30 2x30"}
    ),
    "McpLimitsDegraded": Case({"mcp_limits_degraded": "0x30 1x30"}, {"mcp_limits_degraded": "0x42 1x3 0x10"}),
    "McpReplicasDisagree": Case(
        {'mcp_schema_info{pod="1",sha256="a"}': "1x60", 'mcp_schema_info{pod="2",sha256="b"}': "1x60"},
        {'mcp_schema_info{pod="1",sha256="a"}': "1x60", 'mcp_schema_info{pod="2",sha256="a"}': "1x60"},
    ),
}
# Those that no replica can show by itself; the situations below show them.
OF_THE_PROBE = [
    "McpProbeFailing",
    "McpProbePlaceFailing",
    "McpProbeSilent",
    "McpSchemaDrift",
    "McpProbeCredentialExpiring",
    "McpCertificateExpiring",
]


@dataclass(frozen=True)
class Situation:
    """All that one Prometheus has, and every alert that must fire then: no other one may."""

    series: Series
    firing: Firing = field(default_factory=list)
    at: str = AT


PROBED = '{url="https://mcp.example.com/mcp"}'
PROBED_MODERN = '{era="modern",url="https://mcp.example.com/mcp"}'
BY_JOBS = '{cronjob="mcp-server-probe",namespace="monitoring"}'
WEATHER = '{job="mcp-server",namespace="weather"}'
WELL = replica("a") | replica("b")
# Counters that run as they do on a good day.
BUSY = (
    calls("a", each_minute=100)
    | errors("a", "timeout", each_minute=2)
    | {'mcp_tool_errors_total{tool="a",kind="internal"}': "0x60", "mcp_log_lines_dropped_total": "0x60"}
    | progress("a", asked_each_minute=9, sent_each_minute=90)
    | refused("in_flight", 503, each_minute=2)
    | refused("rate", 429, each_minute=20)
    | refused("authentication", 401, each_minute=20)
)
# Six minutes of start, with targets that do not answer yet.
STARTING = {
    name: values.replace("1x60", "_x3 0x3 1x54") for name, values in replica("a").items() if name.startswith("up{")
}
STARTED = {name: values.replace("x60", "x54") for name, values in replica("a").items() if not name.startswith("up{")}

SITUATIONS = {
    "nothing of ours": Situation(of({"up": "1x60"}, job="node", instance="a")),
    "others of that Prometheus are down": Situation(WELL | of({"up": "0x60"}, job="node", instance="a")),
    "scraped, not probed": Situation(WELL),
    "scraped outside Kubernetes": Situation(replica("server:8000", job="mcp-server")),
    "probed by a unit, not scraped": Situation(look()),
    "probed by the CronJob, not scraped": Situation(jobs()),
    "scraped, and probed in both ways": Situation(WELL | look() | jobs()),
    "first deployment": Situation(STARTING | {name: f"_x6 {values}" for name, values in STARTED.items()}, at="10m"),
    "first deployment, seen by the CronJob from its first minute": Situation(
        jobs(scheduled=f"_x1 60+{MINUTE}x60", succeeded=f"_x1 65+{MINUTE}x60"), at="10m"
    ),
    "scraped with a wrong key from the start": Situation(
        of({"up": "0x60"}, instance="a", **IN_KUBERNETES), [("McpServerAbsent", WEATHER)]
    ),
    "one replica of two is down": Situation(
        replica("a") | of({"up": "1x20 0x40"}, instance="b", **IN_KUBERNETES), [("McpReplicaDown", WEATHER)]
    ),
    "an update is stuck: its first replica never starts": Situation(
        WELL | of({"up": "_x30 0x30"}, instance="c", **IN_KUBERNETES), [("McpReplicaDown", WEATHER)]
    ),
    "a replica drains, and does not end": Situation(
        # It closes its port after the readiness delay; Prometheus forgets what it has said then.
        replica("a") | of({"up": "1x30 0x30", "mcp_draining": "0x29 1x1 stale"}, instance="b", **IN_KUBERNETES),
        [("McpReplicaDown", WEATHER)],
    ),
    "every replica is replaced": Situation(
        replica("a", "1x32 stale")
        | replica("b", "1x34 stale")
        | {name: f"_x30 {values}" for name, values in (replica("c") | replica("d")).items()}
    ),
    "counters begin anew": Situation(
        of(
            {name: values.replace("x60", "x30") + f" {values.replace('x60', 'x28')}" for name, values in BUSY.items()},
            instance="a",
            **IN_KUBERNETES,
        )
    ),
    "a server starts anew while an alert fires": Situation(
        of(
            {"up": "1x30 0x1 1x30"}
            | {
                name: f"{values.replace('x60', 'x30')} stale {values.replace('x60', 'x28')}"
                for name, values in (calls("a", each_minute=9) | errors("a", "timeout", each_minute=9)).items()
            },
            instance="a",
            **IN_KUBERNETES,
        ),
        [("McpToolErrors", '{job="mcp-server",namespace="weather",tool="a"}')],
    ),
    "a server without a database": Situation(
        {name: values for name, values in WELL.items() if "database" not in name and "pool" not in name}
    ),
    "a job has another name": Situation(
        replica("a", "1x30 stale", job="mcp-server")
        | {name: f"_x30 {values}" for name, values in replica("a", job="weather-mcp-server").items()},
        [("McpServerAbsent", '{job="mcp-server"}')],
    ),
    "two jobs scrape one server": Situation(replica("a") | replica("a", job="again-mcp-server", namespace="weather")),
    "strangers take every connection": Situation(
        WELL | of(refused("connection", 503, each_minute=60), instance="a", **IN_KUBERNETES),
        [("McpOverloaded", WEATHER)],
    ),
    "every target is gone": Situation(replica("a", "1x20 stale"), [("McpServerAbsent", WEATHER)]),
    "a roll-out, with another contract": Situation(
        replica("a", "1x40 stale")
        | {name: f"_x38 {values}" for name, values in replica("c").items() if "schema_info" not in name}
        | of({'mcp_schema_info{sha256="b"}': "_x38 1x60"}, instance="c", **IN_KUBERNETES)
        | of({"up": "1x39 0x2 stale", "mcp_draining": "0x39 1x1 stale"}, instance="b", **IN_KUBERNETES)
        | of(refused("drain", 503, each_minute=60), instance="b", **IN_KUBERNETES)
        | look(drifted="0x40 1x2 0x20")
    ),
    "the database is away": Situation(
        WELL
        | of(
            {"mcp_database_up": "1x30 0x30", "mcp_pool_waiting": "0x30 5x30", "mcp_pool_idle": "2x30 0x30"}
            | refused("health", 503, each_minute=60)
            | errors("notes", "upstream_unavailable", each_minute=5)
            | calls("notes", each_minute=5, outcome="error")
            | calls("countdown", each_minute=5),
            instance="a",
            **IN_KUBERNETES,
        ),
        [
            ("McpDatabaseDown", WEATHER),
            ("McpToolErrors", '{job="mcp-server",namespace="weather",tool="notes"}'),
        ],
    ),
    "probe: not served": Situation(WELL | look(serving="1x30 0x30"), [("McpProbeFailing", PROBED_MODERN)]),
    "probe: not served for a minute": Situation(WELL | look(serving="1x43 0x1 1x20")),
    "probe: stopped": Situation(WELL | look(ran=f"0+{MINUTE}x30 1800x30"), [("McpProbeSilent", PROBED)]),
    "probe: its machine is gone": Situation(
        WELL | {name: values.replace("x60", "x20 stale") for name, values in look().items()},
        [("McpProbeSilent", PROBED)],
    ),
    "probe: another contract": Situation(WELL | look(drifted="0x30 1x30"), [("McpSchemaDrift", PROBED)]),
    "probe: credential and certificate end": Situation(
        {
            name: values.replace(f"{20 * DAY}", f"{10 * DAY}")
            for name, values in look(certificate=(-80 * DAY, 10 * DAY)).items()
        },
        [("McpCertificateExpiring", PROBED), ("McpProbeCredentialExpiring", PROBED)],
    ),
    # Caddy's own live for 12 hours, those of private authorities often for a day.
    "probe: a certificate of 12 hours, renewed in time": Situation(WELL | look(certificate=(-7 * HOUR, 5 * HOUR))),
    "probe: a certificate of 12 hours, not renewed": Situation(
        WELL | look(certificate=(-10 * HOUR, 2 * HOUR)), [("McpCertificateExpiring", PROBED)]
    ),
    "probe: a certificate of six days, not renewed": Situation(
        WELL | look(certificate=(-126 * HOUR, 18 * HOUR)), [("McpCertificateExpiring", PROBED)]
    ),
    "probe: a certificate of a year, not renewed": Situation(
        WELL | look(certificate=(-355 * DAY, 10 * DAY)), [("McpCertificateExpiring", PROBED)]
    ),
    "probe: a copy that does not say since when the certificate is valid": Situation(
        WELL
        | {
            name: f"{10 * DAY}x60" if "certificate" in name else values
            for name, values in look().items()
            if "certificate_issued" not in name
        },
        [("McpCertificateExpiring", PROBED)],
    ),
    "three regions: all see it": Situation(WELL | look("eu") | look("us") | look("ap")),
    "three regions: one sees nothing": Situation(
        look("eu") | look("us") | look("ap", serving="1x30 0x30"),
        [("McpProbePlaceFailing", PROBED_MODERN)],
    ),
    "three regions: one has stopped": Situation(
        look("eu") | look("us") | look("ap", ran=f"0+{MINUTE}x20 1200x40"),
        [("McpProbePlaceFailing", PROBED)],
    ),
    "three regions: two see nothing": Situation(
        look("eu") | look("us", serving="1x30 0x30") | look("ap", serving="1x30 0x30"),
        [("McpProbeFailing", PROBED_MODERN)],
    ),
    "three regions: one sees nothing, the others have stopped looking": Situation(
        look("eu", serving="1x30 0x30") | look("us", ran="0x60") | look("ap", ran="0x60"),
        # The two that have stopped are named once each.
        [("McpProbeFailing", PROBED_MODERN), *[("McpProbePlaceFailing", PROBED)] * 2],
    ),
    "two regions: one has stopped, with another contract and dates that are over": Situation(
        look("eu")
        | {
            name: f"{10 * DAY}x60" if "expires" in name else values
            for name, values in look("us", drifted="1x60", ran="-1800x60").items()
        },
        [("McpProbePlaceFailing", PROBED)],
    ),
    "CronJob: its jobs fail": Situation(
        WELL | jobs(succeeded=f"5+{MINUTE}x30 1805x30"), [("McpProbeFailing", BY_JOBS)]
    ),
    "CronJob: one job fails": Situation(
        WELL | jobs(succeeded=f"5+{MINUTE}x42 2525x1 2645+{MINUTE}x20"),
    ),
    "CronJob: no job has ever ended well": Situation(jobs(succeeded=""), [("McpProbeFailing", BY_JOBS)]),
    "CronJob: suspended": Situation(
        jobs(scheduled=f"0+{MINUTE}x20 1200x40", succeeded=f"5+{MINUTE}x20 1205x40"), [("McpProbeSilent", BY_JOBS)]
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


def test_prometheus_accepts_the_recipe_for_regions(project: Path, tmp_path: Path) -> None:
    """The block of the runbook is a configuration, with one job for all places, so that their votes are counted."""
    page = (project / "docs/operations.md").read_text("utf-8")
    (block,) = re.findall(r"^  ```yaml\n(  scrape_configs:\n.+?)^  ```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yaml").write_text(textwrap.dedent(block), "utf-8")
    (job,) = yaml.safe_load(block)["scrape_configs"]

    done = run(find("promtool"), "check", "config", tmp_path / "prometheus.yaml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [place["labels"] for place in job["static_configs"]] == [
        {"region": "eu"},
        {"region": "us"},
        {"region": "ap"},
    ]


def test_each_alert_has_a_case(rules: list[dict[str, Any]]) -> None:
    """None is shipped that was never seen firing."""
    seen = {name for situation in SITUATIONS.values() for name, _ in situation.firing}

    assert [rule["alert"] for rule in rules] == [*CASES, *OF_THE_PROBE]
    assert set(OF_THE_PROBE) <= seen


def check(project: Path, tmp_path: Path, expression: str, *tests: tuple[Series, str, list[dict[str, Any]]]) -> None:
    """Let promtool evaluate the rules over series, and compare what an expression gives at a time."""
    document = {
        "rule_files": [str(project / "deploy/prometheus/alerts.yaml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in given.items()],
                "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": expected}],
            }
            for given, at, expected in tests
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(document), "utf-8")

    done = run(find("promtool"), "test", "rules", file)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_and_stays_silent(project: Path, tmp_path: Path, name: str) -> None:
    """From synthetic series: the trouble wakes somebody, what resembles it does not."""
    firing = f"count({fired(name)}) or vector(0)"
    case = CASES[name]

    check(
        project,
        tmp_path,
        firing,
        *(
            (of(given, instance="a", job="mcp-server"), AT, [{"labels": "{}", "value": expected}])
            for given, expected in ((case.fires, 1), (case.silent, 0))
        ),
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "servers",
    [
        [("mcp-server", "a"), ("mcp-server", "b"), ("mcp-server", "c")],
        [("a-mcp-server", "x"), ("b-mcp-server", "x"), ("c-mcp-server", "x")],
        [("a-mcp-server", ""), ("b-mcp-server", ""), ("c-mcp-server", "")],
    ],
    ids=["by namespace", "in one namespace", "outside Kubernetes"],
)
def test_one_of_three_servers_has_trouble(
    project: Path, tmp_path: Path, name: str, servers: list[tuple[str, str]]
) -> None:
    """On one Prometheus, with the same names of replicas and tools: it alone is named, and nothing hides it."""
    healthy: Series = {}
    for job, namespace in servers:
        healthy |= of(CASES[name].silent, instance="1", job=job, namespace=namespace)
    job, namespace = servers[1]
    series = healthy | of(CASES[name].fires, instance="1", job=job, namespace=namespace)
    shown = f'{{alertname="{name}",job="{job}"' + (f',namespace="{namespace}"' if namespace else "") + "}"

    check(
        project,
        tmp_path,
        f"count by (alertname, job, namespace) ({fired(name)})",
        (series, AT, [{"labels": shown, "value": 1}]),
    )


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_situation_fires_what_it_must_and_nothing_else(project: Path, tmp_path: Path, name: str) -> None:
    """Over all rules at once: scraped or not, each way of probing, a roll-out, a first deployment, a database away.

    At one sample a minute, which is as seldom as anybody scrapes.
    """
    situation = SITUATIONS[name]
    expected: dict[str, int] = {}
    for alert, labels in situation.firing:
        shown = f'{{alertname="{alert}",{labels.strip("{}")}}}'
        expected[shown] = expected.get(shown, 0) + 1
    # The job of the probe is that of whoever hands its series on.
    of_the_probe = "|".join(OF_THE_PROBE)
    expression = (
        f"count by (alertname, job, namespace, tool) ({fired(of_the_probe, match='!~')})"
        f" or count by (alertname, namespace, {', '.join(PLACES)}) ({fired(of_the_probe, match='=~')})"
    )

    check(
        project,
        tmp_path,
        expression,
        (situation.series, situation.at, [{"labels": labels, "value": count} for labels, count in expected.items()]),
    )


def test_each_rule_keeps_servers_apart(rules: list[dict[str, Any]]) -> None:
    """Whatever is added up or compared, is so by job and namespace."""
    groups = [
        (rule["alert"], group) for rule in rules for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
    ]

    assert [alert for alert, group in groups if not {"job", "namespace"} <= set(re.findall(r"\w+", group))] == []
    assert [rule["alert"] for rule in rules if re.search(r"\b(scalar|absent|without|ignoring)\b", rule["expr"])] == []
    bare = r"\b(?:sum|min|max|avg|count|group)\s*\("
    assert [rule["alert"] for rule in rules if re.search(bare, rule["expr"])] == []


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
        # Another name would be an empty place in the sentence that wakes somebody.
        known = {"job", "namespace", "instance", "region"} | set(
            re.findall(r"\w+", str(re.findall(r"\bby \(([^)]*)", rule["expr"])))
        )
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= known
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
from weather_server.hardening import probe
from weather_server.hardening.telemetry import http_metrics, metrics

told = metrics.Metrics(version="1", schema_sha256="a", timeouts={"a": 30.0}, streaming=["a"])
told.read(**{name: lambda: 1.0 for name in metrics.READINGS})
for kind in metrics.KINDS:
    told.observe_call("a", "error", kind, 1.0, 1)
told.refused("in_flight", 503)
told.requested("modern", probe=False)
told.acquired(0.1)
http_metrics.HttpMetrics(told.registry).answered("api.example.com", "ok", "GET", 200, 0.1)
print(told.render().decode())

steps = [probe.Step("tools/list", probe.Verdict.HEALTHY, 1.0, "ok")]
eras = tuple(probe.Era(name, steps, "1", "a", 1, "a", 1.0, 1.0) for name in probe.ERAS)
print(probe.as_metrics(probe.Report("https://mcp.example.com/mcp", 1.0, eras, 1.0)))
"""


@pytest.fixture(scope="module")
def exported(project: Path) -> dict[str, dict[str, set[str]]]:
    """Each metric of server and probe, with its labels and the values that these can have."""
    done = run(sys.executable, "-c", SAY_ALL, env={"PYTHONPATH": str(project / "src")})
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, set[str]]] = {}
    for name, labels in re.findall(r"^(mcp_\w+)(?:\{(.*)\})? ", done.stdout, re.MULTILINE):
        values = found.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            values.setdefault(label, set()).add(value)
    return found


def test_every_query_names_what_is_exported(
    project: Path, rules: list[dict[str, Any]], exported: dict[str, dict[str, set[str]]]
) -> None:
    """A metric, a label or a value that nobody writes would be an alert that never fires."""
    # Statuses, tools and hosts are those of the day; some labels are added by whoever scrapes.
    scraped = {"job", "namespace", "instance", "cronjob"}
    open_ended = {"status", "tool", "layer", "url", "host"} | scraped
    unknown: list[str] = []
    for where, query in expressions(project, rules).items():
        named = re.findall(r"\b(mcp_\w+)(?:\{([^}]*)\})?", query)
        labels = scraped.union(*(exported.get(name, {}) for name, _ in named))
        grouped = ",".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", query))
        unknown += [f"{where}: {name}" for name, _ in named if name not in exported]
        unknown += [f"{where}: {label}" for label in re.findall(r"\w+", grouped) if label not in labels]
        for name, matchers in named:
            for label, value in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', matchers):
                known = exported.get(name, {}).get(label, scraped if label in scraped else None)
                if known is None or (label not in open_ended and not set(value.split("|")) <= known):
                    unknown.append(f"{where}: {name}{{{label}={value}}}")

    assert unknown == []


def test_every_layer_that_is_named_exists(project: Path, rules: list[dict[str, Any]]) -> None:
    """Layers are called as the stack calls them, and as the access log calls what is before and behind the stack."""
    hardening = project / "src/weather_server/hardening"
    layers = set(re.findall(r'^ +\("(\w+)", ', (hardening / "stack.py").read_text("utf-8"), re.MULTILINE))
    access_log = (hardening / "logs/access_log.py").read_text("utf-8")
    layers |= set(re.findall(r'^(?:PROTOCOL| +layer) = "(\w+)"$', access_log, re.MULTILINE))
    named = {
        layer
        for query in expressions(project, rules).values()
        for value in re.findall(r'layer[!=~]+"([^"]+)"', query)
        for layer in value.split("|")
    }
    page = (project / "docs/operations.md").read_text("utf-8")
    named |= set(re.findall(r"`layer` `(\w+)`", page)) | {"address_rate", "principal_rate", "rate"}

    assert named <= layers


def test_the_dashboard_shows_the_servers_that_are_chosen(project: Path) -> None:
    """Variables for namespace, job and replica, each within the one before; every query of a server follows them."""
    dashboard = json.loads((project / "deploy/grafana/mcp-server.json").read_text("utf-8"))
    variables = {entry["name"]: entry.get("definition", "") for entry in dashboard["templating"]["list"]}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    of_a_server = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"}'

    assert variables == {
        "datasource": "",
        "namespace": "label_values(mcp_build_info, namespace)",
        "job": 'label_values(mcp_build_info{namespace=~"$namespace"}, job)',
        "instance": 'label_values(mcp_build_info{namespace=~"$namespace",job=~"$job"}, instance)',
        "url": "label_values(mcp_probe_serving, url)",
    }
    for query in queries:
        for name, matchers in re.findall(r"\b(mcp_\w+)(\{[^}]*\})?", query):
            assert matchers.endswith('url=~"$url"}' if name.startswith("mcp_probe_") else of_a_server), query
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            assert group == "url" or group.startswith("namespace, job"), query


def test_the_dashboard_is_complete(project: Path) -> None:
    """Each panel has an explanation and a place of its own; none is left empty."""
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
    assert sorted(cells) == [(y, x) for y in range(len(cells) // 24) for x in range(24)]
