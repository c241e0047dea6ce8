"""The manifests are what the API server will accept, and hold what the documentation says."""

from __future__ import annotations

import copy
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from support import kustomize
from support.kubernetes import Manifest, build, of_kind, pods, really, restricted
from support.overlays import with_components
from support.programs import find

if TYPE_CHECKING:
    from pathlib import Path

OLDEST, NEWEST = "1.33", "1.37"
# Validated by their operators, not by Kubernetes.
CUSTOM = {
    *("HTTPRoute", "ExternalSecret", "ServiceMonitor", "PrometheusRule"),
    *("CiliumNetworkPolicy", "HealthCheckPolicy", "GCPBackendPolicy", "Route"),
}
# Two ways in that do not exclude each other, and everything that can stand beside them.
COMPONENTS = (
    *("gateway", "ingress-nginx", "from-envoy-gateway", "from-cilium", "gke-gateway"),
    *("dns-nodelocal", "dns-cloud", "datastores", "datastores-managed"),
    *("issuer-inside", "gateway-inside", "otlp", "ipv6"),
    *("monitoring", "kube-prometheus-stack", "external-secret", "reloader", "migrations"),
)
# Ways in that stand in the place of another one.
INSTEAD = ("traefik", "alb", "openshift")
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
OVERLAY = "deploy/kubernetes/overlays/production/kustomization.yaml"
PUBLIC = {"/mcp", "/.well-known/oauth-protected-resource/mcp"}


@pytest.fixture(scope="module")
def folder(project: Path) -> Path:
    """Where the manifests are."""
    return project / "deploy/kubernetes"


@pytest.fixture(scope="module")
def shipped(folder: Path) -> list[Manifest]:
    """The production overlay as it is rendered."""
    return build(folder / "overlays/production")


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[Manifest]:
    """The production overlay with every component switched on."""
    with with_components(folder, COMPONENTS) as overlay:
        return build(overlay)


@pytest.fixture(scope="module", params=INSTEAD)
def instead(request: pytest.FixtureRequest, folder: Path) -> list[Manifest]:
    """The overlay of a cluster with another way in, database changes and monitoring."""
    with with_components(folder, ("datastores", "monitoring", "migrations", request.param)) as overlay:
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
    with with_components(folder, COMPONENTS) as overlay:
        (release / "kustomization.yaml").write_text(RELEASE.replace("everything", overlay.name), "utf-8")
        for one in (folder / "base", folder / "probe", folder / "overlays/production", overlay, release):
            assert settled(kustomize.build(one)) == settled(really(kubectl, one)), one
    shutil.rmtree(release)
    for way in INSTEAD:
        with with_components(folder, ("migrations", way)) as overlay:
            assert settled(kustomize.build(overlay)) == settled(really(kubectl, overlay)), way


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
def test_every_manifest_fits_the_schema(everything: list[Manifest], instead: list[Manifest], version: str) -> None:
    """No field is misspelt or misplaced, for the oldest and the newest cluster, whatever the way in."""
    for manifest in everything + instead:
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

    assert {*COMPONENTS, *INSTEAD} == there
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


def test_the_migrations_job_runs_once(everything: list[Manifest]) -> None:
    """What failed is for a person, not for a second try."""
    job = of_kind(everything, "Job")["spec"]

    assert job["template"]["spec"]["containers"][0]["command"][-1] == "migrate"
    assert job["backoffLimit"] == 0


# --- Secrets that roll the pods -----------------------------------------------------------------------


def uncommented(text: str, first: str) -> str:
    """Take the comment signs off one block, as the author does."""
    lines = text.splitlines()
    start = lines.index(f"# {first}")
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("# "))
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    return "\n".join(lines) + "\n"


