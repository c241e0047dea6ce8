"""The commands of a project, on machines and in folders that are not as expected: they work, or say what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, git, run

if TYPE_CHECKING:
    from support.harness import Template

SIGNS_AND_REFUSES = """
[commit]
    gpgsign = true
[gpg]
    program = false
[core]
    hooksPath = {hooks}
"""
OLD = """#!/bin/sh
case "$*" in
  *version_info*) exit 1 ;;
  *--version*) echo "Python 3.10.12" ;;
  *) echo "an old Python was asked" >&2; exit 9 ;;
esac
"""
OLD_NODE = """#!/bin/sh
case "$1" in
  -p) echo 20 ;;
  --version) echo v20.20.2 ;;
  *) echo "an old Node was asked" >&2; exit 9 ;;
esac
"""


def program(folder: Path, name: str, text: str) -> str:
    """Put a program into a folder; return the search path that has it first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def edited(project: Path) -> Path:
    """Add a line to a file of the template."""
    with (project / "ruff.toml").open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    return project


@pytest.mark.slow
def test_drift_makes_no_commit_of_the_person(template: Template, tmp_path: Path) -> None:
    """Signatures and hooks that a person has set are not asked for in a scratch folder."""
    project = edited(template.project(DEFAULT, tmp_path / "project"))
    program(tmp_path / "hooks", "pre-commit", "#!/bin/sh\nexit 1\n")
    config = tmp_path / "gitconfig"
    mine = SIGNS_AND_REFUSES.format(hooks=tmp_path / "hooks")
    config.write_text(Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text("utf-8") + mine, "utf-8")

    said = run("make", "drift", cwd=project, env={"GIT_CONFIG_GLOBAL": str(config)}).stdout

    assert [line.split("|")[0].strip() for line in said.splitlines() if "|" in line] == ["ruff.toml"]


@pytest.mark.slow
def test_drift_below_the_root_of_a_repository(template: Template, tmp_path: Path) -> None:
    """A project in a monorepo is compared by itself, new files and deleted ones included."""
    git("init", "--quiet", cwd=tmp_path)
    (tmp_path / "ruff.toml").write_text("# another project's\n", "utf-8")
    project = tmp_path / "services/my server's"
    shutil.copytree(template.render(DEFAULT), project)
    git("add", "--all", cwd=tmp_path)
    git("commit", "--quiet", "--message", "Start", cwd=tmp_path)
    (edited(project) / "pytest.ini").unlink()

    said = run("make", "drift", cwd=project).stdout

    assert [line.split("|")[0].strip() for line in said.splitlines() if "|" in line] == ["ruff.toml"]


@pytest.mark.parametrize("command", ["drift", "update", "secrets"])
def test_without_git_nothing_is_fine(template: Template, tmp_path: Path, command: str) -> None:
    """A command that has to ask git says so where there is none, and fails."""
    project = tmp_path / "project"
    shutil.copytree(template.render(DEFAULT), project)

    done = run("make", "RUN=", command, cwd=project, check=False)

    assert done.returncode != 0
    assert "git cannot" in done.stdout


def test_nothing_committed_is_not_nothing_found(template: Template, tmp_path: Path) -> None:
    """An empty list of files is not a list of clean ones."""
    project = tmp_path / "project"
    shutil.copytree(template.render(DEFAULT), project)
    git("init", "--quiet", cwd=project)

    done = run("make", "RUN=", "secrets", cwd=project, check=False)

    assert done.returncode != 0
    assert "nothing was looked at: run git add first" in done.stdout


def test_a_file_that_is_not_here_was_not_looked_at(template: Template, tmp_path: Path) -> None:
    """What is committed and gone from the folder is named, and fails."""
    project = template.project(DEFAULT, tmp_path / "project")
    (project / "renovate.json").unlink()

    done = run("make", "RUN=", "secrets", cwd=project, check=False)

    assert done.returncode != 0
    assert done.stdout.splitlines()[1] == "renovate.json"


