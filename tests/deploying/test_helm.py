"""The Helm chart makes the objects of the overlay, refuses values that are mistakes, and rolls the pods."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from support.kubernetes import Manifest, build, of_kind, pods, restricted
from support.kubernetes_api import kubernetes_api
from support.overlays import SETTINGS, with_components

ROOT = Path(__file__).parents[2]
# One way in at a time, and everything that can stand beside it. The job is a hook, and compared by itself.
SETS = [
    ("gateway", "datastores"),
    (
        *("gateway", "ingress-nginx", "from-envoy-gateway", "from-cilium", "gke-gateway"),
        *("dns-nodelocal", "dns-cloud", "datastores", "datastores-managed"),
        *("issuer-inside", "gateway-inside", "otlp", "ipv6"),
        *("monitoring", "kube-prometheus-stack", "external-secret", "reloader"),
    ),
    ("traefik",),
    ("alb",),
    ("openshift",),
]
DIGEST = "sha256:" + "0" * 64
ROLLING = {"mcp-server/settings", "mcp-server/secrets"}


@pytest.fixture(scope="module")
def chart(project: Path) -> Path:
    """Where the chart of a project is."""
    return project / "deploy/helm"


@pytest.fixture
def values(chart: Path) -> dict[str, Any]:
    """The values of production, as they are rendered."""
    return yaml.safe_load((chart / "values.production.yaml").read_text("utf-8"))


def rendered(chart: Path, values: dict[str, Any], name: str = "mcp-server", space: str = "apps") -> list[Manifest]:
    """Return what `helm template` makes of a chart."""
    with helm.Chart.load(str(chart)) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name=name, namespace=space)
    return [one for text in files.values() for one in yaml.safe_load_all(text) if one]


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Return manifests by kind and name, without what kustomize and Helm do each in its own way.

    Helm makes the namespace itself and puts everything into it.
    kustomize rolls the pods by a suffix of the name of their settings, the chart by annotations.
    """
    found: dict[tuple[str, str], Manifest] = {}
    for one in copy.deepcopy(manifests):
        one["metadata"].pop("namespace", None)
        if one["kind"] == "ConfigMap":
            one["metadata"]["name"] = "mcp-server-settings"
        for _, pod in pods([one]):
            pod["metadata"]["annotations"] = {
                key: value for key, value in pod["metadata"].get("annotations", {}).items() if key not in ROLLING
            }
            for source in pod["spec"]["containers"][0]["envFrom"]:
                if "configMapRef" in source:
                    source["configMapRef"]["name"] = "mcp-server-settings"
        if one["kind"] != "Namespace":
            found[one["kind"], one["metadata"]["name"]] = one
    return found


