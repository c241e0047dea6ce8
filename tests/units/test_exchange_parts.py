"""What every room speaks of, part by part: who is calling, what a request is, and what is answered without the SDK."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
import sample
from captured import nothing
from live import ENVIRONMENT, live, settings_from

from hardening.app import App
from hardening.exchange import Exchange, Principal, open_exchange, printable, trace_id
from hardening.response import Response
from hardening.services import Services
from hardening.settings import HardeningSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


GUARDS = [
    *("header_fields", "host", "health", "declared", "drain", "address", "address_rate", "authentication"),
    *("principal_rate", "in_flight", "body", "envelope", "authorization", "rate", "streams", "sessions", "metrics"),
]


def asked(**headers: str) -> Exchange:
    """Return a request with these headers."""
    lines = [(name.replace("_", "-").encode(), text.encode("latin-1")) for name, text in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"a=b", "headers": lines}
    return open_exchange(scope, nothing, nothing)


def test_who_is_calling_has_an_identity_of_its_own() -> None:
    """Kind and name; of a token, issuer and client as well, which no blank can mix up."""
    named = [
        Principal("api_key", "a").id,
        Principal("probe", "a").id,
        Principal("jwt", "s", "i", "c").id,
        Principal("jwt", "s i", "100%", "c").id,
    ]

    assert named == ["api_key a", "probe a", "jwt i s c", "jwt 100%25 s%20i c"]
    assert Principal("none", "a") == Principal("none", "a", claims={"x": 1})
    assert "claims" not in repr(Principal("none", "a", claims={"secret": 1}))


def test_how_long_a_credential_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never less than nothing; a key has no end."""
    monkeypatch.setattr(time, "time", lambda: 1000.0)

    assert [Principal("jwt", "a", expires_at=at).remaining_seconds() for at in (None, 1005.0, 999.0)] == [
        None,
        5.0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("version", "era", "known"),
    [
        (None, "legacy", "2025-03-26"),
        ("", "legacy", "2025-03-26"),
        ("2025-06-18", "legacy", "2025-06-18"),
        ("2026-07-28", "modern", "2026-07-28"),
        ("x" * 40, "modern", "x" * 32),
    ],
)
def test_the_era_of_a_request(version: str | None, era: str, known: str) -> None:
    """By its header; a name of a version is short."""
    exchange = asked() if version is None else asked(mcp_protocol_version=version)

    assert (exchange.era, exchange.protocol_version) == (era, known)


def test_what_is_known_of_a_request_at_first() -> None:
    """Fields once, without blanks around their values; ids of its own where the caller has none."""
    exchange = asked(user_agent="me\t/1", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    twice = open_exchange(
        {"method": "GET", "path": "/x", "headers": [(b"a", b" 1\t"), (b"b", b"x"), (b"a", b"2"), (b"a", b"3 ")]},
        nothing,
        nothing,
    )

    assert (exchange.method, exchange.path, exchange.query, exchange.trace_id) == ("POST", "/mcp", b"a=b", TRACE)
    assert exchange.client_name == "me?/1"
    assert (twice.headers, twice.repeated, twice.query) == ({b"a": b"1, 2, 3", b"b": b"x"}, {b"a"}, b"")
    assert twice.scope["headers"] == [(b"a", b"1, 2, 3"), (b"b", b"x")]
    assert (twice.header(b"a"), twice.header(b"c")) == ("1, 2, 3", "")
    assert (len(twice.request_id), len(twice.trace_id)) == (16, 32)
    assert (twice.meta, twice.principal, twice.status, twice.accepts_stream, twice.probe) == ({}, None, 0, True, False)
    twice.params = {"_meta": {"a": 1}}
    assert twice.meta == {"a": 1}


def test_work_that_goes_on_is_waited_for() -> None:
    """What is to be done afterwards is done with the end of the last work, once."""
    exchange, order = asked(), []
    exchange.when_work_is_over(lambda: order.append("at once"))
    exchange.answered = True
    assert exchange.ended
    with exchange.working():
        with exchange.working():
            exchange.when_work_is_over(lambda: order.append("later"))
        assert not exchange.ended
        assert order == ["at once"]
    assert order == ["at once", "later"]
    with exchange.working():
        pass

    assert order == ["at once", "later"]
    assert exchange.ended
    exchange.answered = False
    assert not exchange.ended


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"{TRACE}", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_trace_is_read(given: object, found: str) -> None:
    """As W3C Trace Context has it; nothing but noughts is none."""
    assert trace_id(given) == found


@pytest.mark.parametrize(("given", "shown"), [("a" * 65, "a" * 64), ("é\n~ ", "??~ "), (None, ""), (5, "")])
def test_what_a_client_claims_is_short_and_printable(given: object, shown: str) -> None:
    """64 characters of ASCII."""
    assert printable(given) == shown


@pytest.mark.parametrize(
    ("answer", "headers", "error"),
    [
        (
            Response(429, "rate_limited", "Wait.", retry_after=1.2, data=(("limit", "a"),)),
            {b"retry-after": b"2"},
            {"code": 429, "message": "Wait.", "data": {"limit": "a", "retryAfter": 2}},
        ),
        (Response(400, "x", "No.", code=-32600), {}, {"code": -32600, "message": "No.", "data": {}}),
        (
            Response(503, "x", "No.", retry_after=0),
            {b"retry-after": b"1"},
            {"code": 503, "message": "No.", "data": {"retryAfter": 1}},
        ),
    ],
)
def test_a_refusal_to_the_letter(answer: Response, headers: dict[bytes, bytes], error: dict[str, Any]) -> None:
    """A JSON-RPC error with a reference; a time to wait is in whole seconds, one at least."""
    found, body = answer.render("ref", "id")

    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": "id",
        "error": error | {"data": {"kind": answer.kind, "reference": "ref"} | error["data"]},
    }
    length = str(len(body)).encode()
    usual = {b"x-request-id": b"ref", b"content-type": b"application/json", b"content-length": length}
    assert dict(found) == usual | headers
    assert len(found) == len(dict(found))


