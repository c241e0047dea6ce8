"""Patterns: what is served compiles at a client, and what does not compile there is not served."""

from __future__ import annotations

import json
import subprocess

import pytest
from support.node import NODE

from hardening.calls.ecmascript import pattern_problem

# Dialects of Python, Rust and PCRE, and everything that the grammar of ECMAScript has a rule for.
PATTERNS = [
    "^(?P<x>[A-Z]{2})-\\d+$",
    "^[a-z]+$",
    "\\A[a-z]\\Z",
    "^\\w+\\z",
    "(?i)abc",
    "[\\w.-]+@[\\w-]+\\.[a-z]{2,}",
    "\\-",
    "[\\-]",
    "a\\_b",
    "a{",
    "a{2",
    "a}",
    "a]",
    "[a",
    "(a",
    "a)",
    "a**",
    "a*+",
    "a++",
    "(?>a)",
    "(?<n>a)\\k<n>",
    "\\k<n>",
    "(?<n>a)(?<n>b)",
    "\\1",
    "(a)\\1",
    "\\p{L}+",
    "\\p{Lu}",
    "\\p{Greek}",
    "\\p{Script=Greek}",
    "[[:alpha:]]",
    "\\x{41}",
    "\\x41",
    "\\u0041",
    "\\u{41}",
    "\\u{110000}",
    "\\u{10FFFF}",
    "\\cA",
    "\\c1",
    "\\0",
    "\\01",
    "[\\0-\\x1f]",
    "[z-a]",
    "[\\d-z]",
    "[a-\\d]",
    "[^]",
    "[]",
    "(?=a)*",
    "(?!a)b",
    "(?<=a)b",
    "(?<!a)b",
    "^*",
    "\\b+",
    "a{3,2}",
    "a{2,3}?",
    "\\/",
    "/",
    "\\'",
    "\\ ",
    "\\@",
    "\\#",
    "é+",
    "\\é",
    "[\\b]",
    "[\\B]",
    "\\B",
    "\\Z",
    "\\h",
    "(?#comment)a",
    "(?x) a",
    "(?:a|b)*?",
    "",
    "|",
    "a||b",
    "()",
    "(?:)",
    "[a-]",
    "[-a]",
    "[--/]",
    "[\\]]",
    "[\\^]",
    "^\\d{4}-\\d{2}-\\d{2}$",
    "\\\\",
    "\\",
    "[\\",
    "\\p{ASCII}",
    "\\p{Alphabetic}",
    "\\P{L}",
    "\\pL",
    "[\\p{L}\\d]",
    "(?<1a>x)",
    "(?<a",
    "x{,3}",
    "{1}",
    "?",
    "+a",
    "(?)",
    "\\8",
    "[\\1]",
    "[\\q]",
    "(?P=n)",
    "\\N",
    "\\uD83D",
    "\\u00",
    "\\xg1",
    "\\$\\^\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|",
    "a\nb",
    "\\p{gc=Lu}",
    "\\p{General_Category=Lu}",
    "[&&a]",
    "[a&&b]",
    "\\t\\n\\r\\f\\v",
    "\\a",
    "\\e",
    "[\\cA]",
    "(?<$x_1>a)",
    "(?i:a)",
]
COMPILE = """
const compiles = pattern => { try { new RegExp(pattern, "u"); return true } catch { return false } }
console.log(JSON.stringify(JSON.parse(process.argv[1]).map(compiles)))
"""
# Newer than the clients in use.
TOO_NEW = {"(?i:a)"}


def test_a_pattern_is_served_if_and_only_if_a_client_compiles_it() -> None:
    """The verdict of each is the one of a real engine with the `u` flag, as JSON Schema has it."""
    out = subprocess.run([NODE, "-e", COMPILE, json.dumps(PATTERNS)], check=True, capture_output=True, text=True)
    compiled = dict(zip(PATTERNS, json.loads(out.stdout), strict=True))

    assert len(PATTERNS) > 100
    for pattern, good in compiled.items():
        assert (not pattern_problem(pattern)) == (good and pattern not in TOO_NEW), pattern


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"^(?P<x>[A-Z]{2})-\d+$", "'(?P<' at character 2"),
        (r"\A[a-z]+\Z", "'\\\\A[a' at character 1"),
        (r"(?i)yes|no", "'(?i)' at character 1"),
    ],
)
def test_the_place_is_named(pattern: str, problem: str) -> None:
    """An author sees which part of the pattern it is."""
    assert pattern_problem(pattern) == problem
