"""From whatever was raised to what may be said."""

from __future__ import annotations

import asyncio
import errno
import http.client
import imaplib
import json
import queue
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import urllib.error
from contextlib import closing
from email.message import Message
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import alias
import asyncpg
import httpx2
import pytest
import redis.exceptions
import requests
import urllib3
from captured import calling, captured
from jsonschema import Draft202012Validator
from live import KEY, Process
from wire import ERAS, Era, Wire, opening

from hardening import errors
from hardening.calls.failures import (
    ERROR_META_KEY,
    ERROR_SCHEMA,
    LONGEST_ADVICE,
    explain,
    failure_of,
    failure_or_crash,
    result_of,
)
from hardening.errors import ToolFailure
from hardening.logs.redaction import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable

UNTOLD = str(Path(__file__).with_name("untold_server.py"))
REQUEST = httpx2.Request("GET", "https://api.example.com")


class AiohttpError(Exception):
    """Stands for the error of a library that is not installed here."""


AiohttpError.__module__ = "aiohttp.client_exceptions"
AiohttpError.__name__ = "ClientError"


def of(module: str, name: str, **attributes: Any) -> Exception:
    """Return an error as a library raises it that is not installed here."""
    kind = type(name, (Exception,), {"__module__": module})
    error = kind("secret")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def aws(code: str, status: int) -> Exception:
    """Return what botocore raises for an answer."""
    response = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return of("botocore.exceptions", "ClientError", response=response)


def grpc(code: str) -> Exception:
    """Return what gRPC raises for an answer."""
    return of("grpc.aio._call", "RpcError", code=lambda: SimpleNamespace(name=code))


def locked() -> Exception:
    """Return what SQLite raises while somebody else writes."""
    with TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/a")) as one:
        one.execute("BEGIN EXCLUSIVE")
        with closing(sqlite3.connect(f"{folder}/a", timeout=0)) as other:
            return raised(lambda: other.execute("BEGIN EXCLUSIVE"))


def mistaken() -> Exception:
    """Return what SQLite raises for a statement with a mistake."""
    with closing(sqlite3.connect(":memory:")) as one:
        return raised(lambda: one.execute("SELECT secret"))


