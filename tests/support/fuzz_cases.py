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
}
