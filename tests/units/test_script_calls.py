"""Scripts of a project, with programs that stand in for the machine's: what is called, in which order, what is said.

A program that stands in writes down how it was called, and answers as the test has told it to.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import alias
import pytest
import yaml
from support.programs import run_alone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = alias.HARDENING.parents[2] / "scripts"
SECONDS = 30
KEY = "key-" + "k" * 40
STAND_IN = '#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{text}\n'


def script(name: str) -> Path:
    """Return a script; in the template, the name of some has a condition around it."""
    (found,) = FOLDER.glob(f"*{name}*")
    return found


class Place:
    """A project of scripts alone, and a search path with programs that stand in."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.scratch = folder / "scratch"
        (self.project / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        self.scratch.mkdir()
        for path in [path for path in FOLDER.iterdir() if ".sh" in path.name]:
            name = path.name.removeprefix("{% if 'compose' in deploy_targets %}").partition("{% endif")[0]
            shutil.copy(path, self.project / "scripts" / name.removeprefix("{% if 'kubernetes' in deploy_targets %}"))
        self.program(
            "mktemp",
            'if [ "$1" = -d ]; then mkdir "$TMPDIR/d"; echo "$TMPDIR/d"; else echo "$TMPDIR/f"; : > "$TMPDIR/f"; fi',
        )
        for name in (
            "bash",
            "sh",
            "cat",
            "sed",
            "rm",
            "mkdir",
            "dirname",
            "basename",
            "tail",
            "seq",
            "sleep",
            "date",
            "xargs",
            "git",
            "grep",
            "jq",
            "env",
        ):
            if not (self.bin / name).exists():
                (self.bin / name).symlink_to(shutil.which(name) or name)

    def program(self, name: str, text: str = "", folder: Path | None = None) -> None:
        """Put a program on the search path."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(STAND_IN.format(name=name, text=text), "utf-8")
        path.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def run(self, name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a script; return its exit code and what it said."""
        self.calls.write_text("", "utf-8")
        own = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls),
            "TMPDIR": str(self.scratch),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        command = (shutil.which("bash") or "bash", f"scripts/{name}.sh", *arguments)
        return run_alone(*command, cwd=self.project, env={**own, **environment}, timeout=SECONDS)

    def called(self, *names: str) -> list[str]:
        """Return the calls of some programs, in their order."""
        calls = self.calls.read_text("utf-8").splitlines()
        return [call for call in calls if call.partition(" ")[0] in names]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A project of scripts alone."""
    return Place(tmp_path)


# --- Small ones ---------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_named_at_once(place: Place) -> None:
    """Empty is missing too; without names it is a mistake of the caller."""
    assert place.run("needs", "ONE", "TWO", "THREE", TWO="set", THREE="") == (
        1,
        "::error::Set these in the environment of this workflow, as its first lines say: ONE THREE\n",
    )
    assert place.run("needs", "TWO", TWO="set") == (0, "")
    code, said = place.run("needs")
    assert (code, said.partition(":")[0], "name the variables" in said) == (2, "", True)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ((".venv/bin/python", "python3", "python"), ".venv/bin/python"),
        (("python3", "python"), "python3"),
        (("python",), "python"),
    ],
)
def test_a_python_that_can_run_the_scripts_is_found(place: Place, there: tuple[str, ...], found: str) -> None:
    """The project's own, then the machine's; one that is too old is passed over, and none is an error."""
    for name in there:
        folder = place.project / ".venv/bin" if name.startswith(".venv") else place.bin
        place.program(name.rpartition("/")[2], f'exec {sys.executable} "$@"', folder)

    code, said = place.run("python")
    assert (code, said.strip().endswith(found)) == (0, True)

    old = place.project / ".venv/bin" if found.startswith(".venv") else place.bin
    place.program(found.rpartition("/")[2], '[ "$1" = --version ] && echo Python 3.10.1; exit 1', old)
    code, said = place.run("python")
    assert (code, found in said.split()) == ((0, False) if len(there) > 1 else (2, False))
    assert code == 0 or "This needs Python 3.11 or newer" in said


@pytest.mark.parametrize(
    ("tag", "project", "entry", "code"),
    [
        ("1.2.3", "1.2.3", "1.2.3", 0),
        ("1.2.3", "1.2.3", None, 0),
        ("1.2.4", "1.2.3", "1.2.3", 1),
        ("1.2.3", "1.2.3", "1.2.2", 1),
    ],
)
def test_one_version_everywhere(place: Place, tag: str, project: str, entry: str | None, code: int) -> None:
    """Tag, package and, where it is there, the registry's entry."""
    place.program("python3", f'exec {sys.executable} "$@"')
    place.write("pyproject.toml", f'[project]\nversion = "{project}"\n')
    if entry:
        place.write("server.json", json.dumps({"version": entry}))

    done, said = place.run("version", tag)

    assert done == code
    told = f"::error::One version everywhere: the tag says {tag}, pyproject.toml {project}, server.json {entry}\n"
    assert said == (told if code else "")


