"""Readable lines say what the JSON lines say, and cannot steer a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from captured import calling, captured

from hardening.logs.console import Console

if TYPE_CHECKING:
    from pathlib import Path

LINE: dict[str, object] = {
    "ts": "2026-11-22T09:32:11.123Z",
    "level": "warning",
    "msg": "text",
    "count": 3,
    "kind": None,
    "era": "modern",
}


def test_a_line_is_short() -> None:
    """Time, level, text, and the fields that say something."""
    assert Console(colour=False).render(dict(LINE)) == b"09:32:11.123 warning  text count=3"


def test_colour_is_for_terminals() -> None:
    """A terminal gets the level's colour."""
    assert b"\x1b[33m" in Console(colour=True).render(dict(LINE))


def test_an_exception_takes_a_row_for_each_frame() -> None:
    """Types and places stand below the line."""
    line = LINE | {"exception": [{"type": "KeyError", "frames": ["a:b:1", "c:d:2"]}]}
    rows = Console(colour=False).render(line).decode().splitlines()
    assert rows[1:] == ["    KeyError", "        a:b:1", "        c:d:2"]


def test_a_value_cannot_steer_the_terminal() -> None:
    """Control characters, old and new, are written as escapes."""
    written = Console(colour=False).render(LINE | {"kind": "\x1b[2J\x9b2J\n\x07\u202e"})
    assert all(32 <= byte < 127 for byte in written)


def test_the_walls_stand_here_too(tmp_path: Path) -> None:
    """What JSON must not hold, the readable form must not hold either."""
    value = "sentinel-" + tmp_path.name
    with captured(tmp_path / "log", fmt="console") as log, calling({"city": value}):
        structlog.get_logger().info("looked up", kind=value, city=value, count=3)
        text = log.text()
    assert value not in text
    assert "looked up" in text
    assert "count=3" in text
