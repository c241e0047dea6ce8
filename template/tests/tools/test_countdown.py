"""The countdown does what it says."""

from __future__ import annotations

from typing import Any


async def test_counts_every_step(server: Any, call_tool: Any) -> None:
    """As many steps as were asked for."""
    result = await call_tool(server, "countdown", {"steps": 2, "step_seconds": 0.05})

    assert result.structured_content == {"steps": 2}


async def test_refuses_more_than_ten_steps(server: Any, call_tool: Any) -> None:
    """The bound of the schema holds."""
    result = await call_tool(server, "countdown", {"steps": 11})

    assert result.is_error
