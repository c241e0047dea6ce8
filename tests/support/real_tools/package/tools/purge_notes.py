"""A destructive bulk action: the person is asked first, and it deletes a bounded number."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..hardening import Context, connection, log, tool
from ..settings import Settings

MOST = 1000
DELETE = "DELETE FROM notes WHERE id IN (SELECT id FROM notes WHERE strpos(body, $1) > 0 ORDER BY id LIMIT $2)"


@tool(read_only=False, destructive=True, confirm=True, title="Delete notes", timeout_seconds=10)
async def purge_notes(
    containing: Annotated[str, Field(min_length=3, max_length=100, description="Text that they contain.")],
    ctx: Context[Settings],
) -> int:
    """Delete all notes that contain a text, at most 1000, and return how many."""
    async with connection(ctx) as db:
        done = await db.execute(DELETE, containing, MOST)
    rows = int(done.rpartition(" ")[2])
    log.info("notes deleted", rows=rows)
    return rows
