"""Builds a log record: field allow-list, literal messages, redaction of the call's values.

1. The fields of `log_fields.FIELDS` and no others; the text only if it is a literal of the code
   that logs.
2. Exceptions as types and places.
3. Whatever is left that could vary is compared with the strings of the current call, and replaced
   as a whole when it holds one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from ..exchange import Exchange, current
from .fields import NUMBER, admitted, cut
from .origin import described, literal, place
from .redaction import LARGEST_NUMBER, SHORTEST, collect, leaks, leaks_recent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType

SCRUBBED = "[scrubbed]"
WITHHELD = "text withheld: not a literal"
UNKNOWN = "unknown"
# Every room of this package, and nothing that only begins with the same letters.
OURS = __name__.rpartition(".")[0].rpartition(".")[0]
# Fields that only this package may write: one is a mapping, the other names what was called.
RESERVED = frozenset({"settings", "tool_name"})

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")

Line = dict[str, object]


class Lines:
    """Makes lines.

    Args:
        words: Names of things of this server (tools, their parameters, kinds of failure): written
            even when an argument of the call happens to be the same word.

    Attributes:
        dropped_fields: How many fields were left out so far.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = set(words)
        self.dropped_fields = 0

    def make(
        self,
        level: str,
        text: object,
        fields: Mapping[str, object],
        error: BaseException | None,
        frame: FrameType | None,
    ) -> Line:
        """Return a line that may be written.

        Args:
            level: debug, info, warning, error or critical.
            text: What happened; withheld unless it is a literal of the code of `frame`.
            fields: Values; those that are not in the table are dropped and counted.
            error: An exception to describe.
            frame: The function that logs.
        """
        exchange = current.get()
        ours = frame is not None and _is_ours(frame.f_globals.get("__package__") or "")
        line: Line = {"ts": now(), "level": level, "msg": WITHHELD}
        if isinstance(text, str) and literal(text, frame):
            line["msg"] = text
        elif frame is not None:
            line["where"] = place(frame)
        if exchange is not None:
            line |= self._context(exchange)
        dropped = 0
        for name, value in fields.items():
            if admitted(name, value) and (ours or name not in RESERVED):
                line[name] = self._clean(value, exchange, frame, ours=ours)
            else:
                dropped += 1
        if dropped:
            line["dropped_fields"] = dropped
            self.dropped_fields += dropped
        if error is not None:
            line["exception"] = described(error)
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

    def _clean(self, value: object, exchange: Exchange | None, frame: FrameType | None, *, ours: bool) -> object:
        if value is None or value is True or value is False or (ours and type(value) in NUMBER):
            return value
        if isinstance(value, (list, tuple)):
            items = cast("list[object]", cut(cast("list[object]", value)))
            return [self._clean(item, exchange, frame, ours=ours) for item in items]
        if isinstance(value, (int, float)):
            text = repr(value) if abs(value) < LARGEST_NUMBER else ""
            return value if text and not self._hides(text, value, exchange, frame, ours=ours) else SCRUBBED
        if isinstance(value, str) and self._hides(value, value, exchange, frame, ours=ours):
            return SCRUBBED
        return cut(value)

    def _hides(
        self,
        text: str,
        value: object,
        exchange: Exchange | None,
        frame: FrameType | None,
        *,
        ours: bool,
    ) -> bool:
        if len(text) < SHORTEST or text in self.words or literal(value, frame):
            return False
        if exchange is not None:
            if not ours and exchange.result is not None:
                _collect_result(exchange)
            return leaks(text, exchange.sensitive)
        # A thread that a tool has started by hand does not know its call, and may outlive it.
        stray = threading.current_thread() is not threading.main_thread()
        return not ours and (stray or leaks_recent(text))


def _collect_result(exchange: Exchange) -> None:
    """Add the strings of a result; only now, because hardly any call writes a line after it."""
    result, exchange.result = exchange.result, None
    plain = getattr(result, "structured_content", None)
    if plain is None and isinstance(result, BaseModel):
        plain = result.model_dump()
    collect(plain, exchange.sensitive)


def _is_ours(package: str) -> bool:
    return package == OURS or package.startswith(f"{OURS}.")


def to_line(line: Line) -> bytes:
    """Return a line as one JSON object in ASCII: what reads it must not be steered by it."""
    try:
        return to_json(line, ensure_ascii=True)
    except PydanticSerializationError:
        # Half a surrogate pair, which only the slower encoder can write.
        return json.dumps(line, separators=(",", ":")).encode()


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