def test_the_chart_is_made_from_the_manifests() -> None:
    """A change of a manifest reaches the chart."""
    spec = importlib.util.spec_from_file_location("helm_chart", ROOT / "scripts/helm_chart.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    files = script.chart()
    there = {str(path.relative_to(script.CHART)) for path in (script.CHART / "templates").rglob("*") if path.is_file()}

    assert {name for name, text in files.items() if (script.CHART / name).read_text("utf-8") != text} == set()
    assert there == {name for name in files if name.startswith("templates/")}


def test_the_values_of_production_make_the_overlay_of_production(
    project: Path, chart: Path, values: dict[str, Any]
) -> None:
    """What a fresh project deploys is the same either way, to the last field."""
    ours = by_name(rendered(chart, values))
    overlay = by_name(build(project / "deploy/kubernetes/overlays/production"))

    assert len(ours) == 10
    assert ours == overlay


@pytest.mark.parametrize("components", SETS, ids=["default", "everything", "traefik", "alb", "openshift"])
def test_each_component_makes_what_kustomize_makes(
    project: Path, chart: Path, values: dict[str, Any], components: tuple[str, ...]
) -> None:
    """The same names switch the same objects on."""
    values["settings"] = dict(line.split("=", 1) for line in SETTINGS.split())
    with with_components(project / "deploy/kubernetes", components) as overlay:
        expected = by_name(build(overlay))

    assert by_name(rendered(chart, values | {"components": list(components)})) == expected


def test_every_component_is_known(project: Path, chart: Path) -> None:
    """A component of the manifests that the chart lacked would be refused as a mistake."""
    there = sorted(path.name for path in (project / "deploy/kubernetes/components").iterdir())
    schema = json.loads((chart / "values.schema.json").read_text("utf-8"))

    assert schema["properties"]["components"]["items"]["enum"] == there
    assert {name for names in SETS for name in names} | {"migrations"} == set(there)


def test_the_job_comes_before_the_server(project: Path, chart: Path, values: dict[str, Any]) -> None:
    """The hook needs nothing that Helm makes after it, and is otherwise the job of the manifests."""
    command = ["python", "-m", "alembic", "upgrade", "head"]
    values |= {"components": ["migrations", "datastores"], "migrations": {"command": command}}
    job = of_kind(rendered(chart, values), "Job")
    with with_components(project / "deploy/kubernetes", ("migrations",)) as overlay:
        theirs = of_kind(build(overlay), "Job")
    pod, their_pod = job["spec"]["template"]["spec"], theirs["spec"]["template"]["spec"]
    (container,), (their_container,) = pod.pop("containers"), their_pod.pop("containers")
    env = {one["name"]: one["value"] for one in container.pop("env")}

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert container["command"] == command
    assert env == of_kind(rendered(chart, values), "ConfigMap")["data"]
    assert container["envFrom"] == [{"secretRef": {"name": "mcp-server-secrets"}}]
    assert their_pod.pop("serviceAccountName") == "mcp-server"
    assert pod == their_pod
    assert restricted(job["spec"]["template"]["spec"] | {"containers": [container]}) == []
    (usual,) = of_kind(rendered(chart, values | {"migrations": {}}), "Job")["spec"]["template"]["spec"]["containers"]
    assert usual["command"] == their_container["command"]
    for key in ("command", "envFrom"):
        their_container.pop(key), container.pop(key)
    assert container == their_container


def test_two_releases_stand_side_by_side(chart: Path, values: dict[str, Any]) -> None:
    """Nothing of one release is named, or selected, by the other."""
    values["components"] = ["gateway", "datastores", "monitoring", "reloader"]
    one, other = (rendered(chart, values, name) for name in ("first-mcp-server", "second-mcp-server"))
    # Alerts look at every server of this template that is scraped, and tell them apart by job and namespace.
    for manifest in one:
        if manifest["kind"] == "PrometheusRule":
            del manifest["spec"]
    names, others = ({(m["kind"], m["metadata"]["name"]) for m in made} for made in (one, other))
    text = json.dumps(one).replace("first-mcp-server", "")

    assert not names & others
    assert set(re.findall(r"[^\s\"]*mcp-server[^\s\"]*", text)) == ROLLING


def test_numbers_follow_the_settings(chart: Path, values: dict[str, Any]) -> None:
    """A longer drain makes a longer grace, and the bounds of the autoscaler the number of replicas."""
    values["settings"] |= {"MCP_DRAIN_TIMEOUT_SECONDS": "204.5", "MCP_READINESS_DELAY_SECONDS": "7"}
    values["replicas"] = {"min": 3, "max": 12}
    made = rendered(chart, values)

    assert of_kind(made, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 20 + 7 + 205
    assert of_kind(made, "ConfigMap")["data"]["MCP_REPLICAS"] == "12"
    assert of_kind(made, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3
    assert of_kind(made, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 12


def test_a_digest_takes_the_place_of_the_tag(chart: Path, values: dict[str, Any]) -> None:
    """What a release has signed is what runs."""
    values["image"] = {"repository": "registry.example.com/weather-server", "digest": DIGEST}
    (_, pod), *_ = pods(rendered(chart, values))

    assert pod["spec"]["containers"][0]["image"] == f"registry.example.com/weather-server@{DIGEST}"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"component": ["gateway"]}, "component"),
        ({"components": ["gatway"]}, "components"),
        ({"image": {"repository": "registry.example.com/x"}}, "tag"),
        ({"image": {"repository": "registry.example.com/x", "digest": "latest"}}, "digest"),
        ({"replicas": {"min": 0}}, "min"),
        ({"settings": {"MCP_PUBLIC_URL": "mcp.example.com"}}, "MCP_PUBLIC_URL"),
        ({"settings": {"MCP_PUBLIC_URL": "https://mcp.example.com/team"}}, "MCP_PUBLIC_URL"),
        ({"settings": {"MCP_MAX_BODY_BYTES": 1_048_576}}, "MCP_MAX_BODY_BYTES"),
        ({"replicas": {"min": 7}}, "replicas.min is above"),
        ({"replicas": {"min": "2"}}, "min"),
        ({"components": ["traefik", "alb"]}, "one way in"),
        ({"networkPolicies": "false"}, "networkPolicies"),
    ],
)
def test_values_that_are_a_mistake_are_refused(
    chart: Path, values: dict[str, Any], changed: dict[str, Any], named: str
) -> None:
    """A typing mistake, and a secret that would be readable in the release, end the installation."""
    for name, value in changed.items():
        values[name] = values.get(name, {}) | value if name in {"settings", "replicas"} else value

    with pytest.raises(helm.HelmError, match=named):
        rendered(chart, values)


