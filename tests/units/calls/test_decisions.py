"""What a call's parts decide, each decision alone: one row for each case, and no server."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from captured import calling, exchange
from mcp import MCPError
from mcp.server.mcpserver import Audio, Image
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    ImageContent,
    ListRootsRequest,
    TextContent,
    ToolChoice,
)
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hardening import errors, tool
from hardening.calls import lint
from hardening.calls import threads as threads_of
from hardening.calls.answers import answerable, needed
from hardening.calls.asking_session import AskingSession
from hardening.calls.blocks import blocks_of
from hardening.calls.canonical import tool_hashes, tools_sha256
from hardening.calls.consent import Consent, _question, _shown
from hardening.calls.ecmascript import pattern_problem
from hardening.calls.failures import ERROR_SCHEMA, explain, invalid_arguments, kind_of, protocol_error, result_of
from hardening.calls.json_schema import portable, why_none
from hardening.calls.known_failures import library_failure
from hardening.calls.results import ResultSchema, check_blocks
from hardening.calls.shares import Shares
from hardening.calls.threads import Threads
from hardening.calls.tool import Tool

if TYPE_CHECKING:
    from pathlib import Path

PLACES = {
    "ab(?P<n>x)": "'(?P<' at character 3",
    "a(?<1>b)": "'(?<1' at character 2",
    "x(?<a": "'(?<a' at character 2",
    "ab{3,2}c": "'{3,2' at character 3",
    "a{2,1}?": "'{2,1' at character 2",
    "a{12,9}": "'{12,' at character 2",
    "a{,3}": "'{' at character 2",
    "a{2}{3}": "'{' at character 5",
    "ab)": "')' at character 3",
    "a(bc": "'' at character 5",
    "a[b": "'' at character 4",
    "(?:a": "'' at character 5",
    "(?=a": "'' at character 5",
    "(?<=a": "'' at character 6",
    "(?<n>a": "'' at character 7",
    "xy[z-a]": "'z-a]' at character 4",
    "x[a-\\d]": "'a-\\\\d' at character 3",
    "[b-\\0]": "'b-\\\\0' at character 2",
    "[\\x42-\\x41]": "'\\\\x42' at character 2",
    "[\\u{42}-A]": "'\\\\u{4' at character 2",
    "[\\cB-\\cA]": "'\\\\cB-' at character 2",
    "[\\n-\\t]": "'\\\\n-\\\\' at character 2",
    "xx\\q": "'\\\\q' at character 3",
    "x\\": "'\\\\' at character 2",
    "[\\": "'\\\\' at character 2",
    "x\\01": "'\\\\01' at character 2",
    "\\c1": "'\\\\c1' at character 1",
    "x\\p{Greek}": "'\\\\p{G' at character 2",
    "x\\u{110000}": "'\\\\u{1' at character 2",
    "x[\\1]": "'\\\\1]' at character 3",
    "x(?i)": "'(?i)' at character 2",
    "a+*b": "'*' at character 3",
    "^*": "'*' at character 2",
    "\\b+": "'+' at character 3",
    "a]b": "']' at character 2",
    "{1}": "'{' at character 1",
    "(?<n>a)(?<n>b)": "a group name",
    "(?<n>a)\\k<m>": "a group name",
    "(a)\\2": "a reference to a group that is not there",
    "(?:a)\\1": "a reference to a group that is not there",
} | dict.fromkeys(
    [
        "[z\\-a]",
        "[\\0-a]",
        "[a-]",
        "[-a]",
        "[^-a]",
        "[\\b-a]",
        "[\\--a]",
        "\\1(a)",
        "(a)(b)\\2",
        "(?<n>a)\\1",
        *("a{9,12}?", "a{1,}?", "\\0"),
    ],
    "",
)


@pytest.mark.parametrize("pattern", PLACES)
def test_a_pattern_that_clients_cannot_compile_is_shown_at_its_place(pattern: str) -> None:
    """Four characters from where the part begins that is no ECMAScript; nothing of one that is."""
    assert pattern_problem(pattern) == PLACES[pattern]


MEANINGS = {
    "Conflict": "asyncpg.ExclusionViolationError psycopg.UniqueViolation psycopg2.ForeignKeyViolation"
    " asyncpg.UniqueViolationError asyncpg.ForeignKeyViolationError sqlalchemy.IntegrityError pymysql.IntegrityError"
    " MySQLdb.IntegrityError asyncmy.IntegrityError mysql.IntegrityError pyodbc.IntegrityError oracledb.IntegrityError"
    " sqlite3.IntegrityError pymongo.DuplicateKeyError",
    "Busy": "asyncpg.OutdatedSchemaCacheError asyncpg.TransactionRollbackError asyncpg.LockNotAvailableError"
    " asyncpg.TooManyConnectionsError asyncpg.InvalidCachedStatementError psycopg.SerializationFailure"
    " psycopg2.DeadlockDetected psycopg.LockNotAvailable sqlalchemy.TimeoutError sqlite3.OperationalError"
    " redis.WatchError valkey.LockError asyncio.QueueFull queue.Full builtins.BlockingIOError",
    "Timeout": "psycopg.QueryCanceled asyncpg.QueryCanceledError asyncpg.StatementCompletionUnknownError"
    " pymongo.ExecutionTimeout elastic_transport.ConnectionTimeout httpx.TimeoutException"
    " httpcore2.TimeoutException requests.Timeout niquests.Timeout curl_cffi.Timeout urllib3.TimeoutError"
    " aiohttp.ServerTimeoutError botocore.ReadTimeoutError botocore.ConnectTimeoutError openai.APITimeoutError"
    " anthropic.APITimeoutError groq.APITimeoutError notion_client.RequestTimeoutError subprocess.TimeoutExpired"
    " builtins.TimeoutError",
    "InvalidInput": "asyncpg.CharacterNotInRepertoireError asyncpg.UntranslatableCharacterError"
    " asyncpg.CheckViolationError asyncpg.WithCheckOptionViolationError asyncpg.InvalidTextRepresentationError"
    " asyncpg.StringDataRightTruncationError asyncpg.NumericValueOutOfRangeError asyncpg.InvalidDatetimeFormatError"
    " asyncpg.DatetimeFieldOverflowError httpx.UnsupportedProtocol httpx2.LocalProtocolError httpcore.InvalidURL"
    " httpcore2.UnsupportedProtocol requests.InvalidURL requests.InvalidSchema requests.MissingSchema"
    " aiohttp.InvalidHeader",
    "PermissionDenied": "asyncpg.ReadOnlySQLTransactionError",
    "UpstreamUnavailable": "asyncpg.PostgresConnectionError asyncpg.PostgresSystemError psycopg.OperationalError"
    " asyncpg.ConnectionDoesNotExistError asyncpg.OperatorInterventionError asyncpg.TransactionTimeoutError"
    " asyncpg.TargetServerAttributeNotMatched asyncpg.InternalServerError asyncpg.InsufficientResourcesError"
    " asyncpg.IdleInTransactionSessionTimeoutError psycopg2.OperationalError sqlalchemy.OperationalError"
    " pymysql.OperationalError MySQLdb.OperationalError asyncmy.OperationalError mysql.OperationalError"
    " pyodbc.OperationalError oracledb.OperationalError pymongo.AutoReconnect"
    " pymongo.ServerSelectionTimeoutError redis.ConnectionError redis.TimeoutError redis.ClusterDownError"
    " redis.MasterDownError redis.ReadOnlyError redis.OutOfMemoryError redis.TryAgainError redis.SlotNotCoveredError"
    " valkey.ConnectionError elasticsearch.ApiError opensearchpy.TransportError elastic_transport.ConnectionError"
    " kafka.KafkaConnectionError aiokafka.KafkaTimeoutError"
    " kafka.NoBrokersAvailable httpx.TransportError httpx.HTTPStatusError httpcore.NetworkError"
    " httpcore2.ProtocolError httpx2.TooManyRedirects httpx.DecodingError"
    " requests.ConnectionError requests.HTTPError requests.ChunkedEncodingError requests.JSONDecodeError"
    " niquests.HTTPError curl_cffi.ConnectionError urllib3.NewConnectionError"
    " urllib3.MaxRetryError urllib3.ProtocolError urllib3.SSLError urllib.HTTPError urllib.URLError"
    " http.RemoteDisconnected http.IncompleteRead http.BadStatusLine"
    " aiohttp.ClientError websockets.ConnectionClosed websockets.InvalidStatus smtplib.SMTPConnectError"
    " aiosmtplib.SMTPServerDisconnected pika.AMQPConnectionError aio_pika.AMQPChannelError aiormq.AMQPConnectionError"
    " paramiko.NoValidConnectionsError asyncssh.DisconnectError asyncssh.ConnectionLost jwt.PyJWKClientConnectionError"
    " botocore.EndpointConnectionError botocore.ConnectionClosedError botocore.HTTPClientError botocore.ClientError"
    " grpc.RpcError google.GoogleAPICallError google.RetryError google.TransportError google.APIError"
    " azure.ServiceRequestError azure.ServiceResponseError azure.HttpResponseError"
    " openai.APIConnectionError openai.APIStatusError anthropic.APIConnectionError groq.APIStatusError"
    " googleapiclient.HttpError httplib2.ServerNotFoundError stripe.APIConnectionError stripe.RateLimitError"
    " github.GithubException twilio.TwilioRestException jira.JIRAError notion_client.HTTPResponseError"
    " kubernetes.ApiException starlette.HTTPException gql.TransportServerError zeep.TransportError imaplib.abort"
    " ftplib.error_temp socket.gaierror socket.herror ssl.SSLError nats.NoServersError nats.ConnectionClosedError"
    " asyncio.IncompleteReadError builtins.ConnectionError",
}


def raised(module: str, name: str, **attributes: Any) -> Exception:
    """Return an error as a library raises it."""
    error = type(name, (Exception,), {"__module__": f"{module}.errors"})("secret")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


@pytest.mark.parametrize(("kind", "names"), MEANINGS.items())
def test_errors_of_libraries_by_name(kind: str, names: str) -> None:
    """Each by the first part of its module and the name of its class; of another library they are crashes."""
    for module, name in (one.split(".") for one in names.split()):
        assert type(library_failure(raised(module, name))) is getattr(errors, kind), (module, name)
        assert library_failure(raised(f"{module}x", name)) is None
        assert library_failure(raised(module, f"{name}x")) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "NotFound") for status in (404, 410)),
        *((status, "Conflict") for status in (409, 412)),
        *((status, "UpstreamUnavailable") for status in (100, 200, 299, 408, 429, 500, 503)),
        *((status, None) for status in (300, 301, 400, 401, 403, 499)),
    ],
)
def test_a_status_says_whether_a_retry_helps(status: int, kind: str | None) -> None:
    """What another system refuses is told as that; what may change is away; everything else is a crash."""
    for error in (
        raised("aiohttp", "ClientError", status=status),
        raised("azure", "HttpResponseError", status_code=status),
        raised("httpx", "HTTPStatusError", response=SimpleNamespace(status_code=status)),
        raised("botocore", "ClientError", response={"Error": {}, "ResponseMetadata": {"HTTPStatusCode": status}}),
    ):
        failure = library_failure(error)
        assert (type(failure).__name__ if failure else None) == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, "NotFound") for code in ("NOT_FOUND", "ResourceNotFoundException")),
        *((code, "Conflict") for code in ("ALREADY_EXISTS", "FAILED_PRECONDITION", "ConditionalCheckFailedException")),
        ("ABORTED", "Busy"),
        ("DEADLINE_EXCEEDED", "Timeout"),
        *((code, "UpstreamUnavailable") for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ThrottlingException")),
        *((code, "UpstreamUnavailable") for code in ("Throttling", "RequestLimitExceeded")),
        ("ProvisionedThroughputExceededException", "UpstreamUnavailable"),
        ("INVALID_ARGUMENT", None),
    ],
)
def test_a_code_says_whether_a_retry_helps(code: str, kind: str | None) -> None:
    """As gRPC says it, and AWS, whatever status stands beside it."""
    for error in (
        raised("grpc", "RpcError", code=lambda: SimpleNamespace(name=code)),
        raised("botocore", "ClientError", response={"Error": {"Code": code}}),
        raised(
            "botocore", "ClientError", response={"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        ),
    ):
        failure = library_failure(error)
        assert (type(failure).__name__ if failure else None) == kind


@pytest.mark.parametrize("code", ["BUSY", "BUSY_SNAPSHOT", "BUSY_TIMEOUT", "LOCKED", "LOCKED_SHAREDCACHE", "ERROR"])
def test_only_a_file_that_somebody_else_writes_is_busy(code: str) -> None:
    """As SQLite says it; a statement with a mistake is a crash."""
    failure = library_failure(raised("sqlite3", "OperationalError", sqlite_errorname=f"SQLITE_{code}"))
    assert isinstance(failure, errors.Busy) is (code != "ERROR")
    assert (failure is None) is (code == "ERROR")


@pytest.mark.parametrize(
    ("error", "away"),
    [
        *((OSError(getattr(errno, name), "x"), True) for name in ("EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN")),
        (OSError(errno.ENETDOWN, "x"), True),
        (OSError("Multiple exceptions: x"), True),
        (OSError(errno.EPERM, "Multiple exceptions: x"), False),
        (OSError("One exception: x"), False),
        (FileNotFoundError(errno.EHOSTUNREACH, "x"), False),
        (ConnectionRefusedError("x"), True),
    ],
    ids=str,
)
def test_no_way_to_another_system_is_away(error: OSError, away: bool) -> None:  # noqa: FBT001 - the row
    """A file, a disk or a permission is not."""
    assert isinstance(library_failure(error), errors.UpstreamUnavailable) is away


def test_a_failure_has_this_shape_for_programs() -> None:
    """A schema that clients may rely on."""
    assert ERROR_SCHEMA == {
        "type": "object",
        "properties": {
            "kind": {"type": "string"},
            "retryable": {"type": "boolean"},
            "retryAfterSeconds": {"type": ["number", "null"]},
            "advice": {"type": "string"},
            "reference": {"type": "string"},
        },
        "required": ["kind", "retryable", "retryAfterSeconds", "advice", "reference"],
        "additionalProperties": False,
    }
    result = result_of(errors.Busy("Wait.", retry_after_seconds=2.5), one := exchange())
    text = f"busy: Wait. Retry after 3 s. Reference: {one.request_id}."
    assert [block.model_dump(exclude_none=True) for block in result.content] == [{"type": "text", "text": text}]
    data = {"kind": "busy", "retryable": True, "retryAfterSeconds": 2.5, "advice": "Wait."}
    assert result.meta == {"hardening/error": data | {"reference": one.request_id}}
    assert (result.is_error, result.structured_content) == (True, None)
    refused = protocol_error(errors.NotFound("Look."), None, -32002).error
    assert (refused.code, refused.data["kind"], refused.data["reference"]) == (-32002, "not_found", "")
    assert refused.message == "not_found: Look. A retry with the same arguments will not help."


@pytest.mark.parametrize(
    ("values", "advice", "told"),
    [
        (("Oslo",), "Not Oslo.", "Not …."),
        (("Ulm",), "Not Ulm.", "Not Ulm."),
        ((), "x" * 501, "x" * 500),
        (("x" * 4,), "x" * 4 + "y" * 500, "…" + "y" * 499),
    ],
)
def test_an_authors_sentence_is_bounded_and_repeats_no_value(values: tuple[str, ...], advice: str, told: str) -> None:
    """Values of four characters or more are left out; 500 characters are told."""
    with calling(list(values)) as one:
        _, data = explain(errors.NotFound(advice), one)
    assert data["advice"] == told
    _, data = explain(errors.NotFound(f"Half \ud800 of {advice}"), None)
    assert data["advice"] == f"Half ? of {advice}"


class Deep(BaseModel):
    """Something in something."""

    low: Annotated[int, Field(ge=3, le=5)] = 3
    inner: dict[str, dict[str, dict[str, dict[str, dict[str, int]]]]] = Field(default_factory=dict)
    items: Annotated[list[int], Field(max_length=100)] = Field(default_factory=list)

    model_config = {"extra": "forbid"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"low": 2}, "low: greater than equal (ge 3)"),
        ({"low": 9, "made up": 1}, "low: less than equal (le 5); arguments: has a field that the schema does not know"),
        ({"inner": {"a": {"b": {"low": {"d": {"e": "x"}}}}}}, "inner.*.*.low.*: int parsing"),
        ({"items": ["x"] * 12}, "items.*: int parsing; and 2 more"),
        ({"items": ["x"] * 10}, "items.*: int parsing"),
    ],
)
def test_what_is_wrong_with_arguments_is_told_by_rule(given: dict[str, Any], told: str) -> None:
    """Ten at most, five names deep; names of the contract and bounds of the schema, and nothing of the caller's."""
    with pytest.raises(ValidationError) as invalid:
        Deep.model_validate(given)
    failure = invalid_arguments(invalid.value, {"low", "inner", "items"})
    assert failure.advice == f"Invalid arguments. {told}. Correct them and call again."


