"""The probe's parts, by tables: what it decides at each bound, and what it writes, to the letter."""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import errno
import http.client
import io
import json
import signal
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import alias
import pytest

from hardening import probe
from hardening.probe import Era, Problem, Reply, Report, Step, Target, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

_ = alias
URL = "https://mcp.example.com/mcp"
NOW = 1_800_000_000.0
DAY = 86_400
ECHO = {"name": "echo", "inputSchema": {}, "annotations": {"readOnlyHint": True}}


def reply(status: int = 200, body: object = b"", tls: Any = None, **headers: str) -> Reply:
    """Return an answer as it was read: JSON unless something else is said."""
    usual = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    lines = "".join(f"{name}: {text}\r\n" for name, text in usual.items())
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, http.client.parse_headers(io.BytesIO(f"{lines}\r\n".encode())), bytearray(text), tls)


def test_each_verdict_has_its_words_and_its_exit_code() -> None:
    """Scripts go by the code, people by the words, alerts by whether it serves."""
    assert {verdict.name: (verdict.words, verdict.exit_code, verdict.serves) for verdict in Verdict} == {
        "HEALTHY": ("healthy", 0, True),
        "DEGRADED": ("degraded", 0, True),
        "DRIFTED": ("drifted", 4, True),
        "AUTH_REFUSED": ("auth refused", 3, False),
        "UNPROTECTED": ("unprotected", 1, False),
        "MCP_DEAD": ("HTTP alive, MCP dead", 1, False),
        "DOWN": ("down", 1, False),
    }
    assert sorted(Verdict) == list(Verdict)
    assert Era("modern").verdict is Verdict.HEALTHY


# --- What people and machines read -------------------------------------------------------------------


def seen() -> Report:
    """Return a look with something of everything."""
    steps = [Step("connect", Verdict.HEALTHY, 12.4, "HTTP 401, no TLS"), Step("a", Verdict.DEGRADED, 0.5, "look")]
    modern = Era("modern", steps, "2026-07-28", "weather 1", 2, "abc", NOW + 1, NOW - 1)
    legacy = Era("legacy", [Step("a", Verdict.DEGRADED, 1.0, "look"), Step("b", Verdict.DOWN, 1234.6, "gone")])
    return Report(URL, NOW, (modern, legacy), NOW + 0.5)


def test_a_report_as_json() -> None:
    """Other programs read these names."""
    step = {"name": "a", "verdict": "degraded", "words": "look"}
    assert probe.as_json(seen()) == {
        "url": URL,
        "time": "2027-01-15T08:00:00Z",
        "verdict": "down",
        "exit_code": 1,
        "words": "modern and legacy, a: look; legacy, b: gone",
        "credential_expires": NOW + 0.5,
        "eras": {
            "modern": {
                "name": "modern",
                "verdict": "degraded",
                "protocol_version": "2026-07-28",
                "server": "weather 1",
                "tools": 2,
                "tools_sha256": "abc",
                "certificate_issued": NOW - 1,
                "certificate_expires": NOW + 1,
                "steps": [
                    {"name": "connect", "verdict": "healthy", "latency_ms": 12.4, "words": "HTTP 401, no TLS"},
                    step | {"latency_ms": 0.5},
                ],
            },
            "legacy": {
                "name": "legacy",
                "verdict": "down",
                "protocol_version": "",
                "server": "",
                "tools": 0,
                "tools_sha256": "",
                "certificate_issued": None,
                "certificate_expires": None,
                "steps": [
                    step | {"latency_ms": 1.0},
                    {"name": "b", "verdict": "down", "latency_ms": 1234.6, "words": "gone"},
                ],
            },
        },
    }


PAGE = """https://mcp.example.com/mcp

modern  degraded
  ok    connect                12 ms  HTTP 401, no TLS
  look  a                       0 ms  look

legacy  down
  look  a                       1 ms  look
  FAIL  b                    1235 ms  gone

down (exit code 1)
"""


def test_a_report_as_page_and_as_line() -> None:
    """Each step with its mark and its time; one line says what is wrong, or how long each era took."""
    fine = Report(URL, NOW, (Era("modern", seen().eras[0].steps[:1]), Era("legacy")), None)

    assert probe.as_page(seen(), "(exit code 1)") == PAGE
    assert probe.as_line(seen()) == "down: modern and legacy, a: look; legacy, b: gone"
    assert probe.as_line(fine) == "healthy: modern 12 ms, legacy 0 ms"


METRICS = """# TYPE mcp_probe_last_run_timestamp_seconds gauge
mcp_probe_last_run_timestamp_seconds{url="https://mcp.example.com/mcp"} 1800000000.0
# TYPE mcp_probe_credential_expires_timestamp_seconds gauge
mcp_probe_credential_expires_timestamp_seconds{url="https://mcp.example.com/mcp"} 1800000000.5
# TYPE mcp_probe_serving gauge
mcp_probe_serving{url="https://mcp.example.com/mcp",era="modern"} 1.0
# TYPE mcp_probe_verdict gauge
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="healthy"} 0.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="degraded"} 1.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="drifted"} 0.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="auth_refused"} 0.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="unprotected"} 0.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="mcp_dead"} 0.0
mcp_probe_verdict{url="https://mcp.example.com/mcp",era="modern",verdict="down"} 0.0
# TYPE mcp_probe_step_seconds gauge
mcp_probe_step_seconds{url="https://mcp.example.com/mcp",era="modern",step="connect"} 0.0124
mcp_probe_step_seconds{url="https://mcp.example.com/mcp",era="modern",step="a"} 0.0005
# TYPE mcp_probe_certificate_issued_timestamp_seconds gauge
mcp_probe_certificate_issued_timestamp_seconds{url="https://mcp.example.com/mcp",era="modern"} 1799999999.0
# TYPE mcp_probe_certificate_expires_timestamp_seconds gauge
mcp_probe_certificate_expires_timestamp_seconds{url="https://mcp.example.com/mcp",era="modern"} 1800000001.0
# TYPE mcp_probe_tools gauge
mcp_probe_tools{url="https://mcp.example.com/mcp",era="modern",sha256="abc"} 2.0
"""


