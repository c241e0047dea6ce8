"""The releases of `docs/releases.yml`, as tags in a clone of this repository."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from support.harness import ROOT, git

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


def add_tags(repository: Path) -> list[str]:
    """Make the tags as docs/releasing.md does it for everybody; return what is wrong."""
    return runpy.run_path(str(ROOT / "scripts/tags.py"))["make"](repository)


def show(repository: Path, release: Release, path: str) -> str:
    """Return a file as it was in a release."""
    return git("show", f"{release.commit}:{path}", cwd=repository)
