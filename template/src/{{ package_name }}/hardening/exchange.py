"""One HTTP request while it is being answered (`Exchange`), and who is calling (`Principal`).

The exchange is made at the edge, filled by the guards in their order, and found by every log line
through a context variable, in tasks and threads too, without being passed along.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from .response import Response

Era = Literal["modern", "legacy"]

# The version a legacy client speaks when it names none (2025-11-25, Transports).
UNNAMED_VERSION = "2025-03-26"
LONGEST_CLIENT_NAME = 64

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, after authentication.

    Attributes:
        kind: How the caller proved who it is.
        name: Name of the key, or subject of the token. Safe to log.
        issuer: Token issuer (JWT only).
        client_id: OAuth client (JWT only).
        scopes: Scopes of the token (JWT only; a key is not limited by scopes).
        expires_at: End of the credential in Unix seconds (JWT only).
        tenant: Whom the caller belongs to (`MCP_TENANT_CLAIM`, `MCP_API_KEY_TENANTS`); empty when that is not set.
        claims: Claims of the token that `MCP_JWT_CLAIMS` names.
    """

    kind: Literal["api_key", "jwt", "probe", "none"]
    name: str
    issuer: str = ""
    client_id: str = ""
    scopes: frozenset[str] = frozenset()
    expires_at: float | None = None
    tenant: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    @property
    def id(self) -> str:
        """Stable identity: limits are counted by it, sessions and request state bound to it; it is unique."""
        if self.kind == "jwt":
            return " ".join(("jwt", *map(_without_blanks, (self.issuer, self.name, self.client_id))))
        return f"{self.kind} {self.name}"

    def remaining_seconds(self) -> float | None:
        """Return how long the credential still holds, or None when it has no end; never negative."""
        return None if self.expires_at is None else max(0.0, self.expires_at - time.time())


def _without_blanks(text: str) -> str:
    return text.replace("%", "%25").replace(" ", "%20")


@dataclass(slots=True, eq=False)
class Exchange:
    """One HTTP request while it is being answered.

    `sensitive` holds every string of the request that must never be written anywhere, and `result` what a tool
    has answered, whose strings are added when an author's line asks for it.
    `accepts_stream` is whether the client takes an event stream as the answer to a POST.
    `on_end` holds what gives back the slots that guards took; it always runs, in reverse order,
    with the last byte of the answer. `on_done` waits until the protocol has tidied up as well.
    `host` is the Host once it has been checked, and `reason` why a credential was refused.
    `in_flight` gives the slot of the request back early, when it has become a stream with a slot of its own.
    `rpc_error` is the code of the error that the protocol answers with, and `logged` whether a line has told how the
    call ended.
    `complete` is whether the last byte of the answer was given to the connection.
    `on_response_start` is told of the status and the headers that the protocol answers with.
    """

    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    trace_id: str
    method: str
    path: str
    headers: dict[bytes, bytes]
    protocol_version: str
    era: Era
    started: float = field(default_factory=time.monotonic)
    query: bytes = b""
    repeated: frozenset[bytes] = frozenset()
    address: str = ""
    host: str = ""
    principal: Principal | None = None
    body: bytes | None = None
    rpc_method: str | None = None
    rpc_id: int | str | None = None
    tool_name: str | None = None
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    client_name: str = ""
    session_id: str = ""
    accepts_stream: bool = True
    probe: bool = False
    sensitive: set[str] = field(default_factory=set[str])
    result: object = None
    on_end: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on_done: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on_response_start: list[Callable[[Exchange, Message], None]] = field(
        default_factory=list["Callable[[Exchange, Message], None]"]
    )
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    status: int = 0
    refused_by: str | None = None
    limit: str | None = None
    reason: str | None = None
    rpc_error: int | None = None
    logged: bool = False
    notifications_sent: int = 0
    complete: bool = False
    answered: bool = False
    in_flight: Callable[[], None] | None = None
    _work: int = 0
    _on_work_over: list[Callable[[], None]] = field(default_factory=list["Callable[[], None]"])

    @contextmanager
    def working(self) -> Generator[None]:
        """Hold what the request took, the count of the drain included, also after its client has left."""
        self._work += 1
        try:
            yield
        finally:
            self._work -= 1
            if not self._work:
                waiting, self._on_work_over = self._on_work_over, []
                for action in waiting:
                    action()

    def when_work_is_over(self, action: Callable[[], None]) -> None:
        """Do something now, or when the last work for this request has ended."""
        if self._work:
            self._on_work_over.append(action)
        else:
            action()

    def forget(self, *scopes: Scope) -> None:
        """Release what was asked and answered, in place: sessions and streams keep the objects that hold it.

        Log lines are compared with a memory of their own (`logs/recent.py`).
        """
        self.body = self.result = None
        self.sensitive = set()
        self.headers.clear()
        self.params.clear()
        for scope in scopes:
            cast("list[object]", scope.get("headers", [])).clear()

    @property
    def ended(self) -> bool:
        """Whether it is answered and nothing works for it any more: a task that it has started belongs to nobody."""
        return self.answered and not self._work

    @property
    def meta(self) -> dict[str, Any]:
        """The message's `_meta`; what is in it is only claimed."""
        return self.params.get("_meta") or {}

    def header(self, name: bytes) -> str:
        """Return a header's value as text, or `""`; `name` in lower case."""
        return self.headers.get(name, b"").decode("latin-1")


Guard = Callable[[Exchange], Awaitable["Response | None"]]

current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def open_exchange(scope: Scope, receive: Receive, send: Send) -> Exchange:
    """Make the exchange of one HTTP request; nothing in it is trusted yet."""
    headers, repeated = _fields(scope["headers"])
    # Whatever reads them again, the SDK for one, sees what the guards see.
    scope["headers"] = list(headers.items())
    version = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
    legacy = not version or version in HANDSHAKE_PROTOCOL_VERSIONS
    own_ids = secrets.token_hex(24)
    return Exchange(
        scope=scope,
        receive=receive,
        send=send,
        request_id=own_ids[:16],
        trace_id=trace_id(headers.get(b"traceparent", b"").decode("latin-1")) or own_ids[16:],
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b""),
        headers=headers,
        repeated=repeated,
        protocol_version=version[:32] or UNNAMED_VERSION,
        era="legacy" if legacy else "modern",
        client_name=printable(headers.get(b"user-agent", b"").decode("latin-1")),
    )


def _fields(sent: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """Return each field once, and the names of those that came more than once.

    Lines of one field are joined, as they may be (RFC 9110, section 5.3); the guard `HeaderFields` refuses the fields
    that are no lists. Whitespace around a value is no part of it (section 5.5), and the parser leaves it at the end.
    """
    lines: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, line in sent:
        lines[name].append(line.strip(b" \t"))
    repeated = frozenset(name for name, values in lines.items() if len(values) > 1)
    return {name: b", ".join(values) for name, values in lines.items()}, repeated


def trace_id(traceparent: object) -> str:
    """Return the trace id of a W3C `traceparent`, or `""` when it is not a valid one."""
    match = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return match[1] if match and int(match[1], 16) and int(match[2], 16) else ""


def printable(text: object) -> str:
    """Bound text that a client claims: printable ASCII, at most 64 characters."""
    return _UNPRINTABLE.sub("?", text[:LONGEST_CLIENT_NAME]) if isinstance(text, str) else ""
