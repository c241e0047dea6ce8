"""A streaming import: batches, each reported, all of them or none."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..hardening import Context, connection, log, tool
from ..settings import Settings
from ..state import Model, State

BATCH = 50
INSERT = "INSERT INTO articles (title, attributes, embedding) VALUES ($1, $2, $3)"


class NewArticle(BaseModel):
    """An article to add."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1, max_length=200)]
    shelf: Annotated[str, Field(max_length=20)] = "none"


Row = tuple[str, dict[str, str], list[float]]


def rows_of(batch: list[NewArticle], model: Model) -> list[Row]:
    """Compute what is stored; blocks, as models do."""
    return [(one.title, {"shelf": one.shelf}, model.embed(one.title)) for one in batch]


@tool(read_only=False, title="Import articles", timeout_seconds=20, streams=True)
async def import_articles(
    articles: Annotated[list[NewArticle], Field(min_length=1, max_length=1000, description="What to add.")],
    ctx: Context[Settings, State],
) -> int:
    """Add articles, and say how far it is."""
    done = 0
    async with connection(ctx) as db:
        for start in range(0, len(articles), BATCH):
            batch = articles[start : start + BATCH]
            rows = await ctx.thread(rows_of, batch, ctx.state.model)
            await db.executemany(INSERT, rows)
            done += len(batch)
            await ctx.report_progress(done, len(articles), "Adding articles")
    log.info("articles imported", rows=done)
    return done
