"""A tool that asks the person what the model cannot know."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Elicit, Resolve
from pydantic import BaseModel, Field

from ..hardening import Context, errors, tool
from ..settings import Settings


class Seats(BaseModel):
    """What the person is asked."""

    seats: int = Field(ge=1, le=20, description="How many people?")


async def ask_seats(restaurant: str) -> Elicit[Seats]:
    """Ask the person."""
    return Elicit(f"How many people come to {restaurant}?", Seats)


@tool(read_only=False, title="Book a table", timeout_seconds=10)
async def book_table(
    restaurant: Annotated[str, Field(min_length=1, max_length=100, description="Where.")],
    answer: Annotated[Seats, Resolve(ask_seats)],
    ctx: Context[Settings],
) -> str:
    """Book a table; the person is asked for how many."""
    if answer.seats > 12:  # noqa: PLR2004 - the house has no larger one
        raise errors.Conflict("There is no table of that size.")
    return f"{answer.seats} seats at {restaurant} for {ctx.principal.name}"
