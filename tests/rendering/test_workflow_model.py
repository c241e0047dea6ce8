"""What workflows may do, and in which order: triggers, rights, conditions, steps; scripts are run by other tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.harness import ROOT

MODEL = Path(__file__).with_name("workflows.yaml")
# A condition of a copy stands in the name of its file.
WORKFLOWS = {
    re.sub(r"\{%.*?%\}", "", path.name): path for path in sorted(ROOT.glob("template/.github/workflows/*.yml*"))
}


def model(path: Path) -> dict[str, Any]:
    """Return a workflow without the text of its scripts, and without the versions that a bot moves."""
    text = re.sub(r"(uses: *[\w./-]+)@[0-9a-f]{40}.*|(?::[\w.-]+)?@sha256:[0-9a-f]{64}", r"\1", path.read_text("utf-8"))
    workflow: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - `on` stays a word
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            step.pop("run", None)
    return workflow


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_is_the_one_that_is_listed(name: str) -> None:
    """No trigger, right, condition, deadline, secret or step is another one, or in another place."""
    assert model(WORKFLOWS[name]) == yaml.load(MODEL.read_text("utf-8"), yaml.BaseLoader)[name]  # noqa: S506 - as above


def test_every_workflow_is_listed() -> None:
    """None comes or goes unseen."""
    assert sorted(WORKFLOWS) == sorted(yaml.safe_load(MODEL.read_text("utf-8")))
