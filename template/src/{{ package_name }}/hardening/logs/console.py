"""Console format of the log for development: the same fields and the same redaction as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .origin import Described

COLOURS = {"debug": 2, "info": 36, "warning": 33, "error": 31, "critical": 41}
# On every line of a call; of use in production, noise beside the author's own call.
QUIET = frozenset({"ts", "level", "msg", "exception", "trace_id", "principal", "era", "probe"})


class Console:
    """Writes lines for the eye.

    Args:
        colour: Whether the reader understands terminal colours.
    """

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def render(self, line: dict[str, object]) -> bytes:
        """Return `time level text field=value…`, then one row for each frame of an exception."""
        level = str(line["level"])
        head = f"{str(line['ts'])[11:23]} {level:<8} {line['msg']}"
        if self.colour:
            head = f"\x1b[{COLOURS[level]}m{head}\x1b[0m"
        # As ASCII: what is written to a terminal must not be able to steer it.
        rest = [f"{name}={json.dumps(line[name])}" for name in line if name not in QUIET]
        rows = [" ".join([head, *(part for part in rest if not part.endswith("=null"))])]
        for one in cast("list[Described]", line.get("exception", [])):
            rows.append(f"    {one['type']}")
            rows += [f"        {frame}" for frame in one["frames"]]
        return "\n".join(rows).encode("ascii", "replace")