def test_a_report_as_metrics() -> None:
    """Names, labels and units that rules and dashboards go by; what is not known has no sample."""
    report = seen()
    unknown = probe.as_metrics(Report(URL, NOW, (Era("legacy"),), None))

    assert probe.as_metrics(Report(URL, NOW, report.eras[:1], report.credential_expires)) == METRICS
    assert "expires" not in unknown
    assert unknown.count("# TYPE ") == 4


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (2 * DAY - 1, "48 hours"),
        (2 * DAY, "2 days"),
        (90 * DAY, "90 days"),
    ],
)
def test_a_duration_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    """Of which there are two at least."""
    assert probe.span(seconds) == words


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1:8000", True),
        ("127.8.9.1", True),
        ("[::1]:8000", True),
        ("192.0.2.1", False),
        ("localhost.example.com", False),
        ("[2001:db8::1]", False),
    ],
)
def test_this_machine_is_told_from_others(host: str, here: bool) -> None:  # noqa: FBT001 - a column of the table
    """A key may travel there in clear text."""
    assert probe.is_loopback(f"http://{host}/mcp") is here


@pytest.mark.parametrize(
    ("terminal", "no_color", "shown"),
    [
        (True, "", ["\x1b[32mx\x1b[0m", "\x1b[33mx\x1b[0m", *["\x1b[31mx\x1b[0m"] * 5]),
        (True, "1", ["x"] * 7),
        (False, "", ["x"] * 7),
    ],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,  # noqa: FBT001 - a column of the table
    no_color: str,
    shown: list[str],
) -> None:
    """Green, yellow, and red for all that does not serve well; none where somebody has said so."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)

    assert [probe.paint(verdict, "x") for verdict in Verdict] == shown


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"a?"), ("utf-8", "a▁".encode())])
def test_what_an_encoding_lacks_is_a_question_mark(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
) -> None:
    """And what is written is there at once."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=False))
    probe.emit("a▁")

    assert raw.getvalue() == shown


def test_an_output_without_an_encoding_gets_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some frameworks put in its place."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    probe.emit("a▁")

    assert output.getvalue() == "a▁"


@pytest.mark.parametrize(
    ("every", "as_json", "terminal", "out"),
    [
        (0, False, False, PAGE),
        (0, True, False, "json"),
        (5, False, False, "2027-01-15T08:00:00Z down: modern and legacy, a: look; legacy, b: gone\n"),
        (5, True, False, "json"),
        (5, True, True, "json"),
        (5, False, True, ""),
    ],
)
def test_where_a_report_goes(  # noqa: PLR0913, PLR0917 - the columns of the table
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    every: float,
    as_json: bool,  # noqa: FBT001 - a column of the table
    terminal: bool,  # noqa: FBT001 - a column of the table
    out: str,
) -> None:
    """A page for one look, a line for each of many, JSON where it is asked for; a terminal is drawn by the watch."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    probe.publish(seen(), argparse.Namespace(textfile=None, json=as_json, every=every))

    expected = json.dumps(probe.as_json(seen())) + "\n" if out == "json" else out
    assert capsys.readouterr().out == expected


# --- The command line --------------------------------------------------------------------------------


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Target, float]:
    """Return what the command line asks for, without asking."""
    found: list[tuple[Target, float]] = []

    def note(target: Target, seconds: float) -> Report:
        found.append((target, seconds))
        return Report(URL, NOW, (Era("modern"),), None)

    monkeypatch.setattr(probe, "wait_for", note)
    assert probe.main(arguments) == 0
    return found[0]


def test_what_is_not_said_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both eras, 10 s for each step, no waiting, no call, no contract."""
    monkeypatch.delenv("MCP_PROBE_KEY", raising=False)
    target, wait = asked(monkeypatch, URL)

    assert (target, wait) == (Target(URL, "", ("modern", "legacy"), 10, None, ""), 0)
    assert "secret" not in repr(Target(URL, "secret"))


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--era", "legacy,modern,legacy"], "eras", ("legacy", "modern")),
        (["--timeout", "0.1"], "timeout_seconds", 0.1),
        (["--timeout", "86400"], "timeout_seconds", 86_400),
        (["--call", "a" * 128], "call", "a" * 128),
        (["--call", "Az_09-."], "call", "Az_09-."),
    ],
)
def test_what_is_said_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], field: str, value: object
) -> None:
    """Up to the bounds."""
    target, wait = asked(monkeypatch, URL, "--wait", "86400", *arguments)

    assert (getattr(target, field), wait) == (value, 86_400)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([URL, "--timeout", "0.09"], "needs seconds, from 0.1 to 86400"),
        ([URL, "--wait", "86401"], "needs seconds, from 0.1 to 86400"),
        ([URL, "--call", "a" * 129], "needs the name of a tool"),
        ([URL, "--call", ""], "needs the name of a tool"),
        ([URL, "--era", "modern,future"], "knows modern and legacy, e.g. modern,legacy"),
        ([URL, "--webhook", "hook"], "needs http:// or https://, a host, and no user"),
        (["https://"], "needs http:// or https://, a host, and no user"),
        (["https://mcp.example.com:0/"], "needs http:// or https://, a host, and no user"),
        (["https://@mcp.example.com/"], "needs http:// or https://, a host, and no user"),
        (["https://mcp.example.com/a b"], "needs http:// or https://, a host, and no user"),
        (["https://mcp.example.com/é"], "needs http:// or https://, a host, and no user"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Just beyond the bounds, by the name of the option."""
    with pytest.raises(SystemExit) as ended:
        probe.main(arguments)

    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert (arguments[1] if len(arguments) > 1 else "argument URL") in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("[]", "it is not an object"),
        ("{}", "tools is not a list"),
        ("x", "Expecting value"),
        ('{"tools": [{"name": "a"}]}', "a tool has no name or no input schema"),
    ],
)
def test_a_contract_that_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    """With the reason and with the command that makes one."""
    path = tmp_path / "tools.json"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(SystemExit):
        probe.main([URL, "--schema", str(path)])

    err = " ".join(capsys.readouterr().err.split())
    assert f"cannot use {path}: " in err
    assert words in err
    assert err.endswith("; `schema write` makes it")


def test_help_names_each_option_with_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What to write, what it does, and what the exit codes mean."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit):
        probe.main(["--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: probe [-h] ")
    for words in (
        "[--wait SECONDS | --every SECONDS]",
        "Look at an MCP server from outside, as a client of each era would.",
        "URL e.g. https://mcp.example.com/mcp",
        "--era ERAS modern,legacy (both) or one of them",
        "--schema FILE compare the tools with schema/tools.json",
        "--call TOOL call a read-only tool without arguments",
        "--timeout SECONDS deadline of each step (10)",
        "--wait SECONDS try again until it serves",
        "--every SECONDS look again and again, as a small monitor",
        "--webhook URL with --every: tell each change of the verdict",
        "--textfile FILE write metrics for Prometheus, e.g. mcp_probe.prom",
        "--json write one line of JSON for each look",
        "0 healthy or degraded, 1 unhealthy, 2 wrong usage, 3 credential refused, 4 schema drift.",
        "The key comes from MCP_PROBE_KEY",
    ):
        assert words in text


# --- The contract ------------------------------------------------------------------------------------


def test_differences_are_named_by_kind_tool_and_field() -> None:
    """Each field that a client acts on, and no other."""
    fields = ("title", "description", "inputSchema", "outputSchema", "annotations", "icons")
    live = [{"name": field, "inputSchema": {}} | {field: {"new": 1}} for field in fields]
    expected = [{"name": field, "inputSchema": {}} for field in fields]

    assert probe.differences(expected, live) == "changed " + ", ".join(f"{field} ({field})" for field in sorted(fields))
    assert probe.differences([ECHO], [ECHO | {"_meta": 1, "title": None}]) == ""
    two = [ECHO | {"name": "b"}, ECHO | {"name": "a"}]
    assert probe.differences(two, []) == "removed a, b"
    assert probe.differences([], two) == "added a, b"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "tools is not a list"),
        (["a"], "a tool is not an object"),
        ([{"name": 1, "inputSchema": {}}], "a tool has no name or no input schema"),
        ([{"name": "a", "inputSchema": []}], "a tool has no name or no input schema"),
        ([ECHO, ECHO], "two tools have the same name"),
    ],
)
def test_what_is_no_list_of_tools_is_a_dead_server(value: object, words: str) -> None:
    """No client could call what is there."""
    with pytest.raises(Problem) as found:
        probe.tool_list(value)

    assert (found.value.verdict, str(found.value)) == (Verdict.MCP_DEAD, words)


# --- HTTP --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def saying(answer: bytes, *, to_the_end: bool) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Listen on a port that says this to one request; yield the port, and the request once it has come."""
    requests: list[bytes] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.read(65_536))
            writer.write(answer)
            if to_the_end:
                writer.write_eof()
            # Until the other side has closed.
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(10):
        yield server.sockets[0].getsockname()[1], requests
        await ended.wait()
        await asyncio.sleep(0)


