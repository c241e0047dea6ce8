"""One request, from its first byte to its log line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from captured import captured, nothing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire import ERAS, MODERN, Era, Wire, opening

from hardening.exchange import LONGEST_CLIENT_NAME, Principal, open_exchange, printable, trace_id

if TYPE_CHECKING:
    from pathlib import Path

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER_TRACE = "1" * 32
OTHER_PARENT = f"00-{OTHER_TRACE}-b7ad6b7169203331-01"


def exchange(*headers: tuple[bytes, bytes]) -> Any:
    """Return the exchange of a request with these headers."""
    return open_exchange({"method": "POST", "path": "/mcp", "headers": list(headers)}, nothing, nothing)


@pytest.mark.parametrize(
    ("version", "era", "spoken"),
    [
        ("", "legacy", "2025-03-26"),
        ("2024-11-05", "legacy", "2024-11-05"),
        ("2025-11-25", "legacy", "2025-11-25"),
        ("2026-07-28", "modern", "2026-07-28"),
        ("2099-01-01", "modern", "2099-01-01"),
        ("x" * 99, "modern", "x" * 32),
    ],
)
def test_the_version_header_decides_the_era(version: str, era: str, spoken: str) -> None:
    """No header or a version with a handshake is legacy, anything else modern; what is kept of it is bounded."""
    headers = [(b"mcp-protocol-version", version.encode())] if version else []
    one = exchange(*headers)

    assert (one.era, one.protocol_version) == (era, spoken)


def test_each_request_has_ids_of_its_own() -> None:
    """Request ids are made here, unguessable, and never taken from the caller."""
    ids = {exchange((b"x-request-id", b"chosen")).request_id for _ in range(100)}

    assert len(ids) == 100
    assert "chosen" not in ids
    assert all(len(one) == 16 for one in ids)


def test_what_a_request_took_is_held_until_its_last_work_is_over() -> None:
    """Two works at once: the end of the first gives nothing back."""
    one, over = exchange(), list[str]()
    with one.working():
        with one.working():
            one.when_work_is_over(lambda: over.append("given back"))
        assert over == []
    assert over == ["given back"]
    one.when_work_is_over(lambda: over.append("at once"))
    assert over == ["given back", "at once"]


def test_whitespace_around_a_value_is_no_part_of_it() -> None:
    """A client that pads a value is not told that header and body differ (RFC 9110, section 5.5)."""
    padded = exchange((b"mcp-protocol-version", b" 2026-07-28 \t"), (b"mcp-method", b"tools/list  "))

    assert padded.protocol_version == MODERN
    assert dict(padded.scope["headers"])[b"mcp-method"] == b"tools/list"


def test_repeated_headers_are_joined() -> None:
    """No layer can be shown another value of a header than the next one."""
    one = exchange((b"host", b"good"), (b"host", b"bad"))

    assert one.header(b"host") == "good, bad"
    assert one.header(b"none") == ""


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (PARENT, TRACE),
        ("", ""),
        (None, ""),
        (5, ""),
        (PARENT.upper(), ""),
        (PARENT + "-more", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE[:-1]}-b7ad6b7169203331-01", ""),
        (PARENT + "\n", ""),
    ],
)
def test_only_a_valid_traceparent_counts(traceparent: Any, expected: str) -> None:
    """A trace id is 32 hexadecimal digits, not all zero (W3C Trace Context)."""
    assert trace_id(traceparent) == expected


@example("x" * 200)
@example("\x1b[31m\n\u202e")
@given(st.one_of(st.text(max_size=200), st.none(), st.integers(), st.lists(st.text())))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_claimed_text_is_bounded_and_printable(text: Any) -> None:
    """Whatever a client claims to be, what is kept is short and plain."""
    kept = printable(text)

    assert len(kept) <= LONGEST_CLIENT_NAME
    assert all(" " <= character <= "~" for character in kept)


def test_identities_do_not_run_into_each_other() -> None:
    """Kind, issuer, subject and client all make the identity that limits and sessions are bound to."""
    principals = [
        Principal("api_key", "a"),
        Principal("probe", "a"),
        Principal("jwt", "a", issuer="https://one", client_id="c"),
        Principal("jwt", "a", issuer="https://two", client_id="c"),
        Principal("jwt", "a", issuer="https://one", client_id="d"),
        Principal("jwt", "b", issuer="https://one", client_id="c"),
    ]
    assert len({one.id for one in principals}) == len(principals)
    assert Principal("jwt", "a", expires_at=1).id == Principal("jwt", "a", expires_at=2).id


async def logged(path: Path, wire: Wire, era: Era, params: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Open, call a tool with these parameters, and return the line of the call."""
    with captured(path) as log:
        answer = await wire.ask(
            era, "tools/call", {"name": "echo", "arguments": {"text": "hello"}, **params}, headers=headers
        )
        assert not answer.result["isError"]
        return next(line for line in log.lines() if line["msg"] == "tool call")


