"""Redaction: finds strings of a call's arguments and results in text, in the usual encodings.

`collect` gathers the strings of a call, `leaks` says whether a value that is about to be written
holds one of them: as it is, in another case, inside a longer text, cut off, or in one of the encodings of
`decodings`, and any two or three of these on top of each other.
The value is decoded rather than the call's strings encoded: values in log lines are few and short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

from .decodings import DECODINGS
from .recent import PIECE, RecentValues, plain

# Shorter strings are too common to be told from ordinary words.
SHORTEST = 4
# A longer value is not examined but withheld.
LONGEST_VALUE = 512
# A call with more than this is not gathered but marked: nothing variable is written during it.
MOST_VALUES = 4096
EVERYTHING = ""
# 616 digits. A longer number takes too long to be made a text of: its call is marked as one with too many values.
MOST_BITS = 2048
# A value that shares this many characters with a string of the call, and three more at most,
# holds a part of it that was cut off.
RUN = 8
STRIDE = 4
# Encodings on top of each other, and forms of one value, before it is withheld unread.
LAYERS = 3
MOST_READINGS = 48
# Runs of a value times characters of a call, before it is withheld uncompared; each string costs so many of them.
MOST_COMPARED = 8_388_608
EACH_STRING = 64

_LEGIBLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ufffd]{6}")

RECENT = RecentValues()


def collect(arguments: object, into: set[str]) -> None:
    """Add every string to `into`: values, keys, and numbers as text; later lines of others are compared with it too.

    Beyond 4,096 values, or with a number of more than 616 digits, `into` is marked instead, and `leaks` holds for
    every value.
    Iterative, so that nesting cannot exhaust the stack.
    """
    pending: list[object] = [arguments]
    left = MOST_VALUES
    characters = 0
    while pending:
        value = pending.pop()
        left -= 1
        text = _text(value)
        if text is None:
            into.add(EVERYTHING)
            break
        if text:
            into.add(text)
            characters += len(text)
        elif isinstance(value, Mapping):
            mapping = cast("Mapping[object, object]", value)
            pending += mapping.keys()
            pending += mapping.values()
        elif isinstance(value, list | tuple | set | frozenset):
            pending += cast("Iterable[object]", value)
        if len(pending) > left:
            into.add(EVERYTHING)
            break
    RECENT.add(into, characters, unread=EVERYTHING in into)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        return None if isinstance(value, int) and value.bit_length() > MOST_BITS else repr(value)
    return ""


def leaks(text: str, sensitive: Iterable[str]) -> bool:
    """Return whether `text` holds a string of `sensitive`, or a part of one, in any known form."""
    strings = tuple(sensitive)
    if not strings:
        return False
    forms = None if len(text) > LONGEST_VALUE or EVERYTHING in strings else readings(text)
    if forms is None:
        return True
    said, runs = forms
    if len(runs) * sum(len(string) + EACH_STRING for string in strings) > MOST_COMPARED:
        return True
    for string in strings:
        if len(string) < SHORTEST:
            continue
        folded = string.casefold()
        if folded in said:
            return True
        if len(folded) > RUN and any(run in folded for run in runs):
            return True
    return False


def is_one_of(text: str, sensitive: Iterable[str]) -> bool:
    """Return whether `text` is a string of `sensitive`, however short, but for its case."""
    folded = text.casefold()
    return any(len(string) < SHORTEST and string.casefold() == folded for string in tuple(sensitive))


def leaks_recent(text: str, *, whole: bool = False) -> bool:
    """Return whether `text` holds a string of any call of the last minutes, or a secret of the settings.

    With `whole`, it does as long as one of these calls held more than could be gathered.
    """
    if len(text) > LONGEST_VALUE:
        return True
    forms = readings(text)
    return forms is None or RECENT.holds((forms[0], _plain(text)), whole=whole)


def leaks_joined(values: Iterable[str]) -> bool:
    """Return whether short values of one line make together a longer string of a recent call; none is decoded."""
    text = "".join(values)
    return RECENT.holds((text.casefold(), plain(text)), shortest=PIECE)


@lru_cache(maxsize=1024)
def _plain(text: str) -> str:
    return "\0".join(map(plain, _read(text) or ()))


@lru_cache(maxsize=1024)
def readings(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return every reading of `text`, without regard to case, and the runs in it; None if there are too many."""
    found = _read(text)
    if found is None:
        return None
    folded = [reading.casefold() for reading in found]
    runs = {form[i : i + RUN] for form in folded for i in range(0, len(form) - RUN + 1, STRIDE)}
    return "\0".join(folded), tuple(runs)


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[str, ...] | None:
    found = {text: None}
    fresh: list[str] = [text]
    for _ in range(LAYERS):
        decoded = [form for reading in fresh for decode in DECODINGS for form in decode(reading)]
        fresh = []
        for form in decoded:
            if form and form not in found:
                found[form] = None
                if _LEGIBLE.search(form):
                    fresh.append(form)
        if len(found) > MOST_READINGS:
            return None
    return tuple(found)
