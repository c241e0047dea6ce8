"""Change notifications reach every listener, on every replica, and end with a result."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio as redis_client
from captured import captured
from live import ENVIRONMENT, KEY, Live, free_port, live, settings_from
from mcp.server.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from support.relay import Relay
from wire import SECONDS, Wire, request

from hardening.dev.issuer import LocalIssuer
from hardening.protocol import subscription_bus
from hardening.protocol.subscription_bus import RedisBus, decode, encode, open_bus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator
    from pathlib import Path

AUDIENCE = "https://mcp.example.com/mcp"
EVENTS = [ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated(uri="sample://text")]
ALL = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


class Listener:
    """One open stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self.lines = lines

    async def next(self) -> dict[str, Any]:
        """Wait for the next message."""
        async with asyncio.timeout(SECONDS):
            async for line in self.lines:
                if line.startswith("data:") and line[5:].strip():
                    return json.loads(line[5:])
        return {}


@asynccontextmanager
async def listening(server: Live, key: str = KEY, rpc_id: int = 7) -> AsyncGenerator[Listener]:
    """Open a stream; its first message is the acknowledgement."""
    headers, body = request("modern", "subscriptions/listen", {"notifications": ALL}, rpc_id=rpc_id, key=key)
    wire = Wire(server.url, key)
    async with wire, wire.http.stream("POST", f"{server.url}/mcp", content=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        listener = Listener(answer.aiter_lines())
        first = await listener.next()
        assert first["method"] == "notifications/subscriptions/acknowledged"
        yield listener


def publish(server: Live, event: Any) -> None:
    """Publish an event on a server's own loop."""
    bus = server.server.bus
    assert bus is not None
    server.do(lambda: asyncio.ensure_future(bus.publish(event)))


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_survives_the_journey(event: Any) -> None:
    """What is published on one replica is the same on the next."""
    assert decode(encode(event, "one"), "two") == event


def test_an_event_is_not_told_twice() -> None:
    """The publisher's own listeners have heard of it when it comes back from Redis."""
    assert decode(encode(ToolsListChanged(), "one"), "one") is None


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b'{"from":"x","changed":"?"}', b'{"changed":"tools"}'])
def test_nonsense_on_the_channel_does_no_harm(data: bytes) -> None:
    """Another version, or somebody else, may write there."""
    assert decode(data, "own") is None


async def test_a_listener_hears_of_a_change(server: Live) -> None:
    """Each message names the subscription that it belongs to."""
    async with listening(server) as listener:
        publish(server, ToolsListChanged())
        message = await listener.next()

    assert message["method"] == "notifications/tools/list_changed"
    assert message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7


async def test_a_caller_has_so_many_streams_and_no_more() -> None:
    """Over the cap: 503 and when to try again; a stream that is closed makes room."""
    with live(MCP_MAX_STREAMS_PER_PRINCIPAL="1") as server:
        async with listening(server):
            headers, body = request("modern", "subscriptions/listen", {"notifications": ALL}, key=KEY)
            async with Wire(server.url, KEY) as wire:
                refused = await wire.send(body, headers)
        async with asyncio.timeout(SECONDS):
            while server.app.pipeline.in_flight():
                await asyncio.sleep(0.01)
        async with listening(server):
            pass

    assert refused.status == 503
    assert "retry-after" in refused.headers


async def test_a_stream_ends_with_its_result_at_a_drain() -> None:
    """A client can tell a clean end from a fault."""
    with live() as server:
        async with listening(server) as listener:
            assert server.running is not None
            server.do(lambda: server.running and server.running.http.handle_exit(15, None))
            message = await listener.next()

    assert message["id"] == 7
    assert "result" in message


