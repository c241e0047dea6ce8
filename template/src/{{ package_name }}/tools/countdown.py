"""An example that streams progress: copy it or delete it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..hardening import Context, tool
from ..settings import Settings


class Countdown(BaseModel):
    """What the countdown did."""

    model_config = ConfigDict(extra="forbid", strict=True)

    steps: int = Field(description="How many steps it took.")


@tool(read_only=True, title="Countdown", timeout_seconds=20, rate_per_minute=30, streams=True)
async def countdown(
    steps: Annotated[int, Field(ge=1, le=10, description="How many steps to count.")],
    ctx: Context[Settings],
    step_seconds: Annotated[float, Field(ge=0.05, le=1, description="Seconds between two steps.")] = 0.5,
) -> Countdown:
    """Count down in steps and report progress after each one."""
    for step in range(1, steps + 1):
        await asyncio.sleep(step_seconds)
        await ctx.report_progress(step, steps, f"Step {step} of {steps}")
    return Countdown(steps=steps)