@pytest.mark.parametrize(
    ("code", "data", "kind"),
    [
        (-32603, {"kind": "busy"}, "busy"),
        (-32603, {"kind": "made up"}, "protocol_error"),
        (-32602, {"kind": "made up"}, "invalid_input"),
        (-32602, None, "invalid_input"),
        (-32601, ["kind"], "protocol_error"),
    ],
)
def test_an_error_of_the_protocol_has_a_kind_for_the_log(code: int, data: Any, kind: str) -> None:
    """One of ours, or what its code says."""
    assert kind_of(MCPError(code, "x", data)) == kind


TEXT = "Field(max_length=100)"
FORMATTED = f"Annotated[str, {TEXT}]; or for a type without a length, Annotated[str, {TEXT}]"


@pytest.mark.parametrize(
    ("schema", "problems"),
    [
        ({"type": "string", "maxLength": 3}, []),
        ({"type": "string"}, [f"a: bound the text, e.g. Annotated[str, {TEXT}]"]),
        ({"type": "string", "enum": ["a"]}, []),
        ({"type": "string", "const": "a"}, []),
        ({"type": "string", "format": "date"}, []),
        (
            {"type": "string", "format": "email"},
            [f"a: bound the text, e.g. {FORMATTED}"],
        ),
        ({"type": "array", "items": {}}, [f"a: bound the list, e.g. Annotated[list[…], {TEXT}]"]),
        ({"type": "array", "maxItems": 3}, []),
        ({"type": "object"}, [f"a: bound the mapping, e.g. Annotated[dict[…], {TEXT}]"]),
        ({"type": "object", "maxProperties": 3}, []),
        ({"type": "object", "properties": {}}, ["a: refuse unknown fields: ConfigDict(extra='forbid')"]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, []),
        (
            {"type": "array", "maxItems": 3, "uniqueItems": True},
            ["a: take a list; a set drops the duplicates that this schema refuses"],
        ),
        *(
            (said, ["a: offer words, or a range, in place of 0, 1, true and false, which are taken for each other"])
            for said in ({"enum": [5, 1]}, {"enum": [0]}, {"const": 1}, {"const": False}, {"enum": ["a", True]})
        ),
        ({"enum": [2, "1"]}, []),
        ({"const": 2}, []),
        *(({name: []}, []) for name in ("anyOf", "oneOf", "allOf")),
        ({"description": "x"}, ["a: give it a type"]),
        ({"$ref": "#/$defs/x"}, []),
        ({"$ref": "http://x"}, ["a: the schema refers to another document"]),
    ],
    ids=str,
)
def test_what_a_schema_leaves_open(schema: dict[str, Any], problems: list[str]) -> None:
    """One sentence for each, with its place."""
    assert list(lint._loose("a", schema)) == problems  # noqa: SLF001 - one rule of many