async def answered(answer: bytes, *given: Any, path: str = "/mcp", **more: Any) -> tuple[bytes, Reply]:
    """Fetch from a port that says this, and return the request too."""
    async with saying(answer, to_the_end="until" not in more) as (port, requests):
        found = await probe.fetch(f"http://127.0.0.1:{port}{path}", *given, **more)
    return requests[0].replace(f":{port}\r\n".encode(), b":PORT\r\n"), found


async def test_a_request_to_the_letter() -> None:
    """The probe's own name, nothing from a cache, nothing packed, one connection each."""
    enough = {"until": lambda _: True}
    request, found = await answered(
        b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", "POST", {"Accept": "text/plain", "X-A": "b"}, b"{}", **enough
    )
    plain, _ = await answered(b"HTTP/1.1 200 OK\r\n\r\n", path="?a=b", **enough)

    common = (
        b"Connection: close\r\nCache-Control: no-store\r\nUser-Agent: mcp-hardening-probe/1\r\n"
        b"Accept-Encoding: identity\r\n"
    )
    assert request == (
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 2\r\n"
        + common
        + b"Accept: text/plain\r\nX-A: b\r\n\r\n{}"
    )
    assert plain == (
        b"GET /?a=b HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 0\r\n"
        + common
        + b"Accept: application/json\r\n\r\n"
    )
    assert (found.status, found.headers["x-a"], found.tls) == (204, "b", None)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nabc", b"ab"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabc", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=y\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n",
            b"0123456789a",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 1\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            b"ab",
        ),
    ],
)
async def test_an_answer_is_read_as_it_is_framed(answer: bytes, body: bytes) -> None:
    """By length, in chunks, or to the end."""
    _, found = await answered(answer)

    assert (found.status, found.body) == (200, body)


async def test_what_may_come_is_counted_exactly() -> None:
    """4 MiB and 200,000 values and lines, in whatever pieces."""
    size = probe.Incoming()
    assert await size.count(b"x" * 4_194_303) == b"x" * 4_194_303
    await size.count(b"x")
    with pytest.raises(Problem, match="the answer is larger than 4 MiB") as found:
        await size.count(b"x")
    assert found.value.verdict is Verdict.MCP_DEAD
    for sign in (b",", b"[", b"{", b"\n"):
        parts = probe.Incoming()
        await parts.count(sign * 200_000)
        await parts.count(b'}]":')
        with pytest.raises(Problem, match="the answer has more than 200000 values and lines") as found:
            await parts.count(sign)
        assert found.value.verdict is Verdict.MCP_DEAD


