"""The page for people without GitHub, behind a proxy or with an index of their own: what it shows works."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import DEFAULT, ROOT, run, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.harness import Template

PAGE = (ROOT / "template/docs/elsewhere.md").read_text("utf-8")
(PIPELINE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def scripts() -> dict[str, str]:
    """Return what each job of the pipeline runs."""
    jobs = yaml.safe_load(PIPELINE)
    return {name: "\n".join(job["script"]) for name, job in jobs.items() if isinstance(job, dict) and "script" in job}


def test_the_pipeline_is_valid(tmp_path: Path) -> None:
    """It follows GitLab's schema, and its shell passes the linter."""
    (tmp_path / ".gitlab-ci.yml").write_text(PIPELINE, "utf-8")
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", ".gitlab-ci.yml", cwd=tmp_path)
    for name, script in scripts().items():
        (tmp_path / f"{name}.sh").write_text(script, "utf-8")
        run(tool("shellcheck"), "--shell", "bash", tmp_path / f"{name}.sh", cwd=tmp_path)


def test_the_pipeline_runs_every_gate(template: Template) -> None:
    """It calls what the workflow of this project's CI calls, but for the linter of workflows."""
    project = template.render(DEFAULT)
    steps = yaml.safe_load((project / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"].values()
    ours = {word for job in steps for step in job["steps"] for word in _commands(step.get("run", ""))}
    shown = {word for script in scripts().values() for word in _commands(script)}

    # That of setup is in what a person is told; the image is built by the words of another engine.
    assert ours - shown == {"workflows", "image", "boot", "setup"}
    targets = set(re.findall(r"^([a-z]+):", (project / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert shown <= targets
    assert (project / "scripts/gate.sh").is_file()


def _commands(script: str) -> set[str]:
    return {word for line in re.findall(r"\bmake ([a-z ]+)", script) for word in line.split()}


@pytest.fixture
def index() -> Iterator[tuple[str, list[str]]]:
    """An index on this machine that has nothing; its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/simple", asked
        listener.shutdown()


def test_an_index_of_ones_own_is_asked(template: Template, tmp_path: Path, index: tuple[str, list[str]]) -> None:
    """With the variable, installing asks that index for the project's dependencies; what it does not have, fails."""
    url, asked = index
    project = template.project(DEFAULT, tmp_path / "project")

    done = run("make", "setup", cwd=project, env={"UV_DEFAULT_INDEX": url, "UV_NO_CACHE": "1"}, check=False)

    assert done.returncode != 0
    assert "/simple/mcp/" in asked
    assert "make setup could not install the dependencies: check the network and the proxy" in done.stdout


def test_the_build_gets_the_index(template: Template, tmp_path: Path) -> None:
    """`make image` hands the address on as the one argument that both installing commands of the build read."""
    project = template.project(DEFAULT, tmp_path / "project")
    url = "https://packages.example.com/simple"

    plain = run("make", "image", "ENGINE=echo", cwd=project).stdout
    own = run("make", "image", "ENGINE=echo", cwd=project, env={"UV_DEFAULT_INDEX": url}).stdout
    other = run("make", "image", "ENGINE=echo", f"INDEX={url}/other", cwd=project).stdout

    assert "INDEX" not in plain
    assert f"--build-arg INDEX={url} " in own
    assert f"--build-arg INDEX={url}/other " in other
    installing = re.findall(
        r"^RUN (uv (?:sync|pip install) .*)$", (project / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    assert len(installing) == 2
    assert all('${INDEX:+--default-index "$INDEX"}' in command for command in installing)
