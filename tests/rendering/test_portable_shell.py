"""Scripts and Makefile of a project, and commands of pages, keep to what a Mac has; none is here to try.

That is bash 3.2, BSD tools and make 3.81.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = sorted((ROOT / "template/scripts").glob("*.sh*"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("template/**/*.md*")])
# Newer than bash 3.2, which is what macOS comes with.
BASH = {
    "associative array": r"\b(declare|local|typeset) -[a-zA-Z]*[An]",
    "mapfile": r"\b(mapfile|readarray)\b",
    "change of case": r"\$\{\w+(\[[^]]*\])?(,,?|\^\^?)",
    "negative index": r"\$\{\w+\[-\d",
    "both streams in a pipe": r"\|&|&>>",
    "coproc": r"\bcoproc\b",
    "wait -n": r"\bwait -n\b",
    "transformation": r"\$\{\w+@[QEPAa]\}",
    "time of printf": r"%\([^)]*\)T",
    "globstar": r"\bshopt -s globstar\b",
    "test -v": r"\[\[? -v ",
}
# Options that GNU's tools have, and BSD's do not.
GNU = {
    "sed": r"\bsed\b[^|;]* (-i\b|-r\b|--\w|-z\b)",
    "grep": r"(?<!git )\bgrep\b[^|;]* (-P\b|--perl)",
    "date": r"\bdate\b[^|;]* (-d\b|--\w)",
    "readlink": r"\breadlink -[fe]\b|\brealpath\b",
    "xargs": r"\bxargs (-\w+ )*(-r\b|-d\b|--\w)",
    "stat": r"\bstat -c\b|\bstat --",
    # Those of the container engine are its own.
    "coreutils": r"(?<!engine\" )(?<!\w)(cp|mv|rm|mkdir|ln|tail|head|chmod|basename|dirname|cat|wc|sort|tr|cut) --\w",
    "head": r"\bhead -n -",
    "sort": r"\bsort\b[^|;]* -\w*V",
    "mktemp": r"\bmktemp\b[^|;)]* (--|-p\b)",
    "timeout": r"(^|[;&|(]\s*)timeout \d",
    "sha256sum": r"\bsha256sum\b",
    "nproc": r"\bnproc\b",
    "find": r"\bfind\b[^|;]* -printf\b",
    "base64": r"\bbase64\b[^|;]* -w",
    "md5sum": r"\b(md5sum|tac|shuf)\b",
    "ln": r"\b(ln|cp|mv) -\w*[tT]\b",
    "time": r"\bdate \+\S*%N",
    "echo": r"\becho -[en]\b",
}
MAKE = {
    "shell flags": r"^\.SHELLFLAGS",
    "one shell": r"^\.ONESHELL",
    "shell assignment": r"^\w+ *!=",
    "simple assignment of POSIX": r"::=",
    "file function": r"\$\(file ",
    "grouped targets": r" &:",
}


def found(text: str, rules: dict[str, str]) -> list[str]:
    """Return what breaks a rule, line by line; comments break none."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    return [
        f"{number}: {rule}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        for rule, pattern in rules.items()
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_on_a_mac(path: Path) -> None:
    """No construct is newer than bash 3.2, and no option is GNU's alone."""
    text = path.read_text("utf-8")

    assert found(text, BASH) == []
    assert found(text, GNU) == []


def test_every_script_is_looked_at() -> None:
    """Also those that come with an answer, whose names end with its condition."""
    named = {re.sub(r"\{%.*?%\}", "", path.name) for path in SCRIPTS}

    assert named >= {"update.sh", "kubernetes.sh", "compose-env.sh"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_command_of_a_page_runs_on_a_mac(path: Path) -> None:
    """Whoever types what a page says has what it needs."""
    blocks = re.findall(r"^ *```(?:console|bash|sh)\n(.*?)^ *```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)

    assert found("\n".join(blocks), {**BASH, **GNU}) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_empty_array_is_expanded(path: Path) -> None:
    """With `set -u`, bash before 4.4 takes an empty array for an unset variable: each one begins with something."""
    text = path.read_text("utf-8")
    empty = set(re.findall(r"^\s*(\w+)=\(\)", text, re.MULTILINE))
    guarded = set(re.findall(r'if \[ "\$\{#(\w+)\[@\]\}" -gt 0 \]', text))

    assert empty <= guarded


def test_the_makefile_is_one_for_old_makes() -> None:
    """A Mac has GNU make 3.81, and /bin/sh runs the recipes."""
    text = (ROOT / "template/Makefile").read_text("utf-8")

    assert found(text, MAKE) == []
    assert found(text, GNU) == []
    assert found(text, BASH) == []


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/a/b/ x",
        "declare -A map",
        "echo ${name,,}",
        "mapfile -t lines",
        "readlink -f .",
        "rm --force x",
        "find . -printf x",
    ],
)
def test_the_rules_find_what_they_are_for(line: str) -> None:
    """A rule that finds nothing would find this."""
    assert found(line, {**BASH, **GNU})
