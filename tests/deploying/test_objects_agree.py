"""Built objects agree with each other: references, ports, selectors, directions of policies, waits within intervals.

A name, kind or port that another object does not have is accepted by the cluster, and does nothing there.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from support.kubernetes import Manifest, build, of_kind, pods
from support.overlays import CLUSTERS, with_components

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS = "mcp-server-secrets"
# What an autoscaler, a policy of a balancer and a route are for.
TARGETS = {"scaleTargetRef": "Deployment", "targetRef": "Service", "to": "Service"}
DAY = 86_400


def referred(manifests: list[Manifest]) -> Iterator[tuple[str, str, str]]:
    """Yield what objects refer to: which one does, the kind, the name."""
    for manifest in manifests:
        spec, said = manifest.get("spec", {}), f"{manifest['kind']} {manifest['metadata']['name']}"
        for key, kind in TARGETS.items():
            if isinstance(spec.get(key), dict):
                found = spec[key]["kind"]
                yield f"{said} {key}", found if found == kind else f"{kind} (and no {found})", spec[key]["name"]
        for service, _ in backends(manifest):
            yield f"{said} backend", "Service", service
    for name, template in pods(manifests):
        spec = template["spec"]
        yield f"pods of {name}", "ServiceAccount", spec.get("serviceAccountName", "default")
        for source in [source for container in spec["containers"] for source in container.get("envFrom", ())]:
            if "configMapRef" in source:
                yield f"pods of {name}", "ConfigMap", source["configMapRef"]["name"]


def backends(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """Yield the services that a way in leads to, each with the name or number of its port."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "HTTPRoute":
        for ref in [ref for rule in spec["rules"] for ref in rule["backendRefs"]]:
            yield ref["name"], ref["port"]
    if manifest["kind"] == "Ingress":
        for path in [path for rule in spec["rules"] for path in rule["http"]["paths"]]:
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name", service["port"].get("number"))
    if manifest["kind"] == "Route":
        yield spec["to"]["name"], spec["port"]["targetPort"]
    if manifest["kind"] == "ServiceMonitor":
        for endpoint in spec["endpoints"]:
            yield "mcp-server", endpoint["port"]


def dangling(manifests: list[Manifest]) -> list[str]:
    """Return references to objects and ports that are not built, and secrets of another name."""
    built = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    found = [f"{who}: no {kind} {name}" for who, kind, name in referred(manifests) if (kind, name) not in built]
    service = of_kind(manifests, "Service")["spec"]
    ports = {value for port in service["ports"] for value in (port["name"], port["port"])}
    found += [
        f"{manifest['kind']}: the Service has no port {port}"
        for manifest in manifests
        for _, port in backends(manifest)
        if port not in ports
    ]
    versions = {manifest["kind"]: manifest["apiVersion"] for manifest in manifests}
    for manifest in [manifest for manifest in manifests if manifest["kind"] == "HorizontalPodAutoscaler"]:
        target = manifest["spec"]["scaleTargetRef"]
        if target["apiVersion"] != versions.get(target["kind"]):
            found.append("HorizontalPodAutoscaler: another version of what it scales")
    return [*found, *unknown_ports(manifests), *other_secrets(manifests), *unscraped(manifests)]