@pytest.mark.parametrize("era", ERAS)
async def test_the_trace_of_the_caller_goes_on(wire: Wire, tmp_path: Path, era: Era) -> None:
    """A line carries the trace id of `_meta`, else of the header, else one of its own."""
    alone = await logged(tmp_path / "1", wire, era, {})
    header = await logged(tmp_path / "2", wire, era, {}, traceparent=PARENT)
    meta = await logged(tmp_path / "3", wire, era, {"_meta": {"traceparent": OTHER_PARENT}}, traceparent=PARENT)

    assert header["trace_id"] == TRACE
    assert meta["trace_id"] == OTHER_TRACE
    assert len(alone["trace_id"]) == 32
    assert alone["trace_id"] not in {TRACE, OTHER_TRACE}


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_monitor_does_is_marked(wire: Wire, tmp_path: Path, era: Era) -> None:
    """Its lines can be left out of a count of real calls; the name is only claimed, and opens nothing."""
    marked: list[bool] = []
    for number, name in enumerate(("AliveMCP", "alivemcp/2", "claude")):
        meta = {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}}}
        params, headers = (meta, {}) if era == "modern" else ({}, {"user-agent": name})
        marked.append((await logged(tmp_path / str(number), wire, era, params, **headers))["probe"])

    assert marked == [True, True, False]


@pytest.mark.parametrize("era", ERAS)
async def test_the_name_a_client_gives_itself_is_kept(wire: Wire, tmp_path: Path, era: Era) -> None:
    """The opening line names the client, from the message of its era, bounded and printable."""
    method, params = opening(era)
    client = {"name": "evil\n\x1b[31m\u202e" + "x" * 200, "version": "1"}
    if era == "modern":
        params["_meta"] = {"io.modelcontextprotocol/clientInfo": client}
    else:
        params["clientInfo"] = client
    with captured(tmp_path / "log") as log:
        await wire.ask(era, method, params)
        line = next(line for line in log.lines() if line["msg"] == "client initialized")

    name = line["client_name"]
    assert name.startswith("evil??[31m?xxx")
    assert len(name) <= LONGEST_CLIENT_NAME
    assert line["protocol_version"] == (MODERN if era == "modern" else "2025-03-26")


@pytest.mark.parametrize("claimed", [None, 5, {}, {"name": 5}, {"name": ["x"]}, {"name": ""}])
async def test_a_client_without_a_name_is_known_by_its_user_agent(wire: Wire, tmp_path: Path, claimed: Any) -> None:
    """Names are optional, and nothing that is not text is kept."""
    with captured(tmp_path / "log") as log:
        await wire.ask(
            "legacy",
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": claimed},
            headers={"user-agent": "an-agent/1"},
        )
        line = next(line for line in log.lines() if line["msg"] == "client initialized")

    assert line["client_name"] == "an-agent/1"


def test_no_two_callers_share_an_id() -> None:
    """Blanks in a subject do not make it another caller's subject and client."""
    ids = {
        Principal("jwt", name, "https://issuer", client).id
        for name, client in [("alice", "c1 c2"), ("alice c1", "c2"), ("alice%20c1", "c2"), ("alice c1 c2", "")]
    }

    assert len(ids) == 4