STREAM = {"content_type": "text/event-stream; charset=utf-8"}
RESULT = {"id": 7, "result": {}}


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (reply(body=RESULT), RESULT),
        (reply(body={"id": 8, "result": {}}), None),
        (reply(body={"id": None, "error": {}}), {"id": None, "error": {}}),
        (reply(body=[RESULT]), None),
        (reply(body=b"\xff"), None),
        (reply(body=b'data: {"id": 7}\n\n', **STREAM), {"id": 7}),
        (reply(body=b'data: {"id":\r\ndata: 7}\r\n\r\n', **STREAM), {"id": 7}),
        (reply(body=b'id: 1\n\ndata: x\n\n\n\ndata:{"id": 7}\n\n', **STREAM), {"id": 7}),
        (reply(body='data: {"id": 7, "a": "\u2028"}\n\n'.encode(), **STREAM), {"id": 7, "a": "\u2028"}),
        (reply(body=b'data: {"id": 7}\n\n'), None),
    ],
)
def test_the_answer_is_found(given: Reply, answer: object) -> None:
    """In a body or in a stream, by its id; a refusal need not have one."""
    assert given.answer(7) == answer


def test_the_answer_is_looked_for_from_a_byte_on() -> None:
    """What has been read is not read again."""
    both = reply(body=b'data: {"id": 7}\n\ndata: {"id": 7, "a": 1}\n\n', **STREAM)

    assert both.answer(7, len(b'data: {"id": 7}\n\n')) == {"id": 7, "a": 1}


@pytest.mark.parametrize(
    ("given", "message", "words"),
    [
        (reply(404), {"error": {"code": 5, "message": "no"}}, "HTTP 404, error 5: no"),
        (reply(500), {"error": "no"}, "HTTP 500"),
        (reply(404), None, "HTTP 404: is the path of the URL right?"),
        (reply(302, location="/a"), None, "HTTP 302 to /a: not followed"),
        (reply(200), {}, "HTTP 200, but application/json without an answer"),
        (reply(201), {}, "HTTP 201"),
    ],
)
def test_what_came_instead_of_a_result_is_told(given: Reply, message: Any, words: str) -> None:
    """The status, and what helps to find the reason."""
    assert given.describe(message) == words


def refused(words: str, kind: type[ssl.SSLError] = ssl.SSLCertVerificationError) -> ssl.SSLError:
    """Return what is raised for a certificate, or while TLS begins."""
    error = kind(1, "[SSL] failed")
    vars(error).update(verify_message=words, reason=words)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer within 0.5 s"),
        (refused("expired"), "certificate refused: expired"),
        (refused("WRONG", ssl.SSLError), "TLS failed: WRONG"),
        (socket.gaierror(-2, "Name"), "the name does not resolve"),
        (OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] a, b"), "connection refused"),
        (asyncio.IncompleteReadError(b"", 2), "the connection was closed before an answer"),
        (ConnectionResetError("reset"), "the connection was closed before an answer"),
        (OSError("No route to host"), "No route to host"),
        (ValueError("x"), "what came back is not valid"),
        (http.client.LineTooLong("x"), "what came back is not valid"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_why_there_was_no_answer(error: Exception, words: str) -> None:
    """In a few words of ours, whichever library raised it."""
    assert probe.explain(error, 0.5) == words


# --- A conversation, answer by answer ----------------------------------------------------------------


INFO = {"name": "weather", "version": "1"}
OPENING: dict[str, dict[str, Any]] = {
    "modern": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": INFO},
    },
    "legacy": {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": INFO},
}
LIST = {"tools": [ECHO], "ttlMs": 0, "cacheScope": "private"}


class Scripted:
    """Answers in the place of `fetch`, and keeps what was asked: a method, its headers and its message."""

    def __init__(self, era: str, **answers: Any) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        opening = reply(body={"result": OPENING[era]}, mcp_session_id="session-1")
        self.answers = {
            "GET": reply(401),
            "DELETE": reply(200),
            "no key": reply(401, www_authenticate='Bearer resource_metadata="https://mcp.example.com/meta"'),
            "meta": reply(body={"resource": URL, "authorization_servers": ["https://a", "https://b"]}),
            "server/discover": opening,
            "initialize": opening,
            "notifications/initialized": reply(202),
            "tools/list": reply(body={"result": LIST}),
            "tools/call": reply(body={"result": {"content": []}}),
        } | answers

    async def __call__(self, url: str, method: str = "GET", headers: Any = None, body: bytes = b"", **_: Any) -> Reply:
        """Answer one request."""
        message = json.loads(body) if body else {}
        self.asked.append((method, headers or {}, message))
        name = "meta" if url.endswith("/meta") else message.get("method", method)
        if name in {"server/discover", "initialize"} and "Authorization" not in headers:
            name = "no key"
        found = self.answers[name]
        if found.body and "id" in message:
            found = reply(
                found.status,
                json.loads(found.body) | {"id": message["id"]},
                **{key.replace("-", "_"): text for key, text in found.headers.items()},
            )
        return found


async def talk(monkeypatch: pytest.MonkeyPatch, script: Scripted, era: str = "modern", **target: Any) -> Era:
    """Hold one conversation; each look at the clock is 10 ms later."""
    monkeypatch.setattr(probe, "fetch", script)
    ticks = iter(range(10_000))
    given = {"key": "a-key", "clock": lambda: next(ticks) / 100, "now": lambda: NOW} | target
    return await probe.Conversation(Target(URL, **given), era).run()


async def test_every_request_of_a_modern_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own id, says its version, client and method, and the key goes nowhere but to the endpoint."""
    script = Scripted("modern")
    era = await talk(monkeypatch, script, call="echo")

    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "mcp-hardening-probe", "version": "1"},
    }

    def post(number: int, method: str, key: dict[str, str], **params: Any) -> tuple[str, dict[str, str], Any]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
        }
        named = {"Mcp-Name": params["name"]} if "name" in params else {}
        message = {"jsonrpc": "2.0", "method": method, "params": {"_meta": meta, **params}, "id": number}
        return "POST", headers | key | named, message

    key = {"Authorization": "Bearer a-key"}
    assert script.asked == [
        ("GET", {}, {}),
        post(1, "server/discover", {}),
        ("GET", {}, {}),
        post(2, "server/discover", key),
        post(3, "tools/list", key),
        post(4, "tools/call", key, name="echo", arguments={}),
    ]
    assert [(step.name, int(step.verdict), step.latency_ms, step.words) for step in era.steps] == [
        ("connect", 1, 10.0, "the key travels in clear text: use https; HTTP 401, no TLS"),
        ("no credential", 0, 10.0, "HTTP 401"),
        ("resource metadata", 0, 10.0, "tokens from https://a, https://b"),
        ("server/discover", 0, 10.0, "weather 1, protocol 2026-07-28"),
        ("tools/list", 0, 10.0, "1 tool, sha256 " + probe.digest([ECHO])[:12]),
        ("tools/call", 0, 10.0, "echo answered"),
    ]
    assert (era.server, era.protocol_version, era.tools) == ("weather 1", "2026-07-28", 1)


async def test_every_request_of_a_legacy_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is opened, confirmed, used and ended with the version that was agreed."""
    script = Scripted("legacy")
    era = await talk(monkeypatch, script, "legacy", call="echo")

    usual = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    key = {"Authorization": "Bearer a-key"}
    session = {"MCP-Protocol-Version": "2024-11-05", "Mcp-Session-Id": "session-1"}
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mcp-hardening-probe", "version": "1"},
    }

    def rpc(method: str, params: Any, **number: int) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": method, "params": params, **number}

    assert script.asked == [
        ("GET", {}, {}),
        ("POST", usual, rpc("initialize", hello, id=1)),
        ("GET", {}, {}),
        ("POST", usual | key, rpc("initialize", hello, id=2)),
        ("POST", usual | key | session, rpc("notifications/initialized", {})),
        ("POST", usual | key | session, rpc("tools/list", {}, id=4)),
        ("POST", usual | key | session, rpc("tools/call", {"name": "echo", "arguments": {}}, id=5)),
        ("DELETE", key | session, {}),
    ]
    assert [(step.name, step.words) for step in era.steps[3:]] == [
        ("initialize", "weather 1, protocol 2024-11-05"),
        ("tools/list", "1 tool, sha256 " + probe.digest([ECHO])[:12]),
        ("tools/call", "echo answered"),
        ("end session", "ended"),
    ]


