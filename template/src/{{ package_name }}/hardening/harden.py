"""`harden()`: builds the server from settings and tools, or refuses all of what is wrong at once."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from .calls.declaration import InvalidDeclarationError
from .calls.lint import problems
from .server import HardenedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .settings import HardeningSettings


def harden(
    settings: HardeningSettings, *, tools: Sequence[Callable[..., Any]], instructions: str | None = None
) -> HardenedServer:
    """Return a server with every protection on; name and version are those of the installed project.

    Args:
        settings: Your settings, checked already.
        tools: Functions declared with `@tool`.
        instructions: What a model should know before it uses the tools; it is part of the contract.

    Raises:
        InvalidDeclarationError: Tools cannot be served; each line of the message says what to change.
    """
    name = distribution()
    about = metadata.metadata(name)
    server = HardenedServer(
        settings, tools, name=name, version=about["Version"], description=about["Summary"], instructions=instructions
    )
    if found := problems(server.declared.values()):
        raise InvalidDeclarationError("\n".join(found))
    return server


def distribution() -> str:
    """Return the name under which this project is installed."""
    return __name__.partition(".")[0].replace("_", "-")
