"""Fields of settings: a default, bounds that every number has, and the sentence that documents it.

A value out of bounds is refused at start (exit 78). Bounds are inclusive; seconds are finite.
"""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field


def count(default: int, low: int, high: int, why: str) -> Any:
    """Return a whole number between two bounds."""
    return Field(default, ge=low, le=high, description=why)


def seconds(default: float, low: float, high: float, why: str) -> Any:
    """Return a duration between two bounds; neither infinity nor NaN is one."""
    return Field(default, ge=low, le=high, allow_inf_nan=False, description=why)


def platform(name: str, default: object, why: str, **bounds: Any) -> Any:
    """Return a setting that platforms inject under a name without `MCP_`."""
    aliases = AliasChoices(f"MCP_{name}", name) if name in {"HOST", "PORT"} else AliasChoices(name)
    return Field(default, validation_alias=aliases, description=why, **bounds)