def opened(era: str, **change: Any) -> dict[str, Reply]:
    """Return an opening with a change."""
    return {"server/discover" if era == "modern" else "initialize": reply(body={"result": OPENING[era] | change})}


def listed(**change: Any) -> dict[str, Reply]:
    """Return a list with a change."""
    return {"tools/list": reply(body={"result": {key: value for key, value in (LIST | change).items() if value}})}


DEAD, WORSE, AUTH, DRIFT, FINE = Verdict.MCP_DEAD, Verdict.DEGRADED, Verdict.AUTH_REFUSED, Verdict.DRIFTED, Verdict(0)
CHALLENGE = "www_authenticate"
RESTRICTED = listed(_meta={"hardening/restricted": True}, ttlMs=1)
CONTRACT = {"tools": [ECHO, ECHO | {"name": "other"}]}


@pytest.mark.parametrize(
    ("era", "answers", "target", "step", "verdict", "words"),
    [
        ("modern", {"GET": reply(200)}, {"key": ""}, "connect", FINE, "HTTP 200, no TLS"),
        ("modern", {"no key": reply(401, www_authenticate="bearer")}, {}, "no credential", FINE, "HTTP 401"),
        ("modern", {"no key": reply(401, www_authenticate="Basic, Bearer x=y")}, {}, "no credential", FINE, "HTTP 401"),
        (
            *("modern", {"no key": reply(401, www_authenticate="Bearers")}, {}),
            *("no credential", WORSE, "no WWW-Authenticate: Bearer; HTTP 401"),
        ),
        ("modern", {"no key": reply(403)}, {}, "no credential", WORSE, "HTTP 403 instead of 401"),
        ("modern", {"meta": reply(200, [])}, {}, "resource metadata", WORSE, "the document is not an object"),
        (
            *("modern", {"meta": reply(500)}, {}),
            *("resource metadata", WORSE, "HTTP 500 at https://mcp.example.com/meta"),
        ),
        (
            *("modern", {"no key": reply(401, www_authenticate='Bearer resource_metadata="http://mcp.example.com/x"')}),
            *({}, "resource metadata", WORSE, "at another origin, not read: http://mcp.example.com/x"),
        ),
        (
            *("modern", {"meta": reply(200, {"resource": "x", "authorization_servers": ["a"]})}, {}),
            *("resource metadata", WORSE, "it is about another resource, x; tokens from a"),
        ),
        (
            *("modern", {"meta": reply(200, {"resource": URL, "authorization_servers": "a"})}, {}),
            *("resource metadata", WORSE, "it names no authorization server"),
        ),
        ("modern", opened("modern", supportedVersions="2026-07-28"), {}, "server/discover", DEAD, None),
        (
            *("modern", opened("modern", _meta={}), {}),
            *("server/discover", WORSE, "serverInfo is missing; unnamed server, protocol 2026-07-28"),
        ),
        ("modern", opened("modern", _meta=1), {}, "server/discover", DEAD, "_meta is not an object"),
        ("modern", opened("modern", capabilities=None), {}, "server/discover", DEAD, "capabilities is not an object"),
        (
            *("modern", opened("modern", capabilities={"tools": {}, "x": 1}), {}),
            *("server/discover", DEAD, "capability x is not an object"),
        ),
        (
            *("legacy", opened("legacy", protocolVersion="2026-07-28"), {}, "initialize", DEAD),
            "protocolVersion is 2026-07-28, none of 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05",
        ),
        ("legacy", opened("legacy", serverInfo=[]), {}, "initialize", DEAD, "serverInfo is not an object"),
        *(
            ("legacy", opened("legacy", serverInfo=info), {}, "initialize", DEAD, "serverInfo lacks name or version")
            for info in ({"name": "", "version": "1"}, {"name": "a", "version": ""}, {"name": 1, "version": "1"})
        ),
        *(
            ("legacy", {"notifications/initialized": reply(status)}, {}, "initialize", FINE, None)
            for status in (200, 202, 204)
        ),
        *(
            (
                *("legacy", {"notifications/initialized": reply(status)}, {}, "initialize", DEAD),
                f"notifications/initialized: HTTP {status}",
            )
            for status in (201, 500)
        ),
        ("modern", {"server/discover": reply(401)}, {}, "server/discover", AUTH, "HTTP 401: MCP_PROBE_KEY was refused"),
        ("modern", {"server/discover": reply(403)}, {}, "server/discover", AUTH, "HTTP 403: MCP_PROBE_KEY was refused"),
        ("modern", {"tools/list": reply(401)}, {}, "tools/list", AUTH, "HTTP 401: MCP_PROBE_KEY was refused"),
        ("modern", {"tools/list": reply(body={"result": 1})}, {}, "tools/list", DEAD, "result is not an object"),
        ("modern", {"tools/list": reply(400)}, {}, "tools/list", DEAD, "HTTP 400"),
        ("modern", listed(tools=[]), {}, "tools/list", DEAD, "tools is not a list"),
        *(
            (
                *("modern", listed(**{hint: None}, **other), {}, "tools/list", WORSE),
                "ttlMs or cacheScope is missing, and some clients insist; 1 tool, sha256 " + probe.digest([ECHO])[:12],
            )
            for hint, other in (("ttlMs", {}), ("cacheScope", {"ttlMs": 1}))
        ),
        ("legacy", listed(cacheScope=None), {}, "tools/list", FINE, "1 tool, sha256 " + probe.digest([ECHO])[:12]),
        ("modern", listed(_meta=1, ttlMs=1), {}, "tools/list", DEAD, "_meta is not an object"),
        (
            *("modern", RESTRICTED, {"snapshot": CONTRACT}, "tools/list", FINE),
            "1 tool (restricted), sha256 " + probe.digest([ECHO])[:12],
        ),
        (
            *("modern", listed(_meta={"hardening/restricted": 1}, ttlMs=1), {"snapshot": CONTRACT}),
            *("tools/list", DRIFT, "removed other"),
        ),
        ("modern", listed(ttlMs=1), {"snapshot": CONTRACT}, "tools/list", DRIFT, "removed other"),
        (
            *("modern", listed(ttlMs=1), {"snapshot": {"tools": [ECHO], "discovery": 1}}),
            *("tools/list", DEAD, "discovery is not an object"),
        ),
        (
            *("modern", listed(ttlMs=1), {"snapshot": {"tools": [ECHO], "discovery": {"instructions": "a"}}}),
            *("tools/list", DRIFT, "changed capabilities; changed instructions"),
        ),
        *(
            (
                *("modern", listed(tools=[ECHO | {"annotations": notes}], ttlMs=1), {"call": "echo"}, "tools/call"),
                *(DRIFT, "echo was not called: no such tool is declared read-only"),
            )
            for notes in (None, {}, {"readOnlyHint": False}, {"readOnlyHint": 1})
        ),
        (
            *("modern", {"tools/call": reply(body={"result": {"isError": True}})}, {"call": "echo"}),
            *("tools/call", DEAD, "echo failed"),
        ),
        *(
            ("legacy", {"DELETE": reply(status)}, {}, "end session", FINE, "ended")
            for status in (200, 204, 299, 404, 405)
        ),
        *(
            ("legacy", {"DELETE": reply(status)}, {}, "end session", WORSE, f"HTTP {status}: the session stays open")
            for status in (300, 403, 500)
        ),
    ],
)
async def test_a_step(  # noqa: PLR0913, PLR0917 - the columns of the table
    monkeypatch: pytest.MonkeyPatch,
    era: str,
    answers: dict[str, Reply],
    target: dict[str, Any],
    step: str,
    verdict: Verdict,
    words: str | None,
) -> None:
    """Each answer that a step may get has its verdict and its words."""
    found = await talk(monkeypatch, Scripted(era, **answers), era, **target)
    (seen_step,) = [one for one in found.steps if one.name == step]

    assert seen_step.verdict is verdict
    assert words is None or seen_step.words == words
    # What ends a conversation ends it there; a session is ended all the same.
    assert verdict <= Verdict.DEGRADED or found.steps[-1].name in {step, "end session"}


