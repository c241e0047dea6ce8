"""What may not be answered; each refusal says the rule and shows an answer that would do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.harness import questions

if TYPE_CHECKING:
    from conftest import Ask

NAME = (
    "A project name has 1 to 40 characters on one line, starts with a letter or digit, and holds no "
    "double quotes, backslashes, braces or control characters. Example: Weather Server"
)
PACKAGE = (
    "A package name has at most 40 lower-case letters, digits and single underscores, and starts "
    "with a letter. Example: weather_server"
)
DESCRIPTION = (
    "A description has 1 to 100 characters on one line, and holds no double quotes, backslashes, "
    "braces or control characters. Example: Forecasts for any place on earth."
)
URL = (
    "A repository URL starts with https:// and has a path, without credentials, query or final "
    "slash. Example: https://github.com/example/weather-server"
)
AUTHOR = (
    "An author's name has at most 100 characters on one line, starts with a letter or digit, and "
    "holds no double quotes, backslashes, braces, commas, angle brackets, at signs or control "
    "characters. Example: Ada Lovelace"
)
EMAIL = "An e-mail address has the form name@host. Example: ada@example.com"

# Quotes, escapes, Jinja, line ends, control characters, and what reorders or hides text.
UNSAFE = ['a"b', "a\\b", "{{ 7 }}", "{% x %}", "a}b", "a\nb", "a\n", "a\rb", "a\tb", "a\0b", "a\x1bb", "a\x7fb"]
UNSAFE += ["a\x85b", "a\u2028b", "a\u202eb", "a\u2066b", "a\u200bb", "a\ufeffb"]

REFUSED = [
    *(("project_name", value, NAME) for value in UNSAFE),
    *(("project_name", value, NAME) for value in ("", " ", " a", "a ", "-a", "#a", "x" * 41)),
    *(("description", value, DESCRIPTION) for value in UNSAFE),
    *(("description", value, DESCRIPTION) for value in ("", " a", "a ", "x" * 101)),
    *(("author_name", value, AUTHOR) for value in UNSAFE),
    *(("author_name", value, AUTHOR) for value in (" a", "a ", "Sons, Inc.", "<a>", "a@b", "x" * 101)),
    *(
        ("package_name", value, PACKAGE)
        for value in ("", "Weather", "weather-server", "3d", "_a", "a_", "a__b", "a.b", "a b", "é", "a\n", "x" * 41)
    ),
    *(
        ("repository_url", value, URL)
        for value in (
            "github.com/a/b",
            "http://github.com/a/b",
            "git@github.com:a/b",
            "https://github.com",
            "https://github.com/",
            "https://github.com/a/b/",
            "https://user:password@github.com/a/b",
            "https://github.com/a/b?c",
            "https://github.com/a/b#c",
            "https://github.com/a/b\n",
            'https://github.com/a/"b',
            "https://github.com/a/$(b)",
            "https://github.com/" + "x" * 200,
        )
    ),
    *(
        ("author_email", value, EMAIL)
        for value in ("ada", "ada@", "@b.c", "ada@localhost", "a b@c.de", "a@b..c", ".a@b.c", "a@b.c\n", '"a"@b.c')
    ),
]
BY_PYTHON = "taken by Python: a package would hide its module of that name."
BY_LAYOUT = "taken by this project's own layout."
BY_DEPENDENCY = "taken by a dependency: a project can neither hide it nor depend on itself."
BY_PROGRAM = "taken by a program that this project calls: its command would hide it."
TAKEN = [
    *(
        (name, BY_PYTHON)
        for name in ("json", "class", "match", "type", "asyncio", "tomllib", "test", "annotationlib", "sitecustomize")
    ),
    *(
        (name, BY_LAYOUT)
        for name in ("tests", "hardening", "tools", "settings", "server", "src", "conftest", "build", "dist")
    ),
    *((name, BY_DEPENDENCY) for name in ("mcp", "redis", "pytest", "click", "asyncpg_stubs", "google", "psutil")),
    *(
        (name, BY_PROGRAM)
        for name in ("redis_server", "git", "initdb", "pg_ctl", "postgres", "python", "npx", "jq", "gh", "ssh")
    ),
]


@pytest.mark.parametrize(("name", "reason"), TAKEN)
def test_taken_package_names_are_refused(ask: Ask, name: str, reason: str) -> None:
    """A package hides no module of Python, of a dependency or of the tests, and its command no program."""
    with pytest.raises(ValueError, match=re.escape(f"The package name {name} is {reason} Example: {name}_mcp")):
        ask(package_name=name)


@pytest.mark.parametrize("name", [name for name, _ in TAKEN])
def test_the_example_of_a_refusal_is_accepted(ask: Ask, name: str) -> None:
    """Who types what the message shows is done."""
    with pytest.raises(ValueError, match="Example: ") as refused:
        ask(package_name=name)

    example = str(refused.value).split("Example: ")[1].strip()
    assert ask(package_name=example)["package_name"] == example


@pytest.mark.parametrize("question", ["license", "database", "deploy_targets"])
def test_unknown_choices_are_refused(ask: Ask, question: str) -> None:
    """A choice that does not exist is refused, and the message lists those that do."""
    value: object = ["heroku"] if question == "deploy_targets" else "heroku"
    with pytest.raises(ValueError, match=r"Invalid choice for .*'heroku' is not in \[") as refusal:
        ask(**{question: value})

    for choice in questions()[question]["choices"].values():
        assert repr(choice) in str(refusal.value)
