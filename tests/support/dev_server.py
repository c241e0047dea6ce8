"""A project's `dev` in a process of its own, with a key."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

KEY = "test-key-0123456789-0123456789-0123456789"
PROBE_KEY = "probe-key-0123456789-0123456789-012345678"
SECONDS = 60


@dataclass
class Dev:
    """`dev` of a project in a process of its own; what it prints is kept."""

    project: Path
    arguments: tuple[str, ...] = ("--no-reload",)
    environment: dict[str, str] = field(default_factory=dict)
    port: str | None = field(default_factory=lambda: str(free_port()))
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._new = threading.Condition()
        self._ended = False
        usual = {"MCP_API_KEYS": f"test:{KEY}", "MCP_PROBE_KEY": PROBE_KEY, "MCP_LOG_FORMAT": "json"}
        self.child = subprocess.Popen(
            [self.project / ".venv/bin/python", "-m", self._package(), "dev", *self.arguments],
            cwd=self.project,
            env={**os.environ, **({"PORT": self.port} if self.port else {}), **usual, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self._reader.join(SECONDS)
        if self.child.stdout is not None:
            self.child.stdout.close()

    def _package(self) -> str:
        (hardening,) = self.project.glob("src/*/hardening")
        return hardening.parent.name

    def _read(self) -> None:
        for line in self.child.stdout or ():
            with self._new:
                self.lines.append(line.rstrip("\n"))
                self._new.notify_all()
        with self._new:
            self._ended = True
            self._new.notify_all()

    def until(self, text: str, times: int = 1) -> str:
        """Wait for a line with this text to be printed so many times, and return the last one."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._new:
            self._new.wait_for(lambda: len(found()) >= times or self._ended, SECONDS)
        assert len(found()) >= times, "\n".join(self.lines)
        return found()[times - 1]

    @property
    def url(self) -> str:
        """The endpoint, once the server answers."""
        self.until('"msg":"started"')
        match = re.search(r"serves (http://\S+)", self.until(" serves http"))
        assert match is not None
        return match[1]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
