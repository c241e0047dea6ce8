"""Progress leaves at once, silence is survived and a client that leaves is noticed, through both proxies."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Literal

import httpx2
import pytest
from support.mcp_client import ERAS, Era, Reply, events, post, tool_call
from support.programs import KEY
from support.projects import WITHOUT_DATABASE
from support.proxies import Proxy
from support.servers import Server, install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from support.harness import Template

Way = Literal["direct", "caddy", "nginx"]
WAYS: tuple[Way, ...] = ("direct", "caddy", "nginx")
STEP = 0.5
# What an event may take from the tool to the client, on a busy machine.
LATENESS = 0.35
TRIES = 4

# An author's tool that says nothing for long.
QUIET = '''
from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from ..hardening import Context, tool
from ..settings import Settings


@tool(read_only=True, timeout_seconds=200, streams=True)
async def quiet(
    seconds: Annotated[int, Field(ge=1, le=190, description="How long to say nothing.")],
    ctx: Context[Settings],
) -> str:
    """Say nothing, then finish."""
    await asyncio.sleep(seconds)
    return "done"
'''


@pytest.fixture(scope="module")
def talking(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one more tool."""
    root = shutil.copytree(template.render(WITHOUT_DATABASE), tmp_path_factory.mktemp("talking") / "p")
    tools = root / "src/weather_server/tools"
    (tools / "quiet.py").write_text(QUIET, "utf-8")
    (tools / "__init__.py").write_text(
        "from .countdown import countdown\nfrom .quiet import quiet\n\nTOOLS = (countdown, quiet)\n",
        "utf-8",
    )
    settings = root / "src/weather_server/settings.py"
    settings.write_text(settings.read_text("utf-8") + "\n    drain_timeout_seconds: float = 210\n", "utf-8")
    install(root)
    return root


