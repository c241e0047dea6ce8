"""Reads the committed contract: from the working tree, or from a git revision (exit 2 when it cannot be read).

What cannot be read stops the comparison with one sentence that says what to do.
Git is waited for 30 seconds at most.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]

FILE = Path("schema/tools.json")
GIT_SECONDS = 30
WRITE = "Run `make schema` and commit what it writes."


class UnreadableError(Exception):
    """There is no contract to compare with; the text says why, and what to do."""


class NoRevisionError(UnreadableError):
    """The revision to compare with is not there, or has no contract."""


def from_file(root: Path) -> Json:
    """Return the contract of the working tree.

    Raises:
        UnreadableError: The file is missing or is no contract.
    """
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise UnreadableError(f"{FILE} cannot be read. {WRITE}") from None
    return _parsed(text, str(FILE))


def from_revision(root: Path, revision: str) -> Json:
    """Return the contract at a git revision, with the project's version at that revision.

    The project may lie below the root of its repository.

    Raises:
        NoRevisionError: The revision is not there, or has no contract, or its `pyproject.toml` cannot be read.
        UnreadableError: What it has is no contract.
    """
    # With the suffix nothing can pass for an option, and only commits are found.
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise NoRevisionError(
            f"'{revision}' is not a git revision here. Fetch it first: `git fetch origin {revision}`."
        )
    # "./" makes git start from the project, not from the root of the repository.
    text = _git(root, "show", f"{commit}:./{FILE.as_posix()}")
    if not text:
        raise NoRevisionError(f"{revision} has no {FILE}. Compare with a later revision.")
    document = _parsed(text, f"{FILE} at {revision}")
    try:
        project = tomllib.loads(_git(root, "show", f"{commit}:./pyproject.toml"))["project"]
    except (LookupError, ValueError):
        raise NoRevisionError(
            f"pyproject.toml at {revision} cannot be read, so nobody knows its version. Compare with another revision."
        ) from None
    # The contract's own version may be older, for it is written only when the contract changes; a build may decide it.
    return document | {"version": str(project.get("version") or document.get("version", ""))}


def _parsed(text: str, where: str) -> Json:
    try:
        document = cast("Json", json.loads(text))
        names = [tool["name"] for tool in document["tools"]]
        sound = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    except (LookupError, RecursionError, TypeError, ValueError):
        sound = False
        document = {}
    if not sound:
        raise UnreadableError(f"{where} is not a contract; perhaps a merge left its marks. {WRITE}")
    return document


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints; nothing if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and a revision cannot be an option
            ["git", *arguments],  # noqa: S607 - the developer's own git
            cwd=root,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise NoRevisionError("git does not answer. Install it, or leave out --against.") from None
    return done.stdout.strip() if done.returncode == 0 else ""