def test_an_answer_with_a_body_of_its_own() -> None:
    """As it is, with its type; an empty one has none."""
    page = Response(200, "page", body=b"<p>", content_type=b"text/html", headers=((b"a", b"b"),))
    empty = Response(204, "empty", body=b"")

    assert page.render("r", None) == (
        [(b"x-request-id", b"r"), (b"a", b"b"), (b"content-type", b"text/html"), (b"content-length", b"3")],
        b"<p>",
    )
    assert empty.render("r", None) == ([(b"x-request-id", b"r"), (b"content-length", b"0")], b"")


def test_the_order_of_the_guards() -> None:
    """Their names stand in logs and metrics as `layer`."""
    with live() as server:
        names = [name for name, _ in server.app.pipeline.guards]
        schema = server.app._input_schema("echo")  # noqa: SLF001 - what the SDK looks up

    assert names == GUARDS
    assert schema is not None
    assert schema["type"] == "object"


async def test_what_calls_have_opened_is_closed_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to other systems too, where a call has opened some."""
    closed: list[str] = []
    services = Services(HardeningSettings(), None, nothing, nothing)  # type: ignore[arg-type] - neither is called
    async with services.opened():
        pass

    class Opened:
        async def aclose(self) -> None:
            closed.append("outbound")

    async with services.opened():
        monkeypatch.setattr(services, "_outbound", Opened())

    assert closed == ["outbound"]


async def test_an_application_leaves_nothing_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions, what Redis is asked by and the watch of the event loop end with it, what was opened last first."""
    app = App(sample.build(settings_from(ENVIRONMENT | {"MCP_LEGACY": "stateful"})))
    closed: list[str] = []

    def closing(name: str) -> Any:
        async def close() -> None:
            closed.append(name)

        return close

    monkeypatch.setattr(app.sessions, "close", lambda: closed.append("sessions"))
    monkeypatch.setattr(app.server.used_states, "aclose", closing("used states"))
    monkeypatch.setattr(app.limits.limiter, "aclose", closing("limits"))
    async with app.run():
        assert closed == []
    await asyncio.sleep(0)

    assert closed == ["sessions", "used states", "limits"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_oldest_thread_is_that_of_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ctx.thread`, `asyncio.to_thread`, and what looks up names for `ctx.http`."""

    class Aged:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def oldest_seconds(self) -> float:
            return self.seconds

    services = Services(HardeningSettings(), None, nothing, nothing)  # type: ignore[arg-type] - neither is called
    assert services.oldest_thread_seconds() == 0
    for own, shared, lookups, oldest in ((3, 1, 1, 3), (1, 3, 1, 3), (1, 1, 3, 3)):
        monkeypatch.setattr(services, "threads", Aged(own))
        monkeypatch.setattr(services, "shared_threads", Aged(shared))
        monkeypatch.setattr(services, "_outbound", SimpleNamespace(guard=SimpleNamespace(lookups=Aged(lookups))))
        assert services.oldest_thread_seconds() == oldest
