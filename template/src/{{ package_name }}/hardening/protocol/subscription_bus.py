"""Bus of change notifications (`subscriptions/listen`): in this process, or over Redis for all replicas.

Events published on one replica reach listeners on all of them through Redis.
A connection that the network has forgotten is noticed within 20 s, a primary that became a replica by the next event.
Without Redis they stay in the process, so with several replicas the method is not served at all:
a capability that works sometimes is worse than none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    SubscriptionBus,
    ToolsListChanged,
)
from pydantic_core import from_json, to_json

from ..logs.origin import system_error, type_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from ..settings import HardeningSettings

log = structlog.get_logger()

RETRY_SECONDS = 1.0
# After so long without a word the connection is asked; after twice as long it counts as lost.
QUIET_SECONDS = 10.0
LISTS = {"tools": ToolsListChanged, "prompts": PromptsListChanged, "resources": ResourcesListChanged}
NAMES = {kind: name for name, kind in LISTS.items()}


def open_bus(settings: HardeningSettings) -> SubscriptionBus | None:
    """Return the bus that reaches every replica, or None when there is none."""
    if settings.redis_url is not None:
        # As for limits: two servers, or two deployments of one, may use the same Redis.
        return RedisBus(settings.redis_url.get_secret_value(), f"{__name__.partition('.')[0]} {settings.public_url}")
    return InMemorySubscriptionBus() if settings.replicas == 1 else None


class RedisBus:
    """A bus over Redis pub/sub; while Redis is away, events reach the listeners of this process only."""

    def __init__(self, url: str, name: str) -> None:
        from redis.asyncio import Redis

        self._redis: Any = Redis.from_url(url, socket_connect_timeout=RETRY_SECONDS)  # pyright: ignore[reportUnknownMemberType] - its options have no types
        self._channel = f"{name}:changes"
        self._origin = uuid4().hex
        self._local = InMemorySubscriptionBus()

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener of this process."""
        return self._local.subscribe(listener)

    async def publish(self, event: ServerEvent) -> None:
        """Tell this replica at once, and every other one through Redis."""
        await self._local.publish(event)
        # Whatever fails in Redis or on the way to it, the call that publishes goes on.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._send(encode(event, self._origin))

    async def _send(self, data: bytes) -> None:
        from redis.exceptions import ReadOnlyError

        try:
            await self._pipeline(data).execute()
        except ReadOnlyError:
            # Listeners are at the primary, where the address leads to by now.
            await self._redis.connection_pool.disconnect()
            await self._pipeline(data).execute()

    def _pipeline(self, data: bytes) -> Any:
        # A replica takes events too, and gives them to nobody but its own listeners: only a write tells it apart.
        return self._redis.pipeline(transaction=False).publish(self._channel, data).set(self._channel, 1, px=1000)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Listen to the other replicas while the server runs."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._redis.aclose()

    async def _listen(self) -> None:
        away = False
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._channel)
                    if away:
                        log.info("subscription bus back", backend="redis")
                        away = False
                    await self._pass_on(channel)
            except Exception as error:  # noqa: BLE001 - whatever breaks in or before Redis, it listens again
                if not away:
                    log.warning("subscription bus away", backend="redis", error_type=type_name(system_error(error)))
                    away = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _pass_on(self, channel: Any) -> None:
        """Tell this replica what is published on others.

        Raises:
            TimeoutError: Redis was asked, and does not answer.
        """
        heard = time.monotonic()
        while True:
            message = await channel.get_message(timeout=QUIET_SECONDS)
            now = time.monotonic()
            if message is None:
                if now - heard >= 2 * QUIET_SECONDS:
                    raise TimeoutError
                await channel.ping()
                continue
            heard = now
            event = decode(message["data"], self._origin)
            if event is not None:
                await self._local.publish(event)


def encode(event: ServerEvent, origin: str) -> bytes:
    """Return an event as it travels between replicas, with the name of the process it comes from."""
    if isinstance(event, ResourceUpdated):
        return to_json({"from": origin, "updated": event.uri})
    return to_json({"from": origin, "changed": NAMES[type(event)]})


def decode(data: bytes, own: str) -> ServerEvent | None:
    """Return the event; None for this process's own, and for what is none: another version may share the channel."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        message = from_json(data)
        if message["from"] == own:
            return None
        return ResourceUpdated(uri=message["updated"]) if "updated" in message else LISTS[message["changed"]]()
    return None
