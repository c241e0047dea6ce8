"""What exceptions of libraries mean for the caller: by the names of their classes, so that no library is imported.

What is not here is a crash, told as `internal`.
"""

from __future__ import annotations

from http import HTTPStatus

from .. import errors

AWAY = errors.UpstreamUnavailable

# Module, class and meaning; the first row that fits counts.
_KNOWN: tuple[tuple[str, str, type[errors.ToolFailure]], ...] = tuple(
    (module, name, failure)
    for modules, names, failure in (
        ("asyncpg psycopg", "UniqueViolationError ExclusionViolationError UniqueViolation", errors.Conflict),
        ("asyncpg psycopg", "SerializationError DeadlockDetectedError SerializationFailure", errors.Busy),
        # A column was added under a statement that was prepared; the next call prepares it anew.
        ("asyncpg", "TooManyConnectionsError InvalidCachedStatementError OutdatedSchemaCacheError", errors.Busy),
        ("asyncpg psycopg", "QueryCanceledError QueryCanceled", errors.Timeout),
        # Text that JSON can carry and PostgreSQL cannot: NUL.
        ("asyncpg", "CharacterNotInRepertoireError UntranslatableCharacterError", errors.InvalidInput),
        ("asyncpg", "ReadOnlySQLTransactionError", errors.PermissionDenied),
        ("asyncpg", "PostgresConnectionError ConnectionDoesNotExistError OperatorInterventionError", AWAY),
        ("psycopg", "OperationalError", AWAY),
        ("httpx httpx2", "TimeoutException", errors.Timeout),
        ("httpx httpx2", "TransportError HTTPStatusError", AWAY),
        ("requests", "Timeout", errors.Timeout),
        ("requests", "ConnectionError HTTPError", AWAY),
        ("urllib3", "TimeoutError", errors.Timeout),
        ("urllib3", "NewConnectionError MaxRetryError ProtocolError", AWAY),
        ("urllib", "HTTPError URLError", AWAY),
        ("http", "RemoteDisconnected IncompleteRead", AWAY),
        ("aiohttp", "ServerTimeoutError", errors.Timeout),
        ("aiohttp", "ClientError", AWAY),
        ("botocore", "ConnectTimeoutError ReadTimeoutError", errors.Timeout),
        ("botocore", "EndpointConnectionError ConnectionClosedError", AWAY),
        ("pymongo", "AutoReconnect ServerSelectionTimeoutError", AWAY),
        ("redis", "ConnectionError TimeoutError", AWAY),
        # Names that do not resolve, and TLS that breaks off.
        ("socket ssl", "gaierror herror SSLError", AWAY),
        ("builtins", "TimeoutError", errors.Timeout),
        ("builtins", "ConnectionError", AWAY),
    )
    for module in modules.split()
    for name in names.split()
)
_REFUSED: dict[int, type[errors.ToolFailure]] = {
    HTTPStatus.NOT_FOUND: errors.NotFound,
    HTTPStatus.GONE: errors.NotFound,
    HTTPStatus.CONFLICT: errors.Conflict,
    HTTPStatus.PRECONDITION_FAILED: errors.Conflict,
}
_AGAIN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})


def library_failure(error: BaseException) -> errors.ToolFailure | None:
    """Return the failure that a library means, or None when it is not known."""
    ancestry = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    for module, name, failure in _KNOWN:
        if (module, name) in ancestry:
            status = _status(error)
            if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AGAIN:
                return failure()
            # What another system has refused, no retry mends.
            return _REFUSED[status]() if status in _REFUSED else None
    return None


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    found = (getattr(response, "status_code", None), getattr(error, "status", None), getattr(error, "code", None))
    return next((status for status in found if isinstance(status, int) and not isinstance(status, bool)), None)
