"""Message guard: well-formed JSON-RPC 2.0, bounded depth, an era that is served (400).

Answers what is malformed itself, since in the older protocols the SDK's own answer repeats the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from mcp_types.methods import SPEC_CLIENT_METHODS
from pydantic_core import from_json

from ..logs.redaction import collect
from ..response import Response
from ..routes import TOOLS_CALL
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..exchange import Exchange
    from ..settings import HardeningSettings

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
UNSUPPORTED_VERSION = -32022

NOT_A_MESSAGE = Response(400, "invalid_request", "Send one JSON-RPC 2.0 message.", code=INVALID_REQUEST)

# Members of `_meta` that carry texts of W3C Trace Context; the SDK relies on it.
TRACE_CONTEXT = ("traceparent", "tracestate", "baggage")

# Members of `_meta` that the protocol itself has.
PROTOCOL_META = "io.modelcontextprotocol/"

# What a method without data of a caller needs at most: client, capabilities, cursors, addresses to listen to.
MAX_PLAIN_BYTES = 65_536
MAX_PLAIN_VALUES = 1000
# Characters; of numbers, what JSON can carry between any two programs (RFC 8259, section 6).
LONGEST_ID = 128
LARGEST_ID = 2**53

# Headers that hold no more than the protocol itself, or what a log line shows on purpose; others may hold anything.
ORDINARY = frozenset(
    {b"connection", b"content-length", b"content-type", b"host", b"mcp-method", b"mcp-protocol-version"}
    | {b"accept", b"accept-encoding", b"accept-language", b"traceparent", b"user-agent", b"x-forwarded-proto"}
)

# Methods whose parameters come from a model or a person, beyond what the protocol itself puts there.
CARRIES_DATA = frozenset({TOOLS_CALL, "prompts/get", "resources/read", "completion/complete"})
_NAMES = tuple(f'"{name}"'.replace("/", slash).encode() for name in CARRIES_DATA for slash in ("/", r"\/"))

TOO_LONG = Response(413, "too_big", "Only messages with arguments may be longer than 65536 bytes.")
TOO_MANY_VALUES = Response(
    400, "too_many_values", "The message holds too many values; see MCP_MAX_JSON_VALUES.", code=INVALID_REQUEST
)


class MessageCheck:
    """Refuses with 400 and the codes of JSON-RPC 2.0; sets what later guards and log lines need."""

    def __init__(self, settings: HardeningSettings) -> None:
        self.depth = settings.max_json_depth
        self.values = settings.max_json_values
        self.legacy = settings.legacy
        self.turns = Turns()

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Check one body; see the class."""
        # Parsing is where the work on a message begins.
        await self.turns.wait(exchange)
        # Checked in every case, because the answer carries the id of the message where it is known.
        malformed = self._check(exchange)
        if self.legacy != "refuse" or exchange.era != "legacy":
            return malformed
        data = (("supported", list(MODERN_PROTOCOL_VERSIONS)), ("requested", exchange.protocol_version))
        message = f"Speak protocol {' or '.join(MODERN_PROTOCOL_VERSIONS)}; older ones are not served here."
        return Response(400, "legacy_refused", message, code=UNSUPPORTED_VERSION, data=data)

    def _check(self, exchange: Exchange) -> Response | None:
        if exchange.body is None:
            return None
        if refusal := self._too_much(exchange, exchange.body):
            return refusal
        try:
            message = from_json(exchange.body, allow_inf_nan=False)
        except ValueError:
            return Response(400, "parse_error", "Parse error", code=PARSE_ERROR)
        if too_deep(exchange.body, message, self.depth):
            return Response(400, "too_deep", "The message is nested too deep.", code=INVALID_REQUEST)
        return self._read(exchange, message)

    def _too_much(self, exchange: Exchange, body: bytes) -> Response | None:
        """Bound what parsing costs, before it: bytes and values, fewer where no method with arguments is named."""
        if len(body) <= MAX_PLAIN_VALUES:
            return None
        probe = exchange.principal is not None and exchange.principal.kind == "probe"
        if probe or not any(name in body for name in _NAMES):
            if len(body) > MAX_PLAIN_BYTES:
                return TOO_LONG
            most = min(MAX_PLAIN_VALUES, self.values)
        else:
            most = self.values
        return TOO_MANY_VALUES if has_more_values(body, most) else None

    def _read(self, exchange: Exchange, message: Any) -> Response | None:
        if not isinstance(message, dict) or not _well_formed(message := cast("dict[str, Any]", message)):
            return NOT_A_MESSAGE
        method = message.get("method")
        if method is None and self.legacy == "stateful" and exchange.era == "legacy" and "id" in message:
            # The client's answer to a request of ours; only sessions have these.
            collect([message.get("result"), message.get("error")], exchange.sensitive)
            return None if _answers(message) else NOT_A_MESSAGE
        if not isinstance(method, str):
            return NOT_A_MESSAGE
        exchange.rpc_id = message.get("id")
        exchange.rpc_method = method
        if method not in CARRIES_DATA and (too_much := _too_much_without_arguments(exchange.body or b"")):
            return too_much
        exchange.params = message.get("params") or {}
        if not _traceable(exchange.params.get("_meta")):
            return Response(400, "invalid_params", "Invalid request parameters", code=INVALID_PARAMS)
        if method in CARRIES_DATA or method not in SPEC_CLIENT_METHODS or "cursor" in exchange.params:
            name = exchange.params.get("name")
            if method == TOOLS_CALL and isinstance(name, str):
                exchange.tool_name = name
            given = [value for key, value in exchange.params.items() if key != "_meta"]
            given += [*_extensions(exchange.meta), *([exchange.rpc_id] if isinstance(exchange.rpc_id, str) else [])]
            headers = [value for header, value in exchange.headers.items() if header not in ORDINARY]
            collect(given + headers, exchange.sensitive)
        return None


