"""What strangers make a proxy keep fits the memory that it is given, and slow senders end.

The proxies run as the Compose file runs Caddy: with its limits of descriptors and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.node import NODE
from support.programs import KEY
from support.projects import WITHOUT_DATABASE
from support.proxies import KINDS, Kind, Proxy
from support.servers import Server, install

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from support.harness import Template

pytestmark = pytest.mark.slow

MIB = 1024**2
DESCRIPTORS = 2048
AT_ONCE = 150
# Requests of this test come from one address; what is measured is the proxy, not the server's limits.
OPEN = {
    f"MCP_RATE_{name}": "1000000"
    for name in ("ADDRESS_PER_MINUTE", "ADDRESS_BURST", "AUTH_FAILURES_PER_MINUTE", "PRINCIPAL_PER_MINUTE")
}
# As many unfinished requests as streams of one HTTP/2 connection.
STREAMS = """
const [port, streams, size] = process.argv.slice(1).map(Number);
const options = { rejectUnauthorized: false, maxSessionMemory: 4000 };
const session = require("node:http2").connect(`https://localhost:${port}`, options);
const said = {};
let answered = 0;
const count = (what) => {
  said[what] = (said[what] ?? 0) + 1;
  if (++answered === streams) {
    console.log(JSON.stringify(said));
    process.exit(0);
  }
};
session.on("error", (error) => count(error.message));
for (let number = 0; number < streams; number++) {
  const headers = {
    ":method": "POST",
    ":path": "/mcp",
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "content-length": size,
  };
  const stream = session.request(headers, { endStream: false });
  stream.on("response", (headers) => count(headers[":status"]));
  stream.on("error", () => {});
  stream.write(Buffer.alloc(size - 1000));
}
setTimeout(() => { console.log(JSON.stringify(said)); process.exit(0); }, 20000);
"""


@pytest.fixture(scope="module")
def installed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose server can be started."""
    root = template.project(WITHOUT_DATABASE, tmp_path_factory.mktemp("memory") / "weather-server")
    install(root)
    return root


@pytest.fixture(scope="module")
def limits(installed: Path) -> dict[str, Any]:
    """What the Compose file gives to Caddy."""
    return yaml.safe_load((installed / "compose.yaml").read_text("utf-8"))["services"]["caddy"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which of the two."""
    return request.param


@pytest.fixture
def descriptors() -> Iterator[None]:
    """What this process starts has as many descriptors as the Compose file gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def in_front(
    kind: Kind,
    installed: Path,
    folder: Path,
    limits: dict[str, Any],
    changes: dict[str, str] | None = None,
    **settings: str,
) -> AsyncIterator[Proxy]:
    """A proxy, and the real server behind it."""
    environment = {"GOMEMLIMIT": limits["environment"]["GOMEMLIMIT"]}
    if kind == "nginx":
        changes = {r"limit_conn mcp_address 128;": "limit_conn mcp_address 4000;", **(changes or {})}
    async with (
        Server(installed, MCP_ALLOWED_HOSTS="localhost", **OPEN, **settings) as server,
        Proxy(kind, installed / "deploy", folder, [server.address], changes, environment) as proxy,
    ):
        yield proxy


def most(proxy: Proxy) -> int:
    """Return the memory in MiB that the proxy's processes had at most, all together."""
    pid = proxy.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    texts = [Path(f"/proc/{one}/status").read_text("ascii") for one in (pid, *children)]
    return sum(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) for text in texts) // 1024


