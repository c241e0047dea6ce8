"""What the log says: every logger of this process writes to a file while a test looks."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import alias

alias.install()

from hardening.exchange import Exchange, Principal, current
from hardening.logs.redaction import collect
from hardening.logs.setup import Logs, configure

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SECONDS = float(os.environ.get("TEST_WAIT_SECONDS", "60"))


class Captured:
    """The log of this process."""

    def __init__(self, logs: Logs, path: Path) -> None:
        self.logs = logs
        self.path = path

    def text(self) -> str:
        """Return everything that was written so far."""
        assert self.logs.flush(SECONDS)
        return self.path.read_text("utf-8")

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines so far, parsed."""
        return [json.loads(line) for line in self.text().splitlines()]


@contextmanager
def captured(path: Path, level: str = "info", fmt: Any = "json") -> Generator[Captured]:
    """Send the log of this process to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    logs = configure(level=level, fmt=fmt, stream=descriptor)
    try:
        yield Captured(logs, path)
    finally:
        logs.close(SECONDS)
        os.close(descriptor)


async def nothing(*_: Any) -> Any:
    """Stand in for what the log does not touch."""


def exchange(**values: Any) -> Exchange:
    """Return one request, as the log sees it."""
    given: dict[str, Any] = {
        "request_id": "0123456789abcdef",
        "trace_id": "5" * 32,
        "protocol_version": "2026-07-28",
        "era": "modern",
        "principal": Principal("api_key", "alice"),
        "client_name": "a-client/1.0",
        "tool_name": "echo",
    } | values
    return Exchange(scope={}, receive=nothing, send=nothing, method="POST", path="/mcp", headers={}, **given)


@contextmanager
def calling(*arguments: Any, **values: Any) -> Generator[Exchange]:
    """Be inside a call with these arguments."""
    one = exchange(**values)
    collect(list(arguments), one.sensitive)
    token = current.set(one)
    try:
        yield one
    finally:
        current.reset(token)