def raised(action: Callable[[], object]) -> Exception:
    """Return what an action raises."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - the point
        return error
    raise AssertionError("nothing was raised")


KNOWN: list[tuple[BaseException, type[errors.ToolFailure]]] = [
    (asyncpg.UniqueViolationError("secret"), errors.Conflict),
    (asyncpg.ExclusionViolationError("secret"), errors.Conflict),
    (asyncpg.SerializationError("secret"), errors.Busy),
    (asyncpg.DeadlockDetectedError("secret"), errors.Busy),
    (asyncpg.TooManyConnectionsError("secret"), errors.Busy),
    (asyncpg.QueryCanceledError("secret"), errors.Timeout),
    (asyncpg.ReadOnlySQLTransactionError("secret"), errors.PermissionDenied),
    (asyncpg.CharacterNotInRepertoireError("secret"), errors.InvalidInput),
    (asyncpg.UntranslatableCharacterError("secret"), errors.InvalidInput),
    (asyncpg.ConnectionDoesNotExistError("secret"), errors.UpstreamUnavailable),
    (asyncpg.AdminShutdownError("secret"), errors.UpstreamUnavailable),
    (asyncpg.CannotConnectNowError("secret"), errors.UpstreamUnavailable),
    (httpx2.ReadTimeout("secret"), errors.Timeout),
    (httpx2.ConnectError("secret"), errors.UpstreamUnavailable),
    (httpx2.HTTPStatusError("secret", request=REQUEST, response=httpx2.Response(503)), errors.UpstreamUnavailable),
    (httpx2.HTTPStatusError("secret", request=REQUEST, response=httpx2.Response(429)), errors.UpstreamUnavailable),
    (AiohttpError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.TimeoutError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.ConnectionError("secret"), errors.UpstreamUnavailable),
    (httpx2.HTTPStatusError("secret", request=REQUEST, response=httpx2.Response(404)), errors.NotFound),
    (httpx2.HTTPStatusError("secret", request=REQUEST, response=httpx2.Response(409)), errors.Conflict),
    (asyncpg.InvalidCachedStatementError("secret"), errors.Busy),
    (urllib.error.URLError("secret"), errors.UpstreamUnavailable),
    (urllib.error.HTTPError("http://secret", 404, "secret", Message(), None), errors.NotFound),
    (socket.gaierror("secret"), errors.UpstreamUnavailable),
    (ssl.SSLError("secret"), errors.UpstreamUnavailable),
    (TimeoutError("secret"), errors.Timeout),
    (ConnectionResetError("secret"), errors.UpstreamUnavailable),
    (asyncpg.LockNotAvailableError("secret"), errors.Busy),
    (asyncpg.ForeignKeyViolationError("secret"), errors.Conflict),
    (asyncpg.DiskFullError("secret"), errors.UpstreamUnavailable),
    (asyncpg.OutOfMemoryError("secret"), errors.UpstreamUnavailable),
    (asyncpg.PostgresIOError("secret"), errors.UpstreamUnavailable),
    (asyncpg.IdleInTransactionSessionTimeoutError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.ReadOnlyError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.BusyLoadingError("secret"), errors.UpstreamUnavailable),
    (urllib3.exceptions.ReadTimeoutError(cast("Any", None), "http://secret", "secret"), errors.Timeout),
    (urllib3.exceptions.SSLError("secret"), errors.UpstreamUnavailable),
    (requests.exceptions.JSONDecodeError("secret", "secret", 0), errors.UpstreamUnavailable),
    (requests.exceptions.ReadTimeout("secret"), errors.Timeout),
    (requests.exceptions.ConnectionError("secret"), errors.UpstreamUnavailable),
    (http.client.BadStatusLine("secret"), errors.UpstreamUnavailable),
    (smtplib.SMTPServerDisconnected("secret"), errors.UpstreamUnavailable),
    (OSError(errno.EHOSTUNREACH, "secret"), errors.UpstreamUnavailable),
    (OSError(errno.ENETUNREACH, "secret"), errors.UpstreamUnavailable),
    (OSError("Multiple exceptions: [Errno 111] secret"), errors.UpstreamUnavailable),
    (of("aiohttp.client_exceptions", "ClientError", status=200), errors.UpstreamUnavailable),
    (of("aiohttp.client_exceptions", "ClientError", status=404), errors.NotFound),
    (aws("ThrottlingException", 400), errors.UpstreamUnavailable),
    (aws("InternalError", 500), errors.UpstreamUnavailable),
    (aws("NoSuchKey", 404), errors.NotFound),
    (aws("ConditionalCheckFailedException", 400), errors.Conflict),
    (grpc("UNAVAILABLE"), errors.UpstreamUnavailable),
    (grpc("DEADLINE_EXCEEDED"), errors.Timeout),
    (grpc("NOT_FOUND"), errors.NotFound),
    (of("google.api_core.exceptions", "GoogleAPICallError", code=503), errors.UpstreamUnavailable),
    (of("azure.core.exceptions", "HttpResponseError", status_code=404), errors.NotFound),
    (of("openai", "APITimeoutError"), errors.Timeout),
    (of("anthropic", "APIStatusError", status_code=529), errors.UpstreamUnavailable),
    (of("sqlalchemy.exc", "OperationalError", code="e3q8"), errors.UpstreamUnavailable),
    (of("sqlalchemy.exc", "TimeoutError", code="3o7r"), errors.Busy),
    (of("websockets.exceptions", "ConnectionClosed", code=1006), errors.UpstreamUnavailable),
    # What a column does not take.
    (asyncpg.CheckViolationError("secret"), errors.InvalidInput),
    (asyncpg.StringDataRightTruncationError("secret"), errors.InvalidInput),
    (asyncpg.NumericValueOutOfRangeError("secret"), errors.InvalidInput),
    (asyncpg.InvalidTextRepresentationError("secret"), errors.InvalidInput),
    (asyncpg.DatetimeFieldOverflowError("secret"), errors.InvalidInput),
    (asyncpg.DataError("invalid input for query argument $1: secret (value out of int32 range)"), errors.InvalidInput),
    (asyncpg.StatementCompletionUnknownError("secret"), errors.Timeout),
    (asyncpg.InternalServerError("secret"), errors.UpstreamUnavailable),
    (asyncpg.exceptions.TargetServerAttributeNotMatched("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.OutOfMemoryError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.ResponseError("MISCONF secret"), errors.UpstreamUnavailable),
    (redis.exceptions.ResponseError("NOREPLICAS secret"), errors.UpstreamUnavailable),
    (redis.exceptions.TryAgainError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.AuthenticationError("secret"), errors.UpstreamUnavailable),
    (redis.exceptions.WatchError("secret"), errors.Busy),
    (redis.exceptions.LockError("secret"), errors.Busy),
    (of("valkey.exceptions", "ConnectionError"), errors.UpstreamUnavailable),
    (of("elasticsearch", "ApiError", status_code=404), errors.NotFound),
    (of("asyncmy.errors", "OperationalError"), errors.UpstreamUnavailable),
    (of("mysql.connector.errors", "IntegrityError"), errors.Conflict),
    (of("google.auth.exceptions", "TransportError"), errors.UpstreamUnavailable),
    (of("google.genai.errors", "APIError", code=429), errors.UpstreamUnavailable),
    (of("googleapiclient.errors", "HttpError", status_code=404), errors.NotFound),
    (of("stripe", "RateLimitError", http_status=429), errors.UpstreamUnavailable),
    (of("github.GithubException", "GithubException", status=409), errors.Conflict),
    (of("twilio.base.exceptions", "TwilioRestException", status=503, code=20503), errors.UpstreamUnavailable),
    (of("notion_client.errors", "HTTPResponseError", status=502), errors.UpstreamUnavailable),
    (of("notion_client.errors", "RequestTimeoutError"), errors.Timeout),
    (of("kubernetes.client.exceptions", "ApiException", status=404), errors.NotFound),
    (of("gql.transport.exceptions", "TransportServerError", code=500), errors.UpstreamUnavailable),
    (of("starlette.exceptions", "HTTPException", status_code=404), errors.NotFound),
    (of("niquests.exceptions", "ConnectionError"), errors.UpstreamUnavailable),
    (of("curl_cffi.requests.exceptions", "Timeout", code=28), errors.Timeout),
    (asyncio.QueueFull(), errors.Busy),
    (queue.Full(), errors.Busy),
    (imaplib.IMAP4.abort("secret"), errors.UpstreamUnavailable),
    (of("ftplib", "error_temp"), errors.UpstreamUnavailable),
    (locked(), errors.Busy),
    (httpx2.TooManyRedirects("secret"), errors.UpstreamUnavailable),
    (httpx2.InvalidURL("secret"), errors.InvalidInput),
    (httpx2.UnsupportedProtocol("secret"), errors.InvalidInput),
    (httpx2.LocalProtocolError("secret"), errors.InvalidInput),
    (requests.exceptions.MissingSchema("secret"), errors.InvalidInput),
    (requests.exceptions.InvalidHeader("secret"), errors.InvalidInput),
    (of("aiohttp.client_exceptions", "InvalidURL"), errors.InvalidInput),
    (subprocess.TimeoutExpired("secret", 1), errors.Timeout),
    (asyncio.IncompleteReadError(b"secret", 9), errors.UpstreamUnavailable),
    (BlockingIOError(errno.EAGAIN, "secret"), errors.Busy),
    (OSError(errno.EMFILE, "secret"), errors.Busy),
    (OSError(errno.ENOMEM, "secret"), errors.Busy),
]
CRASHES: list[BaseException] = [
    of("aiohttp.client_exceptions", "ClientError", status=300),
    of("starlette.exceptions", "HTTPException", status_code=403),
    of("stripe", "InvalidRequestError", http_status=404),
    of("kubernetes.client.exceptions", "ApiException", status=422),
    of("ftplib", "error_perm"),
    RuntimeError("secret"),
    KeyError("secret"),
    ZeroDivisionError("secret"),
    OSError("secret"),
    OSError(errno.ENOSPC, "secret"),
    aws("AccessDenied", 403),
    grpc("INVALID_ARGUMENT"),
    json.JSONDecodeError("secret", "secret", 0),
    httpx2.HTTPStatusError("secret", request=REQUEST, response=httpx2.Response(401)),
    asyncpg.UndefinedTableError("secret"),
    asyncpg.InsufficientPrivilegeError("secret"),
    asyncpg.NotNullViolationError("secret"),
    asyncpg.DataError("invalid input for query argument $1: secret (an integer is required)"),
    redis.exceptions.ResponseError("WRONGTYPE secret"),
    mistaken(),
    subprocess.CalledProcessError(1, "secret"),
    asyncpg.InterfaceError("secret"),
    asyncio.CancelledError("secret"),
    SystemExit("secret"),
    errors.Internal(),
]


@pytest.mark.parametrize(("error", "kind"), KNOWN, ids=lambda one: getattr(one, "__name__", type(one).__name__))
def test_what_libraries_raise_is_told_for_the_author(error: BaseException, kind: type[errors.ToolFailure]) -> None:
    """Failures that an author would have to translate by hand are translated, without their text."""
    failure = failure_of(error)

    assert failure is not None
    assert type(failure) is kind
    assert "secret" not in str(explain(failure, None))


@pytest.mark.parametrize("error", CRASHES, ids=lambda one: type(one).__name__)
def test_anything_else_is_internal_and_logged(error: BaseException, tmp_path: Any) -> None:
    """A crash becomes one sentence without its text, and a line that says where."""
    with captured(tmp_path / "log") as log:
        failure = failure_or_crash(error)
        logged = log.text()

    assert failure.kind == "internal"
    assert "secret" not in str(explain(failure, None))
    assert "secret" not in logged
    assert ("unhandled exception" in logged) is not isinstance(error, errors.Internal)


@pytest.mark.parametrize("era", ERAS)
async def test_what_cannot_be_looked_at_is_internal(era: Era) -> None:
    """An exception that raises when it is read is a crash: the caller hears its kind, and never the text of another."""
    # In a process, where the log is what it is in production.
    with Process(UNTOLD) as process:
        async with Wire(process.url, KEY) as wire:
            for what in ("no base", "property", "text", "answer", "cause", "depth", "exception", "half"):
                kind = "not_found" if what in {"exception", "half"} else "internal"
                reply = await wire.call(era, "raises", {"what": what})
                prompt = await wire.ask(era, "prompts/get", {"name": "raises_too", "arguments": {"what": what}})
                assert reply.result["_meta"][ERROR_META_KEY]["kind"] == kind, what
                assert prompt.error["data"]["kind"] == kind, what
                assert b"secret" not in reply.body + prompt.body
        assert process.stop() == 0

    assert "secret" not in "".join(process.lines)


@pytest.mark.parametrize("sessions", ["stateless", "stateful"])
@pytest.mark.parametrize("era", ERAS)
async def test_what_cannot_be_written_is_answered(era: Era, sessions: str) -> None:
    """Half a character, or a number without an end, in an error of the protocol or in a report of progress.

    Streams of sessions ended without an answer, and the client waited for it.
    """
    with Process(UNTOLD, MCP_LEGACY=sessions) as process:
        async with Wire(process.url, KEY) as wire:
            headers: dict[str, str] = {}
            if era == "legacy" and sessions == "stateful":
                headers["mcp-session-id"] = (await wire.ask(era, *opening(era))).headers["mcp-session-id"]
            params: dict[str, Any] = {"name": "raises", "arguments": {"what": "protocol"}}
            refused = await wire.ask(era, "tools/call", params, rpc_id=2, headers=headers)
            params = {"name": "reports", "arguments": {}, "_meta": {"progressToken": "p"}}
            reported = await wire.ask(era, "tools/call", params, rpc_id=3, headers=headers)
        assert process.stop() == 0

    assert refused.error["data"]["kind"] == "internal"
    assert [one["params"] for one in reported.notifications] == [
        {"progressToken": "p", "progress": 1, "message": "No ? here."},
        {"progressToken": "p", "progress": 2, "total": 3},
    ]
    assert reported.result["content"][0]["text"] == "done"


@pytest.mark.parametrize("era", ERAS)
async def test_an_exception_that_is_raised_again_keeps_nothing_of_a_call(era: Era) -> None:
    """One object for all calls, at the top of a module: Python adds the frames of each to it, with what is in them."""
    with Process(UNTOLD) as process:
        async with Wire(process.url, KEY) as wire:
            for what in ("crash", "failure", "library") * 3:
                await wire.call(era, "raises_one", {"what": what})
            kept = await wire.call(era, "raises_one", {"what": "none"})
        assert process.stop() == 0

    assert kept.result["structuredContent"] == {"result": 0}


def test_a_group_that_is_too_deep_is_a_crash() -> None:
    """Wherever it is looked at."""
    error: Exception = ValueError("secret")
    for _ in range(5000):
        error = ExceptionGroup("secret", [error])
    assert failure_of(error) is None


def test_a_group_means_what_all_of_it_means() -> None:
    """Several tasks that fail in known ways fail in the one that no retry mends; with a crash it is a crash."""
    busy = BaseExceptionGroup("secret", [errors.Busy(), ExceptionGroup("secret", [asyncpg.DeadlockDetectedError("x")])])
    mixed = ExceptionGroup("secret", [errors.Busy(), errors.NotFound()])
    crash = ExceptionGroup("secret", [errors.Busy(), RuntimeError("secret")])

    assert type(failure_of(busy)) is errors.Busy
    assert type(failure_of(mixed)) is errors.NotFound
    assert failure_of(crash) is None
    assert type(failure_of(ExceptionGroup("one", [errors.NotFound("Look elsewhere.")]))) is errors.NotFound


def test_a_cause_counts_only_where_the_sdk_has_wrapped_it() -> None:
    """An author who raises a crash from a failure means the crash."""
    wrapped = ValueError("secret")
    wrapped.__cause__ = ValueError("secret")
    wrapped.__cause__.__cause__ = errors.NotFound()

    assert failure_or_crash(wrapped).kind == "internal"
    assert failure_or_crash(wrapped, wrapped=True).kind == "not_found"


def test_what_a_library_has_raised_counts_through_an_authors_exception() -> None:
    """An author who wraps a library's failure in an exception of their own need not translate it."""
    wrapped = RuntimeError("secret")
    wrapped.__cause__ = ValueError("secret")
    wrapped.__cause__.__cause__ = httpx2.ConnectError("secret")
    recursive = RuntimeError("secret")
    recursive.__cause__ = ValueError("secret")
    recursive.__cause__.__cause__ = recursive

    assert failure_or_crash(wrapped).kind == "upstream_unavailable"
    assert failure_or_crash(recursive).kind == "internal"