@pytest.mark.parametrize(
    "name",
    [
        *("MCP_API_KEYS", "MCP_API_KEY", "MCP_PROBE_KEY", "MCP_REQUEST_STATE_KEYS"),
        *("DATABASE_URL", "REDIS_URL"),
    ],
)
def test_a_secret_in_the_values_is_refused(chart: Path, values: dict[str, Any], name: str) -> None:
    """Whoever may read the release could read it: as a setting, and as a variable with a value."""
    for more in ({"settings": values["settings"] | {name: "x"}}, {"env": [{"name": name, "value": "x"}]}):
        with pytest.raises(helm.HelmError, match=name if "settings" in more else "env"):
            rendered(chart, values | more)


def test_every_value_has_a_name_that_is_known(chart: Path) -> None:
    """Where names are listed no other one is let through; only what Kubernetes itself looks at is left open."""
    schema = json.loads((chart / "values.schema.json").read_text("utf-8"))
    places = {"": schema, **{name: part for name, part in schema["properties"].items() if "properties" in part}}

    open_ = {name for name, part in places.items() if part.get("additionalProperties", True) is not False}
    assert open_ == {"settings"}
    assert schema["properties"]["settings"]["additionalProperties"] == {"type": "string"}
    assert schema["properties"]["externalSecret"]["properties"]["kind"] == {
        "enum": ["ClusterSecretStore", "SecretStore"]
    }


def test_defaults_of_an_older_chart_are_refused(chart: Path, values: dict[str, Any], tmp_path: Path) -> None:
    """`--reuse-values` takes the defaults of the chart before: what it lacks would be nothing, and no policies."""
    defaults = yaml.safe_load((chart / "values.yaml").read_text("utf-8"))
    older = shutil.copytree(chart, tmp_path / "chart")
    nested = [(name, part) for name in ("replicas", "ingress", "externalSecret", "gateway") for part in defaults[name]]
    places = [(name, "") for name in defaults if name not in values] + nested

    assert ("networkPolicies", "") in places
    for name, part in places:
        without = {key: value for key, value in defaults.items() if key != name or part}
        if part:
            without[name] = {key: value for key, value in defaults[name].items() if key != part}
        (older / "values.yaml").write_text(yaml.safe_dump(without), "utf-8")
        with pytest.raises(helm.HelmError, match=f"missing propert.*{part or name}"):
            rendered(older, values)


# What a cluster has of its own, and where it must come out.
OWN = {
    "secretName": "shared",
    "imagePullSecrets": [{"name": "registry"}],
    "env": [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}}],
    "volumes": [{"name": "authority", "configMap": {"name": "authority"}}],
    "volumeMounts": [{"name": "authority", "mountPath": "/authority", "readOnly": True}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "podAnnotations": {"example.com/team": "weather"},
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"},
    "namespaces": {"monitoring": "observability", "ingress-nginx": "edge", "kube-system": "dns"},
    "ingress": {
        "className": "inner",
        "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
        "tlsSecret": "wildcard",
    },
    "externalSecret": {"kind": "SecretStore", "store": "vault", "key": "apps/weather"},
}


@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_what_clusters_have_of_their_own_can_be_said(chart: Path, values: dict[str, Any], version: str) -> None:
    """Pull secrets, nodes, variables, files, another Secret, class or namespace: no file of the chart changes."""
    values["components"] = ["ingress-nginx", "monitoring", "migrations", "reloader", "external-secret", "otlp"]
    made = rendered(chart, values | OWN)
    for manifest in made:
        if manifest["kind"] not in {"ServiceMonitor", "PrometheusRule", "ExternalSecret"}:
            kubernetes_validate.validate(manifest, version, strict=True)
    deployment, job = of_kind(made, "Deployment"), of_kind(made, "Job")
    spec = deployment["spec"]["template"]["spec"]
    for pod in (spec, job["spec"]["template"]["spec"]):
        assert {name: pod[name] for name in ("imagePullSecrets", "nodeSelector", "tolerations")} == {
            name: OWN[name] for name in ("imagePullSecrets", "nodeSelector", "tolerations")
        }
        assert OWN["env"][0] in pod["containers"][0]["env"]
        assert [one["name"] for one in pod["volumes"]] == ["tmp", "authority"]
        mounts = pod["containers"][0]["volumeMounts"]
        assert [one["mountPath"] for one in mounts] == ["/tmp", "/authority"]  # noqa: S108 - the pod's
        assert {"secretRef": {"name": "shared"}} in pod["containers"][0]["envFrom"]
        assert restricted(pod) == []
    assert deployment["spec"]["template"]["metadata"]["annotations"]["example.com/team"] == "weather"
    assert deployment["metadata"]["annotations"] == {"secret.reloader.stakater.com/reload": "shared"}
    assert of_kind(made, "ServiceAccount")["metadata"]["annotations"] == OWN["serviceAccountAnnotations"]
    ingress = of_kind(made, "Ingress")
    assert (ingress["spec"]["ingressClassName"], ingress["spec"]["tls"][0]["secretName"]) == ("inner", "wildcard")
    assert OWN["ingress"]["annotations"].items() <= ingress["metadata"]["annotations"].items()
    text = json.dumps(made)
    assert "mcp-server-secrets" not in text
    assert re.findall(r'"kubernetes.io/metadata.name": "([\w-]+)"', text).count("monitoring") == 0
    assert {"edge", "dns", "observability"} <= set(re.findall(r'"([\w-]+)"', text))
    assert of_kind(made, "ExternalSecret")["spec"]["secretStoreRef"] == {"kind": "SecretStore", "name": "vault"}