def test_nothing_is_published_without_an_entry(place: Place) -> None:
    """The registry is not asked, and the sentence says which setting to change."""
    place.program("curl")

    code, said = place.run("registry", MCP_PUBLIC_URL="https://mcp.example.com")

    assert (code, said.startswith("::error::Registry: there is no server.json"), place.called("curl")) == (1, True, [])


def test_node_is_new_enough_or_the_projects_own(place: Place) -> None:
    """Node 22 of the machine; an older one is passed over for the wheel's, and without that named."""
    place.program("node", '[ "$1" = --version ] && echo v22.1.0 || echo 22')
    place.program("npx")
    place.program("python", "exit 1")
    assert place.run("npx", "tool@1", "--flag") == (0, "")
    assert place.called("npx") == ["npx --yes tool@1 --flag"]

    place.program("node", '[ "$1" = --version ] && echo v21.9.0 || echo 21')
    code, said = place.run("npx", "tool@1")
    assert (code, place.called("npx")) == (2, [])
    assert "This needs Node 22 or newer, and here is v21.9.0" in said

    wheel = place.bin.parent / "wheel"
    place.program("python", f"echo {wheel}")
    place.program("node", '[ "$1" != -p ] || echo 22', wheel / "bin")
    assert place.run("npx", "tool@1") == (0, "")
    assert place.called("node")[-1] == f"node {wheel}/lib/node_modules/npm/bin/npx-cli.js --yes tool@1"


def test_every_file_that_is_committed_is_looked_at(place: Place) -> None:
    """But the lock and the tests of the hardening; where nobody could look, it fails."""
    place.program("node", "echo 22")
    place.program("npx")
    code, said = place.run("secrets")
    assert (code, "git cannot list what is committed" in said) == (1, True)
    git = ["git", "-C", str(place.project)]
    subprocess.run([*git, "init", "--quiet"], check=True, timeout=SECONDS)
    code, said = place.run("secrets")
    assert (code, "Nothing is committed or staged yet" in said) == (1, True)

    for name in ("one.txt", "uv.lock", "tests/hardening/test_x.py", "tests/test_mine.py"):
        place.write(name, "x")
    subprocess.run([*git, "add", "one.txt", "uv.lock", "tests"], check=True, timeout=SECONDS)
    assert place.run("secrets") == (0, "")
    (call,) = place.called("npx")
    assert call.startswith("npx --yes --package secretlint@")
    assert call.endswith("--no-gitignore --secretlintrc scripts/secretlint.json ./one.txt ./tests/test_mine.py")
    (place.project / "one.txt").unlink()
    code, said = place.run("secrets")
    assert (code, "not here" in said, said.splitlines()[-1]) == (1, True, "one.txt")


def test_every_committed_file_is_looked_at(place: Place) -> None:
    """Also what .gitignore names and what is called like an option; of a link git has nothing but a name."""
    place.program("npx")
    place.program("node", "echo 22")
    git = ["git", "-C", str(place.project)]
    subprocess.run([*git, "init", "--quiet"], check=True, timeout=SECONDS)
    for name in (".env", "--help", "a\nb"):
        place.write(name, "x")
    place.write(".gitignore", ".env\n")
    (place.project / "link").symlink_to("/etc")
    subprocess.run([*git, "add", "--force", "--all", "--", ":!scripts"], check=True, timeout=SECONDS)

    assert place.run("secrets") == (0, "")

    said = place.calls.read_text("utf-8")
    assert " --no-gitignore " in said
    assert said.endswith("secretlint.json ./--help ./.env ./.gitignore ./a\nb\n")


