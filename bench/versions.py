"""Which versions were measured."""

from __future__ import annotations

from importlib import metadata

NAMES = ("mcp", "fastmcp", "uvicorn", "uvloop", "httptools", "pydantic")


def versions() -> str:
    """Return the versions of the Python packages that decide the speed."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in NAMES)
