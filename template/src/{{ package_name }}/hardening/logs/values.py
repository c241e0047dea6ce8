"""Scrubs one value of a log line: replaced as a whole when it holds what a caller has sent.

Of an author's line nothing is written that holds, in any known form, a text or number of four characters or more
of its own call, of any call of the last minutes, or of a secret of the settings; nor what is the same as a
shorter value of its own call. Literals of the code and names of this server's tools are written.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, cast
from uuid import UUID

from pydantic import BaseModel

from .fields import NUMBER, cut
from .origin import literal, literal_class, type_name
from .redaction import SHORTEST, collect, is_one_of, leaks, leaks_joined, leaks_recent

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType

    from ..exchange import Exchange

SCRUBBED = "[scrubbed]"
# What JSON can carry between any two programs; a larger number is not written.
LARGEST_NUMBER = 2**63
# Written as text where a line has a place for them; of any other object its class is written.
SCALARS = (bytes, date, time, timedelta, Decimal, UUID)


@dataclass(frozen=True, slots=True)
class Source:
    """Who writes a line.

    Attributes:
        exchange: The request that the code which writes has begun in; it may have ended.
        frame: The function that logs.
        words: What is never scrubbed.
        ours: Whether it is this package.
        in_pieces: Whether its values together hold what a caller has sent: none of them is written.
        written: The values that are, as texts.
    """

    exchange: Exchange | None
    frame: FrameType | None
    words: Collection[str]
    ours: bool
    in_pieces: bool = False
    written: list[str] = field(default_factory=list[str])

    def tells_in_pieces(self) -> bool:
        """Return whether values that were written make a longer one together: an item, an argument, a field each."""
        return len(self.written) > 1 and leaks_joined(self.written)


def _digits(number: float) -> str:
    """Return a number as JSON has it: a class of the author's may show itself in another way."""
    return int.__repr__(number) if isinstance(number, int) else float.__repr__(number)


def clean(value: object, source: Source) -> object:
    """Return what may be written of a value."""
    if value is None or value is True or value is False or (source.ours and type(value) in NUMBER):
        return value
    if isinstance(value, (list, tuple)):
        items = cast("list[object]", cut(cast("list[object]", value)))
        return [clean(item, source) for item in items]
    if isinstance(value, (int, float)):
        number = bounded(value)
        return SCRUBBED if number == SCRUBBED or _hides(_digits(value), value, source) else number
    if isinstance(value, str) and _hides(value, value, source):
        return SCRUBBED
    return cut(value)


def bounded(number: object) -> object:
    """Return a number that JSON can carry; a larger one could hold a text."""
    return number if isinstance(number, (int, float)) and abs(number) < LARGEST_NUMBER else SCRUBBED


def formatted(text: str, arguments: tuple[object, ...], source: Source) -> str:
    """Put arguments into a literal text as `logging` does, each of them scrubbed."""
    first = arguments[0]
    try:
        if len(arguments) == 1 and isinstance(first, Mapping):
            named = cast("Mapping[str, object]", first)
            filled = text % {name: _argument(value, source) for name, value in named.items()}
        else:
            filled = text % tuple(_argument(value, source) for value in arguments)
    except (TypeError, ValueError, KeyError):
        # What was scrubbed does not fit into a `%d`.
        return text
    return cast("str", cut(filled))


def _argument(value: object, source: Source) -> object:
    if isinstance(value, BaseException):
        return type_name(value)
    if value is None or isinstance(value, (str, int, float)):
        return clean(value, source)
    if isinstance(value, SCALARS):
        return clean(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value), source)
    return f"<{type(value).__name__}>" if literal_class(type(value)) else "<object>"


def _hides(text: str, value: object, source: Source) -> bool:
    exchange = source.exchange
    if text in source.words or literal(value, source.frame):
        return False
    if source.ours:
        return exchange is not None and not exchange.ended and leaks(text, exchange.sensitive)
    hidden = source.in_pieces or _was_sent(text, exchange)
    if not hidden:
        source.written.append(text)
    return hidden


def _was_sent(text: str, exchange: Exchange | None) -> bool:
    if exchange is not None and _is_of(text, exchange):
        return True
    if len(text) < SHORTEST:
        return False
    if exchange is not None and not exchange.ended:
        return leaks_recent(text)
    # A thread that a tool has started by hand does not know its call, and may outlive it.
    return threading.current_thread() is not threading.main_thread() or leaks_recent(text, whole=True)


def _is_of(text: str, exchange: Exchange) -> bool:
    if exchange.result is not None:
        _collect_result(exchange)
    return is_one_of(text, exchange.sensitive) or leaks(text, exchange.sensitive)


def _collect_result(exchange: Exchange) -> None:
    """Add the strings of a result; only now, because hardly any call writes a line after it."""
    result, exchange.result = exchange.result, None
    plain = getattr(result, "structured_content", None)
    if plain is None and isinstance(result, BaseModel):
        plain = result.model_dump()
    collect(plain, exchange.sensitive)