@pytest.mark.parametrize(
    "name", ["InvalidInput", "NotFound", "Conflict", "PermissionDenied", "Busy", "Timeout", "Internal"]
)
@pytest.mark.parametrize("wait", [None, 0.2, 90])
def test_every_failure_says_kind_retry_advice_and_reference(name: str, wait: float | None) -> None:
    """A model reads what happened, whether to try again, what to do and what to report; a program reads the same."""
    failure: errors.ToolFailure = getattr(errors, name)("Do that.", retry_after_seconds=wait)
    with calling() as exchange:
        text, data = explain(failure, exchange)

    Draft202012Validator(ERROR_SCHEMA).validate(data)
    assert data["retryable"] is (failure.retryable or wait is not None)
    again = {None: "A retry can help.", 0.2: "Retry after 1 s.", 90: "Retry after 90 s."}[wait]
    retry = again if data["retryable"] else "A retry with the same arguments will not help."
    assert text == f"{failure.kind}: Do that. {retry} Reference: {exchange.request_id}."


def test_the_page_for_operators_names_every_member_and_kind() -> None:
    """What programs may rely on is written where their authors look."""
    page = (alias.ROOT / "docs/operations.md").read_text("utf-8")
    kinds = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ToolFailure)}

    _, told = explain(errors.Busy(), None)
    assert ERROR_META_KEY in page
    assert {word for word in {*told, *kinds} if f"`{word}`" not in page} == set()


