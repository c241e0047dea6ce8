"""Operator switches: `MCP_TOOLS_ALLOW`, `MCP_TOOLS_DENY`, `MCP_READ_ONLY` decide which declared tools there are.

A tool that is switched off is neither listed nor called (-32602), in either era.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .declaration import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings import HardeningSettings
    from .tool import Tool


def is_on(tool: Tool, settings: HardeningSettings) -> bool:
    """Return whether the operator lets a tool run."""
    listed = not settings.tools_allow or tool.name in settings.tools_allow
    changes = not tool.declaration.read_only
    return listed and tool.name not in settings.tools_deny and not (changes and settings.read_only)


def switched_on(declared: Mapping[str, Tool], settings: HardeningSettings) -> dict[str, Tool]:
    """Return the tools that the operator lets run.

    Raises:
        InvalidDeclarationError: A setting names a tool that there is not, or nothing is left.
    """
    problems = [
        f"MCP_{field.upper()}: there is no tool {name}"
        for field in ("tools_allow", "tools_deny")
        for name in getattr(settings, field)
        if name not in declared
    ]
    on = {name: tool for name, tool in declared.items() if is_on(tool, settings)}
    if declared and not on and not problems:
        problems.append("MCP_TOOLS_ALLOW, MCP_TOOLS_DENY, MCP_READ_ONLY: no tool is left; switch one on")
    if problems:
        raise InvalidDeclarationError("\n".join(problems))
    return on