def head(proxy: Proxy, size: int, key: str = "") -> bytes:
    """Return the head of a POST that announces a body."""
    lines = [
        *("POST /mcp HTTP/1.1", f"host: localhost:{proxy.port}", "content-type: application/json"),
        *("accept: application/json, text/event-stream", f"content-length: {size}"),
        *([f"authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def unfinished(proxy: Proxy, number: int, size: int, sent: int, stack: contextlib.AsyncExitStack) -> Counter[str]:
    """Send so many requests without their end, and leave them open; return the first lines of the answers."""
    trust: ssl.SSLContext = proxy.trust()

    async def one() -> str:
        reader, writer = await asyncio.open_connection("localhost", proxy.port, ssl=trust)
        stack.callback(writer.close)
        writer.write(head(proxy, size) + b"x" * sent)
        try:
            async with asyncio.timeout(20):
                await writer.drain()
                return (await reader.readline()).decode().strip()
        except (TimeoutError, ConnectionError) as error:
            return type(error).__name__

    said: Counter[str] = Counter()
    for begun in range(0, number, AT_ONCE):
        said.update(await asyncio.gather(*(one() for _ in range(min(AT_ONCE, number - begun)))))
    return said


def memory(limits: dict[str, Any]) -> int:
    """Return the memory in MiB that the container has."""
    return int(limits["mem_limit"].removesuffix("m"))


def test_the_numbers_belong_together(limits: dict[str, Any]) -> None:
    """What is measured here is what Compose sets: descriptors bound connections, and the collector knows the limit."""
    assert limits["ulimits"] == {"nofile": DESCRIPTORS}
    assert memory(limits) == 384
    assert limits["environment"]["GOMEMLIMIT"] == "300MiB"


async def test_unfinished_requests_of_strangers_are_kept_nowhere(
    kind: Kind, installed: Path, tmp_path: Path, limits: dict[str, Any]
) -> None:
    """150 bodies of 2 MB without a credential, never finished: each is refused at once, and none is kept."""
    async with in_front(kind, installed, tmp_path, limits) as proxy, contextlib.AsyncExitStack() as stack:
        before = most(proxy)
        said = await unfinished(proxy, 150, 1_000_000, 900_000, stack)

        assert said == {"HTTP/1.1 401 Unauthorized": 150}
        assert most(proxy) - before < 60


async def test_a_proxy_that_keeps_requests_fails_the_same_test(
    installed: Path, tmp_path: Path, limits: dict[str, Any]
) -> None:
    """The control: nginx that reads requests first keeps every byte of the 150."""
    changes = {
        r"^proxy_request_buffering off;": "proxy_request_buffering on;",
        r"client_body_buffer_size 16k;": "client_body_buffer_size 2m;",
    }
    async with (
        in_front("nginx", installed, tmp_path, limits, changes) as proxy,
        contextlib.AsyncExitStack() as stack,
    ):
        before = most(proxy)
        await unfinished(proxy, 150, 1_000_000, 900_000, stack)

        assert most(proxy) - before > 100


async def test_streams_of_one_connection_fit(installed: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    """240 unfinished requests as streams of one HTTP/2 connection: all are refused, and the memory stays."""
    async with in_front("caddy", installed, tmp_path, limits) as proxy:
        client = await asyncio.create_subprocess_exec(
            *(NODE, "-e", STREAMS, str(proxy.port), "240", "900000"), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(40):
            out, _ = await client.communicate()

        assert json.loads(out.decode().strip().splitlines()[-1]) == {"401": 240}
        assert most(proxy) < memory(limits) / 2


@pytest.mark.usefixtures("descriptors")
async def test_as_many_connections_as_there_can_be_fit(installed: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    """Every descriptor taken by a stranger's unfinished request: the memory is enough, and the proxy serves again."""
    async with in_front("caddy", installed, tmp_path, limits) as proxy:
        async with contextlib.AsyncExitStack() as stack:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            said = await unfinished(proxy, DESCRIPTORS - 100, 200_000, 100_000, stack)
            assert said["HTTP/1.1 401 Unauthorized"] > DESCRIPTORS / 2
            assert most(proxy) < memory(limits)
        async with asyncio.timeout(20), proxy.client() as client:
            # Whoever waited for a descriptor is told to come again.
            answers = [(await client.get("/mcp", headers={"authorization": f"Bearer {KEY}"})).status_code]
            for _ in range(20):
                if answers[-1] != 503:
                    break
                await asyncio.sleep(0.5)
                answers.append((await client.get("/mcp", headers={"authorization": f"Bearer {KEY}"})).status_code)
            assert answers[-1] == 405


async def test_a_refusal_arrives_whole(kind: Kind, installed: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    """The server refuses by the head and closes; 200 clients that send 900 kB all the same read every byte of that."""
    async with in_front(kind, installed, tmp_path, limits) as proxy:
        for _ in range(200):
            async with proxy.client() as client:
                headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
                answer = await client.post("/mcp", content=b"x" * 900_000, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == 401


async def test_slow_senders_end(kind: Kind, installed: Path, tmp_path: Path, limits: dict[str, Any]) -> None:
    """A caller that stops in the middle of its body gets the server's 408, a stranger 401; both lose their connections.

    On a busy machine one connection in a thousand stays open in Caddy until its client leaves: Go's server stops the
    read of a body that nobody needs by a deadline, takes that away again, and may meet another read. So one of ten may.
    """
    # Ten seconds for a body and a minute of idling, made shorter for the test.
    changes = {r"^\t\t\tidle 1m$": "\t\t\tidle 1s"} if kind == "caddy" else None
    async with (
        in_front(kind, installed, tmp_path, limits, changes, MCP_BODY_TIMEOUT_SECONDS="2") as proxy,
        contextlib.AsyncExitStack() as stack,
    ):

        async def sent(key: str) -> tuple[bytes, bool]:
            """Send the begin of a body; return the answer, and whether the connection ended after it."""
            reader, writer = await asyncio.open_connection("localhost", proxy.port, ssl=proxy.trust())
            stack.callback(writer.close)
            writer.write(head(proxy, 1000, key) + b"{")
            async with asyncio.timeout(30):
                answer = await reader.readuntil(b"\r\n\r\n")
                answer += await reader.readuntil(b"}}}")
            try:
                async with asyncio.timeout(10):
                    return answer, await reader.read() == b""
            except TimeoutError:
                return answer, False

        callers = await asyncio.gather(*(sent(KEY) for _ in range(10)))
        strangers = await asyncio.gather(*(sent("") for _ in range(10)))

        assert {answer[:13] for answer, _ in callers} == {b"HTTP/1.1 408 "}
        assert all(b'"too_slow"' in answer for answer, _ in callers)
        assert {answer[:13] for answer, _ in strangers} == {b"HTTP/1.1 401 "}
        assert min(sum(ended for _, ended in some) for some in (callers, strangers)) >= 9
