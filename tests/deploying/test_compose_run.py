"""The Compose file runs: proxy, server and Redis from the shipped file, reached through TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from support.base_image import libraries
from support.containers import PYTHON_IMAGE, Engine
from support.mcp_client import ERAS, Era, Reply, events, tool_call
from support.programs import KEY, PROBE_KEY, find, run
from support.proxies import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

# Caddy and Redis of this machine, in place of the images that are named in the file.
SERVICES = "localhost/services:test"
SERVER = "localhost/mcp-server:compose"
START_SECONDS = 60


def services(folder: Path) -> None:
    """Fill an image with Caddy and Redis, and with the users that the file names."""
    for name in ("usr/bin", "usr/lib", "etc"):
        (folder / name).mkdir(parents=True)
    binaries = [Path(find(name)).resolve() for name in ("redis-server", "redis-cli")]
    for name, binary in zip(("redis-server", "redis-cli"), binaries, strict=True):
        shutil.copy(binary, folder / "usr/bin" / name)
    for library in libraries(binaries):
        shutil.copy(library, folder / "usr/lib" / library.name)
    shutil.copy(find("caddy"), folder / "usr/bin/caddy")
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nredis:x:999:1000::/:/bin/sh\n", "ascii")
    (folder / "etc/group").write_text("root:x:0:\nredis:x:1000:\n", "ascii")


class Stack:
    """The services of the Compose file."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine = engine
        self.root = root
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.environment = {
            **engine.env,
            "SERVER_IMAGE": SERVER,
            "CADDY_IMAGE": SERVICES,
            "REDIS_IMAGE": SERVICES,
            "MCP_HTTP_PORT": str(free_port()),
            "MCP_HTTPS_PORT": str(self.port),
            "MCP_PUBLIC_URL": self.url,
            "PATH": f"{Path(engine.podman).parent}:{Path(find('podman-compose')).parent}:/usr/sbin:/usr/bin:/bin",
        }
        (root / ".env.compose").write_text(
            f"MCP_AUTH=api_key\nMCP_API_KEYS=test:{KEY}\nMCP_PROBE_KEY={PROBE_KEY}\nMCP_READINESS_DELAY_SECONDS=1\n",
            "ascii",
        )

    def compose(self, *arguments: str) -> str:
        """Run the tool that reads the file."""
        done = run(
            *(find("podman-compose"), "--env-file", ".env.compose", *arguments),
            cwd=self.root,
            env=self.environment,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.root.name}_{service}_1"

    def python(self, service: str, code: str) -> str:
        """Run Python inside a service."""
        done = run(*(self.engine.podman, "exec", self.container(service), "python", "-c", code), env=self.engine.env)
        return (done.stdout + done.stderr).strip()

    def refused(self) -> int:
        """Return the status of a call without a credential: proxy and server are there."""
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        return httpx2.post(f"{self.url}/mcp", content=b"{}", headers=headers, verify=self.trust).status_code

    def up(self) -> None:
        """Start everything, and wait until it is served."""
        self.compose("up", "--detach", "--no-build")
        deadline = time.monotonic() + START_SECONDS
        authority = "/data/caddy/pki/authorities/local/root.crt"
        self.authority = self.root / "root.crt"
        while True:
            done = run(*(self.engine.podman, "exec", self.container("caddy"), "cat", authority), env=self.engine.env)
            if done.returncode == 0 and done.stdout:
                self.authority.write_text(done.stdout, "ascii")
                self.trust = ssl.create_default_context(cafile=str(self.authority))
                try:
                    if self.refused() == 401:
                        return
                except httpx2.TransportError:
                    pass
            logs = run(self.engine.podman, "logs", self.container("caddy"), env=self.engine.env)
            assert time.monotonic() < deadline, logs.stdout + logs.stderr
            time.sleep(0.3)


@pytest.fixture(scope="module")
def built(engine: Engine, locked: Path) -> Engine:
    """The images that the file is told to use."""
    done, output = engine.build(locked, SERVER)
    assert done, output
    engine.image(SERVICES, services, of=PYTHON_IMAGE, environment=("XDG_DATA_HOME=/data", "XDG_CONFIG_HOME=/config"))
    return engine


@pytest.fixture
def stack(built: Engine, locked: Path, tmp_path: Path) -> Iterator[Stack]:
    """The running services, with Caddy's own command, which its image would bring."""
    root = shutil.copytree(locked, tmp_path / f"p{free_port()}")
    # The author's override file: what our stand-in for Caddy's image lacks is its command.
    # A service with a limit of its own gets none of the engine's, and may not raise that of processes here.
    (root / "compose.override.yaml").write_text(
        "services:\n  caddy:\n    command: [caddy, run, --config, /etc/caddy/Caddyfile, --adapter, caddyfile]\n"
        "    ulimits: {nproc: 4096}\n",
        "ascii",
    )
    stack = Stack(built, root)
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")


def test_it_serves_both_eras_through_tls(stack: Stack) -> None:
    """The probe, from outside, through the proxy, finds nothing to complain of."""
    done = run(
        *(
            sys.executable,
            "-m",
            "weather_server",
            "probe",
            f"{stack.url}/mcp",
            "--schema",
            stack.root / "schema/tools.json",
        ),
        env={
            "PYTHONPATH": str(stack.root / "src"),
            "MCP_PROBE_KEY": PROBE_KEY,
            "SSL_CERT_FILE": str(stack.authority),
        },
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_proxy_is_reached(stack: Stack) -> None:
    """Health and metrics are inside; Redis talks to the server alone, and to nobody outside."""
    for path in ("/livez", "/readyz", "/metrics"):
        assert httpx2.get(f"{stack.url}{path}", verify=stack.trust).status_code == 404

    connect = "import socket; socket.create_connection(('{}', {}), 3); print('connected')".format
    assert stack.python("server", connect("redis", 6379)) == "connected"
    assert "Name or service not known" in stack.python("caddy", connect("redis", 6379))
    assert "Network is unreachable" in stack.python("redis", connect("192.0.2.1", 443))


def test_each_process_is_confined(stack: Stack) -> None:
    """No more capabilities than the one for low ports; roots are read-only."""
    capabilities = "print(open('/proc/1/status').read().split('CapBnd:')[1].split()[0])"
    write = "open('/etc/x', 'w')"
    expected = {"server": 0, "caddy": 1 << 10, "redis": 0}

    assert {name: int(stack.python(name, capabilities), 16) for name in expected} == expected
    for name in expected:
        assert "Read-only file system" in stack.python(name, write)


@pytest.mark.parametrize("era", ERAS)
async def test_stopping_everything_loses_no_call(stack: Stack, era: Era) -> None:
    """`down` with a call in flight: proxy and server both wait for it."""
    headers, body = tool_call(era, KEY, "countdown", {"steps": 10, "step_seconds": 0.5})
    begun = asyncio.Event()

    async def calling() -> Reply:
        async with (
            httpx2.AsyncClient(verify=stack.trust, timeout=60) as client,
            client.stream("POST", f"{stack.url}/mcp", headers=headers, content=body) as response,
        ):
            reply = Reply(response.status_code, response.headers)
            async for event in events(response, 0):
                reply.events.append(event)
                begun.set()
        return reply

    call = asyncio.ensure_future(calling())
    async with asyncio.timeout(20):
        await begun.wait()
    stopping = asyncio.ensure_future(asyncio.to_thread(stack.compose, "stop"))
    reply = await call
    await stopping

    assert reply.result["structuredContent"] == {"steps": 10}
    assert len(reply.progress) == 10
    state = stack.engine.inspect(stack.container("server"))["State"]
    assert state["ExitCode"] == 0
