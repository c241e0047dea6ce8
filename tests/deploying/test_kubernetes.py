"""The manifests are what the API server will accept, and hold what the documentation says."""

from __future__ import annotations

import copy
import json
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from support import kustomize
from support.kubernetes import Manifest, build, of_kind, pods, really, restricted
from support.programs import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLDEST, NEWEST = "1.33", "1.37"
# Validated by their operators, not by Kubernetes.
CUSTOM = {"HTTPRoute", "ExternalSecret", "ServiceMonitor", "PrometheusRule"}
COMPONENTS = (*("gateway", "ingress-nginx", "datastores", "monitoring", "external-secret", "migrations"),)
NAME = {"app.kubernetes.io/name": "mcp-server"}
# As the deploy workflow writes it.
RELEASE = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../everything
patches:
  - patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata:
        name: mcp-server
        namespace: weather-server
      spec:
        template:
          spec:
            containers:
              - name: server
                image: registry.example.com/released@sha256:0
  - target:
      kind: Job
      name: mcp-server-migrations
    patch: |
      - op: replace
        path: /spec/template/spec/containers/0/image
        value: registry.example.com/released@sha256:0
"""
PUBLIC = {"/mcp", "/.well-known/oauth-protected-resource/mcp"}


@pytest.fixture(scope="module")
def folder(project: Path) -> Path:
    """Where the manifests are."""
    return project / "deploy/kubernetes"


@pytest.fixture(scope="module")
def shipped(folder: Path) -> list[Manifest]:
    """The production overlay as it is rendered."""
    return build(folder / "overlays/production")


@contextmanager
def with_every_component(folder: Path) -> Iterator[Path]:
    """Add an overlay with every component switched on, for a moment."""
    overlay = folder / "overlays/everything"
    overlay.mkdir()
    kustomization = yaml.safe_load((folder / "overlays/production/kustomization.yaml").read_text())
    kustomization["components"] = [f"../../components/{name}" for name in COMPONENTS]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    (overlay / "settings.env").write_text(
        "MCP_PUBLIC_URL=https://weather.example.org\nMCP_AUTH=api_key\n", encoding="utf-8"
    )
    try:
        yield overlay
    finally:
        shutil.rmtree(overlay)


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[Manifest]:
    """The production overlay with every component switched on."""
    with with_every_component(folder) as overlay:
        return build(overlay)


def settled(manifests: list[Manifest]) -> list[str]:
    """Return manifests in an order, and with names, that do not depend on who built them."""
    name = re.compile(r"mcp-server-settings-\w+")
    return sorted(name.sub("mcp-server-settings", json.dumps(one, sort_keys=True)) for one in manifests)


def test_manifests_are_built_as_kubectl_builds_them(folder: Path) -> None:
    """Where there is no kubectl, these tests look at the same manifests: base, overlays, patches, the probe."""
    kubectl = find("kubectl")
    release = folder / "overlays/.release"
    release.mkdir()
    (release / "kustomization.yaml").write_text(RELEASE, "utf-8")
    with with_every_component(folder) as overlay:
        for one in (folder / "base", folder / "probe", folder / "overlays/production", overlay, release):
            assert settled(kustomize.build(one)) == settled(really(kubectl, one)), one
    shutil.rmtree(release)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    """A field that only the real one understands fails here, instead of being left out."""
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n", "utf-8")

    with pytest.raises(NotImplementedError, match="namePrefix"):
        kustomize.build(tmp_path)


def server(manifests: list[Manifest]) -> Manifest:
    """Return the pod of the server."""
    return of_kind(manifests, "Deployment")["spec"]["template"]["spec"]


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    """Return the settings of the pods."""
    return next(m["data"] for m in manifests if m["metadata"]["name"].startswith("mcp-server-settings"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_fits_the_schema(everything: list[Manifest], version: str) -> None:
    """No field is misspelt or misplaced, for the oldest and the newest cluster."""
    for manifest in everything:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_noticed(shipped: list[Manifest]) -> None:
    """The check above can fail."""
    spoilt = copy.deepcopy(of_kind(shipped, "Deployment"))
    spoilt["spec"]["template"]["spec"]["terminationGraceSeconds"] = 60

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, NEWEST, strict=True)


def test_every_component_is_listed(folder: Path) -> None:
    """The overlay names each component, switched on or as a comment."""
    named = (folder / "overlays/production/kustomization.yaml").read_text(encoding="utf-8")
    there = {path.name for path in (folder / "components").iterdir()}

    assert set(COMPONENTS) == there
    assert {name for name in there if f"../../components/{name}" not in named} == set()


def test_every_pod_fits_the_restricted_profile(everything: list[Manifest]) -> None:
    """Server and job run where Pod Security `restricted` is enforced."""
    problems = {name: restricted(template["spec"]) for name, template in pods(everything)}

    assert problems == {"mcp-server": [], "mcp-server-migrations": []}
    labels = of_kind(everything, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("hostNetwork",), True),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "runAsUser"), 0),
        (("securityContext", "seccompProfile", "type"), "Unconfined"),
        (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
        (("volumes",), [{"name": "host", "hostPath": {"path": "/"}}]),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
        (("containers", 0, "securityContext", "privileged"), True),
        (("containers", 0, "securityContext", "capabilities", "drop"), []),
        (("containers", 0, "securityContext", "capabilities", "add"), ["SYS_ADMIN"]),
        (("containers", 0, "ports", 0, "hostPort"), 8000),
        (("containers", 0, "livenessProbe", "httpGet", "host"), "10.0.0.1"),
        (("initContainers",), [{"name": "init", "image": "busybox:1.37"}]),
    ],
)
def test_each_breach_of_the_profile_is_noticed(shipped: list[Manifest], where: tuple[Any, ...], value: object) -> None:
    """The check above can fail, for each rule."""
    spoilt = copy.deepcopy(server(shipped))
    target: Any = spoilt
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value

    assert restricted(spoilt)


def test_the_pod_holds_what_is_promised(shipped: list[Manifest]) -> None:
    """Read-only root, no token, no service links, requests and a memory limit, spread over nodes."""
    spec = server(shipped)
    (container,) = spec["containers"]

    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert of_kind(shipped, "ServiceAccount")["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    assert {c["topologyKey"] for c in spec["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_the_pod_is_the_image(shipped: list[Manifest], project: Path) -> None:
    """User and port are those of the Dockerfile."""
    dockerfile = (project / "Dockerfile").read_text(encoding="utf-8")
    user = re.search(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    exposed = re.search(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)
    spec = server(shipped)

    assert user
    assert exposed
    context = spec["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert spec["containers"][0]["ports"][0]["containerPort"] == int(exposed[1])


def test_an_update_takes_no_pod_away(shipped: list[Manifest]) -> None:
    """Two pods or more, a new one before an old one goes, one disruption at a time."""
    deployment = of_kind(shipped, "Deployment")["spec"]
    scaler = of_kind(shipped, "HorizontalPodAutoscaler")["spec"]

    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in deployment
    assert scaler["minReplicas"] == 2
    assert of_kind(shipped, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_scaling_down_waits_for_the_drain(shipped: list[Manifest]) -> None:
    """One pod at a time, and no sooner than the one before it may take to end."""
    (policy,) = of_kind(shipped, "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]["policies"]

    assert policy["value"] == 1
    assert policy["periodSeconds"] > server(shipped)["terminationGracePeriodSeconds"]


def test_the_server_knows_how_many_it_may_be(shipped: list[Manifest]) -> None:
    """MCP_REPLICAS is not below what the autoscaler may start."""
    scaler = of_kind(shipped, "HorizontalPodAutoscaler")["spec"]

    assert int(settings_of(shipped)["MCP_REPLICAS"]) >= scaler["maxReplicas"]


def test_every_selector_finds_the_pods(everything: list[Manifest]) -> None:
    """Service, budget, policies and the autoscaler mean the pods that the Deployment makes."""
    made = {name: template["metadata"]["labels"] for name, template in pods(everything)}
    server_labels = made["mcp-server"]
    selectors = {
        "Deployment": of_kind(everything, "Deployment")["spec"]["selector"]["matchLabels"],
        "Service": of_kind(everything, "Service")["spec"]["selector"],
        "PodDisruptionBudget": of_kind(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        **{
            m["metadata"]["name"]: m["spec"]["podSelector"]["matchLabels"]
            for m in everything
            if m["kind"] == "NetworkPolicy"
        },
    }

    missed = {k: s for k, s in selectors.items() if not s.items() <= server_labels.items()}
    assert missed == {}
    # Clients and the budget are for servers, not for jobs.
    job = made["mcp-server-migrations"].items()
    assert not selectors["Service"].items() <= job
    assert not selectors["PodDisruptionBudget"].items() <= job
    # Rules for the way out hold for both.
    assert selectors["mcp-server"].items() <= job


def test_nothing_is_open_that_is_not_needed(everything: list[Manifest]) -> None:
    """In: from the proxy and the monitor. Out: names, TLS to the public internet, the datastores."""
    policies = {m["metadata"]["name"]: m["spec"] for m in everything if m["kind"] == "NetworkPolicy"}
    base = policies.pop("mcp-server")

    assert sorted(base["policyTypes"]) == ["Egress", "Ingress"]
    assert "ingress" not in base
    names, internet = base["egress"]
    (to,) = names["to"]
    assert to["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert internet["ports"] == [{"protocol": "TCP", "port": 443}]
    for block in internet["to"]:
        assert block["ipBlock"]["except"]
    metadata_service = "169.254.0.0/16"
    assert metadata_service in internet["to"][0]["ipBlock"]["except"]

    ways_in = {name: spec for name, spec in policies.items() if "ingress" in spec}
    assert set(ways_in) == {
        "mcp-server-from-gateway",
        "mcp-server-from-ingress-nginx",
        "mcp-server-from-monitoring",
    }
    for spec in ways_in.values():
        (rule,) = spec["ingress"]
        assert rule["from"][0]["namespaceSelector"]["matchLabels"]
        assert [port["port"] for port in rule["ports"]] == ["http"]


def test_two_paths_are_public(everything: list[Manifest]) -> None:
    """Health and metrics are not reachable from outside, by either way in."""
    (rule,) = of_kind(everything, "HTTPRoute")["spec"]["rules"]
    paths = {(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]}
    (ingress,) = of_kind(everything, "Ingress")["spec"]["rules"]

    assert paths == {("Exact", path) for path in PUBLIC}
    assert {(p["pathType"], p["path"]) for p in ingress["http"]["paths"]} == paths
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_the_host_name_is_said_once(everything: list[Manifest]) -> None:
    """Both ways in follow MCP_PUBLIC_URL."""
    ingress = of_kind(everything, "Ingress")["spec"]

    assert of_kind(everything, "HTTPRoute")["spec"]["hostnames"] == ["weather.example.org"]
    assert ingress["rules"][0]["host"] == "weather.example.org"
    assert ingress["tls"][0]["hosts"] == ["weather.example.org"]


def test_streams_pass_the_ingress(everything: list[Manifest]) -> None:
    """No buffering, HTTP/1.1 to the server."""
    notes = of_kind(everything, "Ingress")["metadata"]["annotations"]

    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert notes["nginx.ingress.kubernetes.io/proxy-http-version"] == "1.1"


def test_every_reference_leads_somewhere(everything: list[Manifest]) -> None:
    """Secret, settings, service account and backends exist under the names that are used."""
    spec = server(everything)
    secret = of_kind(everything, "ExternalSecret")["spec"]["target"]["name"]
    settings = next(m["metadata"]["name"] for m in everything if m["kind"] == "ConfigMap")
    sources = spec["containers"][0]["envFrom"]

    assert [next(iter(s.values()))["name"] for s in sources] == [settings, secret]
    assert spec["serviceAccountName"] == of_kind(everything, "ServiceAccount")["metadata"]["name"]
    service = of_kind(everything, "Service")["metadata"]["name"]
    (rule,) = of_kind(everything, "HTTPRoute")["spec"]["rules"]
    assert [ref["name"] for ref in rule["backendRefs"]] == [service]
    scaled = of_kind(everything, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] == of_kind(everything, "Deployment")["metadata"]["name"]


def test_everything_lives_in_the_namespace_of_the_project(everything: list[Manifest]) -> None:
    """Names inside are generic, because the namespace carries the project's."""
    assert of_kind(everything, "Namespace")["metadata"]["name"] == "weather-server"
    outside = [
        m["kind"] for m in everything if m["kind"] != "Namespace" and m["metadata"].get("namespace") != "weather-server"
    ]
    assert outside == []


def test_every_image_has_the_tag_of_the_overlay(everything: list[Manifest]) -> None:
    """No pod starts from the placeholder of the base, and none from a moving tag."""
    images = {c["image"] for _, template in pods(everything) for c in template["spec"]["containers"]}

    assert images == {"registry.example.com/weather-server:0.1.0"}


def test_the_migrations_job_says_what_it_lacks(everything: list[Manifest]) -> None:
    """Until the author sets a command, the job fails with a sentence that says so."""
    job = of_kind(everything, "Job")["spec"]
    command = " ".join(job["template"]["spec"]["containers"][0]["command"])

    assert "set the command of the job mcp-server-migrations" in command
    assert job["backoffLimit"] == 0