async def test_a_stream_ends_with_its_result_when_its_token_expires() -> None:
    """It lives no longer than what has opened it, and others go on."""
    with LocalIssuer() as issuer, live(**issuer.environment(AUDIENCE)) as server:
        short, long = (issuer.token(AUDIENCE, subject=str(life), lifetime_seconds=life) for life in (2, 3600))
        async with listening(server, long) as other, listening(server, short) as listener:
            message = await listener.next()
            publish(server, ToolsListChanged())
            heard = await other.next()

    assert message["id"] == 7
    assert "result" in message
    assert heard["method"] == "notifications/tools/list_changed"


async def test_without_a_shared_bus_several_replicas_do_not_serve_it() -> None:
    """A capability that works sometimes is not advertised."""
    with live(MCP_REPLICAS="2", MCP_REQUEST_STATE_KEYS="x" * 32) as server:
        async with Wire(server.url, KEY) as wire, asyncio.timeout(SECONDS):
            reply = await wire.ask("modern", "subscriptions/listen", {"notifications": ALL})
            discovered = await wire.ask("modern", "server/discover")

    assert reply.status == 404
    assert reply.error["code"] == -32601
    assert discovered.result["capabilities"]["tools"]["listChanged"] is False


async def test_a_redis_that_does_not_answer_costs_the_publisher_a_second() -> None:
    """Whoever tells of a change is not held up by it for longer, and tells this process all the same."""
    heard: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bus = RedisBus(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "test")
        bus.subscribe(heard.append)
        # The client of Redis gives up by itself after five seconds.
        async with bus.running(), asyncio.timeout(4):
            await bus.publish(ToolsListChanged())

    assert heard == [ToolsListChanged()]


class Redis:
    """A Redis of these tests' own, which can be away for a while."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.program = program
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.start()

    def start(self) -> None:
        """Let it answer, now or soon."""
        self._child = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it as a crash does."""
        self._child.kill()
        self._child.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Generator[Redis]:
    """A Redis that runs."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("redis-server is missing")
    redis = Redis(program, tmp_path)
    yield redis
    redis.stop()


async def hears_of(listener: Listener, publisher: Live, event: Any, method: str) -> None:
    """Publish until it is heard: before a replica has joined the channel, events reach the publisher's own alone."""
    async with asyncio.timeout(SECONDS):
        while True:
            heard = asyncio.ensure_future(listener.next())
            while not heard.done():
                publish(publisher, event)
                await asyncio.wait([heard], timeout=0.1)
            if heard.result()["method"] == method:
                return


async def test_a_change_reaches_the_listeners_of_another_replica(redis: Redis) -> None:
    """Published on one, heard on both."""
    shared = {"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": "x" * 32, "REDIS_URL": redis.url}
    with live(**shared) as one, live(**shared) as two:
        async with listening(one) as here, listening(two) as there:
            await hears_of(there, one, ToolsListChanged(), "notifications/tools/list_changed")
            message = await here.next()

    assert message["method"] == "notifications/tools/list_changed"


async def until_heard(publisher: RedisBus, listener: RedisBus) -> None:
    """Publish on one until the other one hears of it."""
    heard = asyncio.Event()
    forget = listener.subscribe(lambda _: heard.set())
    async with asyncio.timeout(SECONDS):
        while not heard.is_set():
            await publisher.publish(ToolsListChanged())
            with suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), 0.1)
    forget()


