"""A collector of OpenTelemetry: takes what a server sends over OTLP and HTTP, and keeps it."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Exports(list[bytes]):
    """Every export, in the order in which they came.

    Attributes:
        paths: Where each was sent: `/v1/traces` or `/v1/metrics`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """Takes one export."""

    received: Exports

    def do_POST(self) -> None:
        """Keep it."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.received.paths.append(self.path)
        self.received.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class has it so
        """Say nothing."""


@contextmanager
def collecting() -> Generator[tuple[str, Exports]]:
    """Listen; return the endpoint, and where every export will be."""
    received = Exports()
    handler = type("Kept", (Handler,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{collector.server_port}", received
        collector.shutdown()
