"""Which headers the SDK reads again behind the guards: each has one value by then, or is a list that was joined."""

from __future__ import annotations

from typing import Any

import pytest
from live import KEY, live
from starlette.datastructures import Headers
from wire import ERAS, Era, Wire, opening, request

from hardening.edge.header_fields import PROTOCOL, SINGLE

# Lists; their lines are joined before anybody reads them.
LISTS = {"accept", "accept-encoding", "connection"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the headers that anybody asks a request of Starlette's for."""
    names: set[str] = set()

    def noting(method: str) -> Any:
        original = getattr(Headers, method)

        def asked(self: Headers, key: str, *more: Any) -> Any:
            names.add(key.lower())
            return original(self, key, *more)

        return asked

    for method in ("__getitem__", "__contains__", "getlist"):
        monkeypatch.setattr(Headers, method, noting(method))
    return names


@pytest.mark.parametrize("mode", ["stateless", "stateful"])
@pytest.mark.parametrize("era", ERAS)
async def test_what_the_sdk_reads_again_has_one_value(read: set[str], era: Era, mode: str) -> None:
    """A header that it begins to read has to be added to `SINGLE`, unless it is a list."""
    with live(MCP_LEGACY=mode) as server:
        async with Wire(server.url, KEY) as wire:
            reply = await wire.ask(era, *opening(era))
            session = {"mcp-session-id": reply.headers.get("mcp-session-id", "none")}
            await wire.call(era, "echo", {"text": "a"}, headers=session if era == "legacy" else {})
            # What is unusual goes to the SDK's own transports.
            headers, body = request(era, "tools/list", key=KEY)
            await wire.send(body, {**headers, **session, "accept": "application/json;q=1"})
            await wire.send(body, {**headers, "mcp-protocol-version": "1999-01-01"})
            notified = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            await wire.send(notified, {**headers, **session, "mcp-method": "notifications/initialized"})
            await wire.send(b"", {**headers, **session}, method="DELETE")
            if mode == "stateful":
                await wire.send(b"", {**headers, **session, "last-event-id": "1"}, method="GET")

    again = {name for name in read if not name.startswith(PROTOCOL.decode())} - LISTS
    assert {name.encode() for name in again} <= SINGLE
    assert "accept" in read
