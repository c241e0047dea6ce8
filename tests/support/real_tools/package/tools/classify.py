"""A cached model: loaded once, used in threads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..hardening import Context, tool
from ..settings import Settings
from ..state import State


@tool(read_only=True, title="Topic of a text", timeout_seconds=5, cost=1)
async def classify(
    text: Annotated[str, Field(min_length=1, max_length=2000, description="Text of a customer.")],
    ctx: Context[Settings, State],
) -> str:
    """Return the topic that a text is about."""
    state = ctx.state
    vector = await ctx.thread(state.model.embed, text)
    return max(state.topics, key=lambda topic: sum(a * b for a, b in zip(vector, state.topics[topic], strict=True)))
