"""An API client: one GET with a credential, remembered for the next call."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..hardening import Context, errors, tool
from ..settings import Settings
from ..state import MOST_CACHED, State


class Rate(BaseModel):
    """What the other system answers."""

    model_config = ConfigDict(extra="ignore")

    rate: float = Field(gt=0, lt=1_000_000)


@tool(read_only=True, title="Exchange rate", timeout_seconds=5, open_world=True)
async def exchange_rate(
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217, e.g. EUR.")],
    ctx: Context[Settings, State],
) -> float:
    """Return what one unit of a currency is worth in Swiss francs."""
    if currency not in ctx.settings.currencies:
        raise errors.InvalidInput("That currency is not offered.")
    if (known := ctx.state.rates.get(currency)) is not None:
        return known
    rates = ctx.settings.rates
    answer = await ctx.http.get(
        f"{rates.url}/v1/rate",
        params={"currency": currency},
        headers={"authorization": f"Bearer {rates.token.get_secret_value()}"},
    )
    try:
        rate = Rate.model_validate_json(answer.raise_for_status().content).rate
    except ValidationError:
        raise errors.UpstreamUnavailable("The system with the rates answers nonsense.") from None
    if len(ctx.state.rates) >= MOST_CACHED:
        ctx.state.rates.clear()
    ctx.state.rates[currency] = rate
    return rate
