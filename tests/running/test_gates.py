"""Gates 1 and 2 of a project's CI, on the project as it comes out and with one fault planted in each."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.harness import git
from support.harness import run as command
from support.workflow import Run, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.harness import Template

PROTOCOL = "Gate 1: start the server and probe it in both eras"
CONTRACT = "Gate 2: compare the contract with what was there before"
TOOL = "src/weather_server/tools/countdown.py"
TOOLS = "src/weather_server/tools/__init__.py"
SERVER = "src/weather_server/server.py"
HARDENING = "src/weather_server/hardening"
PROMPT = """server = harden(settings, tools=TOOLS, instructions=INSTRUCTIONS)

    @server.prompt()
    def ask() -> str:
        return "Ask."

    return server
    return harden("""
CRASH = """server = harden(settings, tools=TOOLS, instructions=INSTRUCTIONS)

    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError

    server.list_tools = crash
    return server
    return harden("""


@pytest.fixture(scope="module")
def prepared(template: Template) -> Path:
    """A project that needs no database, set up; it is shared, so nobody changes it."""
    return template.prepared({"database": "none"})


@pytest.fixture
def work(prepared: Path, tmp_path: Path) -> Path:
    """A copy to plant a fault in, with the commit that it is compared with."""
    copy = tmp_path / "work"
    shutil.copytree(prepared, copy, ignore=shutil.ignore_patterns(".venv"))
    return copy


def change(work: Path, path: str, old: str, new: str) -> None:
    """Replace a text that has to be there."""
    file = work / path
    text = file.read_text("utf-8")
    assert old in text, text
    file.write_text(text.replace(old, new, 1), "utf-8")


def gates(work: Path, prepared: Path, scratch: Path, *only: str) -> Run:
    """Run the steps of the job that call the gates, with the environment that was set up once."""
    file = work / ".github/workflows/ci.yml"
    job = load(file)["jobs"]["gates"]
    steps = [step for step in job["steps"] if step["name"].startswith(only)]
    assert len(steps) == len(only)
    scratch.mkdir(exist_ok=True)
    environment = {
        "PYTHONPATH": str(work / "src"),
        "UV_NO_SYNC": "1",
        "UV_PROJECT_ENVIRONMENT": str(prepared / ".venv"),
    }
    base = git("rev-parse", "HEAD", cwd=work).strip()
    started = Run(file, "gates", work, scratch, (), {"github.event.before": base}, environment)
    for number, step in enumerate(steps):
        done = started.execute(step, {**environment, **started.fill(step.get("env", {}))}, number)
        started.steps[step["name"]] = done
        started.summary += (scratch / f"summary-{number}").read_text("utf-8")
    return started


def raise_version(work: Path) -> None:
    """Raise it, and install it, which is what `uv run` does where it may sync."""
    change(work, "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    metadata = work / "src/weather_server-0.2.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: weather-server\nVersion: 0.2.0\n", "utf-8")


def publish(work: Path, prepared: Path) -> None:
    """Do what the author does after a change of the contract: `make schema`."""
    python = prepared / ".venv/bin/python"
    command(python, "-m", "weather_server", "schema", "write", cwd=work, env={"PYTHONPATH": str(work / "src")})


def test_a_project_passes(work: Path, prepared: Path, tmp_path: Path) -> None:
    """Both gates let a pristine project through, and say what they looked at."""
    done = gates(work, prepared, tmp_path, PROTOCOL, CONTRACT)

    assert done.failed == [], done.said
    assert "both eras answer, a wrong key is refused, SIGTERM drains" in done.said
    assert "No tool has changed" in done.summary


CONTRACT_FAULTS = {
    "a tool is renamed": (
        [
            (TOOL, "async def countdown(", "async def count_to_zero("),
            (TOOLS, "import countdown", "import count_to_zero as countdown"),
        ],
        "gone; renamed to",
        True,
    ),
    "an argument becomes required": ([(TOOL, "] = 0.5", "]")], "step_seconds", True),
    "a description is changed": ([(TOOL, "Count down in steps", "Ask nobody, count")], "description", False),
    "a capability is added": ([(SERVER, "return harden(", PROMPT)], "capabilities", False),
}


@pytest.mark.parametrize("fault", CONTRACT_FAULTS)
def test_a_changed_contract_is_found(work: Path, prepared: Path, tmp_path: Path, fault: str) -> None:
    """Unreviewed, it fails; reviewed, a reviewer reads it in the summary, and breaking needs a new version."""
    changes, words, breaks = CONTRACT_FAULTS[fault]
    for planted in changes:
        change(work, *planted)

    unreviewed = gates(work, prepared, tmp_path / "unreviewed", CONTRACT)
    publish(work, prepared)
    reviewed = gates(work, prepared, tmp_path / "reviewed", CONTRACT)

    assert unreviewed.failed == [CONTRACT]
    assert words in unreviewed.said
    assert "::error::Gate 2, contract: run make schema" in unreviewed.said
    assert words in reviewed.summary
    assert reviewed.failed == ([CONTRACT] if breaks else []), reviewed.said
    if breaks:
        assert "::error::Gate 2, contract: a change breaks clients: raise the version" in reviewed.said
        raise_version(work)
        raised = gates(work, prepared, tmp_path / "raised", CONTRACT)
        assert raised.failed == [], raised.said


NULL = "0" * 40


def contract(folder: Path, prepared: Path, base: str | None) -> tuple[int, str]:
    """Run gate 2 as `make contract` does; return its exit code and what it said."""
    environment = {
        "PYTHONPATH": str(folder / "src"),
        "UV_NO_SYNC": "1",
        "UV_PROJECT_ENVIRONMENT": str(prepared / ".venv"),
    }
    done = command(
        "make", "contract", *([f"BASE={base}"] if base is not None else []), cwd=folder, env=environment, check=False
    )
    return done.returncode, done.stdout


def break_the_contract(folder: Path, prepared: Path) -> None:
    """Make an argument required that was not, and review it."""
    change(folder, TOOL, "] = 0.5", "]")
    publish(folder, prepared)
    git("commit", "--quiet", "--all", "--message", "Break clients", cwd=folder)


def _shallow(work: Path, prepared: Path) -> Path:  # noqa: ARG001 - one of several
    clone = work.with_name("shallow")
    git("clone", "--quiet", "--depth", "1", f"file://{work}", clone, cwd=work)
    return clone


def _without_git(work: Path, prepared: Path) -> Path:  # noqa: ARG001 - one of several
    shutil.rmtree(work / ".git")
    return work


def _without_tags(work: Path, prepared: Path) -> Path:  # noqa: ARG001 - one of several
    clone = work.with_name("untagged")
    git("clone", "--quiet", "--no-tags", work, clone, cwd=work)
    return clone


def _no_commit(work: Path, prepared: Path) -> Path:
    git("init", "--quiet", cwd=_without_git(work, prepared))
    return work


BLIND = {
    "no such revision": (None, "orgin/main", "'orgin/main' is no commit of this clone. Fetch it"),
    "the null revision": (None, NULL, f"'{NULL}' is no commit of this clone"),
    "an option for a revision": (None, "--help", "'--help' is no commit of this clone"),
    "a shallow clone, an old revision": (_shallow, "HEAD~1", "in a shallow clone git fetch --unshallow"),
    "a shallow clone, the newest release": (_shallow, None, "in a shallow clone nobody knows what was released"),
    "a clone without tags": (_without_tags, None, "run git fetch --tags"),
    "no git": (_without_git, "HEAD", "git cannot read this repository"),
    "no git, the newest release": (_without_git, None, "git cannot read this repository"),
    "no commit, the newest release": (_no_commit, None, "there is no commit yet"),
}


@pytest.mark.parametrize("place", BLIND)
def test_what_cannot_be_compared_does_not_pass(work: Path, prepared: Path, place: str) -> None:
    """A gate that cannot look says so with the command that helps, and fails."""
    arrange, base, words = BLIND[place]
    git("tag", "v0.1.0", cwd=work)
    git("commit", "--quiet", "--allow-empty", "--message", "Another", cwd=work)
    folder = arrange(work, prepared) if arrange else work

    code, said = contract(folder, prepared, base)

    assert code != 0
    assert words in said, said


def _below(work: Path, prepared: Path) -> Path:
    root = work.with_name("monorepo")
    shutil.copytree(work, root / "services/weather", ignore=shutil.ignore_patterns(".git"))
    git("init", "--quiet", cwd=root)
    git("add", "--all", cwd=root)
    git("commit", "--quiet", "--message", "Start", cwd=root)
    git("tag", "v0.1.0", cwd=root)
    break_the_contract(root / "services/weather", prepared)
    return root / "services/weather"


def _detached(work: Path, prepared: Path) -> Path:
    break_the_contract(work, prepared)
    git("checkout", "--quiet", "--detach", cwd=work)
    return work


def _dirty(work: Path, prepared: Path) -> Path:
    git("commit", "--quiet", "--allow-empty", "--message", "Another", cwd=work)
    change(work, TOOL, "] = 0.5", "]")
    publish(work, prepared)
    return work


def _tagged(work: Path, prepared: Path) -> Path:
    break_the_contract(work, prepared)
    git("tag", "v0.1.1", cwd=work)
    return work


@pytest.mark.parametrize("base", ["HEAD~1", None], ids=["a revision", "the newest release"])
@pytest.mark.parametrize("arrange", [_below, _detached, _dirty, _tagged])
def test_a_break_is_found_in_every_place(
    work: Path, prepared: Path, arrange: Callable[[Path, Path], Path], base: str | None
) -> None:
    """Below the root of a repository, without a branch, before the commit, and on the tag of the release itself."""
    git("tag", "v0.1.0", cwd=work)
    folder = arrange(work, prepared)

    code, said = contract(folder, prepared, base)

    assert code != 0
    assert "::error::Gate 2, contract: a change breaks clients: raise the version" in said, said


def test_nothing_was_released_and_nothing_was_there(work: Path, prepared: Path) -> None:
    """Without a release nothing can break, and a contract that the revision did not have is new: both are said."""
    code, said = contract(work, prepared, None)
    assert code == 0
    assert "::notice::Gate 2, contract: no tag v… before this commit" in said

    git("rm", "--quiet", "-r", "--cached", "schema", cwd=work)
    git("commit", "--quiet", "--message", "Not yet a contract", cwd=work)
    code, said = contract(work, prepared, "HEAD")
    assert code == 0
    assert "::notice::Gate 2, contract: HEAD has no schema/tools.json, so all of it is new" in said


PROTOCOL_FAULTS = {
    "the running server differs from what is published": (
        (TOOL, "Count down in steps", "Ask nobody, count"),
        "the running server does not offer what schema/tools.json says",
    ),
    "the handler of lists crashes": ((SERVER, "return harden(", CRASH), "does not speak the protocol"),
    "no tool is left": ((TOOLS, "TOOLS = (countdown,)", "TOOLS = ()"), "the list is empty"),
    "any key is accepted": (
        (f"{HARDENING}/auth/api_keys.py", "if compare_digest(key.digest, digest):", "if key:"),
        "a wrong key should be refused",
    ),
    "it never gets ready": (
        (SERVER, "return harden(", "__import__('time').sleep(60)\n    return harden("),
        "the server was not ready within 2 seconds",
    ),
    "it ends while it starts": ((SERVER, "return harden(", "raise SystemExit(3)\n    return harden("), "ended while"),
}


@pytest.mark.parametrize("fault", PROTOCOL_FAULTS)
def test_a_server_that_does_not_serve_is_found(
    work: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The first gate names what is wrong, and shows the end of the server's log."""
    planted, words = PROTOCOL_FAULTS[fault]
    change(work, *planted)
    if "never" in fault:
        monkeypatch.setenv("GATE_START_SECONDS", "2")

    done = gates(work, prepared, tmp_path, PROTOCOL)

    assert done.failed == [PROTOCOL], done.said
    assert words in done.said
    assert "The last lines of the server's log:" in done.said
