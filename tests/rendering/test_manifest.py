"""A project says offline whether the files of the template in it are as released, and names those that are not."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from support.harness import AWKWARD, DEFAULT, ROOT, SHORTEST, files, run
from support.ownership import owners

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from support.harness import Template

MANIFEST = ROOT / "template/src/{{ package_name }}/hardening/MANIFEST.sha256"
# What depends on answers: the package's name, the database.
RENDERED = {".gitignore", "Dockerfile", "pyrightconfig.json"}


def said(project: Path, **environment: str) -> str:
    """Return what a project says of its files; an edit is no failure."""
    return run(sys.executable, "scripts/unedited.py", cwd=project, env=environment).stdout


def test_the_manifest_is_up_to_date() -> None:
    """Run `python scripts/manifest.py` when this fails."""
    assert MANIFEST.read_text("utf-8") == run(sys.executable, "scripts/manifest.py", "--print", cwd=ROOT).stdout


def test_every_file_of_ours_is_in_it(template: Template) -> None:
    """Workflows, deployment files, scripts, tests and modules: none can be edited unseen."""
    project = template.render(DEFAULT)
    paths = {line.split("  ")[1].replace("src/*/", "src/weather_server/") for line in MANIFEST.read_text().splitlines()}
    ours = {path for path in files(project) if owners(path) == ["ours"]}

    assert ours - paths == RENDERED | {"src/weather_server/hardening/MANIFEST.sha256"}
    assert len(paths) > 150


def test_a_fresh_project_is_unedited(template: Template, subtests: pytest.Subtests) -> None:
    """Whatever was answered, what was left out on purpose is not missed."""
    for answers in (DEFAULT, SHORTEST, AWKWARD):
        with subtests.test(answers=answers):
            assert said(template.render(answers)).startswith("unedited: ")


def test_what_was_edited_or_deleted_is_named_with_what_lives_in_it(template: Template, tmp_path: Path) -> None:
    """A protection lost in a merge is seen by name, in files that no test of a project reads too."""
    project = tmp_path / "project"
    shutil.copytree(template.render(DEFAULT), project)
    guard = project / "src/weather_server/hardening/edge/host_origin.py"
    guard.write_text(guard.read_text("utf-8").replace("421", "200"), "utf-8")
    (project / "deploy/caddy/Caddyfile").unlink()
    (project / "deploy/kubernetes/base/deployment.yaml").unlink()

    text = said(project)

    assert text.startswith("3 files of the template (v")
    assert "edited: src/weather_server/hardening/edge/host_origin.py: Host and Origin guard" in text
    assert "deleted: deploy/caddy/Caddyfile" in text
    assert "deleted: deploy/kubernetes/base/deployment.yaml" in text
    (project / "scripts/needs.sh").unlink()
    assert "bash needs.sh NAME\\u2026" in said(project, PYTHONIOENCODING="ascii")