def test_a_schema_may_be_ten_deep() -> None:
    """Eleven is too deep."""
    said = {"type": "integer"}
    assert list(lint._loose("a" + ".a" * 10, said)) == []  # noqa: SLF001
    assert list(lint._loose("a" + ".a" * 11, said)) == ["a" + ".a" * 11 + ": nested too deep"]  # noqa: SLF001


def test_every_schema_inside_a_schema_is_looked_at() -> None:
    """Whatever keyword holds it, and nothing that is a value."""
    named = {keyword: {"x": {"title": keyword}} for keyword in ("properties", "patternProperties", "$defs")}
    single = {keyword: {"title": keyword} for keyword in ("items", "additionalProperties", "propertyNames", "contains")}
    several = {keyword: [{"title": keyword}] for keyword in ("anyOf", "oneOf", "allOf", "prefixItems")}
    schema = {**named, **single, **several, "enum": [{"title": "no"}], "default": {"title": "no"}}
    found = [(path, one["title"]) for path, one in lint._schemas(schema) if "title" in one]  # noqa: SLF001
    expected = [("arguments.x", keyword) for keyword in named] + [("arguments[]", keyword) for keyword in single]
    assert sorted(found) == sorted([*expected, *(("arguments", keyword) for keyword in several)])
    assert [path for path, _ in lint._schemas(schema, "result")][0] == "result"  # noqa: RUF015, SLF001


