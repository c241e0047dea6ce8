"""A bot that raises versions leaves those of the template alone: they come with an update, and would meet it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, files
from support.ownership import matches, owners

if TYPE_CHECKING:
    from support.harness import Template

# How a file names a version that such a bot looks for: an action, an image, a base image.
PINNED = re.compile(
    r"^\s*(?:- )?(?:uses|image): +\S+@|^\s*(?:- )?image: +\S|^(?:FROM|ARG \w+_IMAGE=)|_IMAGE:-\S+@sha256", re.MULTILINE
)


@pytest.fixture(scope="module")
def rules(template: Template) -> list[dict[str, object]]:
    """The rules of a project, which are all that its file says beside the preset."""
    said = json.loads((template.render(DEFAULT) / "renovate.json").read_text("utf-8"))
    assert said.keys() == {"$schema", "extends", "packageRules"}
    assert said["extends"] == ["config:recommended"]
    return said["packageRules"]


def test_a_person_looks_at_every_version(rules: list[dict[str, object]]) -> None:
    """Nothing is merged by the bot itself, an update of the template least of all."""
    (ours,) = [rule for rule in rules if rule.get("matchManagers") == ["copier"]]

    assert ours["automerge"] is False
    assert [rule for rule in rules if rule.get("automerge", False) is not False] == []


def test_files_of_ours_are_left_alone(template: Template, rules: list[dict[str, object]]) -> None:
    """Files of the template that name a version by digest or commit are switched off, and none of an author's."""
    project = template.render(DEFAULT)
    off = [rule["matchFileNames"] for rule in rules if rule.get("enabled") is False and "matchPackageNames" not in rule]
    (patterns,) = off
    assert isinstance(patterns, list)

    def covered(name: str) -> bool:
        return any(matches(name, f"/{pattern}") for pattern in patterns)

    pinned = [name for name in files(project) if PINNED.search((project / name).read_text("utf-8"))]
    assert "Dockerfile" in pinned
    assert [
        name
        for name in pinned
        if owners(name) == ["ours"] and name.endswith(("Dockerfile", ".yml", ".yaml")) and not covered(name)
    ] == []
    assert [name for name in files(project) if covered(name) and owners(name) != ["ours"]] == []
    assert not covered(".github/workflows/mine.yml")


def test_ranges_of_ours_are_left_alone(template: Template, rules: list[dict[str, object]]) -> None:
    """The lock moves within the ranges of the template's dependencies; an author's own are raised as ever."""
    metadata = tomllib.loads((template.render(DEFAULT) / "pyproject.toml").read_text("utf-8"))
    declared = [
        *metadata["project"]["dependencies"],
        *(entry for group in metadata["project"]["optional-dependencies"].values() for entry in group),
        *(entry for entry in metadata["dependency-groups"]["hardening"]),
        *metadata["build-system"]["requires"],
    ]
    names = sorted({re.split(r"[\[><=;]", entry)[0].lower() for entry in declared})

    found = [rule for rule in rules if rule.get("matchFileNames") == ["pyproject.toml"]]
    assert [rule["matchPackageNames"] for rule in found] == [names, names]
    assert found[0]["rangeStrategy"] == "update-lockfile"
    assert (found[1]["matchUpdateTypes"], found[1]["enabled"]) == (["major"], False)
