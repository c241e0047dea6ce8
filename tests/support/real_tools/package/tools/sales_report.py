"""A report over SQL: the rows come from a cursor, and the answer is a page of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..hardening import Context, connection, tool
from ..settings import Settings

PAGE = 50
QUERY = "SELECT id, item, amount FROM orders WHERE id > $1 ORDER BY id"


class Sale(BaseModel):
    """One row."""

    model_config = ConfigDict(extra="forbid")

    id: int
    item: Annotated[str, Field(max_length=100)]
    amount: int


class Report(BaseModel):
    """A page, and where the next one begins."""

    model_config = ConfigDict(extra="forbid")

    sales: Annotated[list[Sale], Field(max_length=PAGE)]
    total: int = Field(description="Sum of the amounts of this page and all after it.")
    next_after: int | None = Field(description="Pass it as `after` for the next page; null at the end.")


@tool(read_only=True, title="Sales report", timeout_seconds=10)
async def sales_report(
    ctx: Context[Settings], after: Annotated[int, Field(ge=0, description="Where the page begins.")] = 0
) -> Report:
    """Return a page of all sales, oldest first."""
    sales: list[Sale] = []
    seen = total = 0
    async with connection(ctx) as db:
        # A cursor holds a few rows at a time, however many there are.
        async for row in db.cursor(QUERY, after, prefetch=500):
            seen += 1
            total += row["amount"]
            if len(sales) < PAGE:
                sales.append(Sale(id=row["id"], item=row["item"], amount=row["amount"]))
    return Report(sales=sales, total=total, next_after=sales[-1].id if seen > PAGE else None)