def test_every_pattern_of_a_schema_is_compiled() -> None:
    """The keyword's own, and names of properties."""
    schema = {"pattern": "a**", "patternProperties": {"b++": {}, "c": {}}}
    cure = "write the pattern for ECMAScript, which clients compile it with; it has no"
    assert list(lint._unreadable("a", schema)) == [  # noqa: SLF001
        f"a: {cure} '*' at character 3",
        f"a: {cure} '+' at character 3",
    ]
    assert list(lint._unreadable("a", {"pattern": ["x"]})) == []  # noqa: SLF001


@pytest.mark.parametrize(
    ("schema", "arguments", "result"),
    [
        (
            {"prefixItems": [{"type": "a"}, {"type": "b"}, {"type": "a"}], "minItems": 3, "maxItems": 3},
            {
                "prefixItems": [{"type": "a"}, {"type": "b"}, {"type": "a"}],
                "minItems": 3,
                "maxItems": 3,
                "items": {"anyOf": [{"type": "a"}, {"type": "b"}]},
            },
            None,
        ),
        (
            {"prefixItems": [{"type": "a"}] * 2, "minItems": 2, "maxItems": 2},
            {"minItems": 2, "maxItems": 2, "items": {"type": "a"}},
            None,
        ),
        (
            {"prefixItems": [{"type": "a"}] * 2, "minItems": 1, "maxItems": 2},
            {"prefixItems": [{"type": "a"}] * 2, "minItems": 1, "maxItems": 2, "items": {"type": "a"}},
            None,
        ),
        ({"prefixItems": [{}], "items": False}, {"prefixItems": [{}], "items": False}, None),
        ({"format": "date"}, {"format": "date"}, None),
        ({"format": "time"}, {"format": "time"}, {}),
        ({"format": "date-time", "x-aware": True}, {"format": "date-time"}, None),
        ({"format": "date-time"}, {"format": "date-time"}, {}),
        *(
            ({keyword: {"x": {"format": "time"}}}, {keyword: {"x": {"format": "time"}}}, {keyword: {"x": {}}})
            for keyword in ("properties", "patternProperties", "$defs", "dependentSchemas")
        ),
        *(({keyword: {"format": "time"}}, {keyword: {"format": "time"}}, None) for keyword in ("default", "const")),
        *(({keyword: [{"format": "time"}]}, {keyword: [{"format": "time"}]}, None) for keyword in ("examples", "enum")),
        (
            {"properties": {"enum": {"format": "time"}}},
            {"properties": {"enum": {"format": "time"}}},
            {"properties": {"enum": {}}},
        ),
        ({"anyOf": [{"format": "time"}]}, {"anyOf": [{"format": "time"}]}, {"anyOf": [{}]}),
    ],
    ids=str,
)
def test_a_schema_in_the_form_that_clients_take(schema: Any, arguments: Any, result: Any) -> None:
    """Fixed arrays have `items`; results keep the formats that every value has; values stay as they are."""
    adapter = TypeAdapter(dict[str, Any])
    copy = adapter.validate_json(adapter.dump_json(schema))
    assert portable(adapter.validate_json(adapter.dump_json(schema))) == arguments
    assert portable(copy, result=True) == (arguments if result is None else result)