def test_a_changed_secret_rolls_the_pods(folder: Path, tmp_path: Path) -> None:
    """With the block of the overlay that takes the Secret from a file, another value is another pod template."""
    kubectl = find("kubectl")
    copied = shutil.copytree(folder, tmp_path / "kubernetes")
    overlay = copied / "overlays/production"
    kustomization = overlay / "kustomization.yaml"
    text = uncommented(kustomization.read_text("utf-8"), "secretGenerator:")
    kustomization.write_text(
        text.replace("# - ../../components/monitoring", "- ../../components/monitoring").replace(
            "# - ../../components/migrations", "- ../../components/migrations"
        ),
        "utf-8",
    )

    def named(value: str) -> set[str]:
        (overlay / ".env.production").write_text(f"MCP_API_KEYS={value}\n", "utf-8")
        built = really(kubectl, overlay)
        secret = of_kind(built, "Secret")["metadata"]["name"]
        monitor = of_kind(built, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]["name"]
        used = {template["spec"]["containers"][0]["envFrom"][1]["secretRef"]["name"] for _, template in pods(built)}
        return {secret, monitor, *used}

    (first,), (same,), (second,) = named("one:a"), named("one:a"), named("one:b")

    assert first == same
    assert first != second
    assert first.startswith("mcp-server-secrets-")


def test_the_file_of_secrets_is_ignored(project: Path) -> None:
    """What the overlay reads secrets from cannot be committed by accident."""
    named = re.findall(r"^#       - (\S+)$", (project / OVERLAY).read_text("utf-8"), re.MULTILINE)
    ignored = (project / ".gitignore").read_text("utf-8").splitlines()

    assert named == [".env.production"]
    assert ".env.*" in ignored


def test_reloader_watches_the_secret_of_the_pods(everything: list[Manifest]) -> None:
    """The annotation names the Secret that the pods read."""
    deployment = of_kind(everything, "Deployment")
    watched = deployment["metadata"]["annotations"]["secret.reloader.stakater.com/reload"]

    assert watched == server(everything)["containers"][0]["envFrom"][1]["secretRef"]["name"]


# --- Changes to the database --------------------------------------------------------------------------


def test_the_job_has_what_the_server_has(everything: list[Manifest]) -> None:
    """Settings and secrets both: the author's `Settings` class needs them."""
    (job,) = (template for name, template in pods(everything) if name == "mcp-server-migrations")

    assert job["spec"]["containers"][0]["envFrom"] == server(everything)["containers"][0]["envFrom"]


