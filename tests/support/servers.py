"""The rendered server as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Self

from support.programs import KEY, PROBE_KEY, find, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_SECONDS = 30


def install(project: Path) -> None:
    """Install the project beside itself, as the image does; its dependencies are those of the tests."""
    done = run(
        *(find("uv"), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable),
        *("--target", project / "site", project),
    )
    assert done.returncode == 0, done.stderr


class Server:
    """`serve` in a process, reached by `address`; its log lines are kept."""

    def __init__(self, project: Path, *, proxy: str = "https://localhost", **settings: str) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(project / "site"),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "MCP_AUTH": "api_key",
            "MCP_API_KEYS": f"test:{KEY}",
            "MCP_PROBE_KEY": PROBE_KEY,
            "MCP_PUBLIC_URL": proxy,
            "MCP_TRUSTED_PROXY_HOPS": "1",
            **settings,
        }
        self.lines: list[dict[str, Any]] = []
        self.output: list[str] = []
        self._changed = asyncio.Condition()
        self._ended = False

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "weather_server", "serve"),
            env=self.environment,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.ensure_future(self._read())
        started = await self.line(lambda line: line["msg"] == "started", START_SECONDS)
        self.address = f"127.0.0.1:{started['port']}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self.process.stderr
        async for raw in self.process.stderr:
            self.output.append(raw.decode())
            if raw.startswith(b"{"):
                async with self._changed:
                    self.lines.append(json.loads(raw))
                    self._changed.notify_all()
        self._ended = True
        async with self._changed:
            self._changed.notify_all()

    async def line(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """Return the first log line that is wanted, those of the past included."""
        read = 0
        try:
            async with asyncio.timeout(seconds), self._changed:
                while True:
                    for line in self.lines[read:]:
                        if wanted(line):
                            return line
                    read = len(self.lines)
                    assert not self._ended, "".join(self.output)
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no such line within {seconds} s:\n{''.join(self.output)}") from None

    async def call(self, seconds: float = 10) -> dict[str, Any]:
        """Return the line of the first tool call that has ended."""
        return await self.line(lambda line: line["msg"] == "tool call", seconds)
