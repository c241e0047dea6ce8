"""Results that are made piece by piece: read once into a list that is bounded, or refused.

No result is empty because an iterator in it was used up before, and none without an end holds the process.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    ValuesView,
)
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, cast, get_origin

from pydantic import BaseModel

from ..errors import TooLarge

# What is not there yet when the function returns.
LATER = frozenset({AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine, Iterator})
WHOLE = "say what it returns when it is done, e.g. list[int]: a result goes out whole"
# What is read as the list that it makes.
IN_PIECES = (Iterator, KeysView, ValuesView, ItemsView, range)


def is_later(hint: Any) -> bool:
    """Return whether a type of a result names what is still to come."""
    return (get_origin(hint) or hint) in LATER


def listed(pieces: Iterable[Any], max_bytes: int) -> list[Any]:
    """Return all pieces; each takes two bytes at least, so that there is an end.

    Raises:
        TooLarge: They cannot fit into `max_bytes`.
    """
    found = list(islice(pieces, max_bytes // 2 + 1))
    if len(found) > max_bytes // 2:
        raise TooLarge
    return found


def refuse_pieces(returned: Any) -> None:
    """Refuse an iterator inside of a result: what was read of it once is gone.

    Raises:
        TypeError: There is one.
    """
    if isinstance(returned, Iterator):
        raise TypeError("write list(…) around what is made piece by piece")
    for one in _held(returned):
        refuse_pieces(one)


def _held(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value).values()
    if isinstance(value, list | tuple):
        return cast("list[Any]", value)
    if isinstance(value, BaseModel):
        return value.__dict__.values()
    if is_dataclass(value):
        return [getattr(value, one.name, None) for one in fields(value)]
    return ()
