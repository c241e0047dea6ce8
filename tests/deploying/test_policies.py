"""What the built objects allow, all of it: rights, ways in and out, time to end, and repetition.

Not "is this line there" but "is anything there besides": each object of each cluster is compared with what is allowed.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.kubernetes import Manifest, build, of_kind, pods, restricted
from support.overlays import CLUSTERS, with_components

if TYPE_CHECKING:
    from collections.abc import Iterable

# Objects that may exist: none gives a right in the cluster, opens a port of a node or stores anything.
KINDS = {
    *("Namespace", "ServiceAccount", "ConfigMap", "Service", "Deployment", "Job"),
    *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "CiliumNetworkPolicy"),
    *("HTTPRoute", "Ingress", "Route", "HealthCheckPolicy", "GCPBackendPolicy"),
    *("ServiceMonitor", "PrometheusRule", "ExternalSecret"),
}
USER = {"runAsUser": 10001, "runAsGroup": 10001}
POD_CONTEXT = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_KEYS = {
    *("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "securityContext"),
    *("terminationGracePeriodSeconds", "topologySpreadConstraints", "containers", "volumes", "restartPolicy"),
}
TMP = {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
# Scratch space of the server and its job, and the released contract that the probe compares with.
CONTRACT = {"name": "contract", "configMap": {"name": "mcp-server-contract"}}
VOLUMES = (set[str](), []), ({"/tmp"}, [TMP]), ({"/contract"}, [CONTRACT])  # noqa: S108 - a path in a container
NAMES = [("UDP", 53), ("TCP", 53)]
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
INSIDE = {*PRIVATE, "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"}
HTTP = [("TCP", "http")]
# Every object that is applied, whole: its numbers, its selectors, whom it refers to.
OBJECTS = Path(__file__).with_name("objects.yaml")
HOST_NETWORK = "policy-group.network.openshift.io/host-network"


def namespace(*names: str) -> str:
    """Name the pods of some namespaces."""
    return "pods of " + "|".join(names)


# Every way in and out: who, and to which ports. "*" is anybody.
FLOWS: dict[str, dict[str, Any]] = {
    "mcp-server": {
        "out": [
            ({"pods of kube-system where k8s-app is kube-dns"}, NAMES),
            ({f"0.0.0.0/0 but {sorted(INSIDE)}", "::/0 but ['::1/128', 'fc00::/7', 'fe80::/10']"}, [("TCP", 443)]),
        ]
    },
    "mcp-server-from-gateway": {"in": [({namespace("gateway")}, HTTP)]},
    "mcp-server-from-envoy-gateway": {
        "in": [({"pods of envoy-gateway-system where app.kubernetes.io/managed-by is envoy-gateway"}, HTTP)]
    },
    "mcp-server-from-gke-gateway": {
        "in": [({"35.191.0.0/16", "130.211.0.0/22", "2600:2d00:1:1::/64", "2600:2d00:1:b029::/64"}, HTTP)]
    },
    "mcp-server-from-ingress-nginx": {"in": [({namespace("ingress-nginx")}, HTTP)]},
    "mcp-server-from-traefik": {
        "in": [({"pods of traefik|kube-system where app.kubernetes.io/name is traefik"}, HTTP)]
    },
    "mcp-server-from-alb": {"in": [(PRIVATE, HTTP)]},
    "mcp-server-from-openshift-router": {
        "in": [({namespace("openshift-ingress"), f"pods of namespaces with {HOST_NETWORK}="}, HTTP)]
    },
    "mcp-server-from-monitoring": {"in": [({namespace("monitoring")}, HTTP)]},
    "mcp-server-to-dns-nodelocal": {
        "out": [({"169.254.20.10/32", "pods of kube-system where k8s-app is node-local-dns"}, NAMES)]
    },
    "mcp-server-to-dns-cloud": {"out": [({"169.254.169.254/32"}, NAMES)]},
    "mcp-server-to-openshift-dns": {
        "out": [
            (
                {"pods of openshift-dns where dns.operator.openshift.io/daemonset-dns is default"},
                [("UDP", 5353), ("TCP", 5353)],
            )
        ]
    },
    "mcp-server-to-datastores": {"out": [({"*"}, [("TCP", 5432), ("TCP", 6379)])]},
    "mcp-server-to-managed-datastores": {
        "out": [({"*"}, [("TCP", 6380), ("TCP", 6432), ("TCP", 6543), ("TCP", "10000-29999")])]
    },
    "mcp-server-to-issuer": {"out": [({namespace("keycloak")}, [("TCP", 8443), ("TCP", 8080)])]},
    "mcp-server-to-gateway": {
        "out": [
            (
                {namespace("gateway", "envoy-gateway-system", "ingress-nginx", "traefik")},
                [("TCP", 443), ("TCP", 8443), ("TCP", 10443)],
            )
        ]
    },
    "mcp-server-to-collector": {
        "out": [({namespace("monitoring", "observability", "opentelemetry")}, [("TCP", 4317), ("TCP", 4318)])]
    },
}  # fmt: skip
# What the base and each component bring; a name of its own stands after the kind. Others only change objects.
BROUGHT = {
    "base": (
        "Namespace/weather-server ConfigMap ServiceAccount Deployment Service HorizontalPodAutoscaler"
        " PodDisruptionBudget NetworkPolicy"
    ),
    "gateway": "HTTPRoute NetworkPolicy/mcp-server-from-gateway",
    "from-envoy-gateway": "NetworkPolicy/mcp-server-from-envoy-gateway",
    "from-cilium": "CiliumNetworkPolicy/mcp-server-from-cilium",
    "gke-gateway": "HealthCheckPolicy GCPBackendPolicy NetworkPolicy/mcp-server-from-gke-gateway",
    "ingress-nginx": "Ingress NetworkPolicy/mcp-server-from-ingress-nginx",
    "traefik": "Ingress NetworkPolicy/mcp-server-from-traefik",
    "alb": "Ingress NetworkPolicy/mcp-server-from-alb",
    "openshift": (
        "Route Route/mcp-server-metadata NetworkPolicy/mcp-server-from-openshift-router"
        " NetworkPolicy/mcp-server-to-openshift-dns"
    ),
    "monitoring": "ServiceMonitor PrometheusRule NetworkPolicy/mcp-server-from-monitoring",
    "external-secret": "ExternalSecret/mcp-server-secrets",
    "migrations": "Job/mcp-server-migrations",
    **{
        component: f"NetworkPolicy/mcp-server-to-{name}"
        for component, name in {
            "dns-nodelocal": "dns-nodelocal",
            "dns-cloud": "dns-cloud",
            "datastores": "datastores",
            "datastores-managed": "managed-datastores",
            "issuer-inside": "issuer",
            "gateway-inside": "gateway",
            "otlp": "collector",
        }.items()
    },
}
# What an Ingress may say to its controller; none of it repeats, buffers, authenticates elsewhere or adds configuration.
NOTES = {
    "nginx": {
        "proxy-buffering": "off",
        "proxy-http-version": "1.1",
        "proxy-read-timeout": "120",
        "proxy-send-timeout": "30",
        "proxy-connect-timeout": "2",
        "proxy-body-size": "2m",
        "proxy-next-upstream": "error timeout",
        "ssl-redirect": "true",
    },
    "traefik": {"router.entrypoints": "websecure", "router.tls": "true"},
    "alb": {
        "scheme": "internet-facing",
        "target-type": "ip",
        "listen-ports": '[{"HTTPS": 443}]',
        "healthcheck-path": "/readyz",
        "healthcheck-interval-seconds": "5",
        "healthcheck-timeout-seconds": "2",
        "healthy-threshold-count": "2",
        "unhealthy-threshold-count": "2",
        "load-balancer-attributes": "idle_timeout.timeout_seconds=70",
        "target-group-attributes": "deregistration_delay.timeout_seconds=50",
    },
}
PATHS = {("Exact", "/mcp"), ("Exact", "/.well-known/oauth-protected-resource/mcp")}


def whole(manifests: Iterable[Manifest]) -> dict[str, Any]:
    """Return what objects say, by kind and name, without the hash of the settings; rules have tests of their own."""
    parts = ("spec", "data", "stringData", "roleRef", "rules", "subjects")
    found: dict[str, Any] = {}
    for manifest in manifests:
        if manifest["kind"] != "PrometheusRule":
            said = yaml.safe_dump({part: manifest[part] for part in parts if part in manifest})
            name = re.sub("(mcp-server-settings)-[a-z0-9]{10}", r"\1", manifest["metadata"]["name"])
            found[f"{manifest['kind']} {name}"] = yaml.safe_load(
                re.sub("(mcp-server-settings)-[a-z0-9]{10}", r"\1", said)
            )
            if noted := {
                key: manifest["metadata"][key] for key in ("labels", "annotations") if key in manifest["metadata"]
            }:
                found[f"{manifest['kind']} {name}, metadata"] = noted
    return found


@pytest.fixture(scope="module")
def probe(project: Path) -> list[Manifest]:
    """The job that probes from another cluster."""
    return build(project / "deploy/kubernetes/probe")


def peer(said: Manifest) -> str:
    """Put one peer of a policy into words."""
    if "ipBlock" in said:
        assert said.keys() == {"ipBlock"}
        block = said["ipBlock"]
        return block["cidr"] + (f" but {sorted(block['except'])}" if "except" in block else "")
    assert said.keys() <= {"namespaceSelector", "podSelector"}, said
    space = said["namespaceSelector"]
    (key, *more) = space.get("matchLabels", {}).items() or [
        (one["key"], "|".join(one["values"])) for one in space["matchExpressions"] if one["operator"] == "In"
    ]
    assert not more
    words = "pods of " + (key[1] if key[0] == "kubernetes.io/metadata.name" else f"namespaces with {key[0]}={key[1]}")
    for one in said.get("podSelector", {}).get("matchExpressions", ()):
        assert one["operator"] == "In"
        words += f" where {one['key']} is {'|'.join(one['values'])}"
    assert "matchLabels" not in said.get("podSelector", {}), "an overlay that adds labels would change whom this means"
    return words


def flows(policy: Manifest) -> dict[str, Any]:
    """Put all rules of a policy into words."""
    found: dict[str, Any] = {}
    for direction, key, peers in (("in", "ingress", "from"), ("out", "egress", "to")):
        for rule in policy["spec"].get(key, ()):
            assert rule.keys() <= {peers, "ports"}
            assert rule["ports"], "a rule without ports opens all of them"
            ports = [
                (port["protocol"], f"{port['port']}-{port['endPort']}" if "endPort" in port else port["port"])
                for port in rule["ports"]
            ]
            found.setdefault(direction, []).append(
                ({peer(one) for one in rule[peers]} if peers in rule else {"*"}, ports)
            )
    return found


def rights(manifests: list[Manifest]) -> list[str]:
    """Return what anything has beyond what is allowed."""
    found = [f"{m['kind']} {m['metadata']['name']}" for m in manifests if m["kind"] not in KINDS | {"CronJob"}]
    for name, template in pods(manifests):
        found += [f"{name}: {problem}" for problem in pod_rights(template["spec"])]
    for manifest in manifests:
        if manifest["kind"] == "Service" and manifest["spec"].keys() - {"selector", "ports", "ipFamilyPolicy"}:
            found.append("the Service is reachable from outside")
        if manifest["kind"] == "ServiceAccount" and manifest["automountServiceAccountToken"] is not False:
            found.append("the account gives its token away")
    return found


def pod_rights(spec: Manifest) -> list[str]:
    """Return what a pod has beyond what is allowed; the user is ours, or the cluster's choice."""
    context = dict(spec["securityContext"])
    user = {key: context.pop(key) for key in USER if key in context}
    containers = spec["containers"]
    mounts = [mount["mountPath"] for container in containers for mount in container.get("volumeMounts", ())]
    rules = {
        "another user": user in ({}, USER),
        "security context of the pod": context == POD_CONTEXT,
        "security context of a container": all(one["securityContext"] == CONTAINER_CONTEXT for one in containers),
        "token of the cluster": spec["automountServiceAccountToken"] is False,
        "links of the cluster": spec["enableServiceLinks"] is False,
        "memory without a bound": all("memory" in one["resources"]["limits"] for one in containers),
        "another volume": (set(mounts), spec.get("volumes", [])) in VOLUMES,
    }
    return [
        *restricted(spec),
        *sorted(spec.keys() - POD_KEYS),
        *(problem for problem, holds in rules.items() if not holds),
    ]


