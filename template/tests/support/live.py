"""A real server on a real socket, in a thread of the test process or in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import alias

alias.install()

import sample

from hardening.lifecycle.startup import Running, bind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from hardening import HardeningSettings
    from hardening.app import App
    from hardening.server import HardenedServer

KEY = "test-key-0123456789-0123456789-0123456789"
OTHER_KEY = "other-key-0123456789-0123456789-012345678"
PROBE_KEY = "probe-key-0123456789-0123456789-012345678"
# How long to wait for what has to come: long, because it decides nothing but when a test that hangs gives up.
SECONDS = float(os.environ.get("TEST_WAIT_SECONDS", "60"))

ENVIRONMENT = {
    "MCP_AUTH": "api_key",
    "MCP_API_KEYS": f"alice:{KEY},bob:{OTHER_KEY}",
    "MCP_PROBE_KEY": PROBE_KEY,
    "PORT": "0",
    "MCP_READINESS_DELAY_SECONDS": "0",
}


class Live:
    """A server in a thread: quick to start, and its parts can be looked at."""

    def __init__(self, settings: HardeningSettings, build: Callable[[Any], HardenedServer] = sample.build) -> None:
        self.settings = settings
        self.server = build(settings)
        self.listener = bind(settings)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.running: Running | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(SECONDS), "the server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        # A second signal would end the process of the tests.
        if self.running is not None and not self.app.drain.unready:
            self.running.http.handle_exit(signal.SIGTERM, None)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    @property
    def app(self) -> App:
        """The ASGI application that answers."""
        assert self.running is not None
        return self.running.app

    def do(self, action: Callable[[], Any]) -> Any:
        """Run something on the server's own event loop."""
        assert self.running is not None
        answer: queue.Queue[Any] = queue.Queue()
        self.running.loop.call_soon_threadsafe(lambda: answer.put(action()))
        return answer.get(timeout=SECONDS)

    def _serve(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - it belongs to the test
            self._failure = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        async with Running.open(self.server) as self.running:
            serving = asyncio.ensure_future(self.running.serve(self.listener))
            while not (self.running.http.started or serving.done()):
                await asyncio.sleep(0.005)
            self._ready.set()
            await serving


@contextmanager
def live(**environment: str) -> Generator[Live]:
    """Serve the sample tools with these settings on top of the usual ones."""
    with Live(settings_from(ENVIRONMENT | environment)) as running:
        yield running


def settings_from(environment: Mapping[str, str]) -> HardeningSettings:
    """Return settings as a process with this environment would have them."""
    from hardening import HardeningSettings
    from hardening.settings.environment import load

    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("MCP_") or name in {"HOST", "PORT", "DATABASE_URL", "REDIS_URL"}:
            del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if value})
    try:
        return load(HardeningSettings)
    finally:
        os.environ.clear()
        os.environ.update(before)


class Process:
    """A server in a process of its own: for signals, exit codes and log lines."""

    def __init__(self, *command: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        self.lines: list[str] = []
        self._new = threading.Condition()
        self._ended = False
        self.child = subprocess.Popen(
            [sys.executable, *(command or (str(Path(sample.__file__)),))],
            env={**clean, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=alias.ROOT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(SECONDS)
        self._reader.join(SECONDS)
        if self.child.stdout is not None:
            self.child.stdout.close()

    def _read(self) -> None:
        for line in self.child.stdout or ():
            with self._new:
                self.lines.append(line.rstrip("\n"))
                self._new.notify_all()
        with self._new:
            self._ended = True
            self._new.notify_all()

    def line(self, message: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait for the log line with this message."""

        def found() -> dict[str, Any] | None:
            for line in self.lines:
                if line.startswith("{") and (record := json.loads(line)).get("msg") == message:
                    return record
            return None

        with self._new:
            self._new.wait_for(lambda: found() is not None or self._ended, seconds)
        record = found()
        assert record is not None, f"no {message!r} in {self.lines}"
        return record

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        return f"http://127.0.0.1:{self.line('started')['port']}"

    def stop(self, sig: int = signal.SIGTERM, seconds: float = SECONDS) -> int:
        """Send a signal and return the exit code."""
        self.child.send_signal(sig)
        return self.wait(seconds)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for the end and return the exit code."""
        code = self.child.wait(seconds)
        self._reader.join(seconds)
        return code


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
