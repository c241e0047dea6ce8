"""What exceptions of libraries mean for the caller: by the names of their classes, so that no library is imported.

What is not here is a crash, told as `internal`.
"""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from .. import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

AWAY = errors.UpstreamUnavailable
STATUS = ("status", "status_code", "http_status")

# Module, class and meaning; the first row that fits counts.
_KNOWN: tuple[tuple[str, str, type[errors.ToolFailure]], ...] = tuple(
    (module, name, failure)
    for modules, names, failure in (
        ("asyncpg psycopg psycopg2", "UniqueViolationError ExclusionViolationError UniqueViolation", errors.Conflict),
        ("asyncpg psycopg psycopg2", "ForeignKeyViolationError ForeignKeyViolation", errors.Conflict),
        # Whether it was committed is not known.
        ("asyncpg", "StatementCompletionUnknownError", errors.Timeout),
        ("asyncpg psycopg psycopg2", "TransactionRollbackError LockNotAvailableError", errors.Busy),
        ("psycopg psycopg2", "SerializationFailure DeadlockDetected LockNotAvailable", errors.Busy),
        # A column was added under a statement that was prepared; the next call prepares it anew.
        ("asyncpg", "TooManyConnectionsError InvalidCachedStatementError OutdatedSchemaCacheError", errors.Busy),
        ("asyncpg psycopg psycopg2", "QueryCanceledError QueryCanceled", errors.Timeout),
        # Text that JSON can carry and PostgreSQL cannot: NUL.
        ("asyncpg", "CharacterNotInRepertoireError UntranslatableCharacterError", errors.InvalidInput),
        # A value that its column does not take.
        (
            "asyncpg",
            "CheckViolationError WithCheckOptionViolationError InvalidTextRepresentationError",
            errors.InvalidInput,
        ),
        ("asyncpg", "StringDataRightTruncationError NumericValueOutOfRangeError", errors.InvalidInput),
        ("asyncpg", "InvalidDatetimeFormatError DatetimeFieldOverflowError", errors.InvalidInput),
        ("asyncpg", "ReadOnlySQLTransactionError", errors.PermissionDenied),
        ("asyncpg", "PostgresConnectionError ConnectionDoesNotExistError OperatorInterventionError", AWAY),
        ("asyncpg", "TransactionTimeoutError TargetServerAttributeNotMatched InternalServerError", AWAY),
        # Its disk or its memory is full, or it has waited too long for this connection.
        ("asyncpg", "InsufficientResourcesError PostgresSystemError IdleInTransactionSessionTimeoutError", AWAY),
        ("sqlalchemy pymysql MySQLdb asyncmy mysql pyodbc oracledb sqlite3", "IntegrityError", errors.Conflict),
        ("sqlite3", "OperationalError", errors.Busy),
        ("sqlalchemy", "TimeoutError", errors.Busy),
        ("psycopg psycopg2 sqlalchemy pymysql MySQLdb asyncmy mysql pyodbc oracledb", "OperationalError", AWAY),
        ("pymongo", "DuplicateKeyError", errors.Conflict),
        ("pymongo", "AutoReconnect ServerSelectionTimeoutError", AWAY),
        ("pymongo", "ExecutionTimeout", errors.Timeout),
        ("redis valkey", "WatchError LockError", errors.Busy),
        ("redis valkey", "ConnectionError TimeoutError ReadOnlyError ClusterDownError MasterDownError", AWAY),
        ("redis valkey", "OutOfMemoryError TryAgainError SlotNotCoveredError", AWAY),
        ("elasticsearch opensearchpy", "ApiError TransportError", AWAY),
        ("elastic_transport", "ConnectionTimeout", errors.Timeout),
        ("elastic_transport", "ConnectionError", AWAY),
        ("kafka aiokafka", "KafkaConnectionError KafkaTimeoutError NoBrokersAvailable", AWAY),
        # An address or a header that no request can have.
        ("httpx httpx2 httpcore httpcore2", "UnsupportedProtocol LocalProtocolError InvalidURL", errors.InvalidInput),
        ("requests aiohttp", "InvalidURL InvalidSchema MissingSchema InvalidHeader", errors.InvalidInput),
        ("httpx httpx2 httpcore httpcore2", "TimeoutException", errors.Timeout),
        ("httpx httpx2 httpcore httpcore2", "TransportError HTTPStatusError NetworkError ProtocolError", AWAY),
        ("httpx httpx2", "TooManyRedirects DecodingError", AWAY),
        ("requests niquests curl_cffi", "Timeout", errors.Timeout),
        ("requests niquests curl_cffi", "ConnectionError HTTPError ChunkedEncodingError JSONDecodeError", AWAY),
        ("urllib3", "TimeoutError", errors.Timeout),
        ("urllib3", "NewConnectionError MaxRetryError ProtocolError SSLError", AWAY),
        ("urllib", "HTTPError URLError", AWAY),
        ("http", "RemoteDisconnected IncompleteRead BadStatusLine", AWAY),
        ("aiohttp", "ServerTimeoutError", errors.Timeout),
        ("aiohttp", "ClientError", AWAY),
        ("websockets", "ConnectionClosed InvalidStatus", AWAY),
        ("smtplib aiosmtplib", "SMTPServerDisconnected SMTPConnectError", AWAY),
        ("pika aio_pika aiormq", "AMQPConnectionError AMQPChannelError", AWAY),
        ("paramiko asyncssh", "NoValidConnectionsError DisconnectError ConnectionLost", AWAY),
        ("jwt", "PyJWKClientConnectionError", AWAY),
        ("botocore", "ConnectTimeoutError ReadTimeoutError", errors.Timeout),
        ("botocore", "EndpointConnectionError ConnectionClosedError HTTPClientError ClientError", AWAY),
        ("grpc", "RpcError", AWAY),
        ("google", "GoogleAPICallError RetryError TransportError APIError", AWAY),
        ("azure", "ServiceRequestError ServiceResponseError HttpResponseError", AWAY),
        ("openai anthropic groq notion_client", "APITimeoutError RequestTimeoutError", errors.Timeout),
        ("openai anthropic groq", "APIConnectionError APIStatusError", AWAY),
        ("googleapiclient httplib2", "HttpError ServerNotFoundError", AWAY),
        ("stripe github twilio", "APIConnectionError RateLimitError GithubException TwilioRestException", AWAY),
        ("jira notion_client kubernetes starlette", "JIRAError HTTPResponseError ApiException HTTPException", AWAY),
        ("gql zeep imaplib ftplib", "TransportServerError TransportError abort error_temp", AWAY),
        # Names that do not resolve, and TLS that breaks off.
        ("socket ssl nats", "gaierror herror SSLError NoServersError ConnectionClosedError", AWAY),
        ("subprocess", "TimeoutExpired", errors.Timeout),
        ("asyncio", "IncompleteReadError", AWAY),
        ("asyncio queue", "QueueFull Full", errors.Busy),
        ("builtins", "BlockingIOError", errors.Busy),
        ("builtins", "TimeoutError", errors.Timeout),
        ("builtins", "ConnectionError", AWAY),
    )
    for module in modules.split()
    for name in names.split()
)
_REFUSED: dict[object, type[errors.ToolFailure]] = {
    HTTPStatus.NOT_FOUND: errors.NotFound,
    HTTPStatus.GONE: errors.NotFound,
    HTTPStatus.CONFLICT: errors.Conflict,
    HTTPStatus.PRECONDITION_FAILED: errors.Conflict,
    # As gRPC says it, and AWS, whose status is often 400 whatever it means.
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.Conflict,
    "FAILED_PRECONDITION": errors.Conflict,
    "ABORTED": errors.Busy,
    "DEADLINE_EXCEEDED": errors.Timeout,
    "ResourceNotFoundException": errors.NotFound,
    "ConditionalCheckFailedException": errors.Conflict,
}
_AGAIN = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT, "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    | {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_TIMEOUT", "SQLITE_LOCKED", "SQLITE_LOCKED_SHAREDCACHE"}
    | {"ThrottlingException", "Throttling", "RequestLimitExceeded", "ProvisionedThroughputExceededException"}
)
# No way to the other system, which Python has no class for.
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ETIMEDOUT})
# Descriptors and memory of this process or machine.
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# How Redis says what its client has no class for.
_REDIS_AWAY = ("MISCONF ", "NOREPLICAS ", "LOADING ", "MASTERDOWN ", "BUSY ", "TRYAGAIN ", "CLUSTERDOWN ")


