"""A deployment target on this machine: the commands of three platforms, and one public endpoint behind them.

The commands are small scripts that ask the test's process; versions are real servers on one port.
As on the platforms, a version that never gets ready does not replace the one that serves.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from support.dev_server import free_port
from support.programs import KEY, PROBE_KEY

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("kubectl", "flyctl", "railway", "npm", "gh", "docker", "curl")
# Which variable each takes its credential from.
CREDENTIALS = {"kubectl": "KUBECONFIG", "flyctl": "FLY_API_TOKEN", "railway": "RAILWAY_TOKEN", "gh": "GH_TOKEN"}
START_SECONDS = 60
COMMAND = """#!{python} -ISB
import json, os, sys, urllib.request
text = "" if sys.stdin is None or "--config" not in sys.argv else sys.stdin.read()
asked = {{"command": {name!r}, "arguments": sys.argv[1:], "input": text, "credential": os.environ.get({variable!r})}}
with urllib.request.urlopen({url!r}, json.dumps(asked).encode(), timeout=100) as answer:
    code, said = json.load(answer)
sys.stdout.write(said)
sys.exit(code)
"""


@dataclass
class Version:
    """What a deployment puts on the public endpoint."""

    source: Path
    key: str = PROBE_KEY
    ready: bool = True
    delay_seconds: float = 0
    legacy: str = "stateless"


@dataclass
class Platform:
    """Kubernetes, Fly.io or Railway, as far as a deployment and a rollback see them."""

    project: Path
    folder: Path
    versions: list[Version]
    work: Path
    # What is asked for next, in order; a rollback names one that was.
    history: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    # What each command was given to be let in; None where it was given nothing.
    credentials: dict[str, set[str | None]] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = None
    timer: threading.Timer | None = None
    rollback_works: bool = True
    attested: bool = True
    # What the job that changes the database says of itself, each time it is asked: succeeded/failed.
    migration: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.bin = self.folder / "bin"
        self.bin.mkdir(parents=True)
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if asked["command"] in CREDENTIALS:
                    platform.credentials.setdefault(asked["command"], set()).add(asked["credential"])
                answer = json.dumps(platform.answer(asked["command"], asked["arguments"], asked["input"])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.control = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.control.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.control.server_address[1]}/"
        for name in COMMANDS:
            command = self.bin / name
            variable = CREDENTIALS.get(name, "")
            command.write_text(COMMAND.format(python=sys.executable, name=name, url=url, variable=variable), "utf-8")
            command.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        self.control.shutdown()
        self.control.server_close()
        self.stop()

    def deploy(self, number: int) -> bool:
        """Put a version on the endpoint, unless it never gets ready; tell whether it did."""
        self.history.append(number)
        version = self.versions[number]
        if not version.ready:
            return False
        self.stop()
        if version.delay_seconds:
            self.timer = threading.Timer(version.delay_seconds, self.start, [version])
            self.timer.start()
        else:
            self.start(version)
        return True

    def start(self, version: Version) -> None:
        """Start a server and wait until it says so."""
        log = self.folder / f"server-{len(self.history)}.log"
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                [self.project / ".venv/bin/python", "-m", "weather_server", "serve"],
                cwd=version.source,
                env={
                    **os.environ,
                    "PYTHONPATH": str(version.source / "src"),
                    "HOST": "127.0.0.1",
                    "PORT": str(self.port),
                    "MCP_AUTH": "api_key",
                    "MCP_API_KEYS": f"client:{KEY}",
                    "MCP_PROBE_KEY": version.key,
                    "MCP_LEGACY": version.legacy,
                    "MCP_READINESS_DELAY_SECONDS": "0",
                },
                stdout=file,
                stderr=file,
            )
        waited = threading.Event()
        for _ in range(START_SECONDS * 20):
            if b'"started"' in log.read_bytes() or self.child.poll() is not None:
                break
            waited.wait(0.05)
        assert b'"started"' in log.read_bytes(), log.read_text("utf-8")

    def stop(self) -> None:
        """End what serves."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer.join()
        if self.child is not None:
            self.child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(START_SECONDS)
            self.child.kill()
            self.child.wait()
            self.child = None

    @property
    def serving(self) -> int | None:
        """The number of the version that serves."""
        ready = [number for number in self.history if self.versions[number].ready]
        return ready[-1] if ready else None

    def next(self) -> bool:
        """Deploy the version that was not deployed yet."""
        return self.deploy(max(self.history, default=-1) + 1)

    def answer(self, command: str, arguments: list[str], text: str) -> tuple[int, str]:
        """Do what a command says; return its exit code and what it prints."""
        line = " ".join([command, *arguments])
        self.asked.append(line)
        for pattern, action in ACTIONS.items():
            if found := re.search(pattern, line):
                return action(self, found, text)
        return 1, f"the stand-in does not know: {line}\n"

    # --- Kubernetes -------------------------------------------------------------------------------

    def revision(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Tell the revision that runs."""
        return 0, str(len(self.history) or "")

    def kustomize(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Tell of the job, where its component is switched on."""
        overlay = (self.work / "deploy/kubernetes/overlays/production/kustomization.yaml").read_text("utf-8")
        return 0, "kind: Job\n  name: mcp-server-migrations\n" if re.search(MIGRATIONS, overlay, re.MULTILINE) else ""

    def job(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Tell how far the job is."""
        return 0, self.migration.pop(0)

    def apply(self, found: re.Match[str], _text: str) -> tuple[int, str]:
        """Deploy what the overlay says, and keep its text."""
        overlay = (self.work / found[1] / "kustomization.yaml").read_text("utf-8")
        self.asked.append(overlay)
        self.next()
        return 0, "deployment.apps/mcp-server configured\n"

    def status(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Wait for the rollout."""
        good = self.versions[self.history[-1]].ready
        return (0, "successfully rolled out\n") if good else (1, "error: timed out waiting for the condition\n")

    def undo(self, found: re.Match[str], _text: str) -> tuple[int, str]:
        """Go back to a revision."""
        self.deploy(self.history[int(found[1]) - 1])
        return 0, "deployment.apps/mcp-server rolled back\n"

    # --- Fly.io -----------------------------------------------------------------------------------

    def machines(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """List the machines, with the image of each."""
        serving = self.serving
        machine = {"state": "started", "config": {"image": f"registry.fly.io/weather-server:{serving}"}}
        return 0, json.dumps([] if serving is None else [{"state": "stopped", "config": {}}, machine])

    def fly_deploy(self, found: re.Match[str], _text: str) -> tuple[int, str]:
        """Deploy the source, or an image that was deployed before."""
        good = self.deploy(int(found[1])) if found[1] else self.next()
        return (0, "deployed\n") if good else (1, "Error: failed health checks\n")

    # --- Railway ----------------------------------------------------------------------------------

    def deployments(self, found: re.Match[str], _text: str) -> tuple[int, str]:
        """List the deployments, newest first."""
        newest = [
            {"id": f"d{place}-v{number}", "status": "SUCCESS" if self.versions[number].ready else "FAILED"}
            for place, number in reversed(list(enumerate(self.history)))
        ]
        served = next((one["id"] for one in newest if one["status"] == "SUCCESS"), "")
        for one in newest:
            one["status"] = "REMOVED" if one["status"] == "SUCCESS" and one["id"] != served else one["status"]
        return 0, json.dumps(newest[: int(found[1])])

    def up(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Build and deploy; the real command ends with the build."""
        self.next()
        return 0, "Build time: 20 seconds\n"

    def graphql(self, found: re.Match[str], text: str) -> tuple[int, str]:
        """Roll back, for who has the token."""
        if "deploymentRollback" not in found[0] or "Project-Access-Token: railway-token" not in text:
            return 22, "curl: (22) 401\n"
        named = re.search(r'"id": "d\d+-v(\d+)"', found[0])
        if not self.rollback_works or named is None:
            return 0, '{"errors": [{"message": "Deployment cannot be rolled back"}]}'
        self.deploy(int(named[1]))
        return 0, '{"data": {"deploymentRollback": true}}'

    # --- What every platform needs ----------------------------------------------------------------

    def attestation(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Tell who built an image."""
        return (0, "verified\n") if self.attested else (1, "no attestations found\n")

    def fine(self, _found: re.Match[str], _text: str) -> tuple[int, str]:
        """Do nothing."""
        return 0, ""


MIGRATIONS = r"^  - \.\./\.\./components/migrations$"
JOB = "job/mcp-server-migrations"
ACTIONS = {
    r"^kubectl kustomize deploy/kubernetes/overlays/\.release$": Platform.kustomize,
    rf"^kubectl --namespace weather delete {JOB} --ignore-not-found$": Platform.fine,
    r"^kubectl apply --kustomize \S+/\.release --selector app\.kubernetes\.io/component!=server$": Platform.fine,
    rf"^kubectl --namespace weather get {JOB} --output jsonpath=": Platform.job,
    r"^kubectl --namespace weather get deployment/mcp-server .*revision": Platform.revision,
    r"^kubectl apply --kustomize (\S+)$": Platform.apply,
    r"^kubectl --namespace weather rollout status deployment/mcp-server --timeout \d+s$": Platform.status,
    r"^kubectl --namespace weather rollout undo deployment/mcp-server --to-revision (\d+)$": Platform.undo,
    r"^flyctl machine list --json$": Platform.machines,
    r"^flyctl deploy (?:--remote-only .*|--image registry\.fly\.io/weather-server:(\d+))$": Platform.fly_deploy,
    r"^railway deployment list --service weather --limit (\d+) --json$": Platform.deployments,
    r"^railway up --ci --service weather$": Platform.up,
    r"(?s)^curl .*https://backboard\.railway\.com/graphql/v2$": Platform.graphql,
    r"^npm install --global ": Platform.fine,
    r"^gh attestation verify oci://\S+@sha256:[0-9a-f]{64} --repo example/weather-server "
    r"--signer-workflow example/weather-server/\.github/workflows/release\.yml$": Platform.attestation,
    r"^docker login ghcr\.io ": Platform.fine,
}
