"""As much of a Kubernetes API server as kubectl and Helm ask for before they change a Secret."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}
# kubectl looks here whether the server itself checks fields.
CHECKED = {
    "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": "Secret"},
    "parameters": [{"name": "fieldValidation", "in": "query"}],
}
SERVED: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [SECRETS]},
    "/openapi/v3": {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}},
    "/openapi/v3/api/v1": {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": {"/api/v1/namespaces/{namespace}/secrets/{name}": {"put": CHECKED, "patch": CHECKED}},
    },
}


@dataclass
class Api:
    """Where it listens, and what it keeps, by path."""

    url: str
    kept: dict[str, dict[str, Any]]

    def kubeconfig(self, path: Path) -> Path:
        """Write what kubectl needs to find it."""
        cluster, context = {"server": self.url}, {"cluster": "here", "user": "me"}
        said = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "contexts": [{"name": "here", "context": context}],
            "users": [{"name": "me", "user": {}}],
            "current-context": "here",
        }
        path.write_text(yaml.safe_dump(said), "utf-8")
        return path


@contextmanager
def kubernetes_api(secret: dict[str, Any], namespace: str) -> Iterator[Api]:
    """Serve one Secret, and let it be replaced."""
    metadata = {"name": "mcp-server-secrets", "namespace": namespace, "resourceVersion": "1"}
    name = f"/api/v1/namespaces/{namespace}/secrets/mcp-server-secrets"
    kept = {name: {"apiVersion": "v1", "kind": "Secret"} | secret}
    kept[name]["metadata"] = metadata | secret.get("metadata", {})

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer((SERVED | kept).get(self.path.partition("?")[0]))

        def do_PUT(self) -> None:
            path = self.path.partition("?")[0]
            kept[path] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(kept[path])

        def _answer(self, found: dict[str, Any] | None) -> None:
            body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Api(f"http://127.0.0.1:{server.server_port}", kept)
        server.shutdown()
        thread.join(5)