# --- Gates and image ----------------------------------------------------------------------------------

SAID = {
    0: "serves",
    1: "does not serve clients",
    2: "was not looked at: the probe cannot run here",
    3: "refuses the credential: is MCP_PROBE_KEY the same on both sides?",
    4: "offers other tools than its schema/tools.json says",
    9: "does not serve clients",
}


@pytest.mark.parametrize("code", SAID)
def test_gate_3_ends_as_the_probe_does(place: Place, code: int) -> None:
    """Its code is the probe's, its sentence says what that means, and the summary has what was seen."""
    place.write("src/weather/hardening/probe.py", "")
    place.program("python3", f'[ "$1" = -c ] && exit 0\necho seen\nexit {code}')
    summary = place.scratch / "summary"
    given = {"MCP_PUBLIC_URL": "https://mcp.example.com/", "MCP_PROBE_KEY": KEY, "GITHUB_STEP_SUMMARY": str(summary)}

    done, said = place.run("gate", "the server", **given)

    assert done == code
    assert said == "seen\n" + (f"::error::Gate 3: the server {SAID[code]}\n" if code else "")
    assert summary.read_text("utf-8") == f"## Gate 3: the server {SAID[code]}\n\n    seen\n"
    probe = "python3 src/weather/hardening/probe.py https://mcp.example.com/mcp"
    assert place.called("python3")[-1] == f"{probe} --wait 120"
    more = {"GATE_SECONDS": "7", "GATE_SCHEMA": "schema/tools.json", "GATE_ERA": "modern"}
    assert place.run("gate", **given, **more)[0] == code
    assert place.called("python3")[-1] == f"{probe} --wait 7 --schema schema/tools.json --era modern"
    assert place.run("gate", MCP_PUBLIC_URL="https://mcp.example.com")[0] == 2
    assert list(place.scratch.iterdir()) == [summary]


ENGINE = """
case "$1 $2" in
  "image inspect") exit $NO_IMAGE ;;
  "run --name") case "$*" in *--detach*) exit 0 ;; *) exit $UNSET ;; esac ;;
  "inspect --format") echo $ENDED ;;
esac
"""
PYTHON = 'case "$*" in *hex*) echo secret ;; *probe.py*) exit $PROBE ;; esac'
WELL = {"NO_IMAGE": "0", "UNSET": "78", "ENDED": "0", "PROBE": "0"}


def test_an_image_is_started_as_it_will_run(place: Place) -> None:
    """Without settings it has to refuse, with them to answer, and to end well: confined, and nothing stays."""
    place.write("src/weather/hardening/probe.py", "")
    place.program("docker", ENGINE)
    place.program("python3", PYTHON)

    code, said = place.run("image", "mine:1", **WELL, DATABASE_URL="postgresql://x", IMAGE_CHECK_PORT="18001")

    assert (code, said) == (0, "Image: refuses to start unconfigured, answers, drains.\n")
    calls = place.called("docker", "python3")
    name = next(call for call in calls if "docker run" in call).split()[3]
    confined = f"docker run --name {name} --network host --read-only --tmpfs /tmp --cap-drop ALL"
    confined += " --security-opt no-new-privileges"
    settings = "--env MCP_AUTH=api_key --env MCP_API_KEYS --env MCP_PROBE_KEY --env HOST=127.0.0.1 --env PORT=18001"
    assert [call for call in calls if not call.startswith("python3 -c")] == [
        "docker image inspect mine:1",
        f"{confined} mine:1",
        f"docker rm --force {name}",
        f"{confined} --detach {settings} --env MCP_READINESS_DELAY_SECONDS=0 --env DATABASE_URL mine:1",
        (
            "python3 src/weather/hardening/probe.py http://127.0.0.1:18001/mcp --wait 60"
            " --schema schema/tools.json"
        ),
        f"docker stop -t 60 {name}",
        f"docker inspect --format {{{{.State.ExitCode}}}} {name}",
        f"docker rm --force {name}",
    ]  # fmt: skip
    assert place.run("image", "mine:1", **WELL, REDIS_URL="redis://x")[0] == 0
    (detached,) = [call for call in place.called("docker") if "--detach" in call]
    assert ("--env REDIS_URL" in detached, "--env DATABASE_URL" in detached, "PORT=18000" in detached) == (
        True,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        ({"NO_IMAGE": "1"}, 2, "::error::Image: docker has no image mine:1"),
        ({"ENGINE": "podman"}, 2, "::error::Image: podman is missing"),
        (
            {"UNSET": "0"},
            1,
            "::error::Image: without settings it should refuse to start with exit code 78, and ended with 0",
        ),
        ({"UNSET": "1"}, 1, "exit code 78, and ended with 1"),
        ({"PROBE": "1"}, 1, "::error::Image: it does not answer as the contract says"),
        ({"ENDED": "137"}, 1, "::error::Image: it should end with 0 after SIGTERM, and ended with 137"),
    ],
)
def test_an_image_that_does_not_is_refused(place: Place, told: dict[str, str], code: int, words: str) -> None:
    """Each for its reason, with its last lines, and without leaving a container."""
    place.write("src/weather/hardening/probe.py", "")
    place.program("docker", ENGINE)
    place.program("python3", PYTHON)

    done, said = place.run("image", "mine:1", **{**WELL, **told})

    assert (done, words in said) == (code, True)
    ends = [call.split()[1] for call in place.called("docker")]
    if code == 1:
        assert ends[-2:] == ["logs", "rm"]