def library_failure(error: BaseException) -> errors.ToolFailure | None:
    """Return the failure that a library means, or None when it is not known."""
    ancestry = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    for module, name, failure in _KNOWN:
        if (module, name) in ancestry:
            said = _said(error)
            # What another system has refused, no retry mends.
            refused = next((_REFUSED[one] for one in said if one in _REFUSED), None)
            if refused is not None:
                return refused()
            return failure() if not said or any(map(_may_change, said)) else None
    if _is_refused_by_row_security(error):
        return errors.PermissionDenied()
    if ("asyncpg", "DataError") in ancestry and "value out of " in str(error):
        # What the driver says before it sends a number that its column cannot hold.
        return errors.InvalidInput()
    if ancestry & {("redis", "ResponseError"), ("valkey", "ResponseError")} and str(error).startswith(_REDIS_AWAY):
        return AWAY()
    return _of_the_system(error)


def _is_refused_by_row_security(error: BaseException) -> bool:
    """Return whether a policy of a table refuses a row; a missing GRANT has the same code, and another cause."""
    function = getattr(error, "server_source_function", None)
    return getattr(error, "sqlstate", None) == "42501" and function == "ExecWithCheckOptions"


def _of_the_system(error: BaseException) -> errors.ToolFailure | None:
    if type(error) is OSError:
        if error.errno in _USED_UP:
            return errors.Busy()
        # What asyncio says when a name has several addresses, and none of them answers.
        several = error.errno is None and str(error).startswith("Multiple exceptions: ")
        return AWAY() if several or error.errno in _NO_WAY else None
    return None


def _may_change(said: object) -> bool:
    """Return whether an answer may be another one later: a fault of the other system, too much, or no sense in it."""
    if isinstance(said, int):
        return said >= HTTPStatus.INTERNAL_SERVER_ERROR or said in _AGAIN or said < HTTPStatus.MULTIPLE_CHOICES
    return said in _AGAIN


def _said(error: BaseException) -> Sequence[object]:
    """Return how the other system has answered: a status of HTTP, a code of gRPC or of AWS; nothing if it has not."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        told = cast("dict[str, Any]", response)
        found = [told.get("Error", {}).get("Code"), told.get("ResponseMetadata", {}).get("HTTPStatusCode")]
        return [one for one in found if isinstance(one, str | int)]
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return [name]
    code = getattr(error, "code", None)
    if callable(code):
        return [getattr(code(), "name", "")]
    statuses = (getattr(response, "status_code", None), *(getattr(error, name, None) for name in STATUS))
    return [one for one in (*statuses, code) if isinstance(one, int) and not isinstance(one, bool)][:1]
