"""The public names for authors of tools; everything else in this package is internal.

This package belongs to the template: `copier update` brings fixes into it.
Leave it as it is, and build on these names; they change in a major release only.
"""

from typing import TYPE_CHECKING

import structlog

from . import errors
from .calls.context import Context
from .calls.declaration import tool
from .exchange import Principal
from .harden import harden
from .server import HardenedServer
from .settings import HardeningSettings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from .database.transaction import connection

__all__ = [
    "Context",
    "HardenedServer",
    "HardeningSettings",
    "Principal",
    "connection",
    "errors",
    "harden",
    "log",
    "tool",
]

# Of a line's fields those are written that the table and `log_fields` of the settings class have.
log: "FilteringBoundLogger" = structlog.get_logger()


def __getattr__(name: str) -> object:
    # The driver of the database is for those who have one: the others start faster and smaller without it.
    if name == "connection":
        from .database.transaction import connection

        return connection
    raise AttributeError(name)
