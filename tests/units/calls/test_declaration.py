"""What an author says about a tool is kept beside it."""

from __future__ import annotations

from dataclasses import fields

from hardening import tool
from hardening.calls.declaration import Declaration


async def double(value: int) -> int:
    """Return twice the value."""
    return 2 * value


async def test_a_declared_tool_is_still_the_function() -> None:
    """An author calls the tool in a test as any other function."""
    declared = tool(read_only=True)(double)

    assert declared is double
    assert await declared(2) == 4


def test_everything_said_is_kept() -> None:
    """Each keyword of the decorator ends up in the declaration of its name."""
    said = {
        "title": "Double",
        "read_only": False,
        "destructive": True,
        "idempotent": True,
        "open_world": True,
        "timeout_seconds": 2.5,
        "rate_per_minute": 7,
        "cost": 3,
        "scopes": ("a:read",),
        "streams": True,
        "confirm": True,
    }
    declaration: Declaration = tool(**said)(double).__tool__  # type: ignore[attr-defined]

    assert {field.name: getattr(declaration, field.name) for field in fields(Declaration)} == said


def test_what_is_not_said_is_the_careful_choice() -> None:
    """Without a word a tool costs nothing extra, needs no scope, and has the deadline of the settings."""
    declaration: Declaration = tool(read_only=True)(double).__tool__  # type: ignore[attr-defined]

    assert declaration == Declaration(
        title=None,
        read_only=True,
        destructive=False,
        idempotent=False,
        open_world=False,
        timeout_seconds=None,
        rate_per_minute=None,
        cost=0,
        scopes=(),
        streams=False,
    )