SERVER = """
case "$*" in
  *hex*) echo secret ;;
  *serve*)
    [ "$FAULT" = ends ] && exit 3
    trap 'exit ${AFTER:-0}' TERM
    [ "$FAULT" = silent ] || echo "{\\"msg\\": \\"started\\", \\"port\\": 4711} $HOST $PORT $MCP_AUTH" >&2
    while :; do sleep 0.05; done
    ;;
  *probe*) [ "$MCP_PROBE_KEY" = secret ] && exit ${RIGHT:-0}; exit ${WRONG:-3} ;;
esac
"""


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, None),
        ({"FAULT": "ends"}, "the server ended while it started"),
        ({"FAULT": "silent"}, "the server was not ready within 1 seconds, and has written nothing: is there room in"),
        ({"RIGHT": "1"}, "does not speak the protocol as the probe expects (exit code 1)"),
        ({"RIGHT": "3"}, "the server refuses its own probe key"),
        ({"RIGHT": "4"}, "does not offer what schema/tools.json says"),
        ({"WRONG": "0"}, "a wrong key should be refused (exit code 3), and the probe ended with 0"),
        ({"WRONG": "1"}, "a wrong key should be refused (exit code 3), and the probe ended with 1"),
        ({"AFTER": "70"}, "the server ended with 70 after SIGTERM, and should drain and end with 0"),
    ],
)
def test_gate_1_starts_asks_and_stops(place: Place, told: Mapping[str, str], words: str | None) -> None:
    """On a port of the system's choice, with keys of its own; nothing runs afterwards."""
    place.write("src/weather/hardening/probe.py", "")
    place.program("python", SERVER)

    code, said = place.run("protocol", **{"GATE_START_SECONDS": "1" if "FAULT" in told else "20", **told})

    assert code == (1 if words else 0)
    assert (
        f"::error::Gate 1, protocol: {words}" if words and "does not" not in words else words or "SIGTERM drains."
    ) in said
    assert list(place.scratch.iterdir()) == []
    if not words:
        assert [call for call in place.called("python") if "-c" not in call.split()] == [
            "python -m weather serve",
            "python -m weather probe http://127.0.0.1:4711/mcp --schema schema/tools.json",
            "python -m weather probe http://127.0.0.1:4711/mcp",
        ]
    elif "FAULT" not in told:
        assert "127.0.0.1 0 api_key" in said, "the log is shown"


# --- Kubernetes ---------------------------------------------------------------------------------------

KUBECTL = """
case "$1" in
  kustomize) printf 'kind: Job\\n'; [ -z "$JOB" ] || printf '  name: %s\\n' "$JOB" ;;
  --namespace) case "$3" in get) echo "$ENDED" ;; rollout) exit ${ROLLED:-0} ;; esac ;;
esac
"""
RELEASE = "deploy/kubernetes/overlays/.release"
OTHERS = "app.kubernetes.io/component!=server"


