"""Remembers what recent callers have sent, so that a line which belongs to no call, or to another one, is compared too.

A text of an author's line that holds a value of four characters or more of any call of the last five minutes
is never written; so are the secrets of the settings, for ever.
Compared without case, accents, blanks and punctuation; what an encoded value holds counts too, and a number as it is
written elsewhere (`1,250.00` as 1250). At most the last million characters of arguments are kept,
and of a call with more than 65,536 characters only longer parts are recognised, so that memory and work are bounded.
"""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from collections import deque
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from .decodings import held_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Eight times 40 s, and eight times so many characters.
GENERATIONS = 8
SECONDS = 40.0
CHARACTERS = 131_072
# Of each string every fourth piece of eight characters: whatever shares eleven with it shares a piece.
PIECE = 8
STRIDE = 4
SHORTEST = 4
# Further apart when there are more than so many in a call.
MOST_PIECES = 16_384
# Of the arguments of a call so many characters are decoded; each string costs so many of them.
MOST_DECODED = 16_384
EACH_STRING = 256

_BETWEEN = re.compile(r"[\W_]+")
_DIGIT = re.compile(r"\d")
# Letters that Unicode does not take apart.
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "\u0131": "i", "æ": "ae", "œ": "oe"})
# A number with what may stand in it and around it: `1,250.00`, `007`, `1e6`, `19.90 EUR`.
_NUMBER = re.compile(r"\D{0,5}(\d[\d,_' ]{0,39}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)\D{0,5}")
_IN_NUMBERS = str.maketrans("", "", ",_' ")


def plain(text: str) -> str:
    """Return letters and digits alone, without case and accents: `4111 1111` is `41111111`, `Zoë` is `zoe`."""
    if text.isascii():
        return _BETWEEN.sub("", text.casefold())
    simple = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    return _BETWEEN.sub("", _DIGIT.sub(lambda digit: str(int(digit[0])), simple))


def _further(strings: Iterable[str]) -> Iterator[str]:
    """Yield what else is a value of a call: what its strings hold encoded, and their numbers as Python writes them."""
    left = MOST_DECODED
    for string in strings:
        if match := _NUMBER.fullmatch(string):
            yield _number(match[1].translate(_IN_NUMBERS))
        left -= len(string) + EACH_STRING
        if left >= 0:
            yield from held_in(string)


def _number(text: str) -> str:
    """Return a number without exponent, and without zeros that say nothing."""
    if "e" in text.lower():
        text = format(Decimal(text), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text).lstrip("0")


class _Generation:
    """Strings of one stretch of time; cut into pieces when a line asks for the first time."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.characters = 0
        self.pending: list[set[str]] = []
        self.pieces: dict[int, set[str]] = {}
        self.unread = False

    def holds(self, texts: tuple[str, str], shortest: int) -> bool:
        for strings in self.pending:
            self._cut(tuple(strings))
        self.pending = []
        return any(
            not pieces.isdisjoint([text[at : at + length] for at in range(len(text) - length + 1)])
            for length, pieces in tuple(self.pieces.items())
            if length >= shortest
            for text in texts
        )

    def _cut(self, strings: tuple[str, ...]) -> None:
        stride = max(STRIDE, sum(map(len, strings)) // MOST_PIECES)
        for string in chain(strings, _further(strings)):
            # What is nothing but punctuation is compared as it is.
            form = plain(string)
            form = form if len(form) >= SHORTEST else string.casefold()
            length = min(PIECE, len(form))
            if length >= SHORTEST:
                cut = [form[at : at + length] for at in range(0, len(form) - length + 1, stride)]
                self.pieces.setdefault(length, set()).update(cut)


class RecentValues:
    """What was sent lately, by whomever.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._generations: deque[_Generation] = deque(maxlen=GENERATIONS)
        self._always = _Generation(0.0)

    def add(self, strings: set[str], characters: int, *, unread: bool = False) -> None:
        """Remember the strings of a call, those included that are added to the set until it is compared.

        Args:
            strings: What must not be written.
            characters: How long they are in all.
            unread: Whether the call holds more than could be gathered.
        """
        now = self._clock()
        with self._lock:
            newest = self._generations[-1] if self._generations else None
            if newest is None or newest.characters > CHARACTERS or now - newest.began > SECONDS:
                newest = _Generation(now)
                self._generations.append(newest)
            newest.pending.append(strings)
            # A call without arguments takes room too.
            newest.characters += characters + 64
            newest.unread |= unread

    def keep(self, secrets: Iterable[str]) -> None:
        """Remember secrets of the server itself for as long as it runs."""
        with self._lock:
            self._always.pending.append(set(secrets))

    def holds(self, texts: tuple[str, str], *, whole: bool = False, shortest: int = SHORTEST) -> bool:
        """Return whether a text that is about to be written holds a value.

        Args:
            texts: Its readings without case, as they are and as `plain` makes them.
            whole: Whether calls count that hold more than could be gathered: then the answer is yes.
            shortest: How long a value is at least that counts; from eight on, all longer ones do.
        """
        oldest = self._clock() - GENERATIONS * SECONDS
        with self._lock:
            recent = [one for one in self._generations if one.began >= oldest]
            if whole and any(one.unread for one in recent):
                return True
            return any(one.holds(texts, shortest) for one in (self._always, *recent))
