"""Resources of the SDK's server: declared with its decorator or its objects, refused if not servable (exit 78).

Sources: 2026-07-28 and 2025-11-25, Resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver.resolve import returns_input_required
from mcp.server.mcpserver.resources import HttpResource

from .calls.declaration import InvalidDeclarationError, refuse_declaration
from .calls.function import AuthorFunction
from .calls.lint import text_problems
from .calls.resources import read_resource_function
from .calls.state import problems as state_problems
from .entry_points import ClosedEntryPoints
from .exchange import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver import Context as SdkContext
    from mcp.server.mcpserver.resources import Resource

    from .calls.context import Context
    from .services import Services
    from .settings import HardeningSettings

Declared = TypeVar("Declared", bound="Callable[..., Any]")


class GuardedResources(ClosedEntryPoints):
    """The SDK's server whose resources are checked, and read inside the boundary."""

    hardening_settings: HardeningSettings
    services: Services

    def __init__(self, **options: Any) -> None:
        # Extensions add resources while the SDK's server is made.
        self._addresses: set[str] = set()
        super().__init__(**options)

    def resource(self, uri: str, **declared: Any) -> Callable[[Declared], Declared]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register a resource, or a template of resources where the address has parameters; arguments as in the SDK.

        Raises:
            InvalidDeclarationError: It cannot be served.
        """
        owner = f"resource {uri}"
        if callable(uri):
            refuse_declaration(f"resource {getattr(uri, '__name__', '?')}: write @server.resource(address)")
            return uri

        def decorator(function: Declared) -> Declared:
            try:
                read = read_resource_function(self._author(owner, function))
                if "{" not in uri and returns_input_required(function):
                    refuse_declaration(f"{owner}: give its address a parameter to ask the person, or ask in a tool")
                    return function
                about = declared.get("description") or read.__doc__ or ""
                self._check_resource(uri, declared.get("name"), declared.get("title"), about)
                super(GuardedResources, self).resource(uri, **declared)(read)
            except InvalidDeclarationError as problem:
                refuse_declaration(problem)
            except ValueError as problem:
                refuse_declaration(f"{owner}: {str(problem).partition(chr(10))[0]}")
            else:
                self._addresses.add(uri)
            return function

        return decorator

    def add_resource(self, resource: Resource) -> None:
        """Add a resource of the SDK's: a text, bytes, a file, a directory or a function.

        Raises:
            InvalidDeclarationError: It cannot be served.
        """
        if isinstance(resource, HttpResource):
            cure = "fetch it with ctx.http, in a function below @server.resource(address)"
            refuse_declaration(f"resource {resource.uri}: {cure}")
            return
        try:
            self._check_resource(resource.uri, resource.name, resource.title, resource.description)
        except InvalidDeclarationError as problem:
            refuse_declaration(problem)
        else:
            self._addresses.add(resource.uri)
            super().add_resource(resource)

    def _check_resource(self, uri: str, name: str | None, title: str | None, description: str | None) -> None:
        owner = f"resource {uri}"
        texts = {"address": uri, "name": name, "title": title, "description": description}
        found = [f"{owner}: {one}" for field, text in texts.items() for one in text_problems(field, text or "")]
        if uri in self._addresses:
            found.append(f"{owner}: there are two resources of this address")
        if found:
            raise InvalidDeclarationError("\n".join(dict.fromkeys(found)))

    def _author(self, owner: str, function: Callable[..., Any], *, positional: int = 0) -> AuthorFunction:
        author = AuthorFunction(owner, function, self._context, positional=positional)
        if found := state_problems([author], self.hardening_settings, self.services.lifespan):
            raise InvalidDeclarationError("\n".join(found))
        return author

    def _context(self, sdk: SdkContext[Any, Any]) -> Context[Any, Any]:
        seconds = self.hardening_settings.tool_timeout_seconds
        read_only = self.hardening_settings.read_only
        return self.services.context(seconds, sdk, current.get(), read_only=read_only)
