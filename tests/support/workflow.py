"""Runs the `run:` steps of one job of a workflow in order, as a runner of GitHub's does; `uses:` steps do nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from support.programs import run_alone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECONDS = 150
# Visibility of a repository, its variable RELEASE_SIGNING, and what a release does: None for one that stops.
SIGNING = [
    ("public", "", "public"),
    ("public", "public", "public"),
    ("public", "none", "none"),
    ("private", "github", "github"),
    ("internal", "none", "none"),
    ("public", "github", None),
    ("private", "", None),
    ("internal", "", None),
    ("private", "public", None),
    ("private", "yes", None),
    ("", "", None),
    ("", "none", None),
]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
TOKEN = re.compile(r"'[^']*'|&&|\|\||!=|==|!|[()]|[A-Za-z_][\w-]*(?:\.[\w-]+)*|\s+|.")
FUNCTIONS = {"success", "failure", "always", "cancelled"}


def load(path: Path) -> dict[str, Any]:
    """Read a workflow; every value stays the text it is, `on` included."""
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # noqa: S506 - it makes texts only


@dataclass
class Step:
    """What became of a step."""

    outcome: str
    said: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """One job on a project: its contexts go in, what its steps did comes out."""

    workflow: Path
    job: str
    project: Path
    scratch: Path
    path: tuple[Path, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    ids: dict[str, Step] = field(default_factory=dict)
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> Run:
        """Run every step whose condition holds."""
        job = load(self.workflow)["jobs"][self.job]
        self.scratch.mkdir(parents=True, exist_ok=True)
        added: dict[str, str] = {}
        for number, step in enumerate(job["steps"]):
            condition = step.get("if", "success()")
            condition = condition if any(name in condition for name in FUNCTIONS) else f"success() && ({condition})"
            wanted = self.value(condition.removeprefix("${{").removesuffix("}}"))
            if not wanted:
                done = Step("skipped")
            elif "uses" in step:
                done = Step("success")
            else:
                variables = {**self.fill(job.get("env", {})), **added, **self.fill(step.get("env", {}))}
                done = self.execute(step, variables, number)
                added.update(self.written(f"env-{number}"))
                self.summary += (self.scratch / f"summary-{number}").read_text("utf-8")
            self.steps[step["name"]] = done
            if "id" in step:
                self.ids[step["id"]] = done
        self.outputs = self.fill(job.get("outputs", {}))
        return self

    @property
    def failed(self) -> list[str]:
        """The names of the steps that failed, in order."""
        return [name for name, step in self.steps.items() if step.outcome == "failure"]

    @property
    def said(self) -> str:
        """What all steps printed."""
        return "\n".join(f"--- {name}: {step.outcome}\n{step.said}" for name, step in self.steps.items())

    def execute(self, step: Mapping[str, Any], variables: Mapping[str, str], number: int) -> Step:
        """Run one script with the shell, options and files that it gets there."""
        assert "${{" not in step["run"]
        script = self.scratch / f"{number}.sh"
        script.write_text(step["run"], "utf-8")
        files = {name: self.scratch / f"{name}-{number}" for name in ("output", "env", "summary")}
        for file in files.values():
            file.touch()
        default = load(self.workflow).get("defaults", {}).get("run", {}).get("shell")
        shell = ["--noprofile", "--norc", "-eo", "pipefail"] if step.get("shell", default) == "bash" else ["-e"]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([*map(str, self.path), os.environ["PATH"]]),
            "CI": "true",
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_ENV": str(files["env"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "RUNNER_TEMP": str(self.scratch),
            **self.environment,
            **variables,
        }
        code, said = run_alone("bash", *shell, script, cwd=self.project, env=environment, timeout=SECONDS)
        return Step("failure" if code else "success", said, self.written(f"output-{number}"))

    def written(self, name: str) -> dict[str, str]:
        """Read a file of `NAME=value` lines and `NAME<<END` blocks."""
        found: dict[str, str] = {}
        lines = iter((self.scratch / name).read_text("utf-8").splitlines())
        for line in lines:
            if block := re.fullmatch(r"([\w-]+)<<(\S+)", line):
                found[block[1]] = "\n".join(iter(lambda end=block[2]: _until(next(lines), end), None))
            elif line:
                key, _, value = line.partition("=")
                found[key] = value
        return found

    def fill(self, values: Mapping[str, str]) -> dict[str, str]:
        """Put the values of expressions into texts."""
        return {name: EXPRESSION.sub(lambda found: str(self.value(found[1])), text) for name, text in values.items()}

    def value(self, expression: str) -> Any:
        """Evaluate an expression: contexts, texts, comparison, `!`, `&&`, `||` and the status functions."""
        words = {"&&": " and ", "||": " or ", "!": " not "}
        python = ""
        for token in TOKEN.findall(expression.strip()):
            if re.match(r"[A-Za-z_]", token):
                python += token if token in FUNCTIONS else f"look({token!r})"
            else:
                python += words.get(token, token)
        good = not self.failed
        names = {
            "look": self.look,
            "success": lambda: good,
            "failure": lambda: not good,
            "always": lambda: True,
            "cancelled": lambda: False,
        }
        return eval(python, {"__builtins__": {}}, names)  # noqa: S307 - the project's own workflow

    def look(self, name: str) -> str:
        """Return a context's value; what nobody has set is empty."""
        parts = name.split(".")
        if parts[0] == "steps":
            step = self.ids.get(parts[1], Step(""))
            return step.outcome if parts[2] == "outcome" else step.outputs.get(parts[3], "")
        return self.contexts.get(name, "")


def _until(line: str, end: str) -> str | None:
    return None if line == end else line
