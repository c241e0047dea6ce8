"""A collector of traces: takes what a server sends over OTLP and HTTP, and keeps it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Handler(BaseHTTPRequestHandler):
    """Takes one export."""

    received: list[bytes]

    def do_POST(self) -> None:
        """Keep it."""
        self.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Say nothing."""


@contextmanager
def collecting() -> Generator[tuple[str, list[bytes]]]:
    """Listen; return the endpoint, and where every export will be."""
    received: list[bytes] = []
    handler = type("Kept", (Handler,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{collector.server_port}", received
        collector.shutdown()
