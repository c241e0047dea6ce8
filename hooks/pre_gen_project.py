"""Checks, before anything is written, that Copier can make the project in this folder.

Cookiecutter fills in answers before it runs a hook, so hooks hold nothing that it could fill in.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path


def problem(folder: Path) -> str | None:
    """Return what is in the way, as one sentence that says what to do."""
    if not re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", folder.name):
        return f"The folder's name is {folder.name!r}: take lower-case letters, digits and hyphens for project_slug."
    if any(folder.iterdir()):
        return f"The folder {folder.name!r} is not empty: take another project_slug, or remove the folder."
    if not shutil.which("git"):
        return "This template needs git: install it with your system's packages."
    if not importlib.util.find_spec("copier") and not any(map(shutil.which, ("uvx", "pipx", "copier"))):
        return "This template needs Copier: install uv (it brings uvx), or run `pipx install copier`."
    return None


if __name__ == "__main__":
    sys.exit(problem(Path.cwd()))
