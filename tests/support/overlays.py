"""Overlays of a project with components switched on, as its author does it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

# One overlay for each kind of cluster, with everything that can be switched on beside it.
CLUSTERS = {
    "as rendered": ("gateway", "datastores"),
    "envoy": ("gateway", "from-envoy-gateway", "from-cilium", "otlp", "issuer-inside", "gateway-inside", "datastores"),
    "gke": ("gateway", "gke-gateway", "dns-nodelocal", "dns-cloud", "datastores", "datastores-managed", "monitoring"),
    "nginx": ("ingress-nginx", "monitoring", "kube-prometheus-stack", "external-secret", "reloader", "migrations"),
    "traefik": ("traefik", "ipv6", "datastores", "migrations"),
    "alb": ("alb", "datastores", "datastores-managed", "migrations"),
    "openshift": ("datastores", "migrations", "openshift"),
}
SETTINGS = "MCP_PUBLIC_URL=https://weather.example.org\nMCP_AUTH=api_key\n"


@contextmanager
def with_components(folder: Path, components: tuple[str, ...], **more: object) -> Iterator[Path]:
    """Add an overlay with these components, and `more` in its kustomization, for a moment."""
    overlay = Path(tempfile.mkdtemp(prefix="test-", dir=folder / "overlays"))
    kustomization = yaml.safe_load((folder / "overlays/production/kustomization.yaml").read_text("utf-8"))
    kustomization["components"] = [f"../../components/{name}" for name in components]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more), "utf-8")
    (overlay / "settings.env").write_text(SETTINGS, "utf-8")
    (overlay / ".env.production").write_text("MCP_API_KEYS=a:b\n", "utf-8")
    try:
        yield overlay
    finally:
        shutil.rmtree(overlay)
