"""Writes changes of the contract as text and Markdown, with everything escaped.

A description is untrusted text that is written for a model.
So it cannot hide characters, reach out of its place in Markdown, or bury a word in a long text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["breaking", "compatible", "text"]
KINDS: tuple[Kind, ...] = ("breaking", "compatible", "text")
MOST_SHOWN = 160
CONTEXT = 24


@dataclass(frozen=True, slots=True)
class Change:
    """One change, for one line of a review; `tool` is empty for the server as a whole."""

    kind: Kind
    tool: str
    field: str
    sentence: str

    @property
    def where(self) -> str:
        """The tool and the place in it."""
        return visible(f"{self.tool or 'server'} {self.field}".strip())


def as_text(changes: Sequence[Change]) -> str:
    """Return the changes for a terminal, one per line."""
    lines = [f"{change.kind:<10}  {change.where}: {visible(change.sentence)}" for change in changes]
    return "\n".join(lines or ["no changes"]) + "\n"


def as_markdown(changes: Sequence[Change]) -> str:
    """Return the changes for a pull request, one per line."""
    counts = ", ".join(f"{sum(change.kind == kind for change in changes)} {kind}" for kind in KINDS)
    lines = ["### Changes of the contract", "", f"{counts}." if changes else "None."]
    lines += [""] * bool(changes)
    for change in changes:
        # In a code span nothing is a link, a mention or HTML.
        place, sentence = (text.replace("`", "'") for text in (change.where, visible(change.sentence)))
        lines.append(f"- **{change.kind}** `{place}`: `{sentence}`")
    return "\n".join(lines) + "\n"


def visible(text: str) -> str:
    """Return text in which every character can be seen: line ends and zero-width characters as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show(value: object) -> str:
    """Return a value as it stands in the contract, shortened."""
    text = "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return _shorten(text)


def compare(old: object, new: object) -> str:
    """Return two texts from shortly before they begin to differ to shortly after they end to differ."""
    if not isinstance(old, str) or not isinstance(new, str):
        return f"{show(old)} → {show(new)}"
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    first = max(0, start - CONTEXT)
    shown: list[str] = []
    for text in (old, new):
        last = min(len(text), len(text) - end + CONTEXT)
        middle = _shorten(text[first:last])
        shown.append(f'"{"…" * (first > 0)}{middle}{"…" * (last < len(text))}"')
    return " → ".join(shown)


def _shared(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… (+{len(text) - MOST_SHOWN} characters)"