def without(folder: Path, *programs: str) -> str:
    """Return a search path with everything that this machine has but for some programs."""
    folder.mkdir(parents=True)
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for path in Path(place).glob("*"):
            if path.name not in programs:
                (folder / path.name).unlink(missing_ok=True)
                (folder / path.name).symlink_to(path)
    return str(folder)


CANNOT = {
    "drift, no program git": ("make drift", ("git",), "git cannot read this folder"),
    "update, no program git": ("make update", ("git",), "git cannot read this folder"),
    "restore, no program git": ("make restore FILE=nothing.toml", ("git",), "git cannot read this folder"),
    "secrets, no program git": ("make RUN= secrets", ("git",), "git cannot list what is committed"),
    "drift, no network": ("UV_OFFLINE=1 make drift", (), "copier"),
    "update, no network": ("UV_OFFLINE=1 make update", (), "copier"),
    "restore, no network": ("UV_OFFLINE=1 make restore FILE=nothing.toml", (), "copier"),
    "secrets, no npx": ("make RUN= secrets", ("npx", "python"), "This needs Node 22 or newer"),
    "audit, no lock": ("make audit", (), "uv.lock"),
    "check, no uv": ("make check", ("uv",), "This needs uv: install it"),
    "contract, no package": ("rm -r src && bash scripts/contract.sh", (), "run this in the project's folder"),
    "gate 3, no settings": ("bash scripts/gate.sh", (), "::error::Set these in the environment"),
    "gate 3, no probe": (
        "rm -r src && MCP_PUBLIC_URL=http://127.0.0.1:9 MCP_PROBE_KEY=k bash scripts/gate.sh",
        (),
        "was not looked at: the probe cannot run here",
    ),
    "gate 3, nobody listens": (
        "MCP_PUBLIC_URL=http://127.0.0.1:9 MCP_PROBE_KEY=k GATE_SECONDS=0.1 bash scripts/gate.sh",
        (),
        "does not serve clients",
    ),
    "needs, no names": ("bash scripts/needs.sh", (), "name the variables"),
    "version, no metadata": ("rm pyproject.toml && bash scripts/version.sh 0.1.0", (), "pyproject.toml"),
    "version, an entry without one": ("echo '{}' > server.json && bash scripts/version.sh 0.1.0", (), ""),
    "version, an entry that is no JSON": ("echo '{' > server.json && bash scripts/version.sh 0.1.0", (), "parse error"),
    "boot, no such image": ("make RUN= boot ENGINE=false", (), "false has no image"),
    "unedited, no manifest": ("rm src/*/hardening/MANIFEST.sha256 && python scripts/unedited.py", (), "nobody knows"),
    "registry, no entry": ("rm server.json && bash scripts/registry.sh", (), "there is nothing to publish"),
    "registry, no curl": ("MCP_PUBLIC_URL=https://weather-server.example.com bash scripts/registry.sh", ("curl",), ""),
    "kubernetes, no kubectl": ("NAMESPACE=n bash scripts/kubernetes.sh", ("kubectl",), "kubectl"),
    "kubernetes, no namespace": ("bash scripts/kubernetes.sh", (), "is the namespace of the overlay"),
    "compose, no example": ("rm deploy/compose/env.example && bash scripts/compose-env.sh", (), "env.example"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_who_cannot_look_says_so(template: Template, tmp_path: Path, case: str) -> None:
    """Without a program, a file, a setting or the network no command ends as if all were well."""
    command, missing, words = CANNOT[case]
    project = template.project(DEFAULT, tmp_path / "project")
    environment = {"PATH": without(tmp_path / "bin", *missing), "UV_CACHE_DIR": str(tmp_path / "cache")}

    done = run("bash", "-c", command, cwd=project, env=environment, check=False)

    assert done.returncode != 0, done.stdout
    assert words in done.stdout, done.stdout


def test_an_old_node_is_named_in_one_sentence(template: Template, tmp_path: Path) -> None:
    """Where no Node is new enough, one sentence says which one is needed, instead of the error of a bundle."""
    project = template.project(DEFAULT, tmp_path / "project")
    environment = {"PATH": program(tmp_path / "bin", "node", OLD_NODE)}
    program(tmp_path / "bin", "npx", OLD_NODE)
    program(tmp_path / "bin", "python", "#!/bin/sh\nexit 1\n")

    for command in ("secrets", "workflows"):
        done = run("make", "RUN=", command, cwd=project, env=environment, check=False)
        assert done.returncode != 0
        assert done.stdout.splitlines()[0] == (
            "This needs Node 22 or newer, and here is v20.20.2: install it, or run make setup, "
            "which brings one with pyright"
        )


@pytest.mark.slow
def test_the_node_of_the_project_is_new_enough(template: Template, tmp_path: Path) -> None:
    """With an old Node on the machine, or none, the commands take the one that pyright has brought."""
    project = template.prepared(DEFAULT)
    environment = {"PATH": program(tmp_path / "bin", "node", OLD_NODE)}
    program(tmp_path / "bin", "npx", OLD_NODE)

    done = run("make", "secrets", cwd=project, env=environment, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_credentials_are_found(template: Template, tmp_path: Path) -> None:
    """A key that is committed fails the command, whatever the file is called."""
    project = template.project(DEFAULT, tmp_path / "project")
    (project / "a key's file.txt").write_text(
        "AKIA" + "IOSFODNN7EXAMPLF" + "\naws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEZ" + "\n",
        "utf-8",
    )
    git("add", "--all", cwd=project)

    done = run("make", "secrets", cwd=project, check=False)

    assert done.returncode != 0
    assert "a key's file.txt" in done.stdout


def test_scripts_run_in_a_python_that_can_run_them(template: Template, tmp_path: Path) -> None:
    """The system's old Python is not taken where the project has its own, and named in a sentence where it has none."""
    project = template.project(DEFAULT, tmp_path / "project")
    path = program(tmp_path / "bin", "python3", OLD)
    program(tmp_path / "bin", "python", OLD)
    environment = {"PATH": path, "MCP_PUBLIC_URL": "http://127.0.0.1:9", "MCP_PROBE_KEY": "key", "GATE_SECONDS": "0"}

    none = run("bash", "scripts/gate.sh", cwd=project, env=environment, check=False)
    own = program(project / ".venv/bin", "python", '#!/bin/sh\n[ "$1" = -c ] || exit 3\n')
    some = run("bash", "scripts/gate.sh", cwd=project, env=environment, check=False)

    assert own
    assert none.returncode == 2
    assert "This needs Python 3.11 or newer, and here is Python 3.10.12: run make setup" in none.stdout
    assert some.returncode == 3


def test_a_missing_container_engine_is_named(template: Template, tmp_path: Path) -> None:
    """`make boot` does not blame the image for an engine that is not installed."""
    project = template.project(DEFAULT, tmp_path / "project")

    done = run("make", "RUN=", "boot", "ENGINE=dockre", cwd=project, check=False)

    assert done.returncode != 0
    assert "dockre is missing: install it, or name another one" in done.stdout


def test_a_project_without_workflows_has_nothing_to_lint(template: Template, tmp_path: Path) -> None:
    """Who has deleted `.github` is told so, and nothing fails."""
    project = template.project(DEFAULT, tmp_path / "project")
    shutil.rmtree(project / ".github")

    said = run("make", "RUN=", "workflows", cwd=project).stdout

    assert said == "There is no .github/workflows, so there are no workflows to lint\n"


def test_a_version_is_one_without_a_registry_entry(template: Template, tmp_path: Path) -> None:
    """Who has deleted `server.json` releases all the same."""
    project = template.project(DEFAULT, tmp_path / "project")
    run("bash", "scripts/version.sh", "0.1.0", cwd=project)
    (project / "server.json").unlink()

    run("bash", "scripts/version.sh", "0.1.0", cwd=project)
    other = run("bash", "scripts/version.sh", "0.1.1", cwd=project, check=False)

    assert other.returncode == 1


@pytest.mark.slow
def test_gate_1_brings_its_own_database(template: Template) -> None:
    """Who has no PostgreSQL and has set nothing runs the gate all the same."""
    said = run("make", "protocol", cwd=template.prepared(DEFAULT)).stdout

    assert "Gate 1, protocol: both eras answer, a wrong key is refused, SIGTERM drains." in said
