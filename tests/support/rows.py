"""Sets of answers in which every pair of answers to two questions occurs."""

from __future__ import annotations

import pytest
from allpairspy import AllPairs
from support.harness import AWKWARD, DEFAULT, SHORTEST, Answers

# None stands for the default.
VALUES: dict[str, list[object]] = {
    "project_name": [None, AWKWARD["project_name"], "W" * 40],
    "package_name": [None, "x", AWKWARD["package_name"]],
    "description": [None, AWKWARD["description"], "x" * 100],
    "database": ["postgres", "none"],
    "repository_url": [None, "https://github.com/Example/weather.server", AWKWARD["repository_url"]],
    "author_name": [None, AWKWARD["author_name"]],
    "author_email": [None, AWKWARD["author_email"]],
    "license": ["MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"],
    "deploy_targets": [None, (), ("kubernetes",), ("helm",), ("fly", "railway"), ("compose",)],
}


def rows() -> dict[str, Answers]:
    """Return the pairwise rows after the three that have a name."""
    named = {"default": DEFAULT, "shortest": SHORTEST, "awkward": AWKWARD}
    pairs = (dict(zip(VALUES, row, strict=True)) for row in AllPairs(list(VALUES.values())))
    numbered = {f"pair-{number:02}": _answers(row) for number, row in enumerate(pairs, 1)}
    return named | numbered


def _answers(row: dict[str, object]) -> Answers:
    given = {name: value for name, value in row.items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


ROWS = rows()
# The quick loop takes the rows that have a name: they go to the limits in both directions.
EVERY_ROW = [pytest.param(name, marks=pytest.mark.slow if name.startswith("pair") else ()) for name in ROWS]