def test_every_object_is_the_one_that_is_listed(cluster: list[Manifest]) -> None:
    """No number, selector, reference, label or annotation is another one, and no object says more."""
    listed = yaml.safe_load(OBJECTS.read_text("utf-8"))

    for name, said in whole(cluster).items():
        assert said in listed[name], name


def test_every_object_is_there(request: pytest.FixtureRequest, cluster: list[Manifest]) -> None:
    """Each component brings what it is for, the rule of the network above all, and nothing else."""
    components = CLUSTERS[request.node.callspec.params["cluster"]]
    expected = {name for component in ("base", *components) for name in BROUGHT.get(component, "").split()}

    assert {f"{m['kind']}/{m['metadata']['name']}".partition("-settings-")[0] for m in cluster} == {
        f"{name}/mcp-server" if "/" not in name else name for name in expected
    }


def test_the_probes_object_is_the_one_that_is_listed(probe: list[Manifest]) -> None:
    """How often it looks, for how long, with whose key, and what happens when it hangs."""
    listed = yaml.safe_load(OBJECTS.read_text("utf-8"))

    assert all(said in listed[name] for name, said in whole(probe).items())


def test_nothing_has_a_right_that_is_not_listed(cluster: list[Manifest]) -> None:
    """No role, no host, no capability, no further volume, no further field: in the server as in the job."""
    assert rights(cluster) == []
    labels = of_kind(cluster, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_probe_has_no_right_either(probe: list[Manifest]) -> None:
    """It runs in somebody's other cluster, as confined as the server."""
    assert rights(probe) == []
    assert [manifest["kind"] for manifest in probe] == ["CronJob"]


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.hostNetwork", True),
        ("Deployment", "spec.template.spec.hostAliases", [{"ip": "10.0.0.1", "hostnames": ["issuer"]}]),
        ("Deployment", "spec.template.spec.initContainers", [{"name": "root", "image": "busybox:1.37"}]),
        ("Deployment", "spec.template.spec.securityContext.runAsUser", 1),
        ("Deployment", "spec.template.spec.securityContext.fsGroup", 0),
        ("Deployment", "spec.template.spec.automountServiceAccountToken", True),
        ("Deployment", "spec.template.spec.containers.0.securityContext.privileged", True),
        ("Deployment", "spec.template.spec.containers.0.securityContext.capabilities.add", ["NET_BIND_SERVICE"]),
        ("Deployment", "spec.template.spec.containers.0.resources.limits", {}),
        ("Job", "spec.template.spec.volumes", [{"name": "tmp", "hostPath": {"path": "/"}}]),
        ("Service", "spec.type", "LoadBalancer"),
        ("ServiceAccount", "automountServiceAccountToken", True),
        ("Namespace", "kind", "ClusterRoleBinding"),
    ],
)
def test_an_added_right_is_noticed(project: Path, kind: str, path: str, value: object) -> None:
    """The check above can fail, wherever something is added."""
    with with_components(project / "deploy/kubernetes", CLUSTERS["nginx"]) as overlay:
        spoilt = copy.deepcopy(build(overlay))
    place: Any = of_kind(spoilt, kind)
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    place[last] = value

    assert rights(spoilt)


