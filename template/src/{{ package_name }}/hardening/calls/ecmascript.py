"""Says whether a regular expression is one of ECMAScript with the `u` flag, as clients compile `pattern` of a schema.

A client whose compiler stumbles over one pattern drops all tools of the server, so such a tool is not served.
Source: ECMA-262, section 22.2.1 (grammar with `UnicodeMode`, without the modifiers of 2025); JSON Schema 2020-12, 6.4.
"""

from __future__ import annotations

import re

SYNTAX = frozenset("^$\\.*+?()[]{}|/")
QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})\??")
GROUP_NAME = re.compile(r"<([A-Za-z_$][A-Za-z0-9_$]*)>")
# One character by its number: \x41, \u0041, \u{41}, \cA.
NUMBERED = re.compile(r"x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|u\{0*(?:10|[0-9A-Fa-f])?[0-9A-Fa-f]{1,4}\}|c[A-Za-z]")
CATEGORIES = (
    "L Lu Ll Lt LC Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cs Cn"
)
BINARY = (
    "Any ASCII ASCII_Hex_Digit Alphabetic Emoji Hex_Digit Lowercase Uppercase White_Space Math ID_Start ID_Continue"
)
LONG = (
    "Letter Uppercase_Letter Lowercase_Letter Mark Number Decimal_Number Punctuation Symbol Separator Space_Separator"
)
PROPERTY = re.compile(
    rf"\{{(?:(?:General_Category|gc)=)?(?:{'|'.join((CATEGORIES + ' ' + LONG).split())})\}}"
    rf"|\{{(?:{'|'.join(BINARY.split())})\}}|\{{(?:Script|sc|Script_Extensions|scx)=[A-Z][A-Za-z_]+\}}"
)


class _NotEcmaScriptError(ValueError):
    """The pattern is of another dialect; the message names the place."""


def pattern_problem(pattern: str) -> str:
    """Return what a client would stumble over, or nothing: `(?P<`, or a part of the pattern and its place."""
    try:
        _Reader(pattern).check()
    except _NotEcmaScriptError as problem:
        return str(problem)
    return ""


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.groups = 0
        self.names: list[str] = []
        # What can only be looked up when all groups are known.
        self.numbers_used: list[int] = []
        self.names_used: list[str] = []

    def check(self) -> None:
        self._disjunction()
        if self.at < len(self.text):
            self._stop()
        if len(set(self.names)) < len(self.names) or not set(self.names_used) <= set(self.names):
            raise _NotEcmaScriptError("a group name")
        if any(number > self.groups for number in self.numbers_used):
            raise _NotEcmaScriptError("a reference to a group that is not there")

    def _stop(self, length: int = 4) -> None:
        raise _NotEcmaScriptError(f"{self.text[self.at : self.at + length]!r} at character {self.at + 1}")

    def _take(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        found = expression.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def _next(self, *texts: str) -> bool:
        for text in texts:
            if self.text.startswith(text, self.at):
                self.at += len(text)
                return True
        return False

    def _disjunction(self) -> None:
        while self.at < len(self.text) and self.text[self.at] != ")":
            if not self._next("|") and self._term():
                self._quantifier()

    def _quantifier(self) -> None:
        start = self.at
        found = self._take(QUANTIFIER)
        if found and found[3] and int(found[1]) > int(found[3]):
            self.at = start
            self._stop()

    def _term(self) -> bool:  # noqa: C901 - one branch for each production
        """Read one term; return whether it can be repeated."""
        if self._next("^", "$", "\\b", "\\B"):
            return False
        if self._next("(?=", "(?!", "(?<=", "(?<!"):
            self._group()
            return False
        if self._next("(?:"):
            self._group()
        elif self.text.startswith("(?<", self.at):
            self.at += 2
            name = self._take(GROUP_NAME)
            if name is None:
                self.at -= 2
                self._stop()
            else:
                self.names.append(name[1])
            self.groups += 1
            self._group()
        elif self.text.startswith("(?", self.at):
            self._stop()
        elif self._next("("):
            self.groups += 1
            self._group()
        elif self._next("["):
            self._class()
        elif self.text[self.at] == "\\":
            self._escape(in_class=False)
        elif self.text[self.at] in SYNTAX - {".", "/"}:
            self._stop(1)
        else:
            self.at += 1
        return True

    def _group(self) -> None:
        self._disjunction()
        if not self._next(")"):
            self._stop()

    def _class(self) -> None:
        self._next("^")
        while not self._next("]"):
            start = self.at
            low = self._member()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self._member()
                if low is None or high is None or low > high:
                    self.at = start
                    self._stop()

    def _member(self) -> str | None:
        """Read one member of a class; return its character, or None for a class of its own, as of digits."""
        if self.at >= len(self.text):
            self._stop()
        if self.text[self.at] != "\\":
            self.at += 1
            return self.text[self.at - 1]
        return self._escape(in_class=True)

    def _escape(self, *, in_class: bool) -> str | None:  # noqa: PLR0911 - one for each production
        start = self.at
        self.at += 1
        one = self.text[self.at : self.at + 1]
        if one and one in "dDsSwW":
            self.at += 1
            return None
        if one and one in "pP":
            self.at += 1
            if self._take(PROPERTY):
                return None
        elif one and (one in SYNTAX or one in "fnrtv" or (in_class and one in "-b")):
            self.at += 1
            return {"f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "b": "\b"}.get(one, one)
        elif one == "0" and not self.text[self.at + 1 : self.at + 2].isdigit():
            self.at += 1
            return "\0"
        elif found := self._take(NUMBERED):
            digits = found[0].strip("xu{}")
            return chr(ord(found[0][1]) % 32 if one == "c" else int(digits, 16))
        elif not in_class and (number := self._take(re.compile(r"[1-9]\d*"))):
            self.numbers_used.append(int(number[0]))
            return None
        elif not in_class and self._next("k") and (name := self._take(GROUP_NAME)):
            self.names_used.append(name[1])
            return None
        self.at = start
        self._stop()
        return None