async def test_a_step_that_cannot_be_read_has_a_verdict_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not worth more than a look stays that, whatever came."""
    cases = {"GET": Verdict.DOWN, "no key": DEAD, "meta": WORSE, "server/discover": DEAD, "tools/list": DEAD}
    for name, verdict in cases.items():
        script = Scripted("modern")
        del script.answers[name]
        monkeypatch.setattr(probe, "NO_ANSWER", (KeyError,))
        era = await talk(monkeypatch, script)

        assert (era.verdict, era.steps[-1].verdict <= verdict) == (max(verdict, WORSE), True), name
        assert "what came back is not valid" in [step.words for step in era.steps if step.verdict is verdict]


@pytest.mark.parametrize(("length", "end"), [(281, ""), (282, "…")])
async def test_words_of_strangers_are_short(monkeypatch: pytest.MonkeyPatch, length: int, end: str) -> None:
    """300 characters at most, in one line that can be printed."""
    words = "x" * length
    failed = {"tools/list": reply(400, {"error": {"code": 1, "message": words}})}
    era = await talk(monkeypatch, Scripted("modern", **failed))

    assert era.steps[-1].words == f"HTTP 400, error 1: {words}"[:300] + end


class Certificate:
    """What a connection knows of the other side."""

    def __init__(self, begins: float, ends: float) -> None:
        self.begins, self.ends = begins, ends

    def getpeercert(self) -> dict[str, str]:
        """Return the times of a certificate."""
        return {"notBefore": probe.time.strftime("%b %d %H:%M:%S %Y GMT", probe.time.gmtime(self.begins))} | {
            "notAfter": probe.time.strftime("%b %d %H:%M:%S %Y GMT", probe.time.gmtime(self.ends))
        }

    def version(self) -> str:
        """Return the version of TLS."""
        return "TLSv1.3"


@pytest.mark.parametrize(
    ("lifetime", "left", "renew"),
    [
        (365 * DAY, 14 * DAY, False),
        (365 * DAY, 14 * DAY - 1, True),
        (6 * DAY, DAY, False),
        (6 * DAY, DAY - 1, True),
    ],
)
async def test_a_certificate_is_to_be_renewed_from_a_moment_on(
    monkeypatch: pytest.MonkeyPatch,
    lifetime: float,
    left: float,
    renew: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Two weeks before its end, or a sixth of its lifetime where that is shorter."""
    tls = Certificate(NOW + left - lifetime, NOW + left)
    era = await talk(monkeypatch, Scripted("modern", GET=reply(401, tls=tls)))

    known = f"HTTP 401, TLSv1.3, certificate valid for {probe.span(left)}"
    assert era.steps[0].words == ("renew the certificate; " if renew else "") + known
    assert (era.certificate_issued, era.certificate_expires) == (NOW + left - lifetime, NOW + left)


