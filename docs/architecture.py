"""Draw docs/architecture.svg: the way of a request through the rooms, read from the template's own code.

`python docs/architecture.py [FILE]` reads the order of the guards and the reason for each place from `stack.py`,
and the room of each guard from the imports of `app.py`. A test compares the result with the committed picture.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

TEMPLATE = Path(__file__).parent.parent
HARDENING = TEMPLATE / "template/src/{{ package_name }}/hardening"
PICTURE = TEMPLATE / "docs/architecture.svg"

ROOMS = ("lifecycle", "edge", "auth", "limits", "telemetry", "protocol", "calls", "database", "outbound")
# What is no guard of the stack: before it, and behind it.
BEFORE = [
    ("lifecycle", "listener", "Takes the port after settings and tools were checked, and opens it last."),
    ("edge", "connections", "Connections, heads and pipelined requests are bounded before anything is parsed."),
]
BEHIND = [
    ("protocol", "protocol", "One JSON-RPC message of either era; an answer in JSON, or a stream."),
    ("calls", "call", "Strict arguments, a deadline, a typed failure."),
    ("database", "connection", "One connection and one transaction for one call, given back in any case."),
    ("outbound", "ctx.http", "Requests to other systems: never to the inside, never past the deadline of the call."),
]

LANE, ROW, TOP, LEFT, RADIUS = 80, 30, 64, 16, 7
TEXT = LEFT + LANE * len(ROOMS) + 8
WIDTH = TEXT + 660
COLORS = ("#57606a", "#0969da", "#8250df", "#bc4c00", "#57606a", "#1a7f37", "#9a6700", "#cf222e", "#0550ae")


def guards() -> list[tuple[str, str, str]]:
    """Return room, name and reason of each guard, in the order in which a request passes them."""
    stack = (HARDENING / "stack.py").read_text("utf-8")
    app = (HARDENING / "app.py").read_text("utf-8")
    room_of = {
        name.strip(): room
        for room, names in re.findall(r"^from \.(\w+)\.\w+ import (.+)$", app, re.MULTILINE)
        for name in names.split(",")
    }
    made = dict(re.findall(r"^        self\.(\w+) = (\w+)\(", app, re.MULTILINE))
    rows = re.findall(r'^        # (.+)\n        \("(\w+)", app\.(\w+)', stack, re.MULTILINE)
    found = [(room_of.get(made.get(part, ""), part), name, reason) for reason, name, part in _each(stack, rows)]
    if unknown := [name for room, name, _ in found if room not in ROOMS]:
        raise ValueError(f"no room is known for {', '.join(unknown)}")
    return found


def _each(stack: str, rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return every guard; one without a comment of its own shares the one above."""
    reasons = {name: reason for reason, name, _ in rows}
    found: list[tuple[str, str, str]] = []
    for name, part in re.findall(r'^        \("(\w+)", app\.(\w+)', stack, re.MULTILINE):
        found.append((reasons.get(name, found[-1][0] if found else ""), name, part))
    return found


def picture(rows: list[tuple[str, str, str]]) -> str:
    """Return lanes of rooms, and the way through them from top to bottom, as SVG."""
    height = TOP + ROW * len(rows) + 16
    parts: list[str] = []
    for number, room in enumerate(ROOMS):
        x = LEFT + LANE * number
        shade = "#f6f8fa" if number % 2 else "#ffffff"
        parts.append(f'<rect x="{x}" y="0" width="{LANE}" height="{height}" fill="{shade}"/>')
        parts.append(
            f'<text x="{x + LANE // 2}" y="30" text-anchor="middle" font-weight="600" fill="{COLORS[number]}">'
            f"{room}/</text>"
        )
    places = [
        (LEFT + LANE * ROOMS.index(room) + LANE // 2, TOP + ROW * number) for number, (room, _, _) in enumerate(rows)
    ]
    way = " ".join(f"{x},{y}" for x, y in places)
    parts.append(f'<polyline points="{way}" fill="none" stroke="#afb8c1" stroke-width="2"/>')
    for (x, y), (room, name, reason) in zip(places, rows, strict=True):
        color = COLORS[ROOMS.index(room)]
        parts.append(f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{color}"/>')
        parts.append(
            f'<text x="{TEXT}" y="{y + 5}"><tspan font-weight="600" fill="{color}">{name}</tspan>'
            f'<tspan dx="8" fill="#424a53">{escape(reason)}</tspan></text>'
        )
    font = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="{font}" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> None:
    """Draw the picture."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    file.write_text(picture([*BEFORE, *guards(), *BEHIND]), "utf-8")
    print(f"{file} is drawn")


if __name__ == "__main__":
    main()
