"""Writes the names that a package may not have into `copier.yml`: `python scripts/reserved_names.py`.

A package called like a module of Python or of a dependency hides it, one called like a distribution cannot
depend on it, and its command hides the program of the same name, because `uv run` looks into the project first.
All are read from a project: its lock, its environment, its Makefile, scripts, workflows and tests.
"""

from __future__ import annotations

import json
import keyword
import re
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import copier
import stdlibs
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40
# A word where a command stands: at the start of a line, after what ends or opens one, after what runs another.
COMMAND = re.compile(
    r"(?:^|[|;&({`!]|\$\(|\b(?:then|do|else|exec|command -v|which|uvx|xargs(?: -0)?|uv run)\s)\s*"
    r"(?:[A-Z_]+=\S*\s+)*([a-z][a-z0-9_.+-]*)(?=[\s;)|&]|$)",
    re.MULTILINE,
)
KEYWORDS = {"case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "while"}
# Words of texts that stand where a command could.
NO_COMMANDS = {"brings", "it", "number", "patience", "prepare", "sbom.cdx.json", "secret", "workflows"}
MODULES = """
import importlib.metadata, json, pathlib, sys
bins = [path.name for path in pathlib.Path(sys.executable).parent.iterdir() if not path.suffix]
for place in pathlib.Path(sys.prefix).glob("lib/python*/site-packages/*/pginstall*/bin"):
    bins += [path.name for path in place.iterdir()]
print(json.dumps([list(importlib.metadata.packages_distributions()), bins]))
"""


# In no list of modules, and taken all the same: Python's own tests, a word since 3.12, what builds and installs,
# and what every interpreter imports at its start where it is there.
BESIDE_PYTHON = {"test", "pip", "setuptools", "wheel", "uv_build", "pkg_resources", "type"}
BESIDE_PYTHON |= {"sitecustomize", "usercustomize"}
# What runs beside such a server on a laptop and in its pipelines, by the names of its packages and files in deploy/.
BESIDE_THE_SERVER = {
    *("redis-server", "redis-cli", "redis-benchmark", "redis-sentinel", "valkey-server", "pgbouncer", "caddy", "nginx"),
    *("prometheus", "promtool", "grafana", "docker-compose", "podman", "buildah", "kustomize", "helm", "fly", "copier"),
    *("cookiecutter", "zizmor", "node", "npm", "npx", "actionlint", "pip-audit", "pre-commit", "make", "bash"),
    *("sh", "tar", "chmod", "env"),
    # Called by git, which many commands call.
    *("ssh", "gpg", "less"),
}


def usable(names: Iterable[str]) -> set[str]:
    """Return those that could be the name of a package."""
    written = {name.lower().replace("-", "_").replace(".", "_") for name in names}
    return {name for name in written if NAME.fullmatch(name) and len(name) <= LONGEST}


def of_python() -> set[str]:
    """Keywords, and the modules of every Python 3 there was."""
    return usable(
        {*keyword.kwlist, *keyword.softkwlist, *stdlibs.py3.module_names, *sys.stdlib_module_names, *BESIDE_PYTHON}
    )


def ignored(project: Path) -> set[str]:
    """Names that git or the builder of images would leave out wherever they are, so in `src/` too."""
    text = "\n".join((project / name).read_text("utf-8") for name in (".gitignore", ".dockerignore"))
    return set(re.findall(r"^(?:\*\*/)?([a-z0-9_]+)/?$", text, re.MULTILINE))


def of_the_layout(project: Path) -> set[str]:
    """Folders and modules that a project's own files import by these names, and names that are left out."""
    (hardening,) = project.glob("src/*/hardening")
    places = (hardening.parent, project / "tests", project / "tests/support", project / "src")
    return usable(
        path.stem
        for place in places
        for path in place.iterdir()
        if (path.is_dir() or path.suffix == ".py") and path != hardening.parent
    ) | usable({"conftest", "src", "tests", "local", "app", *ignored(project)})


def of_distributions(lock: str) -> set[str]:
    """Everything that the lock names, on every system."""
    return usable(package["name"] for package in tomllib.loads(lock)["package"] if "virtual" not in package["source"])


def commands_alone(text: str) -> str:
    """Return a script without its comments and the texts that it prints."""
    return re.sub(r"(^|\s)#.*$|'[^'\n]*'|\"[^\"$`]*\"|\"(?:[^\"`$]|\$(?!\())*\"", r"\1", text, flags=re.MULTILINE)


def of_commands(project: Path) -> set[str]:
    """Every program that Makefile, scripts, workflows and tests call."""
    recipes = re.findall(r"^\t[@-]*(.*)$", (project / "Makefile").read_text("utf-8"), re.MULTILINE)
    texts = [
        re.sub(r"\$\$", "$", "\n".join(recipes)),
        *(path.read_text("utf-8") for path in project.glob("scripts/*.sh")),
    ]
    for path in project.glob(".github/workflows/*.yml"):
        jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        texts += [step.get("run", "") for job in jobs for step in job["steps"]]
    hooks = yaml.safe_load((project / ".pre-commit-config.yaml").read_text("utf-8"))
    texts += [hook["entry"] for repository in hooks["repos"] for hook in repository["hooks"]]
    text = "\n".join(map(commands_alone, texts))
    functions = set(re.findall(r"^\s*([a-z_]+)\(\)", text, re.MULTILINE))
    found = set(COMMAND.findall(text)) - functions - KEYWORDS
    for path in project.glob("tests/**/*.py"):
        found |= set(re.findall(r"\bwhich\(\"([\w.-]+)\"\)", path.read_text("utf-8")))
        found |= set(re.findall(r"\b(?:run|Popen|exec|check_output)\(\s*\[\"([\w.-]+)\"", path.read_text("utf-8")))
    return usable(found - NO_COMMANDS)


def computed(project: Path) -> dict[str, list[str]]:
    """Return the lists by the question that holds each; a name stands in the first one that has a reason for it.

    Args:
        project: After `uv sync --all-extras --all-groups`.
    """
    python = project / ".venv/bin/python"
    done = subprocess.run([python, "-c", MODULES], check=True, capture_output=True, text=True)  # noqa: S603 - ours
    modules, programs = json.loads(done.stdout)
    (package,) = (path.parent.name for path in project.glob("src/*/hardening"))
    lists = {
        "reserved_by_python": of_python(),
        "reserved_by_layout": of_the_layout(project),
        "reserved_by_dependencies": of_distributions((project / "uv.lock").read_text("utf-8")) | usable(modules),
        "reserved_by_programs": of_commands(project) | usable(programs) | usable(BESIDE_THE_SERVER),
    }
    seen = {package}
    found: dict[str, list[str]] = {}
    for name, names in lists.items():
        found[name] = sorted(names - seen)
        seen |= names
    return found


def written(text: str, lists: dict[str, list[str]]) -> str:
    """Return `copier.yml` with these lists."""
    for name, names in lists.items():
        folded = textwrap.fill(
            " ".join(names), 96, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
        text, count = re.subn(
            rf"(^{name}:\n(?:  .*\n)*?  default: >-\n)(?:    .*\n)+", rf"\g<1>{folded}\n", text, flags=re.MULTILINE
        )
        if count != 1:
            message = f"copier.yml has no list {name}"
            raise ValueError(message)
    return text


def main() -> None:
    """Make a project, install everything it can hold, and write the lists."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "weather-server"
        copier.run_copy(str(ROOT), project, defaults=True, quiet=True, vcs_ref="HEAD")
        command = ["uv", "sync", "--quiet", "--all-extras", "--all-groups"]
        subprocess.run(command, cwd=project, check=True)  # noqa: S603 - no shell
        lists = computed(project)
    config = ROOT / "copier.yml"
    config.write_text(written(config.read_text("utf-8"), lists), "utf-8")


if __name__ == "__main__":
    main()
