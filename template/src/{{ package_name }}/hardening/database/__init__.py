"""One connection, one transaction, one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..settings import HardeningSettings
    from .pool import Database

    OnConnection = Callable[[Any], Coroutine[Any, Any, None]]


class DatabaseUnavailableError(Exception):
    """The database cannot be used at start; the message says what was tried, without the URL.

    Attributes:
        away: Whether it is away, and waiting longer can help (exit 75), or wrong (78).
    """

    def __init__(self, sentence: str, *, away: bool = False) -> None:
        super().__init__(sentence)
        self.away = away


def pool_of(
    settings: HardeningSettings, *, on_acquired: Callable[[float], object], on_connection: OnConnection | None = None
) -> Database | None:
    """Return the pool, not yet open; None, and no driver loaded, for a server without a database."""
    # A contract is written without settings, required ones included.
    if getattr(settings, "database_url", None) is None:
        return None
    from .pool import Database

    return Database(settings, on_acquired=on_acquired, on_connection=on_connection)
