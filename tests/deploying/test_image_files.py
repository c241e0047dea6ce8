"""The Dockerfile, without building it: what linters say, and what would break some builder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.harness import AWKWARD, SHORTEST
from support.programs import find, run
from support.projects import ANSWERS

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template


@pytest.mark.parametrize("answers", [ANSWERS, SHORTEST, AWKWARD], ids=["usual", "shortest", "awkward"])
def test_hadolint_is_content(template: Template, answers: dict[str, object]) -> None:
    """No finding, the information level included, whatever the answers were."""
    file = template.render(answers) / "Dockerfile"

    done = run(find("hadolint"), "--failure-threshold", "style", file)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("pattern", "who"),
    [
        (r"<<-?\s*['\"]?EOF", "older builders have no heredocs"),
        (r"--link\b|--exclude\b|--checksum\b", "buildah has none of them"),
        (r"--mount=type=cache", "Railway refuses cache mounts without its own ids"),
        (r"^# syntax=", "a builder without a registry cannot fetch the front end"),
        (r"^(CMD|ENTRYPOINT) [^\[]", "a shell as process 1 keeps SIGTERM to itself"),
        (r"^USER (?!\d+:\d+$)", "Kubernetes cannot see that a name is not root"),
        (r"\bcurl\b|\bwget\b", "neither is in the image"),
    ],
)
def test_it_builds_everywhere(project: Path, pattern: str, who: str) -> None:
    """Nothing in it that one of the supported builders or platforms refuses."""
    text = (project / "Dockerfile").read_text(encoding="utf-8")

    assert re.findall(pattern, text, re.MULTILINE) == [], who


def test_the_context_is_a_list_of_what_is_needed(project: Path) -> None:
    """Everything is left out of the build context but what the Dockerfile copies."""
    lines = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (project / "Dockerfile").read_text(), re.MULTILINE)

    assert "*" in lines
    assert let_in == {name.rstrip("*") for names in copied for name in names.split()}
