"""Rules of `copier.yml` that Copier itself does not check."""

from __future__ import annotations

import keyword
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from support.harness import ROOT, questions

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


def test_reserved_names_are_complete() -> None:
    """The list of taken names is kept right by Python itself and by what is installed."""
    listed = CONFIG["reserved_names"]["default"].split()
    standard = {*sys.stdlib_module_names, *keyword.kwlist, *keyword.softkwlist}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    direct = {re.split(r"[\[><;]", entry)[0].lower() for entry in groups["render"]}
    installed = {
        name
        for name, distributions in packages_distributions().items()
        if direct & {distribution.lower() for distribution in distributions}
    }
    # The name of a distribution is taken as well: a project cannot depend on itself.
    must = standard | OTHER_PYTHONS | OF_THE_PROJECT | installed | {name.replace("-", "_") for name in direct}
    usable = {name for name in must if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)}

    assert sorted(usable - set(listed)) == []
    assert listed == sorted(set(listed))