def jwt(claims: object) -> str:
    """Return what looks like a token."""
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    ("left", "verdict", "words"),
    [
        (3 * DAY, FINE, "MCP_PROBE_KEY expires in 3 days"),
        (3 * DAY - 1, WORSE, "renew MCP_PROBE_KEY; MCP_PROBE_KEY expires in 3 days"),
        (1, WORSE, "renew MCP_PROBE_KEY; MCP_PROBE_KEY expires in 1 seconds"),
        (0, AUTH, "MCP_PROBE_KEY expired 0 seconds ago"),
        (-60, AUTH, "MCP_PROBE_KEY expired 60 seconds ago"),
    ],
)
async def test_a_key_is_to_be_renewed_from_a_moment_on(
    monkeypatch: pytest.MonkeyPatch, left: float, verdict: Verdict, words: str
) -> None:
    """Three days before its end; after it, nothing is asked with it."""
    key = jwt({"exp": NOW + left})
    era = await talk(monkeypatch, Scripted("modern"), key=key)

    (step,) = [one for one in era.steps if one.name == "credential"]
    assert (step.verdict, step.words, probe.expiry(key)) == (verdict, words, NOW + left)


async def test_eras_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, version and tools, where both have told them; the difference is told in the last one."""
    for tools, name, expected in (("a", "weather 1", 0), ("b", "weather 1", 1), ("a", "weather 2", 1), ("", "x", 0)):
        eras = iter((Era("modern", server="weather 1", tools_sha256="a"), Era("legacy", [], "", name, 1, tools)))

        async def run(_: object, eras: Any = eras) -> Era:
            return next(eras)

        monkeypatch.setattr(probe.Conversation, "run", run)
        report = await probe.probe(Target(URL, "a.b", now=lambda: NOW))

        words = "server or tools are not those of the other era"
        assert report.eras[-1].steps == [Step("same server", WORSE, 0, words)] * expected
        assert (report.eras[0].steps, report.time, report.url, report.credential_expires) == ([], NOW, URL, None)


# --- Once, until it serves, or for ever --------------------------------------------------------------


class Paced:
    """A clock that is moved by waiting, and looks that take their time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: Sequence[Verdict], takes: float = 0) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.takes = takes
        self.looks = iter(looks)
        monkeypatch.setattr(probe, "probe", self.look)
        monkeypatch.setattr(probe.time, "sleep", self.sleep)
        self.target = Target(URL, clock=lambda: self.now, now=lambda: NOW)

    async def look(self, _: Target) -> Report:
        """Look once; interrupted when there is no more to see."""
        self.now += self.takes
        if (verdict := next(self.looks, None)) is None:
            raise KeyboardInterrupt
        return Report(URL, NOW, (Era("modern", [Step("connect", verdict, 5, "seen")]),), None)

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.slept.append(seconds)
        self.now += seconds