def test_structured_content_stays_empty() -> None:
    """The output schema describes results; a client that checks a failure against it would lose the failure."""
    result = result_of(errors.NotFound(), None)

    assert result.is_error
    assert result.structured_content is None
    assert set(result.meta or {}) == {"hardening/error"}


def test_the_values_of_a_call_are_no_advice() -> None:
    """An argument that an author has put into a sentence does not come back, whole or beside others."""
    with calling({"city": "Reykjavik", "deep": [{"note": "Reykjavik-2"}], "short": "Oslo"}) as exchange:
        failure = errors.NotFound("No Reykjavik, no Reykjavik-2 and no Oslo here.")
        text, data = explain(failure, exchange)

    assert "Reykjavik" not in text
    assert data["advice"] == "No …, no … and no … here."


def test_words_of_the_contract_stay_in_the_advice() -> None:
    """The name of a tool or of an argument may be said, although the caller has written it too."""
    with calling({"number": 1}, "list_things") as exchange:
        _, data = explain(errors.InvalidInput("Give list_things another number."), exchange, {"number", "list_things"})

    assert data["advice"] == "Give list_things another number."


def test_a_call_that_is_too_big_to_search_gets_the_general_advice() -> None:
    """When not every value can be looked for, no sentence of the author's leaves."""
    with calling() as exchange:
        exchange.sensitive.add(EVERYTHING)
        _, data = explain(errors.NotFound("There is no Reykjavik here."), exchange)

    assert data["advice"] == errors.NotFound.default_advice


def test_advice_is_bounded() -> None:
    """A failure is one sentence, whatever an author puts into it."""
    with calling() as exchange:
        text, _ = explain(errors.NotFound("x" * 100_000), exchange)

    assert len(text) < LONGEST_ADVICE + 200