def test_why_there_is_no_schema_is_said_without_advice_for_libraries() -> None:
    """The first sentence of the first line."""
    assert why_none(ValueError("No schema for X. Set `arbitrary_types_allowed`.\nMore.")) == "No schema for X"


def test_what_a_tool_has_built_is_bounded_as_it_is_written() -> None:
    """To the byte, with the names that clients read."""
    schema = ResultSchema(CallToolResult)
    result = CallToolResult(content=[TextContent(type="text", text="x")], structured_content={"a": 1}, is_error=True)
    size = len(result.model_dump_json(by_alias=True))
    assert size != len(result.model_dump_json(by_alias=False))
    assert schema.finish(result, size) is result
    with pytest.raises(errors.TooLarge):
        schema.finish(result, size - 1)
    plain = ResultSchema(str)
    plain.finish("x" * 98, 100)
    with pytest.raises(errors.TooLarge):
        plain.finish("x" * 99, 100)


def test_a_block_without_base64_does_not_leave() -> None:
    """Clients check it."""
    check_blocks([ImageContent(type="image", data="aGk=", mimeType="image/png")])
    with pytest.raises(ValueError, match="a block holds no base64"):
        check_blocks([ImageContent(type="image", data="a*Gk=", mimeType="image/png")])


@tool(read_only=False, destructive=True, confirm=True)
async def wipe(text: Annotated[str, Field(max_length=9000)]) -> str:
    """Delete something after the person has agreed."""
    return text


