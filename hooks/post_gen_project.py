"""Hands the answers to Copier, so that the project is the one that `copier copy` makes, updates included.

Cookiecutter fills in answers before it runs a hook, so this file holds nothing that it could fill in:
answers travel in a JSON file, and never become code or part of a command line.
A non-zero exit makes Cookiecutter remove the folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTEXT = Path(".cookiecutter-context.json")


def source(context: dict[str, Any]) -> str:
    """Return where Copier finds the template: the address it was cloned from, or the folder that was typed."""
    given = Path(str(context["_repo_dir"])).expanduser()
    # A relative path is relative to where the person stands, which a hook is not told outright.
    bases = (os.environ.get("PWD", ""), str(context["_output_dir"]))
    folder = next((path for path in (Path(base, given) for base in bases) if path.is_dir()), given).resolve()
    if not (folder / ".git").exists():
        sys.exit(f"{folder} is no git repository, so the project could never be updated: use the template's address.")
    if str(context["_repo_dir"]) == str(context["_template"]):
        return str(folder)
    asked = ("git", "-C", str(folder), "config", "--get", "remote.origin.url")
    return subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def copier(wanted: str) -> list[str]:
    """Return the command for Copier: this interpreter's, else one that is fetched, else the one on PATH."""
    if importlib.util.find_spec("copier"):
        return [sys.executable, "-m", "copier"]
    if uvx := shutil.which("uvx"):
        return [uvx, "--from", wanted, "copier"]
    if pipx := shutil.which("pipx"):
        return [pipx, "run", "--spec", wanted, "copier"]
    if installed := shutil.which("copier"):
        return [installed]
    sys.exit("This template needs Copier: install uv (it brings uvx), or run `pipx install copier`.")


def answers(context: dict[str, Any]) -> dict[str, Any]:
    """Return the answers for Copier; an empty one is left to it."""
    given = {name: value for name, value in context.items() if not name.startswith("_") and name != "project_slug"}
    for name in context["_several"]:
        chosen = [choice.strip() for choice in str(given[name]).split(",")]
        given[name] = [choice for choice in chosen if choice not in {"", "none"}]
    return {name: value for name, value in given.items() if value != ""}


def main() -> int:
    """Make the project in this folder; return Copier's exit code."""
    context = json.loads(CONTEXT.read_text("utf-8"))
    CONTEXT.unlink()
    if context["project_slug"] != Path.cwd().name:
        sys.exit("The folder is made where you are: take a name without slashes for project_slug.")
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "answers.yml")
        data.write_text(json.dumps(answers(context)), "utf-8")  # JSON is YAML
        command = [*copier(context["_copier"]), "copy", "--defaults", "--data-file", str(data)]
        if context["_checkout"]:
            command += ["--vcs-ref", str(context["_checkout"])]
        return subprocess.run([*command, source(context), str(Path.cwd())], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
