"""Asks the questions without rendering a project: it takes a twentieth of the time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Protocol

import copier
import pytest
import yaml
from support.harness import ROOT, Answers

if TYPE_CHECKING:
    from pathlib import Path


class Ask(Protocol):
    """Answers the questions; every one that is left out gets its default."""

    def __call__(self, **answers: object) -> Answers:
        """Return what was recorded, the computed values included.

        Raises:
            ValueError: An answer was refused; the message says why.
        """
        ...


@pytest.fixture(scope="session")
def questionnaire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template of the questions alone; its only file shows all values."""
    source = tmp_path_factory.mktemp("questionnaire")
    shutil.copy(ROOT / "copier.yml", source)
    (source / "template").mkdir()
    name = "{{ _copier_conf.answers_file }}.jinja"
    shutil.copy(ROOT / "template" / name, source / "template" / name)
    computed = ("distribution_name", "license_expression", "registry_name", "reserved_names")
    lines = (f"{key}: {{{{ {key} | to_json }}}}\n" for key in computed)
    (source / "template" / "computed.yml.jinja").write_text("".join(lines), "utf-8")
    return source


@pytest.fixture
def ask(machine: None, questionnaire: Path, tmp_path: Path) -> Ask:  # noqa: ARG001 - own settings
    """Answer the questions as on a command line with --defaults."""

    def answer(**answers: object) -> Answers:
        to = tmp_path / "project"
        copier.run_copy(str(questionnaire), to, data=answers, defaults=True, quiet=True, overwrite=True)
        recorded = yaml.safe_load((to / ".copier-answers.yml").read_text("utf-8"))
        return recorded | yaml.safe_load((to / "computed.yml").read_text("utf-8"))

    return answer