@pytest.mark.parametrize(("length", "shown"), [(498, None), (499, "… (501 characters in all)")])
def test_a_long_value_is_shown_in_part(length: int, shown: str | None) -> None:
    """500 characters of it, quotes included, and how many there are."""
    text = f'"{"x" * length}"'
    assert _shown("x" * length) == (text if shown is None else text[:500] + shown)
    assert _shown("\u202e") == '"\\u202e"'
    assert _shown("\u3164é") == '"\\u3164é"'


@pytest.mark.parametrize(("number", "whole"), [(4000, True), (4001, False)])
def test_a_question_is_bounded(number: int, whole: bool) -> None:  # noqa: FBT001 - the row
    """4,000 characters of arguments, and how many there are."""
    tool_of = Tool(wipe)
    lines = {f"{at:03}": "y" * 491 for at in range(8)}
    lines["last"] = "z" * (number - 8 * len(f'000: "{lines["000"]}" ') - len('last: ""'))
    shown = "\n".join(f'{name}: "{value}"' for name, value in lines.items())
    assert len(shown) == number
    question = _question(tool_of, lines).params
    head = "Wipe (wipe) is about to run. It may delete or overwrite. Do you agree?\n"
    expected = shown if whole else f"{shown[:4000]}… (4001 characters in all)"
    assert question.message == head + expected
    assert question.requested_schema == {
        "type": "object",
        "properties": {"confirm": {"type": "boolean", "title": "Yes, do this", "default": False}},
        "required": ["confirm"],
    }
    assert _question(tool_of, {}).params.message.endswith("\n(no arguments)")


