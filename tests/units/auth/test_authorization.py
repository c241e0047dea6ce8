"""Scopes: what an operation needs, and whether a token covers it."""

from __future__ import annotations

import pytest

from hardening.auth.authorization import Scopes

SCOPES = Scopes(
    ("mcp:use",),
    {"write_note": ("notes:write", "notes:read")},
    ("admin=notes:write", "admin=mcp:other", "notes:write=notes:read", "notes:read=admin"),
)


def test_everything_needed_is_named_at_once() -> None:
    """A call needs what every request needs and what its tool needs, so one step-up is enough."""
    assert SCOPES.needed("write_note") == {"mcp:use", "notes:write", "notes:read"}
    assert SCOPES.needed("another") == {"mcp:use"}
    assert SCOPES.needed(None) == {"mcp:use"}


@pytest.mark.parametrize(
    ("granted", "covered"),
    [
        ({"mcp:use", "notes:write", "notes:read"}, True),
        ({"mcp:use", "admin"}, True),
        ({"notes:write", "notes:read"}, False),
        ({"mcp:use", "notes"}, False),
        (set[str](), False),
    ],
)
def test_a_scope_stands_for_those_it_implies(granted: set[str], covered: bool) -> None:  # noqa: FBT001
    """A broader scope covers narrower ones, through any number of steps and circles."""
    assert SCOPES.cover(frozenset(granted), SCOPES.needed("write_note")) is covered


@pytest.mark.parametrize("scope", ["", "two words", 'quo"te', "back\\slash", "line\nbreak", "é"])
def test_a_scope_that_would_break_a_challenge_is_refused(scope: str) -> None:
    """What cannot be written between quotes in a header stops the start, naming where it stands."""
    with pytest.raises(ValueError, match="MCP_REQUIRED_SCOPES"):
        Scopes((scope,))
    with pytest.raises(ValueError, match="tool t"):
        Scopes((), {"t": (scope,)})
    with pytest.raises(ValueError, match="MCP_IMPLIED_SCOPES"):
        Scopes(implied=(f"admin={scope}",))
