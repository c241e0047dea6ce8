"""A server of a project in a process of its own, watched from outside: memory, descriptors, metrics, log."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.dev_server import KEY, PROBE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

TARGET = Path(__file__).parent / "target_server.py"
SECONDS = 30.0
MODERN, LEGACY = "2026-07-28", "2025-11-25"
MOST = "1000000"
# Rates and budgets are tested elsewhere; here they would only hide what is behind them.
OPEN = {
    "MCP_RATE_ADDRESS_PER_MINUTE": MOST,
    "MCP_RATE_ADDRESS_BURST": MOST,
    "MCP_RATE_AUTH_FAILURES_PER_MINUTE": MOST,
    "MCP_RATE_INITIALIZE_PER_MINUTE": MOST,
    "MCP_RATE_DISCOVER_PER_MINUTE": MOST,
    "MCP_RATE_PRINCIPAL_PER_MINUTE": MOST,
    "MCP_RATE_PRINCIPAL_BURST": MOST,
    "MCP_RATE_TOOL_PER_MINUTE": MOST,
    "MCP_RATE_PROBE_PER_MINUTE": MOST,
    "MCP_BUDGET_UNITS": "1000000000",
}
USUAL = {
    "PORT": "0",
    "MCP_AUTH": "api_key",
    "MCP_API_KEYS": f"test:{KEY}",
    "MCP_PROBE_KEY": PROBE_KEY,
    "MCP_READINESS_DELAY_SECONDS": "0",
}
# Of these an operator is woken: something happened that nobody has foreseen.
FAULTS = {
    "unhandled exception",
    "uncaught exception",
    "uncaught exception in a thread",
    "exception that could not be raised",
    "event loop error",
    "metric cannot be read",
    "stray output",
}


class Watched:
    """A server in a process of its own; it ends with the block.

    Args:
        project: A project that is set up.
        log: File that standard error goes to.
        command: What its Python runs.
        environment: Settings on top of the usual ones.
        options: Further arguments of `Popen`.
        torn: Whether a line may be cut off, because the disk was full.
    """

    def __init__(
        self,
        project: Path,
        log: Path,
        *command: str | Path,
        environment: dict[str, str] | None = None,
        options: dict[str, Any] | None = None,
        torn: bool = False,
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        self.log = log
        self.torn = torn
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                [project / ".venv/bin/python", *(command or (TARGET,))],
                cwd=project,
                env={**clean, **USUAL, **(environment or {})},
                **{"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **(options or {})},
            )

    def __enter__(self) -> Self:
        try:
            self.port = int(self.line("started")["port"])
        except BaseException:
            self.__exit__()
            raise
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()

    async def __aenter__(self) -> Self:
        """Start it while the event loop goes on, which may be the way to what it needs."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def line(self, message: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for the log line with this message, and return the first one."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [line for line in self.lines() if line.get("msg") == message]
            return bool(found) or self.child.poll() is not None

        until(there, seconds)
        assert found, self.log.read_text("utf-8", "replace")[-4000:]
        return found[0]

    def lines(self) -> list[dict[str, Any]]:
        """Return every whole line of the log; each has to be one JSON object."""
        written = self.log.read_bytes().decode().split("\n")[:-1]
        if self.torn:
            written = [line for line in written if line.endswith("}")]
        assert all(line.startswith("{") for line in written), written[:20]
        return [json.loads(line) for line in written]

    def faults(self) -> list[dict[str, Any]]:
        """Return the lines that tell of something unforeseen."""
        return [line for line in self.lines() if line["msg"] in FAULTS]

    def errors(self) -> list[dict[str, Any]]:
        """Return the lines that are errors by their level; no client can cause one."""
        return [line for line in self.lines() if line["level"] in {"error", "critical"}]

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))  # noqa: PTH208 - each entry vanishes when it likes

    def memory_kib(self) -> int:
        """Return what is in memory of it."""
        status = Path(f"/proc/{self.child.pid}/status").read_text("ascii")
        return int(status.partition("VmRSS:")[2].split()[0])

    def threads(self) -> int:
        """Return how many threads it has."""
        status = Path(f"/proc/{self.child.pid}/status").read_text("ascii")
        return int(status.partition("Threads:")[2].split()[0])

    def metrics(self) -> dict[str, float]:
        """Return the metrics that have no labels."""
        with self._connection() as connection:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {PROBE_KEY}"})
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status == 200, text
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}

    def open_session(self) -> str:
        """Open a session, where the server has any, and return its id."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "watched", "version": "1"}}
        head, _ = good_call("legacy", "", {})
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        with self._connection() as connection:
            connection.request("POST", "/mcp", json.dumps(message), head)
            answer = connection.getresponse()
            assert "result" in answer.read().decode()
        session = answer.headers["mcp-session-id"]
        if session:
            with self._connection() as connection:
                head["Mcp-Session-Id"] = session
                connection.request("POST", "/mcp", '{"jsonrpc":"2.0","method":"notifications/initialized"}', head)
                assert connection.getresponse().status == 202
        return session or ""

    def end_session(self, session: str) -> int:
        """End a session, and return the status."""
        head, _ = good_call("legacy", "", {})
        with self._connection() as connection:
            connection.request("DELETE", "/mcp", headers={**head, "Mcp-Session-Id": session})
            return connection.getresponse().status

    def call(
        self, era: str, tool: str = "echo", arguments: dict[str, Any] | None = None, session: str = ""
    ) -> dict[str, Any]:
        """Call a tool as a good client does, and return the result."""
        head, body = good_call(era, tool, arguments if arguments is not None else {"text": "hello"})
        if session:
            head["Mcp-Session-Id"] = session
        with self._connection() as connection:
            connection.request("POST", "/mcp", body, head)
            answer = connection.getresponse()
            said = answer.read().decode()
        assert answer.status == 200, said
        return result_in(said)

    def tools(self) -> list[dict[str, Any]]:
        """Return what is listed."""
        head, _ = good_call("legacy", "", {})
        with self._connection() as connection:
            connection.request("POST", "/mcp", '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', head)
            return result_in(connection.getresponse().read().decode())["tools"]

    def ready(self) -> int:
        """Return the status of readiness."""
        with self._connection() as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def end(self, seconds: float = SECONDS) -> int:
        """Send SIGTERM and return the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(seconds)

    @contextmanager
    def _connection(self) -> Generator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            yield connection
        finally:
            connection.close()


def good_call(era: str, tool: str, arguments: dict[str, Any], key: str = KEY) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call."""
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN if era == "modern" else LEGACY,
    }
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if era == "modern":
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
        prefix = "io.modelcontextprotocol"
        params["_meta"] = {f"{prefix}/protocolVersion": MODERN, f"{prefix}/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return headers, json.dumps(message).encode()


def result_in(text: str) -> dict[str, Any]:
    """Return the result in an answer."""
    message = message_in(text)
    assert "result" in message, message
    return message["result"]


def message_in(text: str) -> dict[str, Any]:
    """Return the message that an answer ends with, plain or as an event stream."""
    if not text.startswith("{"):
        text = [line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()][-1]
    return json.loads(text)


def until(holds: Callable[[], Any], seconds: float = SECONDS) -> float:
    """Wait until something holds that no event tells of; return how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"still not after {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started
