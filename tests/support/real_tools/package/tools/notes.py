"""Notes of several tenants: row-level security keeps them apart, no tool has to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..hardening import Context, connection, tool
from ..settings import Settings

PAGE = 100
INSERT = "INSERT INTO notes (tenant, body) VALUES (current_setting('mcp.tenant'), $1) RETURNING id"


class Note(BaseModel):
    """A note."""

    model_config = ConfigDict(extra="forbid")

    id: int
    body: str


@tool(read_only=False, title="Add a note", timeout_seconds=5)
async def add_note(
    body: Annotated[str, Field(min_length=1, max_length=500, description="Text of the note.")], ctx: Context[Settings]
) -> int:
    """Keep a note for everybody of the caller's tenant, and return its number."""
    async with connection(ctx) as db:
        return int(await db.fetchval(INSERT, body))


@tool(read_only=True, title="List notes", timeout_seconds=5)
async def list_notes(
    ctx: Context[Settings], after: Annotated[int, Field(ge=0, description="Number of the last note seen.")] = 0
) -> Annotated[list[Note], Field(max_length=PAGE)]:
    """List the notes of the caller's tenant."""
    async with connection(ctx) as db:
        rows = await db.fetch("SELECT id, body FROM notes WHERE id > $1 ORDER BY id LIMIT $2", after, PAGE)
    return [Note(id=row["id"], body=row["body"]) for row in rows]
