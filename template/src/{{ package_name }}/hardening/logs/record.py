"""Builds a log record: field allow-list, literal messages, redaction of the call's values.

1. The fields of `fields.FIELDS` and no others; the text only if it is a literal of the code
   that logs.
2. Exceptions as types and places.
3. Whatever is left that could vary is compared with the strings of the current call, and replaced
   as a whole when it holds one.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from pydantic_core import PydanticSerializationError, to_json

from ..exchange import Exchange, current
from .fields import RESERVED, admitted, cut
from .origin import OURS, described, literal_frame, names_field, place
from .redaction import leaks
from .values import SCRUBBED, Source, bounded, clean, formatted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType

WITHHELD = "text withheld: not a literal"
UNKNOWN = "unknown"
# Fields that are told by name because no table has them.
MOST_NAMED = 100

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")

Line = dict[str, object]


class Lines:
    """Makes lines.

    Args:
        words: Names of things of this server (tools, their parameters, kinds of failure): written
            even when an argument of the call happens to be the same word.

    Attributes:
        declared: Fields of the author's, by name, with their type.
        dropped_fields: How many fields were left out so far.
        undeclared: Names of fields that were left out for the first time, to be told once.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = set(words)
        self.declared: dict[str, type] = {}
        self.dropped_fields = 0
        self.undeclared: list[str] = []
        self._named: set[str] = set()

    def make(  # noqa: PLR0913, PLR0917 - what a line is made of
        self,
        level: str,
        text: object,
        fields: Mapping[str, object],
        error: BaseException | None,
        frame: FrameType | None,
        arguments: tuple[object, ...] = (),
    ) -> Line:
        """Return a line that may be written.

        Args:
            level: debug, info, warning, error or critical.
            text: What happened; withheld unless it is a literal of the code of `frame`.
            fields: Values; those that are not in the table are dropped and counted.
            error: An exception to describe.
            frame: The function that logs.
            arguments: What `%s` and the like in the text stand for.
        """
        exchange = current.get()
        ours = frame is not None and _is_ours(frame.f_globals.get("__package__") or "")
        source = Source(exchange, frame, self.words, ours=ours)
        line: Line = {"ts": now(), "level": level, "msg": WITHHELD}
        writer = literal_frame(text, frame) if isinstance(text, str) else None
        if writer is None and frame is not None:
            line["where"] = place(frame)
        # A task that has outlived its call works for others, or for nobody.
        if exchange is not None and not exchange.ended:
            line |= self._context(exchange)
        written = {name: value for name, value in fields.items() if self._has(name, value, ours=ours)}
        said, filled = (cast("str", text), arguments) if writer is not None else (WITHHELD, ())
        line |= self._values(said, written, filled, source)
        if source.tells_in_pieces():
            line |= self._values(said, written, filled, replace(source, in_pieces=True))
        if dropped := len(fields) - len(written):
            line["dropped_fields"] = dropped
            self.dropped_fields += dropped
            if not ours:
                self._name([name for name in fields if name not in written], writer or frame)
        if error is not None:
            line["exception"] = described(error)
        return line

    def _has(self, name: str, value: object, *, ours: bool) -> bool:
        """Return whether a line can have this field."""
        if not ours and self.declared.get(name) is type(value):
            return True
        return admitted(name, value) and (ours or name not in RESERVED)

    def _values(self, text: str, fields: Line, arguments: tuple[object, ...], source: Source) -> Line:
        """Return what varies in a line, scrubbed."""
        line: Line = {"msg": formatted(text, arguments, source) if arguments else text}
        for name, value in fields.items():
            # The settings class says so; its numbers are the author's decision, texts are scrubbed as any.
            free = not source.ours and self.declared.get(name) is type(value) and not isinstance(value, str)
            line[name] = bounded(value) if free else clean(value, source)
        return line

    def _context(self, exchange: Exchange) -> Line:
        version = exchange.protocol_version
        name = exchange.client_name
        return {
            "request_id": exchange.request_id,
            "trace_id": exchange.trace_id,
            "session_id": hashed(exchange.session_id) if exchange.session_id else None,
            "principal": exchange.principal.name if exchange.principal else None,
            # Only claimed, by the caller.
            "client_name": SCRUBBED if leaks(name, exchange.sensitive) else cut(name) or None,
            "probe": exchange.probe,
            "era": exchange.era,
            "protocol_version": version if _VERSION.fullmatch(version) else UNKNOWN,
            "tool_name": self._tool(exchange.tool_name),
        }

    def _tool(self, name: str | None) -> str | None:
        # A name that no tool has is whatever the caller made up.
        return name if name is None or name in self.words else UNKNOWN

    def _name(self, names: Iterable[str], frame: FrameType | None) -> None:
        """Name fields once that no table has; only those whose names stand in the code."""
        for name in names:
            if name not in self._named and len(self._named) < MOST_NAMED and names_field(name, frame):
                self._named.add(name)
                self.undeclared.append(name)


def _is_ours(package: str) -> bool:
    return package == OURS or package.startswith(f"{OURS}.")


def to_line(line: Line) -> bytes:
    """Return a line as one JSON object in ASCII: what reads it must not be steered by it."""
    try:
        return to_json(line, ensure_ascii=True)
    except PydanticSerializationError:
        # Half a surrogate pair, which only the slower encoder can write.
        return json.dumps(line, separators=(",", ":")).encode()


def to_gcp_line(line: Line) -> bytes:
    """Return a line with `severity` and `message` too, which Cloud Logging reads from JSON (LogSeverity of v2)."""
    return to_line({"severity": str(line["level"]).upper(), "message": line["msg"], **line})


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=1024)
def hashed(identifier: str) -> str:
    """Return 16 hexadecimal digits that stand for a session id, which is as good as a key."""
    return sha256(identifier.encode()).hexdigest()[:16]
