"""Inputs that something unexpected came of, once; each is sent again in every run."""

from __future__ import annotations

from support.dev_server import KEY
from support.fuzz_grammar import Input

HEAD = (
    b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\n"
    b"authorization: Bearer " + KEY.encode() + b"\r\n"
)


def legacy(body: bytes) -> Input:
    """Return a request of an older client, in a session where there are any."""
    return Input(HEAD + b"mcp-session-id: SESSION\r\ncontent-length: %d\r\n\r\n" % len(body) + body, body)


def arguments(value: bytes) -> bytes:
    """Return a call with this value where a text belongs."""
    start = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"keep_note","arguments":{"body":'
    return start + value + b"}}}"


CHUNKED = (
    b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
CASES: dict[str, Input] = {
    # The SDK reads trace context as text, around every boundary of ours: its exception was the answer.
    "trace context that is no text": legacy(
        b'{"jsonrpc":"2.0","id":0,"method":"resources/read","params":{"uri":"fuzz://no","_meta":{"traceparent":'
        b'"00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01","baggage":18446744073709551616}}}'
    ),
    # PostgreSQL has no such text, which was told as a fault of the tool.
    "a text with NUL": legacy(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"keep_note","arguments":{"body":"a\\u0000b"}}}'
    ),
    # With sessions, the SDK's refusal held the message.
    "a client's answer that is a number": legacy(b'{"jsonrpc":"2.0","id":139724,"result":5.0}'),
    "a client's answer that is a text": legacy(b'{"jsonrpc":"2.0","id":-7,"result":"\\ufeff"}'),
    "a message without a method": legacy(b'{"jsonrpc":"2.0","id":-7,"params":{"name":"bare","arguments":{}}}'),
    # With sessions, nobody waited for this body with a deadline.
    "a stream whose request has no end": Input(
        b"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json, text/event-stream\r\n"
        b"mcp-protocol-version: 2025-11-25\r\nmcp-session-id: SESSION\r\ntransfer-encoding: chunked\r\n"
        b"authorization: Bearer " + KEY.encode() + b"\r\n\r\n0\r\n",
        last=True,
        stalls=True,
    ),
    # Each of these was bounded in bytes, and in nothing else.
    "trailer fields without end": Input(CHUNKED + b"2\r\n{}\r\n0\r\n" + b"ab:cd\r\n" * 50_000, last=True),
    "a credential in a trailer": Input(
        CHUNKED + b"2\r\n{}\r\n0\r\nauthorization: Bearer " + KEY.encode() + b"\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
    ),
    "a chunk extension without end": Input(CHUNKED + b"2;" + b"a" * 300_000, last=True),
    "chunks of one byte": Input(CHUNKED + b"1\r\n{\r\n" * 50_000, last=True),
    "requests without reading answers": Input(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 20_000, last=True),
    "a head of many fields": Input(
        b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"a:b\r\n" * 9000 + b"\r\n", last=True
    ),
    "empty lines without end": Input(b"\r\n" * 100_000, last=True),
    "two versions": Input(HEAD + b"mcp-protocol-version: 2025-06-18\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
    "two credentials": Input(HEAD + b"authorization: Bearer x\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
    "lists of lists": legacy(arguments(b"[" + b"[]," * 300_000 + b"[]]")),
    "many members": legacy(arguments(b"{" + b",".join(b'"%d":1' % number for number in range(80_000)) + b"}")),
    "many numbers": legacy(arguments(b"[" + b"1," * 400_000 + b"1]")),
    "long numbers": legacy(arguments(b"[" + b"9" * 4000 + b"]")),
    "a listing with many values": legacy(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":[' + b"1," * 5000 + b"1]}}"
    ),
    "a long id": legacy(b'{"jsonrpc":"2.0","id":"' + b"a" * 500_000 + b'","method":"ping"}'),
}
