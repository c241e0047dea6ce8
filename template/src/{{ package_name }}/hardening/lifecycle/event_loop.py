"""Event loop that tries the addresses of a name 0.25 s after each other, and takes the first that answers.

An address that says nothing, as that of a machine that has died, costs a new connection 0.25 s; uvloop itself waits for
it until no time is left. It holds for all that connects by name: PostgreSQL, Redis, libraries of the author's.
Source: RFC 8305 (Happy Eyeballs), section 5.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import uvloop

NEXT_SECONDS = 0.25


class EventLoop(uvloop.Loop):
    """uvloop, with another way to the addresses of a name."""

    async def create_connection(  # pyright: ignore[reportIncompatibleMethodOverride] - what is not used here is passed on
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """Connect as `asyncio.loop.create_connection` does."""
        if options.get("local_addr") is None and _is_name(host):
            look_up = {name: options.pop(name, 0) for name in ("family", "proto", "flags")}
            found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **look_up)
            if options.get("ssl") and options.get("server_hostname") is None:
                options["server_hostname"] = host
            options["sock"], host, port = await self._first_to_answer(found), None, None
        return await super().create_connection(protocol_factory, host, port, **options)

    async def _first_to_answer(self, found: list[Any]) -> socket.socket:
        untried, attempts = list(found), set[asyncio.Task[socket.socket]]()
        failure: BaseException = OSError("the name has no address")
        try:
            while untried or attempts:
                if untried:
                    attempts.add(self.create_task(self._connected(*untried.pop(0))))
                patience = NEXT_SECONDS if untried else None
                await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for attempt in [one for one in attempts if one.done()]:
                    attempts.remove(attempt)
                    if (error := attempt.exception()) is None:
                        return attempt.result()
                    failure = error
            raise failure
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_close)

    async def _connected(self, family: int, kind: int, proto: int, _: str, address: Any) -> socket.socket:
        connecting = socket.socket(family, kind, proto)
        try:
            connecting.settimeout(0)
            await self.sock_connect(connecting, address)
        except BaseException:
            connecting.close()
            raise
        return connecting


def _is_name(host: object) -> bool:
    if not host or not isinstance(host, str):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what has answered after another one."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
