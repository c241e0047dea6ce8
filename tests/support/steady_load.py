"""Clients that go on calling whatever happens to the server, and remember what each call came to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from itertools import count, product
from typing import TYPE_CHECKING, Any, Self

import httpx2
from support.dev_server import KEY
from support.raw_http import TEXTS
from support.watched_server import good_call, message_in

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

ERAS = ("modern", "legacy")
# Longer than every deadline of the server under test together.
HANG_SECONDS = 12.0
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True)
class Ended:
    """What one call came to.

    Attributes:
        kind: ok, the kind of a failure or a refusal, or `connection lost` without an answer.
        number: Which call it was.
        seconds: How long it took.
    """

    kind: str
    number: int
    seconds: float


@dataclass
class Load:
    """Several clients of one server, in both eras, calling one tool after the other; they end with the block.

    Args:
        url: The endpoint, without the path.
        calls: Tools and what makes their arguments of the number of the call.
        key: Credential.
        clients: How many there are in each era.
        first: What calls come to at the beginning.
        trust: What a server with TLS is checked against.
        sessions: What the older clients go on in, one each in turn; without any they have none.
    """

    url: str
    calls: Sequence[tuple[str, Callable[[int], dict[str, Any]]]]
    key: str = KEY
    clients: int = 2
    first: str = "ok"
    trust: ssl.SSLContext | None = None
    sessions: Sequence[str] = ()
    ended: list[Ended] = field(default_factory=list[Ended])

    async def __aenter__(self) -> Self:
        self._numbers = count()
        self._changed = asyncio.Condition()
        self._over = False
        self._tasks = [asyncio.ensure_future(self._work(*one)) for one in product(ERAS, range(self.clients))]
        await self.next(4 * len(self._tasks), self.first)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _work(self, era: str, client: int) -> None:
        session = self.sessions[client % len(self.sessions)] if self.sessions and era == "legacy" else ""
        options: dict[str, Any] = {"verify": self.trust} if self.trust else {}
        async with httpx2.AsyncClient(timeout=HANG_SECONDS, trust_env=False, **options) as http:
            while not self._over:
                number = next(self._numbers)
                started = time.monotonic()
                kind = await self._call(http, era, number, session)
                if kind != "ok":
                    # As every client does; nobody asks a server that is away without a pause.
                    await asyncio.sleep(0.02)
                async with self._changed:
                    self.ended.append(Ended(kind, number, time.monotonic() - started))
                    self._changed.notify_all()

    async def _call(self, http: httpx2.AsyncClient, era: str, number: int, session: str) -> str:
        tool, arguments = self.calls[number % len(self.calls)]
        headers, body = good_call(era, tool, arguments(number), self.key)
        headers |= {"Mcp-Session-Id": session} if session else {}
        try:
            answer = await http.post(f"{self.url}/mcp", headers=headers, content=body)
        except httpx2.TimeoutException:
            return "hang"
        except httpx2.TransportError:
            return "connection lost"
        said = TEXTS.search(answer.content)
        assert not said, answer.text
        with contextlib.suppress(json.JSONDecodeError, IndexError):
            return _kind(answer.status_code, message_in(answer.text))
        return str(answer.status_code)

    async def next(self, calls: int, kind: str = "") -> list[Ended]:
        """Wait until so many further calls have ended, of a kind or of any, and return what ended until then."""
        before = len(self.ended)

        def enough() -> bool:
            return sum(not kind or one.kind == kind for one in self.ended[before:]) >= calls

        async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
            await self._changed.wait_for(enough)
        return self.ended[before:]

    async def recovered(self) -> float:
        """Wait until every client is well again, and return how long that took."""
        started = time.monotonic()
        in_a_row = 2 * len(self._tasks)
        before = len(self.ended)

        def well() -> bool:
            last = self.ended[max(before, len(self.ended) - in_a_row) :]
            return len(last) >= in_a_row and {one.kind for one in last} == {"ok"}

        async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
            await self._changed.wait_for(well)
        return time.monotonic() - started


def _kind(status: int, message: dict[str, Any]) -> str:
    if "error" in message:
        return message["error"]["data"]["kind"]
    result = message["result"]
    if not result.get("isError"):
        return "ok"
    failure = result["_meta"]["hardening/error"]
    # What a client may do about it is said, and truly.
    assert failure["retryable"] is (failure["kind"] in {"busy", "timeout", "upstream_unavailable"}), (status, failure)
    return failure["kind"]
