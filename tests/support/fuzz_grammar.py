"""A grammar of requests: mostly well formed, each wrong in a few places, and all of them made from one seed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
# In every value that may not be written down; a log line that holds it has leaked.
CANARY = "qzx7canary"
PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
METHODS = (
    *("tools/call",) * 8,
    *("tools/list", "server/discover", "initialize", "ping", "prompts/list", "prompts/get"),
    *("resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe"),
    *("completion/complete", "logging/setLevel", "subscriptions/listen", "tasks/get", "tasks/list", "roots/list"),
    *("sampling/createMessage", "elicitation/create", "notifications/initialized", "notifications/cancelled"),
    *("notifications/progress", "notifications/roots/list_changed", "notifications/unknown", "rpc.discover"),
    *(CANARY, "", "tools/call ", "TOOLS/CALL", "tools/call\x00", "__class__", "tools/" + "l" * 3000),
)
TOOLS = ("echo", "echo", "scalars", "shapes", "days", "slow", "steps", "bare", "countdown", "keep_note", "through")
ODD_NAMES = ("", CANARY, "Echo", "echo ", "../echo", "e" * 5000, "\u202eohce", "échò", "__init__", "build")


@dataclass(frozen=True)
class Raw:
    """Bytes that are written as they are, in place of a JSON value."""

    data: bytes


@dataclass(frozen=True)
class Pairs:
    """An object with its members in this order; names may be there twice."""

    members: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Input:
    """One thing to send.

    Attributes:
        raw: What is written to the connection.
        body: The part of it after the head, to compare the id with.
        head: Whether it is a HEAD request, whose answer has no body.
        last: Whether the connection is of no further use, because the framing is wrong.
        ends: Whether the client says that no more will come (a half-closed connection).
        stalls: Whether something is missing and never comes.
        leaves: Whether the client goes away without waiting for the answer.
    """

    raw: bytes
    body: bytes = b""
    head: bool = False
    last: bool = False
    ends: bool = False
    stalls: bool = False
    leaves: bool = False


@dataclass(frozen=True)
class Known:
    """What a good client knows: keys, and sessions where there are any."""

    keys: tuple[str, ...]
    sessions: tuple[str, ...] = ()


def inputs(chance: Random, known: Known) -> Iterator[Input]:
    """Yield inputs without end, most of them with a valid key."""
    while True:
        yield _junk(chance) if chance.random() < 0.02 else _request(chance, known)


def write(value: Any) -> bytes:
    """Write JSON, and what only looks like it."""
    if isinstance(value, Raw):
        return value.data
    if isinstance(value, Pairs):
        return b"{" + b",".join(write(name) + b":" + write(inner) for name, inner in value.members) + b"}"
    if isinstance(value, dict):
        return write(Pairs(tuple(value.items())))
    if isinstance(value, list):
        return b"[" + b",".join(map(write, value)) + b"]"
    return json.dumps(value).encode()


def scalar(chance: Random) -> Any:
    """Return a value of any type and size, of which some are no JSON."""
    return chance.choice(
        [
            *(None, True, False, 0, 1, -1, 5.0, -0.5, "", CANARY, "1", "null", "\x00", "\ufeff", "\u202e", "😀"),
            *(2**31, 2**53 + 1, -(2**63), 2**64, 10**40, [], {}, [[]], [None], {"": None}, {"name": CANARY}),
            Raw(b"1" * chance.choice([100, 4300, 5000])),
            Raw(chance.choice([b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"-0", b"1E5", b"0.1e-400"])),
            Raw(chance.choice([b"01", b"1.", b".5", b"+1", b"0x1", b"'a'", b"undefined", b"True", b"", b"a"])),
            Raw(chance.choice([b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\\ud83d\\ude00"', b'"\\x"'])),
            Raw(
                b'"'
                + chance.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\n", b"\x00"])
                + b'"'
            ),
            Raw(b'"' + b"a" * chance.choice([300, 70_000, 300_000]) + b'"'),
            Raw(b"[" * (deep := chance.choice([10, 63, 64, 65, 200, 5000])) + b"]" * deep),
            Raw(b'{"a":' * (deep := chance.choice([60, 66, 300])) + b"1" + b"}" * deep),
            Raw(b"[" + b"0," * chance.choice([50, 20_000]) + b"0]"),
            Raw(b"{" + b",".join(b'"%d":1' % n for n in range(chance.choice([50, 5000]))) + b"}"),
        ]
    )


def rpc_id(chance: Random) -> Any:
    """Return an id, valid half of the time."""
    if chance.random() < 0.7:
        return chance.choice([chance.randint(0, 10**6), "a", "x" * 200, 0, -7, 2**53, "\u2603", "1"])
    return scalar(chance)


def arguments(chance: Random, tool: str) -> Any:
    """Return arguments that fit a tool more often than not."""
    point = {"x": chance.choice([0, 1.5, 181]), "y": 0, **chance.choice([{}, {"label": CANARY}, {"z": 1}])}
    good: dict[str, dict[str, Any]] = {
        "echo": {"text": CANARY, "number": chance.choice([0, 1, 3, 101])},
        "scalars": {"integer": 1, "number": 0.5, "flag": True, "code": "ABC", "choice": "a", "nothing": None},
        "shapes": {"line": {"points": [point]}, "weights": {CANARY: 1}, "either": CANARY[:5], "names": [CANARY[:9]]},
        "days": {"day": chance.choice(["2026-11-22", "2026-02-30", CANARY, "0001-01-01"])},
        "slow": {"seconds": chance.choice([0, 0, 0, 0, 0, 0.001, 0.01, 61])},
        "steps": {"count": chance.choice([1, 3, 20, 21])},
        "countdown": {"steps": 1, "step_seconds": chance.choice([0.05, 0.05, 0])},
        "through": {"text": chance.choice([CANARY, "a\x00b", "\U0001f600"])},
        "keep_note": {"body": chance.choice([CANARY, CANARY, "", "a\x00b", "\u2603" * 10])},
    }
    found = good.get(tool, {})
    if chance.random() < 0.3:
        return _changed(chance, found)
    return found


def _changed(chance: Random, members: dict[str, Any]) -> Any:
    kind = chance.randrange(5)
    names = [*members] or ["text"]
    if kind == 0:
        return {name: value for name, value in members.items() if name != chance.choice(names)}
    if kind == 1:
        return {**members, chance.choice(names): scalar(chance)}
    if kind == 2:
        return {**members, chance.choice([CANARY, "", "ctx", "self", "__proto__", "args"]): scalar(chance)}
    if kind == 3:
        return Pairs((*members.items(), (chance.choice(names), scalar(chance))))
    return scalar(chance)


def _params(chance: Random, method: str) -> dict[str, Any]:
    if method == "tools/call":
        name = chance.choice(TOOLS if chance.random() < 0.9 else ODD_NAMES)
        return {"name": name, "arguments": arguments(chance, name)}
    reference = {"type": "ref/prompt", "name": "greet"}
    known: dict[str, dict[str, Any]] = {
        "prompts/get": {"name": chance.choice(["greet", CANARY]), "arguments": chance.choice([{"name": CANARY}, {}])},
        "resources/read": {
            "uri": chance.choice(["fuzz://text", f"fuzz://of/{CANARY}", "fuzz://no", CANARY, "file:///"])
        },
        "completion/complete": {"ref": reference, "argument": {"name": "name", "value": CANARY}},
        "initialize": {
            "protocolVersion": chance.choice([*LEGACY, *LEGACY, MODERN, "1999-01-01", "", CANARY]),
            "capabilities": {},
            "clientInfo": {"name": "fuzz", "version": "1"},
        },
        "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
        "notifications/cancelled": {"requestId": rpc_id(chance), "reason": CANARY},
        "notifications/progress": {"progressToken": 1, "progress": 1},
        "logging/setLevel": {"level": chance.choice(["debug", "loud"])},
    }
    return known.get(method, {"cursor": CANARY} if chance.random() < 0.05 else {})


def _meta(chance: Random, era: str) -> dict[Any, Any]:
    meta: dict[Any, Any] = {}
    if era == "modern":
        meta = {PROTOCOL_VERSION: MODERN, CAPABILITIES: {}, CLIENT_INFO: {"name": "fuzz", "version": "1"}}
    if chance.random() < 0.3:
        meta["progressToken"] = chance.choice([1, "token", 0]) if chance.random() < 0.7 else scalar(chance)
    while chance.random() < 0.12:
        kind = chance.randrange(4)
        if kind == 0 and meta:
            meta.pop(chance.choice([*meta]))
        elif kind == 1:
            meta[chance.choice([*meta, "traceparent", "tracestate", "baggage", CANARY])] = scalar(chance)
        elif kind == 2:
            meta[PROTOCOL_VERSION] = chance.choice([*LEGACY, "2027-01-01", "", CANARY])
        else:
            meta["traceparent"] = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    return meta


def _message(chance: Random, era: str) -> tuple[Any, str, str]:
    method = chance.choice(METHODS)
    params: Any = _params(chance, method)
    name = params.get(NAMED_BY.get(method, ""), "")
    meta = _meta(chance, era)
    if meta or chance.random() < 0.1:
        params["_meta"] = meta if chance.random() < 0.97 else scalar(chance)
    message: dict[Any, Any] = {"jsonrpc": "2.0", "id": rpc_id(chance), "method": method, "params": params}
    if method.startswith("notifications/") and chance.random() < 0.8:
        del message["id"]
    while chance.random() < 0.2:
        message = _broken(chance, message)
    return message, method, name if isinstance(name, str) else ""


def _broken(chance: Random, message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    kind = chance.randrange(9)
    names = [*message] or ["id"]
    if kind == 0:
        message.pop(chance.choice(names), None)
    elif kind == 1:
        message[chance.choice(names)] = scalar(chance)
    elif kind == 2:
        message[chance.choice([CANARY, "result", "error", "", "Method"])] = scalar(chance)
    elif kind == 3:
        message["jsonrpc"] = chance.choice(["1.0", "2", 2.0, None, "", CANARY])
    elif kind == 4:
        return Pairs((*message.items(), (chance.choice(names), scalar(chance))))
    elif kind == 5:
        return [message] * chance.choice([0, 1, 2, 500])
    elif kind == 6:
        return chance.choice(
            [
                {"jsonrpc": "2.0", "id": rpc_id(chance), "result": scalar(chance)},
                {"jsonrpc": "2.0", "id": rpc_id(chance), "error": {"code": -1, "message": CANARY}},
                {"jsonrpc": "2.0", "id": None, "error": scalar(chance)},
                scalar(chance),
            ]
        )
    elif kind == 7 and isinstance(message.get("params"), dict):
        message["params"][chance.choice([*message["params"], CANARY, "task", "inputResponses", "requestState"])] = (
            scalar(chance)
        )
    else:
        message["params"] = scalar(chance)
    return message


def _body(chance: Random, message: Any) -> bytes:
    body = write(message)
    if chance.random() < 0.95:
        return body
    edits: list[Callable[[], bytes]] = [
        lambda: body[: chance.randint(0, len(body))],
        lambda: body + chance.choice([b" ", b"\n", b"}", b"{}", b"\x00", body]),
        lambda: b"\xef\xbb\xbf" + body,
        lambda: body.replace(b'"', b"'"),
        lambda: body.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-32", "utf-16-be"])),
        lambda: body.replace(b",", b",,", 1),
        lambda: body.replace(b":", b"=", 1),
        lambda: b"/* */" + body,
        lambda: bytes(chance.randrange(256) if chance.random() < 0.02 else byte for byte in body[:5000]),
        lambda: chance.randbytes(chance.choice([1, 100, 5000])),
        lambda: b"",
        lambda: b" " * chance.choice([1, 10_000]) + body,
        lambda: b"--boundary\r\ncontent-type: application/json\r\n\r\n" + body + b"\r\n--boundary--",
    ]
    return chance.choice(edits)()


def _headers(chance: Random, era: str, method: str, name: str, known: Known) -> list[tuple[bytes, bytes]]:
    headers: dict[str, str] = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    if chance.random() < 0.85:
        headers["authorization"] = f"Bearer {chance.choice(known.keys)}"
    if era == "modern":
        headers |= {"mcp-protocol-version": MODERN, "mcp-method": method}
        if method in NAMED_BY:
            headers["mcp-name"] = name
    elif method != "initialize":
        if known.sessions and chance.random() < 0.9:
            headers["mcp-session-id"] = chance.choice(known.sessions)
        headers["mcp-protocol-version"] = chance.choice(LEGACY)
    pairs = [(key.encode(), _header_safe(value)) for key, value in headers.items()]
    while chance.random() < 0.2:
        _spoil(chance, pairs)
    return pairs


def _header_safe(value: str) -> bytes:
    if value.isascii() and value.isprintable() and value == value.strip():
        return value.encode()[:4000]
    return b"=?base64?" + base64.b64encode(value.encode())[:4000] + b"?="


HEADERS: dict[bytes, list[bytes]] = {
    b"authorization": [
        *(b"Bearer", b"Bearer ", b"Bearer " + CANARY.encode(), b"Basic YTpi", b"bearer x", b"Bearer a b", b"\xff\xfe"),
        *(b"Bearer a.b.c", b"Bearer eyJhbGciOiJub25lIn0.e30.", b"Bearer " + b"x" * 9000, b"Digest username=x"),
    ],
    b"content-type": [
        *(
            b"application/json; charset=utf-8",
            b"application/json; charset=utf-16",
            b"application/json;charset=" + b"x" * 99,
        ),
        *(
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"",
            b"APPLICATION/JSON",
            b"application/json-rpc",
            b"\xff",
        ),
        *(b"multipart/form-data; boundary=boundary", b"application/json, application/json"),
    ],
    b"content-encoding": [b"gzip", b"identity", b"br", b"gzip, identity", b"", b"\xff"],
    b"accept": [b"*/*", b"application/json", b"text/event-stream", b"text/html", b"", b"application/*;q=0", b"\xff"],
    b"accept-encoding": [b"gzip", b"identity;q=0, *;q=0"],
    b"mcp-protocol-version": [
        *(
            b"2026-07-28",
            b"2025-11-25",
            b"2024-11-05",
            b"2027-01-01",
            b"",
            b"x" * 500,
            b"\xff",
            b"2026-07-28, 2025-11-25",
        ),
    ],
    b"mcp-method": [b"tools/list", b"tools/call", b"subscriptions/listen", b"initialize", b"", b"\xff", b"ping"],
    b"mcp-name": [
        *(b"echo", b"bare", b"", b"\xff", b"=?base64?ZWNobw==?=", b"=?base64?!!?=", b"=?base64?/w==?=", b"=?BASE64??="),
        *(b"=?base64?" + b"Z" * 5000 + b"?=", CANARY.encode()),
    ],
    b"mcp-param-text": [CANARY.encode(), b"=?base64?=", b""],
    b"mcp-session-id": [b"a" * 32, CANARY.encode(), b"", b"\xff", b"0" * 5000],
    b"last-event-id": [b"1", CANARY.encode()],
    b"host": [
        b"evil.example.com",
        b"",
        b"localhost",
        b"127.0.0.1:1",
        b"[::1]",
        b"\xff",
        b"a" * 3000,
        b"127.0.0.1@evil",
    ],
    b"origin": [b"null", b"http://evil.example.com", b"http://127.0.0.1", b"", b"\xff", b"http://localhost:6274"],
    b"x-forwarded-for": [b"192.0.2.1", b"192.0.2.1, 192.0.2.2", b"x", b"\xff", b"::1", b", ,", b"a," * 2000],
    b"traceparent": [
        b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
        b"x",
    ],
    b"user-agent": [b"\xff\xfe", b"x" * 3000, b"AliveMCP/1"],
    b"connection": [b"close", b"keep-alive", b"upgrade", b"close, keep-alive", b"\xff"],
    b"upgrade": [b"websocket", b"h2c", b"x"],
    b"expect": [b"100-continue", b"nothing"],
    b"x-request-id": [CANARY.encode(), b"\xff"],
    b"transfer-encoding": [b"gzip", b"identity", b"chunked, chunked", b"xchunked"],
    b"content-length": [b"-1", b"1e3", b"0x10", b"99999999999999999999", b"+5", b"5, 5", b"", b"2000000", b"\xb2"],
    b"cookie": [b"a=b"],
}
# With these the two sides may disagree about where the message ends.
FRAMING = {b"transfer-encoding", b"content-length", b"connection", b"upgrade", b"expect"}


def _spoil(chance: Random, pairs: list[tuple[bytes, bytes]]) -> None:
    kind = chance.randrange(12)
    if kind == 0:
        pairs.pop(chance.randrange(len(pairs))) if pairs else None
    elif kind == 1 and pairs:
        pairs.append(chance.choice(pairs))
    elif kind == 2 and pairs:
        place = chance.randrange(len(pairs))
        key, value = pairs[place]
        pairs[place] = (key.upper() if chance.random() < 0.5 else key, b" \t" + value + b"  ")
    elif kind == 3:
        pairs += [(b"x-%d" % number, b"x") for number in range(chance.choice([50, 500]))]
    elif kind == 4 and chance.random() < 0.2:
        pairs.append((b"x-long", b"x" * chance.choice([10_000, 60_000, 70_000, 200_000])))
    elif kind == 5 and chance.random() < 0.3:
        pairs.append(chance.choice([(b"", b"x"), (b"a b", b"x"), (b"a", b"\x00"), (b"a", b"b\nc"), (b"\xff", b"x")]))
    else:
        key = chance.choice([*HEADERS])
        pairs[:] = [pair for pair in pairs if pair[0] != key or chance.random() < 0.1]
        pairs.append((key, chance.choice(HEADERS[key])))


VERBS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"BREW", b"post", b"")
TARGETS = (
    *(
        b"/",
        b"/mcp/",
        b"//mcp",
        b"/MCP",
        b"/%6dcp",
        b"/mcp%00",
        b"/mcp?key=" + CANARY.encode(),
        b"/mcp#x",
        b"*",
        b"mcp",
    ),
    *(b"http://127.0.0.1/mcp", b"/livez", b"/readyz", b"/metrics", b"/.well-known/oauth-protected-resource/mcp"),
    *(b"/" + b"a" * 3000, b"/\xff", b"/../mcp", b"/mcp\\", b"/.env", b"/mcp?" + b"a=b&" * 500, b"/mcp ", b""),
)
ENDS = (b"HTTP/1.1",) * 40 + (b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/9", b"http/1.1", b"")


def _request(chance: Random, known: Known) -> Input:
    era = chance.choice(["modern", "legacy"])
    message, method, name = _message(chance, era)
    body = _body(chance, message)
    headers = _headers(chance, era, method, name, known)
    verb = chance.choice(VERBS) if chance.random() < 0.05 else b"POST"
    target = chance.choice(TARGETS) if chance.random() < 0.05 else b"/mcp"
    version = chance.choice(ENDS)
    framed = [key.lower() for key, _ in headers]
    last = (
        any(key in FRAMING or not key.strip() for key in framed) or version != b"HTTP/1.1" or verb in {b"CONNECT", b""}
    )
    sent = body
    stalls = ends = leaves = False
    if b"content-length" not in framed and b"transfer-encoding" not in framed:
        kind = chance.random()
        if kind < 0.08:
            headers.append((b"transfer-encoding", b"chunked"))
            sent, proper = _chunked(chance, body)
            last |= not proper
            stalls = not proper
        elif kind < 0.10:
            headers.append((b"content-length", b"%d" % (len(body) + chance.choice([1, 100, 10_000]))))
            last = True
            stalls, ends, leaves = chance.choice(
                [(True, False, False)] + [(False, True, False), (False, False, True)] * 3
            )
        elif kind < 0.11:
            headers.append((b"content-length", b"%d" % max(0, len(body) - chance.choice([1, 2, 20]))))
            last = True
        else:
            headers.append((b"content-length", b"%d" % len(body)))
    else:
        stalls = True
    chance.shuffle(headers)
    head = b" ".join((verb, target, version)) + b"\r\n"
    head += b"".join(key + b": " + value + b"\r\n" for key, value in headers) + b"\r\n"
    if chance.random() < 0.01:
        leaves = last = True
    return Input(head + sent, body, verb == b"HEAD", last, ends, stalls, leaves)


def _chunked(chance: Random, body: bytes) -> tuple[bytes, bool]:
    size = chance.choice([1, 7, 1000, 65_536]) if len(body) < 3000 else 65_536
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    good = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    if chance.random() < 0.8:
        extension = good.replace(b"\r\n", b";a=b\r\n", 1) if chance.random() < 0.1 and good else good
        return extension + chance.choice([b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx-trailer: a\r\n\r\n"]), True
    wrong = [
        good,
        b"zz\r\n" + good,
        b"-1\r\n" + good,
        b"ffffffffffffffffff\r\n",
        b"5\r\nab",
        b"0\r\n",
        good[:-1],
        b"\r\n\r\n",
    ]
    return chance.choice(wrong), False


def _junk(chance: Random) -> Input:
    raw = chance.choice(
        [
            *(
                b"\r\n\r\n\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ),
            *(
                b"GET\r\n\r\n",
                b"\x00" * 100,
                b"POST /mcp HTTP/1.1\r\n",
                b"{}\r\n\r\n",
                b"SSH-2.0-x\r\n",
                b"*1\r\n$4\r\nPING\r\n",
            ),
            *(
                b"POST /mcp HTTP/1.1\n\n",
                b"POST /mcp HTTP/1.1\r\nhost:\r\n\r\n",
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            ),
            b"POST /mcp HTTP/1.1\r\n folded: a\r\n b\r\n\r\n",
            chance.randbytes(chance.randint(1, 2000)),
        ]
    )
    return Input(raw, last=True, stalls=True, ends=chance.random() < 0.7)
