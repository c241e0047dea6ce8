"""The oldest Copier that is allowed and the newest one give the same project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import AWKWARD, DEFAULT, NEXT_RELEASE, ROOT, Answers, files, git, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

OLDEST = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))["_min_copier_version"]


@pytest.mark.slow
@pytest.mark.parametrize("answers", [DEFAULT, AWKWARD], ids=["default", "awkward"])
def test_the_oldest_copier_gives_the_same_project(template: Template, tmp_path: Path, answers: Answers) -> None:
    """Nothing in the template needs more than the version that it asks for; copied again, it stays as it is."""
    expected = template.render(answers)
    data = tmp_path / "answers.yml"
    data.write_text(yaml.safe_dump(answers), "utf-8")
    oldest = ("uvx", "--quiet", "--from", f"copier=={OLDEST}", "copier")
    run(
        *oldest,
        "copy",
        "--defaults",
        "--quiet",
        "--data-file",
        data,
        "--vcs-ref",
        NEXT_RELEASE,
        template.repository,
        "project",
        cwd=tmp_path,
    )

    project = tmp_path / "project"
    assert files(project) == files(expected)
    assert [name for name in files(project) if (project / name).read_bytes() != (expected / name).read_bytes()] == []
    git("init", "--quiet", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "Start", cwd=project)
    run(*oldest, "recopy", "--defaults", "--overwrite", "--quiet", "--vcs-ref=:current:", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""
