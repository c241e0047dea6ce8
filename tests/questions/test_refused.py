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
TAKEN = ["json", "class", "match", "type", "asyncio", "tomllib", "mcp", "redis", "pytest"]
TAKEN += ["tests", "hardening", "tools", "settings", "server", "src"]


@pytest.mark.parametrize(("question", "value", "message"), REFUSED)
def test_refused_with_the_rule_and_an_example(ask: Ask, question: str, value: str, message: str) -> None:
    """A bad answer is refused, and the message alone is enough to do better."""
    with pytest.raises(ValueError, match=re.escape(message)):
        ask(**{question: value})


@pytest.mark.parametrize("name", TAKEN)
def test_taken_package_names_are_refused(ask: Ask, name: str) -> None:
    """A package never hides a module of Python, of a dependency or of the tests."""
    message = (
        f"The package name {name} is taken by Python, by a dependency or by this project's layout. "
        f"Example: {name}_server"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ask(package_name=name)


@pytest.mark.parametrize("question", ["license", "database", "deploy_targets"])
def test_unknown_choices_are_refused(ask: Ask, question: str) -> None:
    """A choice that does not exist is refused, and the message lists those that do."""
    value: object = ["heroku"] if question == "deploy_targets" else "heroku"
    with pytest.raises(ValueError, match=r"Invalid choice for .*'heroku' is not in \[") as refusal:
        ask(**{question: value})

    for choice in questions()[question]["choices"].values():
        assert repr(choice) in str(refusal.value)
