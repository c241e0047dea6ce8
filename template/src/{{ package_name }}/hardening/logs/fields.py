"""Allow-list of log fields with their types; other fields are dropped and counted.

An author's lines can have those too that `log_fields` of the settings class declares.
No type in the tables holds a structure that a call could fill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

# Longer texts are cut; longer lists and mappings too.
LONGEST_TEXT = 128
MOST_ITEMS = 128

NUMBER: tuple[type, ...] = (int, float)
TEXT: tuple[type, ...] = (str,)
FLAG: tuple[type, ...] = (bool,)
EITHER: tuple[type, ...] = (int, str)
TEXTS: tuple[type, ...] = (list, tuple)
SETTINGS: tuple[type, ...] = (dict,)

# Fields that only this package may write: one is a mapping, the other names what was called.
RESERVED = frozenset({"settings", "tool_name", "prompt_name"})

# What `record` writes by itself, and why.
ALWAYS: dict[str, str] = {
    "ts": "when, in UTC, to the millisecond",
    "level": "debug, info, warning, error or critical",
    "msg": "what happened; a literal of the code that logs",
    "request_id": "made here; the caller has it as X-Request-Id and as the reference of an error",
    "trace_id": "of the W3C traceparent the caller sent, or made here",
    "session_id": "hash of the session's id (legacy, stateful)",
    "principal": "name of the key, or subject of the token",
    "client_name": "what the client claims to be: not checked, 64 characters at most",
    "probe": "whether a monitor asks",
    "era": "modern or legacy",
    "protocol_version": "version the client speaks",
    "tool_name": "which tool; unknown where this server has none of that name",
    "exception": "types and places of an exception and its causes",
    "dropped_fields": "how many fields were left out because they are not in the table",
}

# name: (types, why it may be written). None is always accepted.
FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    # One call.
    "tool_name": (TEXT, "which tool; only names that this server declares"),
    "prompt_name": (TEXT, "which prompt; only names that this server declares"),
    "duration_ms": (NUMBER, "how long it took, in milliseconds"),
    "outcome": (TEXT, "ok, error or cancelled"),
    "error_type": (TEXT, "name of an exception's class"),
    "error_code": (EITHER, "kind of failure; null on success"),
    "notifications_sent": (NUMBER, "progress and other events the caller was sent"),
    # One refusal at the edge.
    "layer": (TEXT, "which protection refused"),
    "status": (EITHER, "HTTP status, or a state"),
    "retry_after": (NUMBER, "seconds that the caller was told to wait"),
    "suppressed": (NUMBER, "like lines that were left out since the last one"),
    "rpc_method": (TEXT, "protocol method; one of those that this server has"),
    "route": (TEXT, "which route of this server; never the path as it was sent"),
    # The process.
    "settings": (SETTINGS, "effective settings at start, secrets masked"),
    "field": (TEXT, "name of a log field that is not declared; a keyword of the code that logs"),
    "setting": (TEXT, "name of the setting to change"),
    "version": (TEXT, "version of this server"),
    "schema": (TEXT, "SHA-256 of the tool contract"),
    "host": (TEXT, "address that is listened on"),
    "port": (NUMBER, "port that is listened on"),
    "pid": (NUMBER, "process id"),
    "signal": (TEXT, "signal received"),
    "exit_code": (NUMBER, "how the process ends"),
    "in_flight": (NUMBER, "calls being answered"),
    "streams": (NUMBER, "subscription streams open"),
    "sessions": (NUMBER, "sessions open"),
    "calls": (TEXTS, "names of the tools that run"),
    "dropped": (NUMBER, "lines lost because standard error was slow or closed"),
    "stream": (TEXT, "stdout, stderr or descriptor: where stray output was written"),
    "logger": (TEXT, "name of a logger that is not ours"),
    "where": (TEXT, "module, function and line that wrote this"),
    # Upstream systems.
    "backend": (TEXT, "what is talked to: postgres, redis, jwks"),
    "key_id": (TEXT, "which signing key; a hash or a declared name"),
    "pool_size": (NUMBER, "connections open"),
    "pool_idle": (NUMBER, "connections free"),
    "waiting": (NUMBER, "calls that wait for a connection"),
    # For any line, the author's too.
    "kind": (TEXT, "what sort, one word"),
    "state": (TEXT, "state that something is in"),
    "step": (TEXT, "how far a procedure is"),
    "reason": (TEXT, "why, one word"),
    "source": (TEXT, "where something comes from"),
    "reference": (EITHER, "an id of yours that is no value of the call"),
    "count": (NUMBER, "how many"),
    "total": (NUMBER, "of how many"),
    "size": (NUMBER, "how big"),
    "bytes": (NUMBER, "how big, in bytes"),
    "rows": (NUMBER, "rows read or written"),
    "attempt": (NUMBER, "which attempt"),
    "limit": (EITHER, "bound that was reached, or which rate"),
    "share": (NUMBER, "part of a limit that this replica may use"),
    "remaining": (NUMBER, "what is left of it"),
    "cost": (NUMBER, "units of budget"),
    "seconds": (NUMBER, "how long, in seconds"),
    "timeout_seconds": (NUMBER, "deadline, in seconds"),
    "cached": (FLAG, "whether it came from a cache"),
    "retryable": (FLAG, "whether a retry can help"),
    "ok": (FLAG, "whether it worked"),
}


def admitted(name: str, value: object) -> bool:
    """Return whether a field may be written with this value; bool is no number."""
    row = FIELDS.get(name)
    if row is None:
        return False
    types = row[0]
    # Enumerations are strings and numbers too.
    return value is None or type(value) in types or (isinstance(value, types) and not isinstance(value, bool))


def cut(value: object) -> object:
    """Bound a value: 128 characters, 128 items, no structure inside a structure."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[: LONGEST_TEXT - 1] + "…"
    if isinstance(value, Mapping):
        items = list(cast("Mapping[object, object]", value).items())[:MOST_ITEMS]
        return {str(key): _plain(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)[:MOST_ITEMS]]
    return value


def _plain(value: object) -> object:
    return cut(value) if isinstance(value, str | int | float | None) else "…"