def test_the_pauses_of_a_wait_grow_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1, 2, 4, 8, then 15 s; the last attempt starts when the time is over, and each is one line."""
    paced = Paced(monkeypatch, [Verdict.DOWN] * 99)
    report = probe.wait_for(paced.target, 62)

    lines = capsys.readouterr().err.splitlines()
    assert (report.verdict, paced.slept) == (Verdict.DOWN, [1, 2, 4, 8, 15, 15, 15, 2])
    assert lines[0] == "attempt 1, after 0 s: down: modern, connect: seen; again in 1.0 s"
    assert lines[3] == "attempt 4, after 7 s: down: modern, connect: seen; again in 8.0 s"
    assert lines[-1] == "attempt 9, after 62 s: down: modern, connect: seen"


@pytest.mark.parametrize(
    ("looks", "seconds", "attempts"),
    [([Verdict.DOWN], 0, 1), ([Verdict.DOWN, Verdict.DEGRADED], 60, 2), ([Verdict.DRIFTED, Verdict(0)], 60, 2)],
)
def test_a_wait_ends_with_the_first_look_that_finds_it_serving(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    looks: list[Verdict],
    seconds: float,
    attempts: int,
) -> None:
    """One look without a wait says nothing of attempts."""
    paced = Paced(monkeypatch, looks)

    assert probe.wait_for(paced.target, seconds).verdict is looks[-1]
    assert len(paced.slept) == attempts - 1
    assert len(capsys.readouterr().err.splitlines()) == (attempts if seconds else 0)


def watched(**given: Any) -> argparse.Namespace:
    """Return the arguments of a watch."""
    return argparse.Namespace(**{"webhook": None, "textfile": None, "json": False, "every": 5.0} | given)


def test_a_watch_keeps_its_pace_and_ends_with_the_last_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look that takes long is followed by the next at once; SIGTERM is an interrupt."""
    signals: list[Any] = []
    monkeypatch.setattr(probe.signal, "signal", lambda *given: signals.append(given))
    quick = Paced(monkeypatch, [Verdict(0), Verdict.AUTH_REFUSED], takes=2)
    assert probe.watch(quick.target, watched()) == 3
    slow = Paced(monkeypatch, [Verdict(0)], takes=7)
    assert probe.watch(slow.target, watched()) == 0
    none = Paced(monkeypatch, [])
    assert probe.watch(none.target, watched()) == 1

    assert (quick.slept, slow.slept, none.slept) == ([3, 3], [0], [])
    # The event loop asks for a signal of its own.
    ours = [given for given in signals if given[0] == signal.SIGTERM]
    assert ours == [(signal.SIGTERM, signal.default_int_handler)] * 3
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        "2027-01-15T08:00:00Z healthy: modern 5 ms",
        "2027-01-15T08:00:00Z auth refused: modern, connect: seen",
    ]


def test_a_watch_on_a_terminal_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page, since when, how many, a bar for each of the last 60 looks, and the pace."""
    monkeypatch.setattr(probe.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    paced = Paced(monkeypatch, [Verdict(0)] * 60 + [Verdict.DEGRADED] + [Verdict.DOWN] * 2)
    assert probe.watch(paced.target, watched(every=60.0)) == 1

    first, *_, last = capsys.readouterr().out.split("\x1b[H")[1:]
    end = "\x1b[K\n"
    assert first.startswith(f"{URL}{end}{end}modern  healthy{end}")
    assert "for 0 seconds; 1 of 1 looks found it serving" in first
    assert last == end.join(
        [
            URL,
            "",
            "modern  down",
            "  FAIL  connect                 5 ms  seen",
            "",
            "down for 60 seconds; 61 of 63 looks found it serving",
            "▁" * 57 + "▄██",
            "every 60 s, last at 2027-01-15T08:00:00Z",
            "\x1b[J",
        ]
    )


def test_the_screen_is_cleared_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first page; the next ones are drawn over it. JSON is never drawn."""
    monkeypatch.setattr(probe.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    probe.watch(Paced(monkeypatch, [Verdict(0)] * 3).target, watched())
    drawn = capsys.readouterr().out
    probe.watch(Paced(monkeypatch, [Verdict(0)] * 3).target, watched(json=True))

    assert drawn.startswith("\x1b[2J\x1b[H")
    assert (drawn.count("\x1b[2J"), drawn.count("\x1b[H")) == (1, 3)
    assert capsys.readouterr().out.count('{"url"') == 3


def test_a_change_is_announced_until_it_is_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From healthy on, each change once; what went wrong is told on standard error."""
    monkeypatch.setattr(probe.signal, "signal", lambda *_: None)
    said: list[tuple[str, str, str, float]] = []
    answers = iter(["webhook: HTTP 500", "", ""])

    async def announce(webhook: str, report: Report, was: Verdict, seconds: float) -> str:
        said.append((webhook, report.verdict.name, was.name, seconds))
        return next(answers)

    monkeypatch.setattr(probe, "announce", announce)
    down = Verdict.DOWN
    probe.watch(Paced(monkeypatch, [Verdict(0), down, down, down, Verdict(0)]).target, watched(webhook="https://h"))
    probe.watch(Paced(monkeypatch, [down]).target, watched())

    assert said == [
        ("https://h", "DOWN", "HEALTHY", 10),
        ("https://h", "DOWN", "HEALTHY", 10),
        ("https://h", "HEALTHY", "DOWN", 10),
    ]
    assert capsys.readouterr().err == "webhook: HTTP 500\n"


@pytest.mark.parametrize(
    ("status", "words"), [(200, ""), (299, ""), (300, "webhook: HTTP 300"), (404, None), (500, "webhook: HTTP 500")]
)
async def test_what_a_webhook_gets(status: int, words: str | None) -> None:
    """One JSON document; the head of the answer is enough."""
    async with saying(f"HTTP/1.1 {status} X\r\n\r\n".encode(), to_the_end=False) as (port, heard):
        said = await probe.announce(f"http://127.0.0.1:{port}/hook", seen(), Verdict.AUTH_REFUSED, 5)

    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert said == ("webhook: HTTP 404: is the path of the URL right?" if words is None else words)
    assert head.startswith(b"POST /hook HTTP/1.1\r\n")
    assert head.endswith(b"\r\nContent-Type: application/json")
    assert json.loads(body) == {
        "text": f"{URL}: auth refused, now down: modern and legacy, a: look; legacy, b: gone",
        "previous": "auth_refused",
        "report": probe.as_json(seen()),
    }


def test_a_text_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the verdict is shown all the same."""
    path = tmp_path / "no" / "x.prom"
    probe.publish(seen(), watched(textfile=str(path), every=0))

    out, err = capsys.readouterr()
    assert err == f"--textfile {path}: No such file or directory\n"
    assert out == PAGE


def test_the_program_is_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is that of the last report."""
    report = Report(URL, NOW, (Era("modern", [Step("a", Verdict.DRIFTED, 0, "x")]),), None)
    called: list[Callable[..., Any]] = []
    monkeypatch.setattr(probe, "wait_for", lambda *_: report)
    monkeypatch.setattr(probe, "watch", lambda *given: called.append(given) or 7)

    assert probe.main([URL]) == 4
    assert probe.main([URL, "--every", "5"]) == 7
    assert len(called) == 1
