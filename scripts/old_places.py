"""Says what of a project's files stands in the way of the template's, or is read in place of one of them.

So does what lies around the project: a workspace, rules of `.gitignore`, the root of its repository.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COMPOSE = ("compose.yml", "docker-compose.yaml", "docker-compose.yml")
# A file of yours, and what becomes of the template's beside it.
INSTEAD = {
    "GNUmakefile": "make reads it in place of Makefile: move your targets into local.mk, and delete it",
    "Containerfile": "podman reads it in place of Dockerfile: delete it, or give it another name",
    ".containerignore": "podman reads it in place of .dockerignore, and secrets could get into the image: delete it",
    "pytest.toml": "pytest reads it in place of pytest.ini: your fixtures go into tests/tools/conftest.py; delete it",
    ".pytest.toml": "pytest reads it in place of pytest.ini: your fixtures go into tests/tools/conftest.py; delete it",
    **dict.fromkeys(
        COMPOSE, "compose.yaml is read in its place: move your services into compose.override.yaml, and delete it"
    ),
    **dict.fromkeys(
        ("renovate.json5", ".github/renovate.json", ".github/renovate.json5", ".renovaterc", ".renovaterc.json"),
        "renovate.json is read in its place: move your rules there, and delete it",
    ),
    **dict.fromkeys(
        ("poetry.lock", "pdm.lock", "Pipfile", "Pipfile.lock"), "uv.lock takes its place (make setup): delete it"
    ),
}


def in_the_way(project: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield each path of yours at which a file of the template cannot come, with what to do.

    A file where a folder has to be, a folder where a file has to be, a link where a folder has to be (what it points
    to would be written), and a name that another machine takes for the same one.
    """
    seen: set[Path] = set()
    for name in names:
        path = project
        for part in name.split("/"):
            folder, path = path, path / part
            if path in seen:
                continue
            seen.add(path)
            shown, last = path.relative_to(project).as_posix(), path == project / name
            for other in folder.iterdir() if folder.is_dir() else ():
                if other.name != part and other.name.lower() == part.lower():
                    yield (
                        f"{other.relative_to(project)}: one file with {shown} on macOS and Windows: git mv it to that"
                        " name, or to another one"
                    )
            if not last and path.is_symlink():
                yield f"{shown}: a link, and the template has a folder of this name: put a folder there, or rename it"
            elif not last and path.exists() and not path.is_dir():
                yield f"{shown}: a file, and the template has a folder of this name: git mv it to another name"
            elif last and path.is_dir():
                yield f"{shown}: a folder, and the template has a file of this name: git mv it to another name"


def around(project: Path, top: Path) -> Iterator[str]:
    """Yield what is read at the root of the repository alone, where the project is below it, and a uv workspace."""
    if project != top:
        yield (
            ".github/, .pre-commit-config.yaml, renovate.json: read at the root of a repository only, and this project"
            f" is in {project.relative_to(top).as_posix()}/: move the workflows there, with working-directory, or let"
            " your own call make; docs/elsewhere.md says what"
        )
    for folder in project.parents if project != top else ():
        file = folder / "pyproject.toml"
        document = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
        workspace = document.get("tool", {}).get("uv", {}).get("workspace", {})
        out = {path for pattern in workspace.get("exclude", []) for path in folder.glob(pattern)}
        if project not in out and any(project in folder.glob(pattern) for pattern in workspace.get("members", [])):
            yield (
                f"{file.relative_to(top)}: its uv workspace has this project, so uv.lock would be there, and the image"
                f' is built from one here: add "{project.relative_to(folder).as_posix()}" to exclude in'
                " [tool.uv.workspace]; what you need of the other members is installed from an index, or by uv add"
            )
        if folder == top:
            break


def not_seen(project: Path, top: Path, names: list[str]) -> Iterator[str]:
    """Yield each rule of yours by which git would not see files of the template, with the files.

    But for those of the project's own `.gitignore`, whose place the template's takes.
    """
    own = (project / ".gitignore").relative_to(top).as_posix()
    command = ("git", "check-ignore", "--verbose", "-z", "--stdin")
    done = subprocess.run(  # noqa: S603 - git
        command, cwd=project, input="\0".join(names), capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        raise OSError(done.stderr.strip())
    fields = done.stdout.split("\0")
    found: dict[str, list[str]] = {}
    for source, line, pattern, name in zip(*[iter(fields)] * 4, strict=False):
        if not pattern.startswith("!") and source != own:
            found.setdefault(f"{source}:{line} {pattern}", []).append(name)
    for rule, hidden in found.items():
        more = f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""  # noqa: PLR2004 - enough to know them
        yield f"{rule}: git would not see {', '.join(hidden[:3])}{more}: change the rule, or git add --force"


def instead(project: Path) -> Iterator[str]:
    """Yield what of yours programs read in place of a file of the template, or the other way round."""
    for name, rule in INSTEAD.items():
        if (project / name).is_file():
            yield f"{name}: {rule}"
    style = project / ".ruff.toml"
    if style.is_file() and not re.search(
        r'^extend\s*=\s*"ruff.toml"', style.read_text("utf-8", "replace"), re.MULTILINE
    ):
        yield '.ruff.toml: ruff reads it in place of ruff.toml: add extend = "ruff.toml" as its first line'
    asked = project / ".python-version"
    found = re.match(r"(?:cpython-)?3\.(\d+)", asked.read_text("utf-8", "replace").strip()) if asked.is_file() else None
    if found and int(found[1]) < 11:  # noqa: PLR2004 - of requires-python
        yield f".python-version: asks for {json.dumps(found[0])}, and the template needs 3.11 or newer: change it"
