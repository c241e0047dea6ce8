"""`harden()`: builds the server from settings and tools, or refuses all of what is wrong at once."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from .calls import lint, state
from .calls.declaration import refuse_declaration
from .calls.extensions import contributions
from .calls.tool import try_tools
from .server import HardenedServer
from .settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.server.extension import Extension

SettingsT = TypeVar("SettingsT", bound=HardeningSettings)


def harden(  # noqa: PLR0913 - one keyword for each thing that an author brings
    settings: SettingsT,
    *,
    tools: Sequence[Callable[..., Any]],
    instructions: str | None = None,
    lifespan: Callable[[SettingsT], AbstractAsyncContextManager[Any]] | None = None,
    on_connection: Callable[[Any], Coroutine[Any, Any, None]] | None = None,
    extensions: Sequence[Extension] = (),
) -> HardenedServer:
    """Return a server with every protection on; name and version are those of the installed project.

    Args:
        settings: Your settings, checked already.
        tools: Functions declared with `@tool`.
        instructions: What a model should know before it uses the tools; it is part of the contract.
        lifespan: Opens what calls share (`@asynccontextmanager`), before the port, and closes it after the last call;
            what it yields is `ctx.state`.
        on_connection: Awaited with each new connection to the database, for codecs and extensions (jsonb, pgvector).
        extensions: Of the SDK, e.g. `Apps`; what they contribute is declared, limited and logged as all else.

    Raises:
        InvalidDeclarationError: Tools cannot be served; each line of the message says what to change.
    """
    name = distribution()
    about = metadata.metadata(name)
    added, unprotected = contributions(extensions)
    by_name, found = try_tools(tools, [binding for one in added for binding in one.tool_bindings])
    found += unprotected
    declared = by_name.values()
    found += lint.problems(declared) + lint.asking_problems(declared, settings)
    found += lint.drain_problems(declared, settings)
    if found := found + state.problems(declared, settings, lifespan):
        refuse_declaration("\n".join(found))
        # Prompts and resources that come after are looked at all the same.
        by_name, added = {}, []
    return HardenedServer(
        settings,
        by_name,
        name=name,
        version=about["Version"],
        description=about["Summary"],
        instructions=instructions,
        lifespan=lifespan,
        on_connection=on_connection,
        extensions=added,
    )


def distribution() -> str:
    """Return the name under which this project is installed."""
    return __name__.partition(".")[0].replace("_", "-")