def test_an_image_and_a_moment_are_put_into_an_overlay(place: Place) -> None:
    """The moment rolls the pods, the image replaces that of server and job; without one the overlay's stays."""
    place.program("kubectl", KUBECTL)
    assert place.run("kubernetes", "prepare", NAMESPACE="apps", KUBE_PREFIX="a-", IMAGE="x@sha256:1")[0] == 0
    said = yaml.safe_load((place.project / RELEASE / "kustomization.yaml").read_text("utf-8"))

    moment, image = said["patches"]
    assert said["resources"] == ["../production"]
    assert moment["target"] == {"kind": "Deployment", "name": "a-mcp-server"}
    patch = yaml.safe_load(moment["patch"])
    assert patch["metadata"]["name"] == "a-mcp-server"
    assert list(patch["spec"]["template"]["metadata"]["annotations"]) == ["mcp-server/deployed"]
    assert image["target"] == {"kind": "(Deployment|Job)", "name": "(a-mcp-server|a-mcp-server-migrations)"}
    path = "/spec/template/spec/containers/0/image"
    assert yaml.safe_load(image["patch"]) == [{"op": "replace", "path": path, "value": "x@sha256:1"}]
    assert place.run("kubernetes", "prepare", NAMESPACE="apps")[0] == 0
    said = yaml.safe_load((place.project / RELEASE / "kustomization.yaml").read_text("utf-8"))
    assert [patch["target"]["name"] for patch in said["patches"]] == ["mcp-server"]
    assert place.called("kubectl") == []


@pytest.mark.parametrize(("ended", "code"), [("1/", 0), ("/1", 1), ("/", 1)])
def test_the_database_is_changed_before_the_server(place: Place, ended: str, code: int) -> None:
    """The job of the last deployment goes, everything but the server comes, and its end is waited for."""
    text = (place.project / "scripts/kubernetes.sh").read_text("utf-8")
    assert "try < 330" in text, "660 s: longer than the job may take"
    (place.project / "scripts/kubernetes.sh").write_text(text.replace("try < 330", "try < 3"), "utf-8")
    place.program("kubectl", KUBECTL)
    told = {"NAMESPACE": "apps", "JOB": "mcp-server-migrations", "ENDED": ended, "DEPLOY_PAUSE": "0"}

    done, said = place.run("kubernetes", "migrate", **told)

    assert done == code
    job = "job/mcp-server-migrations"
    asked = f"kubectl --namespace apps get {job} --output jsonpath={{.status.succeeded}}/{{.status.failed}}"
    assert place.called("kubectl") == [
        f"kubectl kustomize {RELEASE}",
        f"kubectl --namespace apps delete {job} --ignore-not-found",
        f"kubectl apply --kustomize {RELEASE} --selector {OTHERS}",
        *[asked] * (3 if ended == "/" else 1),
    ]
    assert ("::error::The database was not changed, so nothing is deployed" in said) is bool(code)


def test_without_the_job_there_is_nothing_to_change(place: Place) -> None:
    """A job of another server is none of ours."""
    place.program("kubectl", KUBECTL)

    done, said = place.run("kubernetes", "migrate", NAMESPACE="apps", JOB="other-mcp-server-migrations")

    assert (done, "There is nothing to change" in said) == (0, True)
    assert place.called("kubectl") == [f"kubectl kustomize {RELEASE}"]


@pytest.mark.parametrize(("ended", "rolled", "code"), [("1/", "0", 0), ("1/", "1", 1), ("/1", "0", 1)])
def test_by_hand_all_steps_run_until_one_fails(place: Place, ended: str, rolled: str, code: int) -> None:
    """Database, then pods, then waiting; what was written for it goes again."""
    place.program("kubectl", KUBECTL)
    told = {"NAMESPACE": "apps", "JOB": "mcp-server-migrations", "ENDED": ended, "ROLLED": rolled}

    assert place.run("kubernetes", **told)[0] == code

    last = place.called("kubectl")[-2:]
    waited = [
        f"kubectl apply --kustomize {RELEASE}",
        "kubectl --namespace apps rollout status deployment/mcp-server --timeout 360s",
    ]
    assert (last == waited) is (ended == "1/")
    assert not (place.project / RELEASE).exists()