def test_argo_cd_changes_the_database_first(everything: list[Manifest]) -> None:
    """The job is made anew for each sync, and whatever needs the server comes in a later wave."""
    job = of_kind(everything, "Job")["metadata"]["annotations"]
    later = {
        manifest["kind"]
        for manifest in everything
        if manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave") == "1"
    }

    assert job["argocd.argoproj.io/hook"] == "Sync"
    assert job["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    assert "argocd.argoproj.io/sync-wave" not in job
    assert later == {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert job["kustomize.toolkit.fluxcd.io/force"] == "enabled"


# --- Clusters that differ -----------------------------------------------------------------------------


def test_openshift_chooses_the_user(folder: Path) -> None:
    """No user or group is asked for, in the server as in the job, and it is still never root."""
    with with_components(folder, ("migrations", "openshift")) as overlay:
        built = build(overlay)

    contexts = [template["spec"]["securityContext"] for _, template in pods(built)]
    assert contexts == [{"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}] * 2
    routes = [manifest["spec"] for manifest in built if manifest["kind"] == "Route"]
    assert {route["path"] for route in routes} == PUBLIC
    assert {route["host"] for route in routes} == {"weather.example.org"}
    assert {route["tls"]["termination"] for route in routes} == {"edge"}


def test_each_balancer_asks_for_readiness(folder: Path) -> None:
    """Those that ask for `/` unless they are told otherwise are told."""
    with with_components(folder, ("gateway", "gke-gateway")) as overlay:
        google = build(overlay)
    with with_components(folder, ("alb",)) as overlay:
        amazon = build(overlay)

    check = of_kind(google, "HealthCheckPolicy")["spec"]
    assert check["default"]["config"]["httpHealthCheck"]["requestPath"] == "/readyz"
    notes = of_kind(amazon, "Ingress")["metadata"]["annotations"]
    assert notes["alb.ingress.kubernetes.io/healthcheck-path"] == "/readyz"
    for target in (check["targetRef"], of_kind(google, "GCPBackendPolicy")["spec"]["targetRef"]):
        assert (target["kind"], target["name"]) == ("Service", of_kind(google, "Service")["metadata"]["name"])


def test_google_adds_two_entries_and_keeps_connections(folder: Path) -> None:
    """The component sets the hops and a keep-alive above the 600 s of Google; the overlay may say otherwise."""
    with with_components(folder, ("gateway", "gke-gateway")) as overlay:
        settings = settings_of(build(overlay))

    assert settings["MCP_TRUSTED_PROXY_HOPS"] == "2"
    assert int(settings["MCP_KEEP_ALIVE_SECONDS"]) > 600


def test_a_cluster_without_ipv4_is_served(everything: list[Manifest]) -> None:
    """The server listens on both families, and the Service has every family that the cluster has."""
    assert settings_of(everything)["HOST"] == "::"
    assert of_kind(everything, "Service")["spec"]["ipFamilyPolicy"] == "PreferDualStack"


def test_the_prometheus_of_the_chart_finds_what_it_has_to(everything: list[Manifest]) -> None:
    """kube-prometheus-stack looks for its label."""
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert of_kind(everything, kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def snippet(page: str, heading: str) -> dict[str, Any]:
    """Return the first YAML block below a heading of a page."""
    found = re.search(rf"\n#+ {re.escape(heading)}\n.*?```yaml\n(.*?)```", page, re.DOTALL)
    assert found, heading
    return yaml.safe_load(found[1])


def test_two_servers_share_a_namespace(folder: Path, project: Path, tmp_path: Path) -> None:
    """With the block of the runbook, names, selectors, secrets and monitors of two servers never meet."""
    kubectl = find("kubectl")
    page = (project / "docs/operations.md").read_text("utf-8")
    block = snippet(page, "Several servers in one namespace")
    components = (
        "gateway",
        "from-envoy-gateway",
        "gke-gateway",
        "dns-nodelocal",
        "monitoring",
        "migrations",
        "openshift",
    )
    sides = []
    for name in ("weather", "tides"):
        copied = shutil.copytree(folder, tmp_path / name)
        with with_components(copied, components, **yaml.safe_load(yaml.safe_dump(block).replace("weather", name))) as o:
            sides.append(really(kubectl, o))

    names = [{(m["kind"], m["metadata"]["name"]) for m in side if m["kind"] != "Namespace"} for side in sides]
    assert names[0] & names[1] == set()
    labels = [of_kind(side, "Deployment")["spec"]["template"]["metadata"]["labels"] for side in sides]
    for mine, other in ((0, 1), (1, 0)):
        selectors = [s for manifest in sides[mine] for s in own_selectors(manifest)]
        assert len(selectors) >= 8
        assert [s for s in selectors if not s.items() <= labels[mine].items()] == []
        assert [s for s in selectors if s.items() <= labels[other].items()] == []
        # The way out to names still means pods of the cluster, not ours.
        peers = json.dumps([m["spec"].get("egress") for m in sides[mine] if m["kind"] == "NetworkPolicy"])
        assert "app.kubernetes.io/instance" not in peers
        text = json.dumps(sides[mine])
        service, secret = of_kind(sides[mine], "Service")["metadata"]["name"], secrets_of(sides[mine])
        assert text.count(f'"name": "{service}"') >= 5
        assert {m["spec"]["targetRef"]["name"] for m in sides[mine] if "targetRef" in m.get("spec", {})} == {service}
        assert {m["spec"]["to"]["name"] for m in sides[mine] if m["kind"] == "Route"} == {service}
        assert len(secret) == 1
        assert secret != secrets_of(sides[other])


def own_selectors(manifest: Manifest) -> list[dict[str, str]]:
    """Return how a manifest chooses the server's pods or Service."""
    spec = manifest.get("spec", {})
    found = {
        "Service": lambda: spec["selector"],
        "Deployment": lambda: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "ServiceMonitor": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
    }.get(manifest["kind"])
    return [found()] if found else []


def secrets_of(manifests: list[Manifest]) -> set[str]:
    """Return the names of the Secrets that pods and monitor read."""
    used = {template["spec"]["containers"][0]["envFrom"][1]["secretRef"]["name"] for _, template in pods(manifests)}
    monitor = of_kind(manifests, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]["name"]
    return {*used, monitor}
