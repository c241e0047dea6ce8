"""Which answers a client takes, as its header says it (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from captured import captured
from live import KEY, live
from wire import Wire, opening, request

from hardening.edge.accept import accepted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("accept", "json", "stream"),
    [
        (b"", True, True),
        (b"*/*", True, True),
        (b"application/json, text/event-stream", True, True),
        (b"Application/JSON ; charset=utf-8,TEXT/event-stream", True, True),
        (b"application/json", True, False),
        (b"application/json;q=0.001", True, False),
        (b"text/event-stream", False, True),
        (b"text/*", False, True),
        (b"text/html", False, False),
        (b"application/json;q=0", False, False),
        (b"application/json; q=0.000, text/event-stream", False, True),
        (b",,;", False, False),
    ],
)
def test_the_header_is_read_as_it_is_meant(accept: bytes, json: bool, stream: bool) -> None:  # noqa: FBT001
    """Wildcards, parameters, case and a weight of nothing."""
    assert accepted(accept) == (json, stream)


async def test_a_session_answers_with_streams(tmp_path: Path) -> None:
    """With sessions every answer of the older protocols is a stream: 406 with a body and a line for JSON alone."""
    with captured(tmp_path / "log") as log, live(MCP_LEGACY="stateful") as server:
        async with Wire(server.url, KEY) as wire:
            headers, body = request("legacy", *opening("legacy"), key=KEY)
            refused = await wire.send(body, {**headers, "accept": "application/json"})
            silent = await wire.send(b"", {**headers, "accept": "application/json"}, method="GET")
            modern = await wire.ask("modern", "tools/list", headers={"accept": "application/json"})
        lines = [line for line in log.lines() if line["msg"] == "refused"]

    assert (refused.status, silent.status, modern.status) == (406, 406, 200)
    assert {reply.error["data"]["kind"] for reply in (refused, silent)} == {"not_acceptable"}
    assert "text/event-stream" in refused.error["message"]
    assert [(line["layer"], line["status"]) for line in lines] == [("declared", 406)] * 2
