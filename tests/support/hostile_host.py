"""Hosts that answer without end, or with more than anybody should read; for tests of whatever reads HTTP answers."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[str], tuple[bytes, bytes]]

SECONDS = 20.0
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
# What comes first, and what follows without end.
ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 103 \r\n\r\n"),
    "interim answers with fields": (b"", b"HTTP/1.1 103 \r\n" + b"a:\r\n" * 20 + b"\r\n"),
    "fields": (OK, b"a:\r\n"),
    "one field": (OK + b"a:", b"x" * 1000),
    "lines of one field": (OK + b"a: b\r\n", b" x\r\n"),
    "reason": (b"HTTP/1.1 200 ", b"x" * 1000),
    "empty lines": (b"", b"\r\n"),
    "chunks of one byte": (CHUNKED, b"1\r\n \r\n"),
    "chunk extensions": (CHUNKED, b"1;" + b"x" * 2000 + b"\r\n \r\n"),
    "one chunk extension": (CHUNKED + b"1;", b"x" * 1000),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a:\r\n"),
    "body": (OK + b"\r\n", b" " * 1000),
    # These end by themselves.
    "5000 chunks": (CHUNKED + b"1\r\n \r\n" * 5000 + b"0\r\n\r\n", b""),
    "8000 fields": (OK + b"a:\r\n" * 8000 + b"content-length: 2\r\n\r\n{}", b""),
    "1900 cookies": (OK + b"set-cookie:a=b\r\n" * 1900 + b"content-length: 2\r\n\r\n{}", b""),
    "101 fields": (OK + b"a:\r\n" * 100 + b"content-length: 2\r\n\r\n{}", b""),
}


class Hostile:
    """A host that sends what it likes, as fast as it can or with pauses, from threads of its own."""

    def __init__(self, answer: Answer, pause_seconds: float = 0) -> None:
        self._answer = answer
        self._pause_seconds = pause_seconds
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Let every connection end."""
        self._over.set()
        # Closing alone wakes nobody who accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(SECONDS)
            while request := _read_request(connection):
                first, more = self._answer(request.split(b" ")[1].decode())
                connection.sendall(first)
                many = more if self._pause_seconds else more * (65536 // max(1, len(more)))
                while many and not self._over.wait(self._pause_seconds):
                    connection.sendall(many)


def _read_request(connection: socket.socket) -> bytes:
    """Return a whole request; nothing when there is none."""
    request, end = b"", 0
    while not end or len(request) < end:
        piece = connection.recv(65536)
        if not piece:
            return b""
        request += piece
        head, found, _ = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        end = len(head) + 4 + int(length[1] if length else 0) if found else 0
    return request
