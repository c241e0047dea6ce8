"""Names the server, hardens it, and adds a resource and a prompt."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.types import Completion, CompletionArgument
from pydantic import Field

from .hardening import Context, HardenedServer, connection, errors, harden
from .settings import Settings
from .state import State, open_state, prepare
from .tools import TOOLS

Call = Context[Settings, State]


def build(settings: Settings) -> HardenedServer:
    """Return the server."""
    server = harden(settings, tools=TOOLS, lifespan=open_state, on_connection=prepare)

    @server.resource("note://{number}", title="A note", mime_type="text/plain")
    async def note(number: Annotated[int, Field(ge=1)], ctx: Call) -> str:
        """One note of the caller's tenant."""
        async with connection(ctx) as db:
            body = await db.fetchval("SELECT body FROM notes WHERE id = $1", number)
        if body is None:
            raise errors.NotFound
        return str(body)

    @server.prompt(title="Answer a customer")
    async def answer_customer(
        topic: Annotated[str, Field(max_length=40, description="What it is about.")], ctx: Call
    ) -> str:
        """Write an answer to a customer about one topic."""
        if topic not in ctx.state.topics:
            raise errors.NotFound("There is no such topic; ask for completions of it.")
        return f"Write a friendly answer about {ctx.settings.labels.get(topic, topic)}."

    @server.completion()
    async def complete(_reference: Any, argument: CompletionArgument, _context: Any, ctx: Call) -> Completion:
        return Completion(values=[topic for topic in ctx.state.topics if topic.startswith(argument.value)])

    _ = (note, answer_customer, complete)
    return server