@contextlib.asynccontextmanager
async def reach(
    way: Way, project: Path, folder: Path, server: Server, changes: Mapping[str, str] | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client that reaches the server in one of the ways, under its public name."""
    if way == "direct":
        async with httpx2.AsyncClient(
            base_url=f"http://{server.address}", timeout=300, headers={"host": "localhost"}
        ) as client:
            yield client
        return
    async with Proxy(way, project / "deploy", folder, [server.address], changes) as proxy, proxy.client() as client:
        # The public URL of the tests has no port.
        client.headers["host"] = "localhost"
        client.timeout = httpx2.Timeout(300)
        yield client


def on_time(reply: Reply) -> bool:
    """Return whether each event came in its turn after the first one, and that one before the second was sent."""
    first, *others = reply.progress
    return first < 2 * STEP + LATENESS and all(at - first - STEP * turn < LATENESS for turn, at in enumerate(others, 1))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("way", WAYS)
async def test_progress_comes_one_by_one(talking: Path, tmp_path: Path, way: Way, era: Era) -> None:
    """Each event is there when the tool sent it, and the log counts them."""
    async with Server(talking) as server, reach(way, talking, tmp_path, server) as client:
        call = tool_call(era, KEY, "countdown", {"steps": 5, "step_seconds": STEP})
        # A busy machine is late now and then; who holds events back is late each time.
        for _ in range(TRIES):
            reply = await post(client, "/mcp", call)
            if len(reply.progress) == 5 and on_time(reply):
                break
        logged = await server.call()

    assert reply.status == httpx2.codes.OK
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in reply.headers
    assert len(reply.progress) == 5
    assert on_time(reply), reply.progress
    assert reply.result["structuredContent"] == {"steps": 5}
    assert logged["notifications_sent"] == 5
    assert logged["outcome"] == "ok"


async def test_a_compressing_proxy_fails_the_same_test(talking: Path, tmp_path: Path) -> None:
    """The control: with buffering and compression on, nginx holds every event back to the end."""
    spoilt = {
        r"gzip off;": "gzip on; gzip_types *; gzip_proxied any;",
        r"proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    }
    call = tool_call("modern", KEY, "countdown", {"steps": 5, "step_seconds": STEP}, **{"accept-encoding": "gzip"})
    async with Server(talking) as server, reach("nginx", talking, tmp_path, server, spoilt) as client:
        reply = await post(client, "/mcp", call)

    assert reply.headers["content-encoding"] == "gzip"
    assert reply.progress[0] > 4 * STEP
    assert not on_time(reply)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_cancels_its_call(talking: Path, tmp_path: Path, way: Way, era: Era) -> None:
    """Two events, then nobody listens: the call is cancelled, its place is free, nothing is lost elsewhere."""
    headers, body = tool_call(era, KEY, "countdown", {"steps": 10, "step_seconds": 1})
    again = tool_call(era, KEY, "countdown", {"steps": 1, "step_seconds": 0.05})
    async with (
        Server(talking, MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="1") as server,
        reach(way, talking, tmp_path, server) as client,
    ):
        async with client.stream("POST", "/mcp", headers=headers, content=body) as response:
            stream = events(response, 0)
            await anext(stream)
            await stream.aclose()
        left = asyncio.get_running_loop().time()
        logged = await server.call(5)
        noticed = asyncio.get_running_loop().time() - left
        reply = await post(client, "/mcp", again)

    assert logged["outcome"] == "cancelled"
    # The call would have taken ten seconds.
    assert noticed < 5
    assert logged["duration_ms"] < 8000
    assert reply.result["structuredContent"] == {"steps": 1}


SHORT = {
    "caddy": {r"read_timeout 120s": "read_timeout 2s", r"response_header_timeout 120s": "response_header_timeout 2s"},
    "nginx": {r"proxy_read_timeout 120s": "proxy_read_timeout 2s"},
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("way", ["caddy", "nginx"])
async def test_a_silent_call_lives_by_keep_alives(talking: Path, tmp_path: Path, way: Way, era: Era) -> None:
    """A proxy that cuts after two silent seconds does not cut a call of five: comments come each second."""
    async with (
        Server(talking, MCP_STREAM_PING_SECONDS="1", MCP_DRAIN_TIMEOUT_SECONDS="300") as server,
        reach(way, talking, tmp_path, server, SHORT[way]) as client,
    ):
        reply = await post(client, "/mcp", tool_call(era, KEY, "quiet", {"seconds": 5}))

    assert reply.result["structuredContent"] == {"result": "done"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("way", ["caddy", "nginx"])
async def test_without_keep_alives_the_proxy_cuts_and_that_is_a_client_gone(
    talking: Path, tmp_path: Path, way: Way, era: Era
) -> None:
    """The control: comments that are rarer than the proxy's limit do not save the call, which is cancelled."""
    async with (
        Server(talking, MCP_STREAM_PING_SECONDS="60", MCP_DRAIN_TIMEOUT_SECONDS="300") as server,
        reach(way, talking, tmp_path, server, SHORT[way]) as client,
    ):
        with contextlib.suppress(httpx2.TransportError):
            reply = await post(client, "/mcp", tool_call(era, KEY, "quiet", {"seconds": 30}))
            assert "result" not in reply.last
        logged = await server.call(5)

    assert logged["outcome"] == "cancelled"
    assert logged["duration_ms"] < 10_000


@pytest.mark.slow
async def test_three_silent_minutes_are_survived(talking: Path, tmp_path: Path) -> None:
    """As shipped, with the default ping: a call that is silent for longer than any timeout in the files."""
    async with Server(talking, MCP_DRAIN_TIMEOUT_SECONDS="300") as server:

        async def through(way: Way) -> Reply:
            async with reach(way, talking, tmp_path, server) as client:
                return await post(client, "/mcp", tool_call("modern", KEY, "quiet", {"seconds": 180}))

        replies = await asyncio.gather(*(through(way) for way in WAYS))

    for reply in replies:
        assert reply.result["structuredContent"] == {"result": "done"}
