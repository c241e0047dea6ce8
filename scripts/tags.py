"""Make the annotated tags of docs/releases.yml that this clone does not have; a tag that differs is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def git(*arguments: str, cwd: Path) -> str:
    """Run git and return what it printed."""
    done = subprocess.run(["git", *arguments], cwd=cwd, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607
    return done.stdout.strip()


def make(repository: Path) -> list[str]:
    """Return what is wrong, after every tag that can be made was made."""
    problems: list[str] = []
    for release in yaml.safe_load((ROOT / "docs/releases.yml").read_text("utf-8")):
        tag, commit = f"v{release['version']}", release["commit"]
        tagged = git("rev-parse", "--verify", "--quiet", f"{tag}^{{commit}}", cwd=repository)
        if git("cat-file", "-t", commit, cwd=repository) != "commit":
            problems.append(f"{tag}: commit {commit} is not in this clone; run: git fetch --unshallow")
        elif tagged and tagged != commit:
            problems.append(f"{tag} is at {tagged}, not at {commit}; a tag never moves")
        elif not tagged:
            git("tag", "--annotate", "--message", f"Release {release['version']}", tag, commit, cwd=repository)
            if git("rev-parse", "--verify", "--quiet", f"{tag}^{{commit}}", cwd=repository) == commit:
                print(tag)
            else:
                problems.append(f"{tag}: git could not make it")
    return problems


if __name__ == "__main__":
    sys.exit("\n".join(make(Path.cwd())) or 0)