def test_a_step_that_is_not_known_does_nothing(place: Place) -> None:
    """Nor does one without a namespace."""
    place.program("kubectl", KUBECTL)

    assert place.run("kubernetes", "rol", NAMESPACE="apps") == (2, "kubernetes.sh: not a step: rol\n")
    assert place.run("kubernetes", "roll")[0] != 0
    assert place.called("kubectl") == []


# --- Settings and databases ---------------------------------------------------------------------------

EXAMPLE = "# Comment\nMCP_API_KEYS=\nMCP_PROBE_KEY=\nPOSTGRES_PASSWORD=\nMCP_DOMAIN=\n"


def test_secrets_are_made_up_once(place: Place) -> None:
    """64 characters each, readable by their owner alone; a file that is there stays."""
    place.write("deploy/compose/env.example", EXAMPLE)
    for name in ("od", "tr", "mv"):
        (place.bin / name).symlink_to(shutil.which(name) or name)

    code, said = place.run("compose-env")

    written = place.project / ".env.compose"
    lines = dict(line.split("=") for line in written.read_text("utf-8").splitlines() if "=" in line)
    assert (code, "Written: .env.compose" in said) == (0, True)
    assert lines["MCP_API_KEYS"].startswith("first:")
    values = [lines["MCP_API_KEYS"].removeprefix("first:"), lines["MCP_PROBE_KEY"], lines["POSTGRES_PASSWORD"]]
    assert [len(value) for value in values] == [64, 64, 64]
    assert len({*values}) == 3
    assert lines["MCP_DOMAIN"] == ""
    assert written.read_text("utf-8").startswith("# Comment\n")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    before = written.read_bytes()
    assert place.run("compose-env")[0] == 1
    assert written.read_bytes() == before


PACKAGE = {
    "__init__.py": "",
    "__main__.py": "import os, sys\nprint('ran', sys.argv[1:], os.environ['DATABASE_URL'], flush=True)\n",
    "settings.py": (
        "class Field:\n    def is_required(self):\n        return REQUIRED\n"
        "class Settings:\n    model_fields = {'database_url': Field()}\n"
    ),
    "hardening/__init__.py": "",
    "hardening/dev/__init__.py": "",
    "hardening/dev/postgres.py": (
        "class EmbeddedPostgres:\n    def __init__(self, folder, *, confined):\n        assert confined, folder\n"
        "    def __enter__(self):\n        print('opened', flush=True)\n        return 'postgresql://made'\n"
        "    def __exit__(self, *_):\n        print('closed', flush=True)\n"
    ),
}
COMMAND = (sys.executable, "-c", "import os, sys; print(os.environ.get('DATABASE_URL')); sys.exit(7)")


@pytest.mark.parametrize(
    ("required", "migrations", "environment", "said"),
    [
        (True, False, {}, ["opened", "postgresql://made", "closed"]),
        (True, True, {}, ["opened", "ran ['migrate'] postgresql://made", "postgresql://made", "closed"]),
        (True, True, {"DATABASE_URL": "postgresql://mine"}, ["postgresql://mine"]),
        (True, True, {"DATABASE_URL_FILE": "/run/url"}, ["None"]),
        (False, True, {}, ["None"]),
    ],
)
def test_a_database_is_there_where_one_is_needed(
    place: Place, *, required: bool, migrations: bool, environment: dict[str, str], said: list[str]
) -> None:
    """An empty one, up to date, for one command, whose exit code counts; what is set is not replaced."""
    for name, text in PACKAGE.items():
        place.write(f"src/weather/{name}", text.replace("REQUIRED", str(required)))
    if migrations:
        place.write("src/weather/migrations/0001.py", "")
    done = subprocess.run(
        [sys.executable, str(script("with_database.py")), *COMMAND],
        cwd=place.project,
        env={"PYTHONPATH": "src", "TMPDIR": str(place.scratch), **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert (done.returncode, done.stdout.splitlines()) == (7, said)
    assert list(place.scratch.iterdir()) == []
