"""Failures of PostgreSQL by kind: away, which waiting may mend (exit 75), or wrong, which a person mends (exit 78).

What is said of a failure never holds the URL.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from .pool import DatabaseConnection


class OnConnectionError(Exception):
    """The author's `on_connection` has raised its cause, which is nothing that the URL is to blame for."""


# What says that the database is away, slow or unwilling, as opposed to a fault of this code.
# The last of the driver is what it says of itself when the server ends a connection between two statements.
# A connection that cannot be prepared is no connection: calls come to the same, and it heals in the same way.
FAULTS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OnConnectionError)

# What waiting may mend; whatever else is said of a connection at start is wrong, and is not tried again.
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    # What poolers of providers say of a database behind them that sleeps, moves, or is not known to them yet.
    asyncpg.InternalServerError,
    # The database takes no connections for a while.
    asyncpg.ObjectNotInPrerequisiteStateError,
)
# What the server says of itself on a connection that stays: its disk or its memory is full, or broken.
IMPAIRED = (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError, asyncpg.InternalServerError)
# After these nobody knows whether the change was saved.
UNKNOWN = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
WHAT = {
    asyncpg.InvalidPasswordError: "the password is refused",
    asyncpg.InvalidAuthorizationSpecificationError: "the user, or this address, is refused",
    asyncpg.InvalidCatalogNameError: "there is no database of this name",
    asyncpg.UndefinedObjectError: "the server does not know a parameter of the URL",
    asyncpg.ProtocolViolationError: "PgBouncer wants TLS, or takes no such parameter in the URL",
    ssl.SSLError: "the certificate is refused; look at sslmode and sslrootcert",
}


def lost(connection: DatabaseConnection) -> bool:
    """Return whether a connection is closed, or was taken back."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def is_wrong(error: Exception) -> bool:
    """Return whether waiting cannot mend it: the URL, the password or the certificate is wrong."""
    if isinstance(error, asyncpg.ProtocolViolationError):
        # PgBouncer says everything with this code.
        return any(words in str(error) for words in ("SSL required", "unsupported startup parameter", "password"))
    return isinstance(error, ssl.SSLError | ValueError) or not isinstance(error, AWAY)


def what_is_wrong(error: Exception) -> str:
    """Return what somebody has to mend, in words without the URL."""
    known = next((sentence for kind, sentence in WHAT.items() if isinstance(error, kind)), "cannot connect")
    return f"{known} ({type(error).__name__})"