def test_a_cluster_without_policies_gets_none(chart: Path, values: dict[str, Any]) -> None:
    """One switch, for all of them."""
    for components in SETS:
        made = rendered(chart, values | {"components": list(components), "networkPolicies": False})

        assert [manifest["kind"] for manifest in made if "NetworkPolicy" in manifest["kind"]] == []


def test_the_longest_name_of_a_release_fits_every_object(chart: Path, values: dict[str, Any]) -> None:
    """Labels, and the names that become some, are 63 characters at most; one more is refused at once."""
    values["components"] = [*SETS[1], "migrations"]
    values["components"].remove("gke-gateway")
    longest = "a" * 38 + "-mcp-server-01"
    made = rendered(chart, values, longest)
    said = [one["metadata"]["name"] for one in made if one["kind"] in {"Job", "Service", "Deployment"}]
    said += re.findall(rf'"app[\w./-]*": "({longest}[\w-]*)"', json.dumps(made))

    assert len(longest) == 52
    assert max(len(name) for name in said) == 63
    for name in (longest + "x", "mcp.server", "1-mcp-server", "mcp-server-"):
        with pytest.raises(helm.HelmError, match="name"):
            rendered(chart, values, name)


def test_what_looks_like_a_number_stays_a_text(chart: Path, values: dict[str, Any]) -> None:
    """A variable is a text, whatever YAML would make of it; a port in the public URL is no part of a host name."""
    texts = {
        "A": "1e3",
        "B": "0123",
        "C": "yes",
        "D": "1_000",
        "E": "0x1F",
        "F": "null",
        "G": "12:30:00",
        "H": "1.0",
        "I": "",
    }
    values["settings"] |= texts | {"MCP_PUBLIC_URL": "https://mcp.example.com:8443"}
    values["components"] = ["gateway", "migrations"]
    made = rendered(chart, values)
    (container,) = of_kind(made, "Job")["spec"]["template"]["spec"]["containers"]

    assert texts.items() <= of_kind(made, "ConfigMap")["data"].items()
    assert texts.items() <= {one["name"]: one["value"] for one in container["env"]}.items()
    assert of_kind(made, "HTTPRoute")["spec"]["hostnames"] == ["mcp.example.com"]


def test_the_linter_finds_nothing_wrong(chart: Path, values: dict[str, Any]) -> None:
    """Helm's own linter, with warnings as errors; that an icon is recommended is neither."""
    report = helm.lint(str(chart), values, strict=True, kube_version="v1.33.0")

    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_a_changed_setting_changes_the_pods(chart: Path, values: dict[str, Any]) -> None:
    """The pods read their settings at start, so they have to start anew."""
    before = of_kind(rendered(chart, values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    values["settings"]["MCP_LOG_LEVEL"] = "debug"
    after = of_kind(rendered(chart, values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert before["mcp-server/settings"] != after["mcp-server/settings"]
    assert before["mcp-server/secrets"] == after["mcp-server/secrets"] == "not seen"


@pytest.mark.parametrize("version", ["7", "8"])
def test_a_changed_secret_changes_the_pods(chart: Path, values: dict[str, Any], tmp_path: Path, version: str) -> None:
    """Helm asks the cluster for the Secret: another version of it is another pod, so a removed key is refused."""
    looking = shutil.copytree(chart, tmp_path / "chart")
    (looking / "templates/look.yaml").write_text('{{ fail (printf "<%s>" (include "mcp-server.secrets" .)) }}', "utf-8")

    with (
        kubernetes_api({"metadata": {"resourceVersion": version}}, "apps") as api,
        helm.Config(kube_apiserver=api.url, namespace="apps", storage_driver="memory") as cluster,
        pytest.raises(helm.HelmError, match=f"<{version}>"),
    ):
        cluster.install(str(looking), "mcp-server", values, dry_run="server")

    assert 'mcp-server/secrets: {{ include "mcp-server.secrets" .' in (chart / "templates/deployment.yaml").read_text(
        "utf-8"
    )
