"""Reading manifests, and the restricted Pod Security profile as a check of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from support import kustomize
from support.programs import have, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Manifest = dict[str, Any]

# The only kinds of volume that the restricted profile allows.
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
SAFE_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
    *("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time"),
    *("net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"),
}


def build(folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` makes of a folder, or would make of it where there is none."""
    kubectl = have("kubectl")
    return really(kubectl, folder) if kubectl else kustomize.build(folder)


def really(kubectl: str, folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` makes of a folder."""
    done = run(kubectl, "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of a kind."""
    (found,) = [m for m in manifests if m["kind"] == kind and name in {None, m["metadata"]["name"]}]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the pod template of everything that makes pods."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]
        if manifest["kind"] == "CronJob":
            yield manifest["metadata"]["name"], manifest["spec"]["jobTemplate"]["spec"]["template"]


def restricted(spec: Manifest) -> list[str]:
    """Return what the restricted profile forbids in a pod (Pod Security Standards, v1.37)."""
    found = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    for volume in spec.get("volumes", ()):
        found += [f"volume of kind {kind}" for kind in volume.keys() - {"name"} - VOLUMES]
    pod = spec.get("securityContext", {})
    found += [f"sysctl {item['name']}" for item in pod.get("sysctls", ()) if item["name"] not in SAFE_SYSCTLS]
    containers = [
        container for key in ("containers", "initContainers", "ephemeralContainers") for container in spec.get(key, ())
    ]
    for container in containers:
        own = container.get("securityContext", {})
        found += [f"{container['name']}: {problem}" for problem in _container(container, own, pod)]
    return found


def _container(container: Manifest, own: Manifest, pod: Manifest) -> list[str]:
    both = {**pod, **own}
    capabilities = own.get("capabilities", {})
    probes = [container.get(f"{kind}Probe", {}) for kind in ("liveness", "readiness", "startup")]
    seccomp = both.get("seccompProfile", {}).get("type")
    rules = {
        "privileged": own.get("privileged"),
        "privilege escalation is not refused": own.get("allowPrivilegeEscalation") is not False,
        "may run as root": both.get("runAsNonRoot") is not True,
        "runs as root": both.get("runAsUser") == 0,
        "no seccomp profile": seccomp not in {"RuntimeDefault", "Localhost"},
        "SELinux user or role": both.get("seLinuxOptions", {}).keys() & {"user", "role"},
        "unmasked /proc": own.get("procMount", "Default") != "Default",
        "host process": both.get("windowsOptions", {}).get("hostProcess"),
        "capabilities are not dropped": "ALL" not in capabilities.get("drop", ()),
        "capabilities are added": set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"},
        "host port": any(port.get("hostPort") for port in container.get("ports", ())),
        "probe of another host": any(
            probe.get(kind, {}).get("host") for probe in probes for kind in ("httpGet", "tcpSocket")
        ),
    }
    return [problem for problem, broken in rules.items() if broken]
