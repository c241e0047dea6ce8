"""A file converter: a library that blocks, in a thread, and a file as the result."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64encode
from typing import Annotated

from mcp.types import BlobResourceContents, EmbeddedResource
from pydantic import Field

from ..hardening import Context, errors, tool
from ..settings import Settings

MOST_ROWS = 5000


def convert(text: str) -> bytes:
    """Convert, in a thread."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) > MOST_ROWS:
        raise errors.InvalidInput(f"More than {MOST_ROWS} rows.")
    return json.dumps(rows).encode()


@tool(read_only=True, title="CSV to JSON", timeout_seconds=10)
async def convert_csv(
    text: Annotated[str, Field(min_length=1, max_length=200_000, description="CSV with a line of names.")],
    ctx: Context[Settings],
) -> EmbeddedResource:
    """Convert a CSV file to JSON."""
    converted = await ctx.thread(convert, text)
    blob = b64encode(converted).decode()
    contents = BlobResourceContents(uri="file:///converted.json", mime_type="application/json", blob=blob)
    return EmbeddedResource(type="resource", resource=contents)
