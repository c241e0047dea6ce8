"""Rules of `copier.yml` that Copier itself does not check."""

from __future__ import annotations

import keyword
import re
import runpy
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import DEFAULT, ROOT, questions

if TYPE_CHECKING:
    from support.harness import Template

CONFIG = yaml.safe_load((ROOT / "copier.yml").read_text("utf-8"))
SETTINGS = {name for name in CONFIG if name.startswith("_")}
ASKED = [name for name, question in questions().items() if question.get("when") is not False]

# Of other versions of Python than the one that runs the tests: gone by 3.13, or new in 3.14.
OTHER_PYTHONS = {
    "aifc",
    "annotationlib",
    "asynchat",
    "asyncore",
    "audioop",
    "cgi",
    "cgitb",
    "chunk",
    "compression",
    "crypt",
    "distutils",
    "imghdr",
    "imp",
    "lib2to3",
    "mailcap",
    "msilib",
    "nis",
    "nntplib",
    "ossaudiodev",
    "pipes",
    "smtpd",
    "sndhdr",
    "spwd",
    "sunau",
    "telnetlib",
    "type",
    "uu",
    "xdrlib",
}
# Directories, modules and fixtures of a project, and tools that its commands import or run.
OF_THE_PROJECT = {
    "alias",
    "conftest",
    "hardening",
    "pip",
    "server",
    "settings",
    "setuptools",
    "src",
    "support",
    "tests",
    "tools",
    "uv",
}


def test_no_trust_is_ever_needed() -> None:
    """No task, migration or extension: copy and update run nothing of ours."""
    assert {
        "_envops",
        "_exclude",
        "_message_after_copy",
        "_message_after_update",
        "_min_copier_version",
        "_skip_if_exists",
        "_subdirectory",
        "_templates_suffix",
    } == SETTINGS
    assert CONFIG["_envops"]["undefined"] == "jinja2.StrictUndefined"


@pytest.mark.parametrize("name", questions())
def test_questions_use_known_keys_only(name: str) -> None:
    """Copier ignores a misspelt key, and with it the check or the default that it was."""
    question = questions()[name]

    assert set(question) <= {"type", "help", "default", "validator", "choices", "multiselect", "when"}
    assert "default" in question
    assert question["type"] == "str"
    assert question.get("when", False) is False


@pytest.mark.parametrize("name", ASKED)
def test_questions_say_what_happens_with_the_answer(name: str) -> None:
    """The help is a question and a statement; every free text has a validator with an example."""
    question = questions()[name]

    assert re.fullmatch(r"[A-Z][^?]+\? .+\.", question["help"])
    assert "choices" in question or "Example: " in question["validator"]


def test_nothing_that_decides_security_is_asked() -> None:
    """A recorded answer outlives a tightened default, so security is a setting."""
    assert ASKED == [
        "project_name",
        "package_name",
        "description",
        "database",
        "repository_url",
        "author_name",
        "author_email",
        "license",
        "deploy_targets",
    ]


LISTS = {name: question["default"].split() for name, question in CONFIG.items() if name.startswith("reserved_by_")}


def test_each_reserved_name_has_one_reason() -> None:
    """A name stands in one sorted list, so that its message says why it is taken."""
    everything = [name for names in LISTS.values() for name in names]

    assert list(LISTS) == [
        "reserved_by_python",
        "reserved_by_layout",
        "reserved_by_dependencies",
        "reserved_by_programs",
    ]
    assert [names for names in LISTS.values() if names != sorted(names)] == []
    assert sorted(set(everything)) == sorted(everything)


def test_what_was_refused_stays_refused() -> None:
    """Python's own names, and those that the first releases have named, are in the lists."""
    everything = {name for names in LISTS.values() for name in names}
    must = {*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist, *OTHER_PYTHONS, *OF_THE_PROJECT}

    assert sorted(name for name in must - everything if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)) == []


@pytest.mark.slow
def test_reserved_names_are_computed(template: Template) -> None:
    """What a lock holds, an environment has and a project calls is listed; else `python scripts/reserved_names.py`."""
    project = template.prepared(DEFAULT)
    found = runpy.run_path(str(ROOT / "scripts/reserved_names.py"))["computed"](project)

    assert {name: sorted({*names} - {*LISTS[name]}) for name, names in found.items()} == {name: [] for name in LISTS}
