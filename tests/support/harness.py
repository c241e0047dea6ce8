"""Makes projects from the working tree the way a user would: from a tagged git repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import copier
import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
NEXT_RELEASE = "v9999.0.0"

Answers = dict[str, Any]

DEFAULT: Answers = {}
SHORTEST: Answers = {
    "project_name": "X",
    "package_name": "x",
    "description": "X",
    "database": "none",
    "license": "Proprietary",
    "deploy_targets": [],
}
AWKWARD: Answers = {
    "project_name": "Zoë's Wetter & Söhne, 天気: #1 'beta'",
    "package_name": "w" + "_3" * 19 + "z",
    "description": "L'été: 30 °C & <more> #1 — it's 100 % 'safe', $HOME `id` \N{SNOWMAN} | *all* [of] it! " + "y" * 24,
    "repository_url": "https://git.example.com:8443/Group.Name/sub/weather.server_1",
    "author_name": "Żółć O'Brien-Łukasz (Ops & Co.) #1",
    "author_email": "zoe.obrien+mcp@mail.example.co.uk",
    "license": "BSD-3-Clause",
    "database": "none",
}


def questions() -> dict[str, dict[str, Any]]:
    """Return the questions of `copier.yml`, the computed ones included, in order."""
    loaded = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
    return {name: value for name, value in loaded.items() if not name.startswith("_")}


def run(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    deadline: float = 540,
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command with a deadline, and show all it said when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=deadline,
        check=False,
    )
    if check and done.returncode:
        shown = " ".join(str(part) for part in command)
        message = f"{shown} ended with {done.returncode}:\n{done.stdout}"
        raise AssertionError(message)
    return done


def git(*arguments: str | Path, cwd: Path) -> str:
    """Run git and return what it printed."""
    return run("git", *arguments, cwd=cwd).stdout


def tool(name: str) -> Path:
    """Return a command of the environment that the tests run in."""
    return Path(sys.executable).parent / name


def files(project: Path) -> list[str]:
    """Return the paths of all files of a project, without what tools leave behind."""
    hidden = {".git", ".venv", "__pycache__", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    return sorted(
        path.relative_to(project).as_posix()
        for path in project.rglob("*")
        if path.is_file() and not hidden & set(path.relative_to(project).parts)
    )


@dataclass
class Template:
    """The working tree as a release: a clone with all tags, the tree on top, and a tag for it."""

    folder: Path
    _renders: dict[str, Path] = field(default_factory=dict)
    _prepared: dict[str, Path] = field(default_factory=dict)

    @cached_property
    def repository(self) -> Path:
        """The tagged repository; made once."""
        clone = self.folder / "template"
        # As one pack: a working repository has thousands of loose objects, and Copier clones this one at each step.
        run("git", "clone", "--quiet", "--no-local", ROOT, clone, cwd=self.folder)
        run("git", "--git-dir", clone / ".git", "--work-tree", ROOT, "add", "--all", cwd=ROOT)
        git("commit", "--quiet", "--allow-empty", "--message", "The working tree", cwd=clone)
        git("reset", "--quiet", "--hard", cwd=clone)
        git("tag", "--annotate", NEXT_RELEASE, "--message", "The next release", cwd=clone)
        return clone

    def copy(self, to: Path, answers: Answers, *, release: str = NEXT_RELEASE) -> Path:
        """Make a project in a folder of the caller's; never with trust."""
        copier.run_copy(str(self.repository), to, data=answers, defaults=True, quiet=True, vcs_ref=release)
        return to

    def render(self, answers: Answers) -> Path:
        """Return a project to look at; it is shared, so nobody changes it."""
        key = json.dumps(answers, sort_keys=True)
        if key not in self._renders:
            self._renders[key] = self.copy(self.folder / f"render-{len(self._renders)}", answers)
        return self._renders[key]

    def project(self, answers: Answers, to: Path) -> Path:
        """Return a project of the caller's own, with its first commit."""
        shutil.copytree(self.render(answers), to)
        git("init", "--quiet", cwd=to)
        git("add", "--all", cwd=to)
        git("commit", "--quiet", "--message", "Start", cwd=to)
        return to

    def prepared(self, answers: Answers) -> Path:
        """Return a shared project that can run: `make setup` was called in it."""
        key = json.dumps(answers, sort_keys=True)
        if key not in self._prepared:
            to = self.project(answers, self.folder / f"prepared-{len(self._prepared)}")
            run("make", "setup", cwd=to)
            self._prepared[key] = to
        return self._prepared[key]