def _extensions(meta: dict[str, Any]) -> list[Any]:
    """Return what `_meta` holds beyond the protocol, whose own members say who the client is, or count."""
    own = {key: value for key, value in meta.items() if not key.startswith(PROTOCOL_META) and key != "traceparent"}
    if not isinstance(own.get("progressToken"), str):
        own.pop("progressToken", None)
    return list(own.values())


def _too_much_without_arguments(body: bytes) -> Response | None:
    """Bound a message of a method that needs no arguments; what is small is not counted."""
    if len(body) > MAX_PLAIN_BYTES:
        return TOO_LONG
    return TOO_MANY_VALUES if len(body) > MAX_PLAIN_VALUES and has_more_values(body, MAX_PLAIN_VALUES) else None


def _well_formed(message: dict[str, Any]) -> bool:
    rpc_id = message.get("id", 0)
    if isinstance(rpc_id, str):
        identified = len(rpc_id) <= LONGEST_ID
    else:
        identified = isinstance(rpc_id, int) and not isinstance(rpc_id, bool) and abs(rpc_id) <= LARGEST_ID
    return message.get("jsonrpc") == "2.0" and identified and isinstance(message.get("params"), dict | None)


def _answers(message: dict[str, Any]) -> bool:
    if "result" in message:
        return isinstance(message["result"], dict)
    error = message.get("error")
    if not isinstance(error, dict):
        return False
    told = cast("dict[str, Any]", error)
    return isinstance(told.get("code"), int) and isinstance(told.get("message"), str)


def _traceable(meta: Any) -> bool:
    if meta is None:
        return True
    if not isinstance(meta, dict):
        return False
    members = cast("dict[str, Any]", meta)
    return all(isinstance(members.get(name, ""), str) for name in TRACE_CONTEXT)


def has_more_values(body: bytes, most: int) -> bool:
    """Return whether a JSON text holds more than `most` values, without parsing it.

    Each value but the first of an array or object comes after a comma; those in strings do not count.
    """
    marks = (b"[", b"{", b",")
    if sum(map(body.count, marks)) <= most:
        return False
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Of each value at most a name and a text are in quotes; taking apart a million of them takes too long.
    if body.count(b'"') > 4 * most + 2:
        return True
    outside = b"".join(body.split(b'"')[::2])
    return sum(map(outside.count, marks)) > most


def too_deep(body: bytes, message: Any, depth: int) -> bool:
    """Return whether `message`, parsed from `body`, is nested deeper than `depth`."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level: list[Any] = [message] if isinstance(message, dict | list) else []
    for _ in range(depth):
        inner: list[Any] = []
        for node in level:
            children = cast("Iterable[Any]", node.values() if isinstance(node, dict) else node)
            inner += [child for child in children if isinstance(child, dict | list)]
        level = inner
    return bool(level)