@pytest.mark.parametrize(
    ("answer", "required", "failure"),
    [
        (None, True, errors.ConfirmationRequired),
        (None, False, None),
        (ElicitResult(action="accept", content={"confirm": True}), True, None),
        (ElicitResult(action="accept", content={"confirm": False}), False, errors.Declined),
        (ElicitResult(action="accept"), False, errors.Declined),
        (ElicitResult(action="decline", content={"confirm": True}), False, errors.Declined),
        ("yes", False, errors.Declined),
    ],
)
def test_only_a_yes_is_a_yes(answer: Any, required: bool, failure: type[Exception] | None) -> None:  # noqa: FBT001
    """And no answer is one only where none is required."""
    consent = Consent(None, required=required)  # type: ignore[arg-type] - nothing is asked
    if failure is None:
        consent._decide(answer)  # noqa: SLF001 - one decision
    else:
        with pytest.raises(failure):
            consent._decide(answer)  # noqa: SLF001


@pytest.mark.parametrize("ending", ["answer", "leaving", "cancelled"])
async def test_a_question_leaves_nothing_behind(ending: str) -> None:
    """Whether it is answered, the process ends, or the call does: neither of the two waits goes on."""
    session: Any = AskingSession.__new__(AskingSession)
    session._leaving = asyncio.Event()  # noqa: SLF001 - what it waits for
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()

    async def work() -> str:
        try:
            return await answered
        finally:
            ended.set()

    waiting = asyncio.create_task(session._unless_leaving(work()))  # noqa: SLF001
    await asyncio.sleep(0.01)
    assert not ended.is_set()
    if ending == "answer":
        answered.set_result("yes")
        assert await waiting == "yes"
    elif ending == "leaving":
        session._leaving.set()  # noqa: SLF001
        with pytest.raises(errors.UpstreamUnavailable):
            await waiting
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(5):
        await ended.wait()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def question(kind: str) -> Any:
    """Return a question to a client."""
    asked = {"messages": [], "max_tokens": 9}
    form = ElicitRequestFormParams(message="x", requested_schema={"type": "object", "properties": {}})
    return {
        "form": lambda: ElicitRequest(params=form),
        "url": lambda: ElicitRequest(params=ElicitRequestURLParams(message="x", url="https://x", elicitation_id="1")),
        "roots": ListRootsRequest,
        "sampling": lambda: CreateMessageRequest(params=CreateMessageRequestParams(**asked)),
        "tools": lambda: CreateMessageRequest(
            params=CreateMessageRequestParams(**asked, tool_choice=ToolChoice(mode="auto"))
        ),
    }[kind]()


ABLE: dict[str, dict[str, Any]] = {
    "form": {"elicitation": {"form": {}}},
    "url": {"elicitation": {"url": {}}},
    "roots": {"roots": {}},
    "sampling": {"sampling": {}},
    "tools": {"sampling": {"tools": {}}},
}


@pytest.mark.parametrize("kind", ABLE)
@pytest.mark.parametrize(
    ("declared", "kinds"),
    [
        (None, ()),
        ({}, ()),
        ({"elicitation": {}}, ("form",)),
        ({"elicitation": {"form": {}}}, ("form",)),
        ({"elicitation": {"url": {}}}, ("url",)),
        ({"elicitation": {"form": {}, "url": {}}}, ("form", "url")),
        ({"roots": {}}, ("roots",)),
        ({"sampling": {}}, ("sampling",)),
        ({"sampling": {"tools": {}}}, ("sampling", "tools")),
    ],
    ids=str,
)
def test_a_client_is_asked_what_it_has_declared(
    kind: str, declared: dict[str, Any] | None, kinds: tuple[str, ...]
) -> None:
    """And an error names what it has not: forms and addresses apart, tools only where they are asked for."""
    capabilities = None if declared is None else ClientCapabilities.model_validate(declared)
    assert answerable(question(kind), capabilities) is (kind in kinds)
    assert needed(question(kind)) == ABLE[kind]


class Renamed(BaseModel):
    """A result with another name at the client's."""

    size_of: Annotated[int, Field(serialization_alias="sizeOf", validation_alias="sizeIn")]