def unknown_ports(manifests: list[Manifest]) -> list[str]:
    """Return names of ports that no container has: of the Service, of probes, of policies."""
    containers = [container for _, template in pods(manifests) for container in template["spec"]["containers"]]
    names = {port["name"] for container in containers for port in container.get("ports", ())}
    asked = [
        (f"{kind} of {c['name']}", c[kind]["httpGet"]["port"]) for c in containers for kind in c if "Probe" in kind
    ]
    asked += [("Service", port["targetPort"]) for port in of_kind(manifests, "Service")["spec"]["ports"]]
    for manifest in [manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy"]:
        rules = manifest["spec"].get("ingress", ())
        asked += [(manifest["metadata"]["name"], port["port"]) for rule in rules for port in rule["ports"]]
    return [f"{who}: no container has port {port}" for who, port in asked if port not in names]


def other_secrets(manifests: list[Manifest]) -> list[str]:
    """Return names of Secrets that are not the one that the operator, or an ExternalSecret, makes."""
    names = [
        source["secretRef"]["name"]
        for _, template in pods(manifests)
        for container in template["spec"]["containers"]
        for source in container.get("envFrom", ())
        if "secretRef" in source
    ]
    for manifest in manifests:
        if manifest["kind"] == "ServiceMonitor":
            names += [one["authorization"]["credentials"]["name"] for one in manifest["spec"]["endpoints"]]
        if manifest["kind"] == "ExternalSecret":
            names.append(manifest["spec"]["target"]["name"])
    return [f"Secret {name}" for name in names if name != SECRETS]


def unscraped(manifests: list[Manifest]) -> list[str]:
    """Return monitors that select no Service, or ask for something that is not served to them."""
    labels = of_kind(manifests, "Service")["metadata"]["labels"].items()
    found: list[str] = []
    for manifest in [manifest for manifest in manifests if manifest["kind"] == "ServiceMonitor"]:
        (endpoint,) = manifest["spec"]["endpoints"]
        if not manifest["spec"]["selector"]["matchLabels"].items() <= labels:
            found.append("ServiceMonitor: selects no Service")
        if (endpoint["path"], endpoint["authorization"]["type"]) != ("/metrics", "Bearer"):
            found.append("ServiceMonitor: asks for another page, or in another way")
    return found


def undeclared(manifests: list[Manifest]) -> list[str]:
    """Return policies whose rules and directions differ: a direction without its name is guessed by the cluster."""
    return [
        f"NetworkPolicy {manifest['metadata']['name']}: {direction}"
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy"
        for direction in ("Ingress", "Egress")
        # The base says both: what has no rule of its own is closed.
        if (direction in manifest["spec"].get("policyTypes", ()))
        is not (direction.lower() in manifest["spec"] or manifest["metadata"]["name"] == "mcp-server")
    ]


def seconds(text: str) -> int:
    """Return a duration of the Prometheus Operator in seconds."""
    return int(text.removesuffix("s"))


def late(manifests: list[Manifest]) -> list[str]:
    """Return looks that may take longer than the pause between two of them, or that have no bound of their own."""
    asked: list[tuple[str, int, int]] = []
    for name, template in pods(manifests):
        for container in template["spec"]["containers"]:
            for probe in [probe for probe in container if probe.endswith("Probe")]:
                said = container[probe]
                asked.append((f"{name} {probe}", said.get("timeoutSeconds", DAY), said.get("periodSeconds", 0)))
    for manifest in manifests:
        spec, notes = manifest.get("spec", {}), manifest["metadata"].get("annotations", {})
        if manifest["kind"] == "ServiceMonitor":
            for one in spec["endpoints"]:
                wait, pause = one.get("scrapeTimeout", f"{DAY}s"), one.get("interval", "0s")
                # A look that hangs must be over well before the next.
                asked.append(("ServiceMonitor", 2 * seconds(wait), seconds(pause)))
        if manifest["kind"] == "HealthCheckPolicy":
            said = spec["default"]
            asked.append(("HealthCheckPolicy", said.get("timeoutSec", DAY), said.get("checkIntervalSec", 0)))
        if spec.get("ingressClassName") == "alb":
            wait, pause = (
                int(notes.get(f"alb.ingress.kubernetes.io/healthcheck-{name}-seconds", other))
                for name, other in (("timeout", DAY), ("interval", 0))
            )
            asked.append(("Ingress", wait, pause))
    return [f"{who}: {wait} s of {pause} s" for who, wait, pause in asked if wait > pause]


def test_every_reference_is_to_something_that_is_built(cluster: list[Manifest]) -> None:
    """Kind, version, name and port: of the autoscaler, of ways in, of policies, of monitors, of pods."""
    assert dangling(cluster) == []


def test_every_policy_says_its_directions(cluster: list[Manifest]) -> None:
    """Rules for a way in without `Ingress` would leave it as open, or as closed, as it was."""
    assert undeclared(cluster) == []


def test_every_look_ends_before_the_next(cluster: list[Manifest]) -> None:
    """Probes, health checks of balancers and scrapes have a bound, and it is not above their interval."""
    assert late(cluster) == []


SPOILT = {
    ("HorizontalPodAutoscaler", "spec.scaleTargetRef.kind"): "StatefulSet",
    ("HorizontalPodAutoscaler", "spec.scaleTargetRef.name"): "server",
    ("HorizontalPodAutoscaler", "spec.scaleTargetRef.apiVersion"): "apps/v1beta1",
    ("HTTPRoute", "spec.rules.0.backendRefs.0.name"): "server",
    ("HTTPRoute", "spec.rules.0.backendRefs.0.port"): 8000,
    ("HealthCheckPolicy", "spec.targetRef.kind"): "Deployment",
    ("HealthCheckPolicy", "spec.default.timeoutSec"): 6,
    ("GCPBackendPolicy", "spec.targetRef.name"): "gateway",
    ("Service", "spec.ports.0.targetPort"): "https",
    ("Service", "metadata.labels"): {},
    ("Deployment", "spec.template.spec.serviceAccountName"): "default",
    ("Deployment", "spec.template.spec.containers.0.readinessProbe.httpGet.port"): "health",
    ("Deployment", "spec.template.spec.containers.0.readinessProbe.timeoutSeconds"): 3,
    ("Deployment", "spec.template.spec.containers.0.envFrom.0.configMapRef.name"): "settings",
    ("Deployment", "spec.template.spec.containers.0.envFrom.1.secretRef.name"): "secrets",
    ("ServiceMonitor", "spec.endpoints.0.scrapeTimeout"): "10s",
    ("ServiceMonitor", "spec.endpoints.0.port"): "metrics",
    ("ServiceMonitor", "spec.endpoints.0.authorization.type"): "Basic",
    ("ServiceMonitor", "spec.endpoints.0.authorization.credentials.name"): "keys",
    ("NetworkPolicy mcp-server", "spec.policyTypes"): ["Egress"],
    ("NetworkPolicy mcp-server-from-gke-gateway", "spec.policyTypes"): ["Egress"],
    ("NetworkPolicy mcp-server-from-gke-gateway", "spec.ingress.0.ports.0.port"): "https",
    ("NetworkPolicy mcp-server-to-dns-cloud", "spec.policyTypes"): ["Ingress", "Egress"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "path"), SPOILT)
def test_what_does_not_agree_is_noticed(project: Path, kind: str, path: str) -> None:
    """The checks above can fail, each for its reason."""
    with with_components(project / "deploy/kubernetes", CLUSTERS["gke"]) as overlay:
        spoilt = copy.deepcopy(build(overlay))
    kind, _, name = kind.partition(" ")
    place: Any = of_kind(spoilt, kind, name or None)
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    assert place[last] != SPOILT[f"{kind} {name}".strip(), path]
    place[last] = SPOILT[f"{kind} {name}".strip(), path]

    assert [*dangling(spoilt), *undeclared(spoilt), *late(spoilt)]
