"""An operation runs only with every scope that it needs, and a refusal names all of them.

Scopes belong to tokens.
An API key is given out by the operator, so it carries every scope.
Sources: RFC 6749, section 3.3 (syntax), 2026-07-28, Authorization (step-up, hierarchies).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SCOPE = re.compile(r"[!#-\[\]-~]+")


class Scopes:
    """What each operation needs.

    Args:
        required: What every request needs (`MCP_REQUIRED_SCOPES`).
        tools: What a tool needs besides, by the tool's name.
        implied: Which further scope a scope stands for (`MCP_IMPLIED_SCOPES`), e.g. `notes:admin=notes:read`.

    Raises:
        ValueError: A scope cannot be written in a challenge.
    """

    def __init__(
        self,
        required: Iterable[str] = (),
        tools: Mapping[str, Iterable[str]] | None = None,
        implied: Iterable[str] = (),
    ) -> None:
        self.required = _checked("MCP_REQUIRED_SCOPES", required)
        self._tools = {name: _checked(f"the scopes of tool {name}", scopes) for name, scopes in (tools or {}).items()}
        self._implied: dict[str, set[str]] = {}
        for pair in implied:
            scope, _, other = pair.partition("=")
            _checked("MCP_IMPLIED_SCOPES", (scope, other))
            self._implied.setdefault(scope, set()).add(other)

    def needed(self, tool_name: str | None) -> frozenset[str]:
        """Return everything a request needs; with a tool's name, for a call of that tool."""
        return self.required | self._tools.get(tool_name or "", frozenset())

    def cover(self, granted: frozenset[str], needed: frozenset[str]) -> bool:
        """Return whether what was granted, and what it stands for, covers what is needed."""
        covered: set[str] = set()
        waiting = set(granted)
        while waiting:
            scope = waiting.pop()
            covered.add(scope)
            waiting |= self._implied.get(scope, set()) - covered
        return needed <= covered


def _checked(where: str, scopes: Iterable[str]) -> frozenset[str]:
    checked = frozenset(scopes)
    if not all(_SCOPE.fullmatch(scope) for scope in checked):
        raise ValueError(f"{where}: a scope has no spaces, quotes or backslashes, e.g. notes:read")
    return checked