@pytest.mark.parametrize("returned", [Renamed(sizeIn=3), {"sizeIn": 3}])
def test_a_result_has_the_names_of_its_schema(returned: Any) -> None:
    """Whether the tool returns the model, or a mapping that is one."""
    schema = ResultSchema(Renamed)
    result = schema.finish(returned, 1000)
    assert schema.schema is not None
    assert set(schema.schema["properties"]) == {"sizeOf"}
    assert isinstance(result, CallToolResult)
    assert result.structured_content == {"sizeOf": 3}


@pytest.mark.parametrize("name", ["tools_sha256", "schema_of_one"])
def test_a_digest_does_not_depend_on_the_order_of_names(name: str) -> None:
    """The same contract is the same digest."""
    one, other = {"name": "a", "title": "b", "é": 1}, {"é": 1, "title": "b", "name": "a"}
    expected = hashlib.sha256('{"name":"a","title":"b","é":1}'.encode()).hexdigest()
    if name == "tools_sha256":
        assert tools_sha256([one]) == tools_sha256([other])
    assert tool_hashes([one]) == tool_hashes([other]) == {"a": expected}


@pytest.mark.parametrize(("kind", "suffix"), [(Image, "png"), (Audio, "wav")])
def test_a_file_that_is_too_large_is_not_read(kind: Any, suffix: str, tmp_path: Path) -> None:
    """Its size is looked at first; up to the bound it becomes a block."""
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(b"x" * 100)
    (block,) = blocks_of(kind(path=file), 100)
    assert base64.b64decode(block.data) == b"x" * 100
    with pytest.raises(errors.TooLarge):
        blocks_of([kind(path=file)], 99)


def test_slots_are_shared() -> None:
    """Three in all, two for one caller, and none is remembered that was given back."""
    shares = Shares(3, 2)
    assert [shares.take(caller) for caller in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    assert shares.total == 3
    shares.give_back("a")
    assert (shares.total, shares.take("c"), shares.take("b")) == (2, True, False)
    for caller in ("a", "b", "c"):
        shares.give_back(caller)
    assert (shares.total, dict(shares._by_caller)) == (0, {})  # noqa: SLF001 - it must not grow
    assert Shares(2, 9).most_per_caller == 2
    assert Shares(9, 2).most_per_caller == 2


async def test_so_many_wait_for_a_thread_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are `busy` at once; who has given up makes room, and the others come in their turn."""
    monkeypatch.setattr(threads_of, "MOST_WAITING", 3)
    shares, order = Shares(1, 1), list[int]()
    threads = Threads(shares, 20.0)
    assert shares.take("a")

    async def one(number: int) -> None:
        order.append(await threads.run("a", lambda: number))

    waiting = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(errors.Busy):
        await threads.run("b", int)
    waiting.pop(0).cancel()
    await asyncio.sleep(0)
    last = asyncio.create_task(one(3))
    await asyncio.sleep(0)
    assert len(threads._waiting) == 3  # noqa: SLF001 - how many wait is the promise
    threads._give_back("a")  # noqa: SLF001 - as the function that had the thread
    await asyncio.wait_for(asyncio.gather(*waiting, last), 20)
    threads.close()

    assert order == [1, 2, 3]
    assert (shares.total, threads._waiting) == (0, {})  # noqa: SLF001 - nothing is kept


async def test_the_age_of_what_runs_in_a_thread_is_that_of_the_oldest() -> None:
    """Zero when nothing runs; a function is counted until it returns, and its thread is used again."""
    now = [100.0]
    threads = Threads(Shares(2, 2), 5.0, lambda: now[0])
    assert (threads.oldest_seconds(), threads.busy) == (0.0, 0)
    gates = [asyncio.Event(), asyncio.Event()]
    loop = asyncio.get_running_loop()

    def hold(at: int) -> int:
        asyncio.run_coroutine_threadsafe(gates[at].wait(), loop).result(20)
        return at

    first = asyncio.create_task(threads.run("a", hold, 0))
    await asyncio.sleep(0.01)
    now[0] = 103.0
    second = asyncio.create_task(threads.run("b", hold, at=1))
    await asyncio.sleep(0.01)
    now[0] = 105.0
    assert (threads.oldest_seconds(), threads.busy) == (5.0, 2)
    gates[0].set()
    assert await first == 0
    assert (threads.oldest_seconds(), threads.busy) == (2.0, 1)
    gates[1].set()
    assert await second == 1
    assert (threads.oldest_seconds(), threads.busy, len(threads._idle)) == (0.0, 0, 2)  # noqa: SLF001
    threads.close()
    assert threads._idle == []  # noqa: SLF001 - they end
