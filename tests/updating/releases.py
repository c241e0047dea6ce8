"""The releases of `docs/releases.yml`, as tags in a clone of this repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from harness import ROOT, git, run

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

LEDGER = ROOT / "docs/releases.yml"


@dataclass(frozen=True)
class Release:
    """One line of the ledger."""

    version: str
    commit: str
    date: dt.date

    @property
    def tag(self) -> str:
        """Return the name of its tag."""
        return f"v{self.version}"


RELEASES = [Release(**line) for line in yaml.safe_load(LEDGER.read_text("utf-8"))]
TAGS = [release.tag for release in RELEASES]


def add_tags(repository: Path) -> None:
    """Make the annotated tags, as docs/releasing.md does it for everybody."""
    for release in RELEASES:
        known = run("git", "cat-file", "-e", f"{release.commit}^{{commit}}", cwd=repository, check=False)
        assert known.returncode == 0, (
            f"commit {release.commit} of release {release.version} is not in this clone: run git fetch --unshallow"
        )
        title = f"Release {release.version}"
        git("tag", "--annotate", "--force", "--message", title, release.tag, release.commit, cwd=repository)


def show(repository: Path, release: Release, path: str) -> str:
    """Return a file as it was in a release."""
    return git("show", f"{release.commit}:{path}", cwd=repository)
