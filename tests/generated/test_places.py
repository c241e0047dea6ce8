"""Where a project lies and who works in it: any folder, another user of the machine, one that has no name."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.harness import git, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.harness import Template

ANSWERS = {"database": "none"}
FOLDERS = [
    "two  blanks",
    'it\'s "quoted"',
    "$HOME `id` $(id)",
    "100% & more; a|b <c> *?[x]",
    "Zoë 天気",
    "-rf",
    "a" * 200,
    "#1 (copy)",
]
AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive", "--preserve-env")
NOBODY = 54321
AS_THEM = (*AS_ROOT, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=[str(number) for number, _ in enumerate(FOLDERS)])
def test_commands_run_in_any_folder(template: Template, tmp_path: Path, folder: str) -> None:
    """Whatever a folder is called, no command of the project reads its name as something else."""
    project = tmp_path / folder
    shutil.copytree(template.render(ANSWERS), project)
    git("init", "--quiet", ".", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "Start", cwd=project)

    help_ = run("make", cwd=project).stdout
    run("bash", "scripts/version.sh", "0.1.0", cwd=project)
    edited = run(sys.executable, "scripts/unedited.py", cwd=project).stdout
    drift = run("make", "drift", cwd=project).stdout

    assert "make check " in help_
    assert edited.startswith("unedited: ")
    assert drift == ""
    assert git("status", "--porcelain", cwd=project) == ""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, and only its owner may change."""
    folder = Path(tempfile.mkdtemp(prefix="place-"))
    folder.chmod(0o755)
    yield folder
    run(*AS_ROOT, "rm", "-r", folder, cwd=Path("/"))


@pytest.mark.slow
def test_a_user_without_a_name_checks_and_serves(template: Template, place: Path) -> None:
    """A number without a line in /etc/passwd, a long TMPDIR, a parent that is not theirs: checked, and served."""
    project = template.project(ANSWERS, place / "my server's (HOME) ü")
    pythons = (Path(sys.executable).resolve(), Path("/usr/bin/python3"))
    # One below a home directory is not for everybody.
    python = next(one for one in pythons if not run(*AS_THEM, "readlink", "-e", one, cwd=place, check=False).returncode)
    run("uv", "sync", "--quiet", cwd=project, env={"UV_PYTHON": str(python)})
    scratch = place / ("t" * 90)
    scratch.mkdir()
    run(*AS_ROOT, "chown", "-R", f"{NOBODY}:{NOBODY}", project, scratch, cwd=place)
    config = shutil.copy(os.environ["GIT_CONFIG_GLOBAL"], place / "gitconfig")
    theirs = {
        "HOME": scratch,
        "TMPDIR": scratch,
        "XDG_CACHE_HOME": scratch / "cache",
        "UV_CACHE_DIR": scratch / "cache/uv",
        "UV_OFFLINE": "1",
        "UV_PYTHON": python,
        "GIT_CONFIG_GLOBAL": config,
        "PATH": os.environ["PATH"],
    }
    variables = [f"{name}={value}" for name, value in theirs.items()]

    said = run(*AS_THEM, "env", *variables, "make", "check", "protocol", "contract", cwd=project).stdout

    assert "unedited: " in said
    assert "Gate 1, protocol: both eras answer, a wrong key is refused, SIGTERM drains." in said
    assert "Gate 2, contract: no tag v…" in said
