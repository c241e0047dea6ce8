"""What every release has promised, and every later one keeps."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import NEXT_RELEASE, ROOT, git
from support.ownership import owners
from support.releases import RELEASES, Release, add_tags, show

if TYPE_CHECKING:
    from pathlib import Path

CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
NEEDS_TRUST = {"_tasks", "_migrations", "_jinja_extensions"}


def section(version: str) -> str:
    """Return what the changelog says of a version, or of what is unreleased."""
    found = re.search(rf"^## {re.escape(version)}( - \S+)?\n(.*?)(?=^## |\Z)", CHANGELOG, re.MULTILINE | re.DOTALL)
    assert found, f"CHANGELOG.md has no section for {version}"
    return found[0]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.tag)
def test_no_release_needs_trust(repository: Path, release: Release) -> None:
    """One release with a task would make the next update of every project from it ask for trust."""
    config = yaml.safe_load(show(repository, release, "copier.yml"))

    assert not NEEDS_TRUST & set(config)
    questions = {name: value for name, value in config.items() if not name.startswith("_")}
    assert [name for name, question in questions.items() if "default" not in question] == []
    assert not any(question.get("secret") for question in questions.values())


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.tag)
def test_what_was_an_authors_stays_an_authors(repository: Path, release: Release) -> None:
    """A path that leaves the two lists would be merged, or deleted, in every project that has it."""
    then = yaml.safe_load(show(repository, release, "copier.yml"))
    now = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))

    assert set(then["_skip_if_exists"]) <= set(now["_skip_if_exists"])
    assert set(then["_exclude"]) <= set(now["_exclude"])


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.tag)
def test_no_question_is_lost(repository: Path, release: Release) -> None:
    """An answer that was asked for is still used, or its name would be free for something else."""
    then = yaml.safe_load(show(repository, release, "copier.yml"))
    now = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))

    assert {name for name in then if not name.startswith("_")} <= set(now)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.tag)
def test_a_release_says_what_changes(release: Release) -> None:
    """A section with the date, the files that change in a project, and what a person has to do."""
    text = section(release.version)

    assert text.startswith(f"## {release.version} - {release.date}\n")
    assert "### What changes in your repository" in text
    assert release == RELEASES[0] or "### Do this" in text


def named(version: str) -> list[str]:
    """Return patterns of the paths that a section names: files, whole folders, and `folder/`: `files` in it."""
    patterns = []
    for line in section(version).partition("### What changes in your repository")[2].partition("###")[0].splitlines():
        paths = re.findall(r"`([^`]+)`", line)
        folder = re.match(r"- `([^`]+/)`: `[^`/]+`", line)
        for path in paths[1:] if folder else paths:
            whole = path if "/" in path or not folder else folder[1] + path
            patterns.append(whole + "*" if whole.endswith("/") else whole)
    return patterns


def changed(repository: Path, since: str, until: str) -> set[str]:
    """Return the paths in a project, but for its author's, that differ between two revisions."""
    names = git("diff", "--name-only", "-z", since, until, "--", "template", cwd=repository).split("\0")
    paths = (re.sub(r"\{%.*?%\}|\.jinja$|^template/", "", name) for name in names if name)
    plain = {
        path.replace("{{ package_name }}", "package").replace("{{ _copier_conf.answers_file }}", "") for path in paths
    }
    return {path for path in plain if path and owners(path) != ["yours"]}


@pytest.mark.parametrize("version", [*(release.version for release in RELEASES[1:]), "Unreleased"])
def test_each_file_that_changes_is_named(repository: Path, version: str) -> None:
    """A person who reads the section knows where to look; an author's own files never change."""
    versions = [release.version for release in RELEASES]
    number = versions.index(version) if version in versions else len(versions)
    until = RELEASES[number].commit if version in versions else NEXT_RELEASE
    patterns = named(version)

    unnamed = {
        path
        for path in changed(repository, RELEASES[number - 1].commit, until)
        if not any(fnmatch(path, pattern) for pattern in patterns)
    }
    assert unnamed == set()


def test_the_changelog_lists_the_ledger() -> None:
    """Newest first, nothing more and nothing less."""
    versions = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)

    assert versions == ["Unreleased", *(release.version for release in reversed(RELEASES))]


def test_releases_follow_each_other(repository: Path) -> None:
    """Versions rise, each commit comes after the one before, and no two share one."""
    versions = [tuple(map(int, release.version.split("."))) for release in RELEASES]

    assert versions == sorted(set(versions))
    assert all(len(version) == 3 for version in versions)
    for before, after in pairwise(RELEASES):
        assert before.commit != after.commit
        git("merge-base", "--is-ancestor", before.commit, after.commit, cwd=repository)
    git("merge-base", "--is-ancestor", RELEASES[-1].commit, "HEAD", cwd=repository)


def test_tags_are_annotated(repository: Path) -> None:
    """Copier records an annotated tag before any other on the same commit."""
    for release in RELEASES:
        assert git("cat-file", "-t", release.tag, cwd=repository) == "tag\n"
        assert git("describe", release.commit, cwd=repository) == f"{release.tag}\n"


def test_a_tag_never_moves(repository: Path, tmp_path: Path) -> None:
    """The command that makes tags says which one is elsewhere, and leaves it there."""
    clone = tmp_path / "clone"
    git("clone", "--quiet", repository, clone, cwd=tmp_path)
    elsewhere, last = RELEASES[-1].commit, RELEASES[0].tag
    git("tag", "--force", "--annotate", "--message", "Elsewhere", last, elsewhere, cwd=clone)

    assert add_tags(clone) == [f"{last} is at {elsewhere}, not at {RELEASES[0].commit}; a tag never moves"]
    assert git("rev-list", "-n", "1", last, cwd=clone).strip() == elsewhere


def test_a_shallow_clone_is_told(repository: Path, tmp_path: Path) -> None:
    """Without the history there is no tag, and the command for the history is named."""
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--depth", "1", "--no-tags", f"file://{repository}", clone, cwd=tmp_path)

    problems = add_tags(clone)

    assert len(problems) == len(RELEASES)
    assert all("run: git fetch --unshallow" in problem for problem in problems)
