"""Completion: what the author's function offers, as clients read it: at most 100 values, and how many there are.

Clients refuse the whole answer when it has more.
Source: 2026-07-28 and 2025-11-25, Completion.
"""

from __future__ import annotations

from typing import Any

from mcp.types import Completion

MOST_VALUES = 100


def offered(returned: Any) -> Completion | None:
    """Return the first values of what was returned, and whether there are more.

    Raises:
        ValidationError: It is no completion, which is a fault of the function.
    """
    if returned is None:
        return None
    whole = Completion.model_validate(returned)
    if len(whole.values) <= MOST_VALUES:
        return whole
    total = len(whole.values) if whole.total is None else whole.total
    return Completion(values=whole.values[:MOST_VALUES], total=total, has_more=True)
