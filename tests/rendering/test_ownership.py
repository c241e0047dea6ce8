"""Every path of a project has exactly one owner, and Copier keeps to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import copier
import pytest
import yaml
from support.harness import DEFAULT, NEXT_RELEASE, ROOT, files, git, run
from support.ownership import LISTS, YOURS, matches, owners
from support.rows import EVERY_ROW, ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

CONFIG = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
HIDDEN_ON_UPDATE = re.compile(r"\{% if _copier_operation == 'update' %\}(\S+)\{% endif %\}")


@pytest.mark.parametrize("row", EVERY_ROW)
def test_every_path_has_one_owner(template: Template, row: str) -> None:
    """A path is yours, ours, shared or Copier's: never none, never two."""
    paths = files(template.render(ROWS[row]))

    assert {path: owners(path) for path in paths if len(owners(path)) != 1} == {}


def test_both_lists_name_what_is_yours() -> None:
    """Skipping alone deletes an author's file that the template drops; hiding alone loses it to recopy."""
    found = [HIDDEN_ON_UPDATE.fullmatch(entry) for entry in CONFIG["_exclude"]]

    assert CONFIG["_skip_if_exists"] == YOURS
    assert [match[1] for match in found if match] == YOURS
    assert [entry for entry, match in zip(CONFIG["_exclude"], found, strict=True) if not match] == [
        "__pycache__",
        "*.py[co]",
        ".hypothesis",
        ".pytest_cache",
        ".ruff_cache",
    ]


@pytest.mark.parametrize("owner", LISTS)
def test_patterns_are_anchored_and_single(owner: str) -> None:
    """A pattern without a leading slash also matches below, and two in one entry match nothing in old Copiers."""
    assert all(re.fullmatch(r"/[A-Za-z0-9._*/-]+", pattern) for pattern in LISTS[owner])


def test_every_pattern_is_needed(template: Template) -> None:
    """No pattern is left over from a file that is gone; those of files that authors add are named here."""
    rows = (ROWS["default"], ROWS["awkward"], {"deploy_targets": ["helm"]})
    paths = {path for row in rows for path in files(template.render(row))}
    added_by_authors = {"/CHANGELOG.md", "/compose.override.yaml", "/uv.lock"}
    unused = {
        pattern
        for patterns in LISTS.values()
        for pattern in patterns
        if not any(matches(path, pattern) for path in paths)
    }

    assert unused == added_by_authors


def test_nothing_ignored_is_shipped(template: Template, tmp_path: Path) -> None:
    """A shipped file that git ignores would be overwritten by an update, and git would have no copy."""
    project = template.project(DEFAULT, tmp_path / "project")

    assert sorted(git("ls-files", cwd=project).splitlines()) == files(project)


def test_secrets_stay_out_of_git(template: Template, tmp_path: Path) -> None:
    """Every file that the pages put secrets into: none is committed by accident."""
    project = template.project(DEFAULT, tmp_path / "project")
    overlays = "deploy/kubernetes/overlays"
    for name in (".env", ".env.production", ".env.compose", f"{overlays}/production/.env.production", ".dev/key"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("MCP_API_KEY=secret\n", "utf-8")
    # What a deployment from here writes, and takes away again.
    (project / overlays / ".release").mkdir()
    (project / overlays / ".release/kustomization.yaml").write_text("kind: Kustomization\n", "utf-8")

    assert git("status", "--porcelain", cwd=project) == ""


def test_recopy_of_an_edited_project_keeps_what_is_yours(template: Template, tmp_path: Path) -> None:
    """Recopy restores files of ours, and leaves an author's edits alone."""
    project = template.project(DEFAULT, tmp_path / "project")
    edited = project / "src/weather_server/tools/countdown.py"
    edited.write_text("# mine\n", "utf-8")
    lost = project / "ruff.toml"
    lost.unlink()
    git("commit", "--quiet", "--all", "--message", "Edit", cwd=project)

    copier.run_recopy(project, defaults=True, overwrite=True, quiet=True, vcs_ref=NEXT_RELEASE)

    assert edited.read_text("utf-8") == "# mine\n"
    assert lost.is_file()


def test_update_leaves_what_is_yours_alone(template: Template, tmp_path: Path) -> None:
    """An update neither changes, brings back nor deletes an author's file, and brings ours."""
    repository = tmp_path / "template"
    git("clone", "--quiet", template.repository, repository, cwd=tmp_path)
    project = tmp_path / "project"
    copier.run_copy(str(repository), project, defaults=True, quiet=True, vcs_ref=NEXT_RELEASE)
    package = project / "src/weather_server"
    (package / "tools/countdown.py").write_text("# mine\n", "utf-8")
    (package / "tools/notes.py").unlink()
    (package / "tools/mine.py").write_text("# new\n", "utf-8")
    (project / ".env").write_text("MCP_API_KEY=secret\n", "utf-8")
    git("init", "--quiet", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "Start", cwd=project)
    source = repository / "template/src/{{ package_name }}"
    for path in (source / "tools/countdown.py", source / "server.py", source / "hardening/app.py"):
        path.write_text(path.read_text("utf-8") + "# newer\n", "utf-8")
    (source / "tools/late.py").write_text("# newer\n", "utf-8")
    for path in source.glob("*/*notes.py*"):
        path.write_text("# newer\n", "utf-8")
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "--message", "Newer", cwd=repository)
    git("tag", "--annotate", "v9999.0.1", "--message", "Newer", cwd=repository)

    copier.run_update(project, defaults=True, overwrite=True, quiet=True)

    changed = git("status", "--porcelain", cwd=project).split()
    assert changed == ["M", ".copier-answers.yml", "M", "src/weather_server/hardening/app.py"]
    assert (project / ".env").read_text("utf-8") == "MCP_API_KEY=secret\n"


def test_rendering_again_changes_nothing(template: Template, tmp_path: Path) -> None:
    """Copying over a project, recopying it and updating it to the same release are all no-ops."""
    project = template.project(DEFAULT, tmp_path / "project")

    template.copy(project, DEFAULT)
    copier.run_recopy(project, defaults=True, overwrite=True, quiet=True, vcs_ref=NEXT_RELEASE)
    copier.run_update(project, defaults=True, overwrite=True, quiet=True)

    assert git("status", "--porcelain", cwd=project) == ""


AUTHORS = [
    ".github/workflows/mine.yml",
    "deploy/caddy/sites/mine.caddy",
    "docs/mine.md",
    "local.mk",
    "scripts/mine.sh",
    "src/weather_server/tools/mine.py",
    "tests/tools/test_mine.py",
]


@pytest.mark.parametrize("row", ["default", "shortest"])
def test_reviews_fold_files_of_ours_and_no_other(template: Template, tmp_path: Path, row: str) -> None:
    """What an update changes is folded in a review; what an author writes is not, a workflow of theirs least of all.

    A new file of ours gets its line in `template/.gitattributes`.
    """
    project = template.project(ROWS[row], tmp_path / "project")

    named = "\n".join([*files(project), *AUTHORS])
    said = run("git", "check-attr", "--stdin", "linguist-generated", "eol", cwd=project, given=named).stdout
    found = {(path, attribute): value for path, attribute, value in (line.split(": ") for line in said.splitlines())}

    folded = {path for (path, attribute), value in found.items() if (attribute, value) == ("linguist-generated", "set")}
    assert folded == {path for path in files(project) if owners(path) == ["ours"]}
    assert {value for (_, attribute), value in found.items() if attribute == "eol"} == {"lf"}