def test_every_way_in_and_out_is_listed(cluster: list[Manifest]) -> None:
    """What policies open together is what the table says: no rule more, no port, no address."""
    policies = [m for m in cluster if m["kind"] == "NetworkPolicy"]

    for policy in policies:
        assert flows(policy) == FLOWS[policy["metadata"]["name"]], policy["metadata"]["name"]
        assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "mcp-server"
    base = of_kind(cluster, "NetworkPolicy", "mcp-server")["spec"]
    assert sorted(base["policyTypes"]) == ["Egress", "Ingress"]
    for policy in [m["spec"] for m in cluster if m["kind"] == "CiliumNetworkPolicy"]:
        assert policy["ingress"] == [
            {"fromEntities": ["ingress"], "toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
        ]
        assert policy.keys() == {"endpointSelector", "ingress"}


def test_the_base_is_closed_without_components(project: Path) -> None:
    """The policy that closes is part of the base, and means server and job."""
    base = build(project / "deploy/kubernetes/base")
    policies = [m for m in base if m["kind"] == "NetworkPolicy"]

    assert [policy["metadata"]["name"] for policy in policies] == ["mcp-server"]
    assert policies[0]["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "mcp-server"}}
    assert "ingress" not in policies[0]["spec"]


def test_two_paths_are_public_and_nothing_is_repeated(cluster: list[Manifest]) -> None:
    """Routes match two paths, pass them on as they came, to one place, without a limit of time below the server's."""
    for manifest in cluster:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "HTTPRoute":
            (rule,) = spec["rules"]
            # `retry` would repeat a call, `filters` could copy it to somebody else.
            assert rule.keys() == {"matches", "backendRefs", "timeouts"}
            assert [match.keys() for match in rule["matches"]] == [{"path"}, {"path"}]
            assert {(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]} == PATHS
            assert rule["backendRefs"] == [{"name": "mcp-server", "port": 80}]
            assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
        if manifest["kind"] == "Ingress":
            (rule,) = spec["rules"]
            assert {(path["pathType"], path["path"]) for path in rule["http"]["paths"]} == PATHS
            assert "defaultBackend" not in spec
            notes = {re.sub(r"^.*/", "", key): value for key, value in manifest["metadata"]["annotations"].items()}
            assert notes == NOTES[spec["ingressClassName"]]
        if manifest["kind"] == "Route":
            assert spec["to"] == {"kind": "Service", "name": "mcp-server", "weight": 100}
            assert "alternateBackends" not in spec
            assert spec["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "None"}


def test_everybody_who_waits_waits_longer(cluster: list[Manifest]) -> None:
    """Longest tool < drain; delay + drain + closing + preStop < grace; balancers wait at least as long as calls may."""
    settings = next(m["data"] for m in cluster if m["metadata"]["name"].startswith("mcp-server-settings"))
    delay, drain, tool = (
        int(settings[f"MCP_{name}_SECONDS"]) for name in ("READINESS_DELAY", "DRAIN_TIMEOUT", "TOOL_TIMEOUT")
    )
    keep_alive = int(settings.get("MCP_KEEP_ALIVE_SECONDS", 75))
    pod = of_kind(cluster, "Deployment")["spec"]["template"]["spec"]
    pre_stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    probe = pod["containers"][0]["readinessProbe"]

    assert (tool, drain, delay) == (30, 35, 5)
    assert tool < drain
    assert delay + drain + 5 + pre_stop < pod["terminationGracePeriodSeconds"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= delay
    for manifest in cluster:
        spec, notes = manifest.get("spec", {}), manifest["metadata"].get("annotations", {})
        if manifest["kind"] == "GCPBackendPolicy":
            assert spec["default"]["timeoutSec"] > tool
            assert spec["default"]["connectionDraining"]["drainingTimeoutSec"] >= delay + drain
            assert keep_alive > 600
        if manifest["kind"] == "HealthCheckPolicy":
            check = spec["default"]
            assert check["checkIntervalSec"] * check["unhealthyThreshold"] <= delay + pre_stop
        if manifest["kind"] == "Ingress" and spec["ingressClassName"] == "alb":
            idle, deregistration = (
                int(notes[f"alb.ingress.kubernetes.io/{name}-attributes"].partition("=")[2])
                for name in ("load-balancer", "target-group")
            )
            assert tool < idle < keep_alive
            assert deregistration >= delay + drain
        if manifest["kind"] == "Route":
            assert int(notes["haproxy.router.openshift.io/timeout"].removesuffix("s")) > tool