async def test_a_connection_that_the_network_has_forgotten_is_opened_again(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener to which nothing comes any more asks, and listens anew when no answer comes; the log says both."""
    monkeypatch.setattr(subscription_bus, "QUIET_SECONDS", 0.5)
    async with Relay(lambda: asyncio.open_connection("127.0.0.1", redis.port)) as relay:
        listener, publisher = (RedisBus(url, "test") for url in (f"redis://127.0.0.1:{relay.port}", redis.url))
        async with listener.running(), publisher.running():
            await until_heard(publisher, listener)
            with captured(tmp_path / "log") as log:
                # Answers to its questions come, so it stays as it is.
                await asyncio.sleep(1.2)
                assert log.lines() == []
                relay.forget()
                await until_heard(publisher, listener)
                said = [(line["msg"], line.get("error_type")) for line in log.lines()]
    assert said == [("subscription bus away", "TimeoutError"), ("subscription bus back", None)]


async def test_nothing_of_an_event_stays_in_redis(redis: Redis) -> None:
    """The key that tells a primary from a replica ends after a second, and the connections with the bus."""
    bus, left = RedisBus(redis.url, "test"), -2
    async with redis_client.Redis(port=redis.port) as client, asyncio.timeout(SECONDS):
        async with bus.running():
            while left == -2:
                with suppress(redis_client.ConnectionError):
                    await bus.publish(ToolsListChanged())
                    left = await client.pttl("test:changes")
        while len(await client.client_list()) > 1:
            await asyncio.sleep(0.01)

    assert 0 < left <= 1000


async def test_a_primary_that_has_become_a_replica_is_left(redis: Redis, tmp_path: Path) -> None:
    """It still takes events, and gives them to nobody at the new primary: where the address leads, is published."""
    other = Redis(redis.program, tmp_path)
    leads_to = redis.port
    try:
        async with Relay(lambda: asyncio.open_connection("127.0.0.1", leads_to)) as relay:
            publisher = RedisBus(f"redis://127.0.0.1:{relay.port}", "test")
            listener, before = RedisBus(other.url, "test"), RedisBus(redis.url, "test")
            async with publisher.running(), listener.running(), before.running():
                await until_heard(publisher, before)
                async with redis_client.Redis(port=redis.port) as client:
                    await client.execute_command("REPLICAOF", "127.0.0.1", str(other.port))
                leads_to = other.port
                await until_heard(publisher, listener)
    finally:
        other.stop()


async def test_the_bus_outlives_whatever_it_meets(redis: Redis, tmp_path: Path) -> None:
    """Whatever the client of Redis makes of an answer that is none, it listens again."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b":x\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as other:
        leads_to = other.sockets[0].getsockname()[1]
        async with Relay(lambda: asyncio.open_connection("127.0.0.1", leads_to)) as relay:
            listener, publisher = (RedisBus(url, "test") for url in (f"redis://127.0.0.1:{relay.port}", redis.url))
            with captured(tmp_path / "log") as log:
                async with listener.running(), publisher.running(), asyncio.timeout(SECONDS):
                    while not (said := log.lines()):
                        await asyncio.sleep(0.05)
                    leads_to = redis.port
                    await until_heard(publisher, listener)
    assert [(line["msg"], line["error_type"]) for line in said] == [("subscription bus away", "ValueError")]


async def test_listeners_survive_a_restart_of_redis(redis: Redis) -> None:
    """Meanwhile they hear of changes on their own replica, afterwards of those on the other one again."""
    shared = {"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": "x" * 32, "REDIS_URL": redis.url}
    with live(**shared) as one, live(**shared) as two:
        async with listening(two) as listener:
            await hears_of(listener, one, ToolsListChanged(), "notifications/tools/list_changed")
            redis.stop()
            await hears_of(listener, two, PromptsListChanged(), "notifications/prompts/list_changed")
            redis.start()
            await hears_of(listener, one, ResourcesListChanged(), "notifications/resources/list_changed")


def test_deployments_that_share_a_redis_hear_nothing_of_each_other() -> None:
    """The channel is named after the public URL too, as the keys of the limits are."""
    channels: set[str] = set()
    for url in ("https://mcp.example.com", "https://staging.example.com", "https://mcp.example.com"):
        bus = open_bus(settings_from({**ENVIRONMENT, "MCP_PUBLIC_URL": url, "REDIS_URL": "redis://127.0.0.1"}))
        assert isinstance(bus, RedisBus)
        channels.add(bus._channel)  # noqa: SLF001 - what is sent over the wire
    assert len(channels) == 2
