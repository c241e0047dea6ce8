"""What may be answered, and what becomes of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.harness import AWKWARD, SHORTEST, Answers, questions

if TYPE_CHECKING:
    from conftest import Ask

DERIVED = [
    ("Weather Server", "weather_server"),
    ("weather-server", "weather_server"),
    ("Zoë's Wetter", "zo_s_wetter"),
    ("O'Brien & Sons Ltd.", "obrien_sons_ltd"),
    ("3D Weather", "mcp_3d_weather"),
    ("天気", "mcp_server"),
    ("Calendar", "calendar_server"),
    ("class", "class_server"),
    ("mcp", "mcp_server"),
    ("Redis", "redis_mcp_server"),
    ("Redis Server", "redis_server_mcp"),
    ("test", "test_server"),
    ("Python", "python_server"),
    ("Click", "click_server"),
    ("git", "git_server"),
    ("pg_ctl", "pg_ctl_server"),
    ("Build", "build_server"),
    ("SSH", "ssh_server"),
    ("W" * 40, "w" * 40),
    ("W" * 39 + "!", "w" * 39),
]

RESERVED = [
    name
    for question, value in questions().items()
    if question.startswith("reserved_by_")
    for name in value["default"].split()
]


def test_every_question_has_a_default(ask: Ask) -> None:
    """Nothing needs an answer: Enter all the way gives a project."""
    recorded = ask()

    assert recorded["project_name"] == "Weather Server"
    assert recorded["package_name"] == "weather_server"
    assert recorded["distribution_name"] == "weather-server"
    assert recorded["description"] == "Weather Server, served over the Model Context Protocol."
    assert recorded["database"] == "postgres"
    assert recorded["license"] == recorded["license_expression"] == "MIT"
    assert recorded["deploy_targets"] == ["kubernetes", "fly", "railway", "compose"]
    assert not recorded["repository_url"] + recorded["author_name"] + recorded["author_email"]


def test_only_what_was_asked_is_recorded(ask: Ask) -> None:
    """The answers file holds the questions and nothing computed, so computed values can change."""
    asked = {name for name, question in questions().items() if question.get("when") is not False}
    shown = {"distribution_name", "license_expression", "registry_name", "reserved_names"}

    assert set(ask()) - {"_src_path", "_commit"} - shown == asked


@pytest.mark.parametrize(("project", "package"), DERIVED)
def test_package_name_is_derived(ask: Ask, project: str, package: str) -> None:
    """Every project name gives a package name that may be used, without asking again."""
    assert ask(project_name=project)["package_name"] == package


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"\\{}'), max_size=39))
def test_any_legal_project_name_has_a_legal_default(ask: Ask, tail: str) -> None:
    """The derived package name passes its own validator, whatever the project is called."""
    asked = ask(project_name=f"a{tail}")
    name = asked["package_name"]

    assert name not in asked["reserved_names"].split()
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    assert len(name) <= 40


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    taken=st.sampled_from(RESERVED),
    around=st.sampled_from(["{}", " {}", "{}!", "({})", "The {}", "{} Server", "{} MCP Server", "{}-server"]),
)
def test_a_server_may_be_called_like_anything(ask: Ask, taken: str, around: str) -> None:
    """Whatever exists already, a server for it can be called so: the package gets a name that is free."""
    asked = ask(project_name=f"X{around.format(taken)}"[1:41].strip(" (!"))

    assert asked["package_name"] not in RESERVED
    assert asked["distribution_name"] == asked["package_name"].replace("_", "-")


@pytest.mark.parametrize("answers", [SHORTEST, AWKWARD], ids=["shortest", "awkward"])
def test_legal_answers_are_kept_as_they_are(ask: Ask, answers: Answers) -> None:
    """An answer is recorded letter for letter."""
    recorded = ask(**answers)

    assert {name: recorded[name] for name in answers} == answers


@pytest.mark.parametrize(
    "answers",
    [
        {"project_name": "x" * 40},
        {"project_name": "ß"},
        {"package_name": "x" * 40},
        {"package_name": "a1_2b"},
        {"description": "x" * 100},
        {"repository_url": "https://github.com/example/weather-server"},
        {"repository_url": "https://git.example.com:8443/a/b/c.git"},
        {"author_name": "Ada Lovelace"},
        {"author_name": "Łukasz O'Brien (Ops)"},
        {"author_email": "ada@example.com"},
        {"author_email": "a.b+c-d_e@x-y.example.co.uk"},
        {"deploy_targets": []},
        {"deploy_targets": ["fly", "compose"]},
    ],
    ids=str,
)
def test_accepted(ask: Ask, answers: Answers) -> None:
    """What the rule allows is allowed up to its edge."""
    recorded = ask(**answers)

    assert {name: recorded[name] for name in answers} == answers


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("", "com.example/weather-server"),
        ("https://github.com/Example/anything", "io.github.Example/weather-server"),
        ("https://git.example.com:8443/team/anything", "com.example.git/weather-server"),
    ],
)
def test_registry_name_follows_the_repository(ask: Ask, url: str, name: str) -> None:
    """The registry name lies in a namespace that the owner of the repository can prove."""
    assert ask(repository_url=url)["registry_name"] == name


def test_proprietary_has_a_valid_license_expression(ask: Ask) -> None:
    """A license without an SPDX name of its own gets a reference."""
    assert ask(license="Proprietary")["license_expression"] == "LicenseRef-Proprietary"
