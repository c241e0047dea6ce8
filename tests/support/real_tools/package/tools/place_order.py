"""A webhook in the background: the order is kept first, then somebody is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..hardening import Context, connection, log, tool
from ..settings import Settings

KEEP = "INSERT INTO orders (tenant, item, amount) VALUES (current_setting('mcp.tenant'), $1, $2) RETURNING id"


async def tell(ctx: Context[Settings], order_id: int, hook: str) -> None:
    """Send the webhook, and note that it has arrived; what is not noted is sent again by a job."""
    (await ctx.http.post(hook, json={"order": order_id})).raise_for_status()
    async with connection(ctx) as db:
        await db.execute("UPDATE orders SET told = true WHERE id = $1", order_id)
    log.info("webhook sent", order_id=order_id)


@tool(read_only=False, title="Place an order", timeout_seconds=5, open_world=True)
async def place_order(
    item: Annotated[str, Field(min_length=1, max_length=100, description="What.")],
    amount: Annotated[int, Field(ge=1, le=1000, description="How many.")],
    ctx: Context[Settings],
) -> int:
    """Place an order and return its number; the warehouse is told afterwards."""
    async with connection(ctx) as db:
        order_id = int(await db.fetchval(KEEP, item, amount))
    log.info("order placed", order_id=order_id)
    if ctx.settings.webhook_url is not None:
        ctx.background(tell(ctx, order_id, ctx.settings.webhook_url.get_secret_value()))
    return order_id
