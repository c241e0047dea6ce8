"""A search: full text finds, vectors order what was found."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..hardening import Context, connection, tool
from ..settings import Settings
from ..state import State

MOST = 20
QUERY = """
SELECT title, attributes ->> 'shelf' AS shelf FROM articles
WHERE words @@ websearch_to_tsquery('english', $1) ORDER BY embedding <=> $2, id LIMIT $3
"""


class Article(BaseModel):
    """What was found."""

    model_config = ConfigDict(extra="forbid")

    title: str
    shelf: str | None


@tool(read_only=True, title="Search articles", timeout_seconds=5)
async def search_articles(
    query: Annotated[str, Field(min_length=1, max_length=200, description="Words to look for.")],
    ctx: Context[Settings, State],
    most: Annotated[int, Field(ge=1, le=MOST, description="How many.")] = 5,
) -> Annotated[list[Article], Field(max_length=MOST)]:
    """Search the articles, the nearest in meaning first."""
    vector = await ctx.thread(ctx.state.model.embed, query)
    async with connection(ctx) as db:
        rows = await db.fetch(QUERY, query, vector, most)
    return [Article(title=row["title"], shelf=row["shelf"]) for row in rows]
