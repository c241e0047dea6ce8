"""Caddy and nginx as the render ships them, and an upstream that tells what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import httpx2
from support.programs import find, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

Kind = Literal["caddy", "nginx"]
KINDS: tuple[Kind, ...] = ("caddy", "nginx")
START_SECONDS = 15

# What the operator's own nginx.conf says around the shipped file.
NGINX_CONF = """
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
worker_shutdown_timeout 45s;
events { worker_connections 4096; }
http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include mcp-server.conf;
}
"""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def replace(text: str, changes: Mapping[str, str]) -> str:
    """Replace each pattern, which must be there."""
    for pattern, instead in changes.items():
        text, count = re.subn(pattern, instead.replace("\\", "\\\\"), text, flags=re.MULTILINE)
        assert count, f"nothing matches {pattern}"
    return text


class Proxy:
    """One of the two proxies in front of replicas; `changes` spoil the shipped files for a control."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a test may vary
        self,
        kind: Kind,
        deploy: Path,
        folder: Path,
        upstreams: list[str],
        changes: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.folder = shutil.copytree(deploy / kind, folder / f"{kind}-{free_port()}")
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.environment: dict[str, str] = {}
        if kind == "caddy":
            self._caddy(upstreams, changes or {})
        else:
            self._nginx(upstreams, changes or {})
        self.environment |= environment or {}

    def _caddy(self, upstreams: list[str], changes: Mapping[str, str]) -> None:
        file = self.folder / "Caddyfile"
        file.write_text(replace(file.read_text(encoding="utf-8"), changes), encoding="utf-8")
        options = "admin off\nauto_https disable_redirects\nskip_install_trust\ndefault_bind 127.0.0.1"
        self.environment = {
            "MCP_SITE": self.url,
            "MCP_UPSTREAMS": " ".join(upstreams),
            "CADDY_GLOBAL_OPTIONS": options,
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }
        self.authority = self.folder / "data/caddy/pki/authorities/local/root.crt"
        arguments = ("--config", str(file), "--adapter", "caddyfile")
        self.command = (find("caddy"), "run", *arguments)
        self.check = (find("caddy"), "validate", *arguments)

    def _nginx(self, upstreams: list[str], changes: Mapping[str, str]) -> None:
        conf = self.folder / "mcp-server.conf"
        servers = "\n".join(f"    server {u} max_fails=1 fail_timeout=2s;" for u in upstreams)
        text = replace(
            conf.read_text(encoding="utf-8"),
            {
                r"listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
                r"^    server server:8000 max_fails=1 fail_timeout=2s;": servers,
            },
        )
        shared = self.folder / "mcp-server-proxy.conf"
        both = {conf: text, shared: shared.read_text(encoding="utf-8")}
        for pattern, instead in changes.items():
            (file,) = (file for file, text in both.items() if re.search(pattern, text, re.MULTILINE))
            both[file] = replace(both[file], {pattern: instead})
        for file, text in both.items():
            file.write_text(text, encoding="utf-8")
        (self.folder / "nginx.conf").write_text(NGINX_CONF, encoding="utf-8")
        (self.folder / "tls").mkdir()
        self.authority = self.folder / "tls/tls.crt"
        done = run(
            *(find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", self.folder / "tls/tls.key", "-out", self.authority),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        base = (find("nginx"), "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder))
        self.command = base
        self.check = (*base, "-t")

    async def __aenter__(self) -> Self:
        self.log = (self.folder / "output.log").open("wb")
        self.process = await asyncio.create_subprocess_exec(
            *self.command, env={**os.environ, **self.environment}, stdout=self.log, stderr=self.log
        )
        async with asyncio.timeout(START_SECONDS):
            while not await self._listens():
                assert self.process.returncode is None, self.output()
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(5):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self.log.close()

    async def _listens(self) -> bool:
        if not self.authority.exists():
            return False
        try:
            async with self.client() as client:
                # A path that is not passed on: the proxy answers it alone.
                return (await client.get("/")).status_code == httpx2.codes.NOT_FOUND
        except (httpx2.TransportError, ssl.SSLError):
            return False

    def output(self) -> str:
        """Return what the proxy said."""
        return (self.folder / "output.log").read_text(encoding="utf-8", errors="replace")

    def client(self) -> httpx2.AsyncClient:
        """Return a client that trusts the proxy."""
        return httpx2.AsyncClient(verify=self.trust(), base_url=self.url, timeout=30)

    def trust(self) -> ssl.SSLContext:
        """Return what the proxy is checked against."""
        return ssl.create_default_context(cafile=str(self.authority))


@dataclass
class Seen:
    """One request as the upstream saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: int


@dataclass
class Upstream:
    """A server of few words: it remembers requests, and answers as the test says."""

    ready: bool = True
    # Refuses by the headers alone, as the server does without a credential.
    hasty: bool = False
    answer: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    seen: list[Seen] = field(default_factory=list[Seen])
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def calls(self) -> list[Seen]:
        """What came for the protocol, health checks left out."""
        return [seen for seen in self.seen if seen.path != "/readyz"]

    async def asked(self, times: int) -> None:
        """Wait until readiness was asked for so many more times, and answered."""
        while not self.checks.locked():
            await self.checks.acquire()
        async with asyncio.timeout(10):
            # The answer to the last but one has been read when the next question comes.
            for _ in range(times + 1):
                await self.checks.acquire()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        self.connections += 1
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if self.hasty and path != "/readyz":
            await self._plain(writer, b"401 Unauthorized", pause=0.001)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append(Seen(method, path, headers, len(body)))
        if path == "/readyz":
            self.checks.release()
            await self._plain(writer, b"200 OK" if self.ready else b"503 Service Unavailable")
        elif self.hasty:
            pass
        elif self.answer is None:
            await self._plain(writer, b"200 OK")
        else:
            answering = asyncio.ensure_future(self.answer(writer))
            # The next byte can only be the end of the connection: the client sent its whole request.
            leaving = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self.gone.set()
            for task in (answering, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await task
            return False
        return headers.get("connection") != "close"

    async def _plain(self, writer: asyncio.StreamWriter, status: bytes, pause: float = 0) -> None:
        """Answer in two parts, as ASGI servers do."""
        body = b"{}"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(pause)
        writer.write(body)
        await writer.drain()


async def begin_stream(writer: asyncio.StreamWriter) -> None:
    """Begin an event stream as the server does."""
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        b"cache-control: no-cache, no-transform\r\nx-accel-buffering: no\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    await writer.drain()


async def send_event(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send one event as one chunk, and wait while the reader is slow."""
    event = b"data: " + data + b"\n\n"
    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
    await writer.drain()
