"""SIGTERM to exit 0 without losing a call, in both eras, streaming or not."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time

import pytest
import sample
from live import KEY, PROBE_KEY, SECONDS, Process, live
from sse_starlette.sse import AppStatus
from wire import ERAS, Era, Wire, opening, request

QUICK = {"MCP_READINESS_DELAY_SECONDS": "0"}


async def after(process: Process, message: str) -> dict[str, object]:
    """Wait for a log line without holding up this test's own requests."""
    return await asyncio.to_thread(process.line, message)


async def a_call_runs(wire: Wire) -> None:
    """Wait until a tool is at work: a request that is only on its way may be refused."""
    probe = {"authorization": f"Bearer {PROBE_KEY}"}
    async with asyncio.timeout(SECONDS):
        while b"mcp_oldest_call_seconds 0.0\n" in (await wire.get("/metrics", **probe)).body:
            pass


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("tool", "arguments"), [("wait", {"seconds": 1}), ("stream", {"steps": 5, "seconds": 0.2})], ids=["plain", "stream"]
)
async def test_a_call_in_flight_is_answered(era: Era, tool: str, arguments: dict[str, float]) -> None:
    """The process ends with 0, after the call and not before."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            meta = {"_meta": {"progressToken": "p"}}
            params = {"name": tool, "arguments": arguments, **meta}
            call = asyncio.ensure_future(wire.ask(era, "tools/call", params))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            await after(process, "drain: refusing new work")
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert reply.status == 200
    assert not reply.result.get("isError")
    assert code == 0


async def test_a_stream_of_a_session_is_not_cut() -> None:
    """What the library streams goes on to its end too: it hears of the signal, and is told not to act on it."""
    with Process(**QUICK, MCP_LEGACY="stateful") as process:
        async with Wire(process.url, KEY) as wire:
            session = (await wire.ask("legacy", *opening("legacy"))).headers["mcp-session-id"]
            headers = {"mcp-session-id": session}
            params = {"name": "stream", "arguments": {"steps": 5, "seconds": 0.3}, "_meta": {"progressToken": "p"}}
            call = asyncio.ensure_future(wire.ask("legacy", "tools/call", params, rpc_id=2, headers=headers))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert len(reply.notifications) == 5
    assert not reply.result.get("isError")
    assert code == 0


def test_the_library_does_not_end_streams_by_itself() -> None:
    """A server that has been made has told the SSE library so, whichever way the library hears of signals."""
    with live():
        assert AppStatus.enable_automatic_graceful_drain is False


async def test_each_step_is_one_line_in_its_order() -> None:
    """The operator reads the drain as it happened."""
    with Process(**QUICK) as process:
        assert process.url
        code = await asyncio.to_thread(process.stop)

    messages = [line for line in process.lines if '"drain' in line or '"stopped"' in line]
    order = ["drain: unready", "drain: refusing new work", "drain: complete", "stopped"]
    assert code == 0
    assert [next(step for step in order if step in line) for line in messages] == order


async def test_is_unready_while_it_still_answers() -> None:
    """During the readiness delay the balancer is told, and nobody is refused."""
    with Process(MCP_READINESS_DELAY_SECONDS="2") as process:
        async with Wire(process.url, KEY) as wire:
            process.child.send_signal(signal.SIGTERM)
            await after(process, "drain: unready")
            ready, call = await wire.get("/readyz"), await wire.call("modern", "echo", {"text": "hello"})
        code = await asyncio.to_thread(process.wait)

    assert ready.status == 503
    assert call.status == 200
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_new_work_is_refused_with_a_way_out(era: Era) -> None:
    """On a connection that is still open: 503, when to try again, and the connection closes."""
    with live() as running:
        async with Wire(running.url, KEY) as wire:
            running.do(lambda: setattr(running.app.drain, "refusing", True))
            reply, alive = await wire.ask(era, *opening(era)), await wire.get("/livez")

    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.headers["connection"] == "close"
    assert alive.status == 200


def test_the_drain_itself_refuses_new_work() -> None:
    """After the signal and the delay nobody has to ask for it."""
    with live() as running:
        before = running.app.drain.refusing

    assert (before, running.app.drain.refusing) == (False, True)


async def test_nobody_new_is_connected() -> None:
    """While calls in flight finish, the port is closed: whoever has not heard yet goes elsewhere at once."""
    with Process(**QUICK) as process:
        address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call("modern", "wait", {"seconds": 3}))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            await after(process, "drain: refusing new work")
            await asyncio.to_thread(until_refused, address)
            closed_during_the_call = not call.done()
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert closed_during_the_call
    assert not reply.result.get("isError")
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_an_idle_connection_is_refused_before_it_is_closed(era: Era) -> None:
    """A proxy that does not ask for readiness loses no request over a connection that it keeps.

    The port is closed first; for 1 s such a request is refused with 503, and after that the connection ends.
    """
    with Process(**QUICK) as process:
        address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
        async with Wire(process.url, KEY) as wire:
            assert (await wire.get("/livez")).status == 200
            with socket.create_connection(address) as idle:
                process.child.send_signal(signal.SIGTERM)
                await asyncio.to_thread(until_refused, address)
                refused = await wire.ask(era, *opening(era))
                idle.settimeout(SECONDS)
                ended = await asyncio.to_thread(idle.recv, 1)
        code = await asyncio.to_thread(process.wait)

    assert refused.status == 503
    assert refused.headers["connection"] == "close"
    assert ended == b""
    assert code == 0


def until_refused(address: tuple[str, int]) -> None:
    """Connect until nobody listens."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address).close()
        except ConnectionError:
            return
        time.sleep(0.02)
    raise AssertionError("the port stayed open")


@pytest.mark.parametrize("era", ERAS)
async def test_a_stuck_call_is_cut_short_with_a_failure_that_says_so(era: Era) -> None:
    """At the end of the drain the caller is told to try again, and the process ends with 0."""
    with Process(sample.__file__, "cut", **QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call(era, "stuck", {}))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert reply.result["isError"]
    assert reply.result["_meta"]["hardening/error"]["retryable"]
    assert any("call cut short" in line and '"stuck"' in line for line in process.lines)
    assert code == 0


async def test_half_a_request_does_not_hold_the_process() -> None:
    """A sender that stopped in the middle ends at its deadline."""
    with Process(**QUICK, MCP_BODY_TIMEOUT_SECONDS="0.5") as process:
        headers, body = request("modern", "server/discover", key=KEY)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", int(process.url.rpartition(":")[2]))) as half:
            half.sendall(f"POST /mcp HTTP/1.1\r\nhost: localhost\r\n{head}content-length: {len(body)}\r\n\r\n".encode())
            half.sendall(body[:5])
            code = await asyncio.to_thread(process.stop)

    assert code == 0


async def test_a_tool_that_blocks_the_loop_cannot_keep_the_process() -> None:
    """The deadline holds without the event loop; the last line names the call."""
    bounds = {"MCP_DRAIN_TIMEOUT_SECONDS": "0.5", "MCP_TOOL_TIMEOUT_SECONDS": "0.4"}
    with Process(**QUICK, **bounds) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call("modern", "block", {"seconds": 60}))
            await asyncio.to_thread(until_silent, process)
            started = time.monotonic()
            code = await asyncio.to_thread(process.stop)
            call.cancel()

    assert code == 70
    assert time.monotonic() - started < 12
    assert any("deadline passed" in line and '"block"' in line for line in process.lines)


def until_silent(process: Process) -> None:
    """Wait until the server no longer answers."""
    address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
    for _ in range(200):
        with socket.create_connection(address, 5) as asked:
            asked.settimeout(0.3)
            asked.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            try:
                asked.recv(1)
            except TimeoutError:
                return
    raise AssertionError("it still answers")


async def test_a_second_signal_ends_it_at_once() -> None:
    """Whoever cannot wait need not; the code says that calls were lost."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call("modern", "wait", {"seconds": 30}))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            await after(process, "drain: unready")
            await asyncio.sleep(1.1)
            code = await asyncio.to_thread(process.stop, signal.SIGINT)
            call.cancel()

    assert code == 130


@pytest.mark.parametrize("era", ERAS)
async def test_signals_within_a_second_are_one(era: Era) -> None:
    """A launcher hands on what the whole group got anyway: no call is lost by the same signal coming twice."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call(era, "wait", {"seconds": 1.5}))
            await a_call_runs(wire)
            for sig in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                process.child.send_signal(sig)
                await asyncio.sleep(0.1)
            reply = await call
        code = await asyncio.to_thread(process.wait)

    assert not reply.result.get("isError")
    assert code == 0


async def test_lines_of_the_drain_belong_to_no_call() -> None:
    """A signal interrupts whatever runs; what it begins carries no caller's name, and no reference."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.ensure_future(wire.call("modern", "block", {"seconds": 3}))
            await asyncio.to_thread(until_silent, process)
            process.child.send_signal(signal.SIGTERM)
            await call
        code = await asyncio.to_thread(process.wait)

    lines = [json.loads(line) for line in process.lines if '"drain' in line or '"stopped"' in line]
    assert len(lines) == 4
    assert not any("principal" in line or "request_id" in line for line in lines)
    assert code == 0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
async def test_each_signal_drains(sig: signal.Signals) -> None:
    """Ctrl-C and a terminal that is closed end the server as the platform does."""
    with Process(**QUICK) as process:
        assert process.url
        assert await asyncio.to_thread(process.stop, sig) == 0


async def test_signals_that_mean_nothing_end_nobodys_call() -> None:
    """SIGUSR1 and SIGUSR2, as they are sent to rotate logs, do not end the process."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                process.child.send_signal(number)
            assert (await wire.call("modern", "echo", {"text": "here"})).status == 200
        assert await asyncio.to_thread(process.stop) == 0


async def test_a_thread_that_never_returns_does_not_keep_the_process() -> None:
    """Nothing waits for a thread that a tool has left behind."""
    with Process(**QUICK) as process:
        async with Wire(process.url, KEY) as wire:
            reply = await wire.call("modern", "leave_a_thread", {})
        started = time.monotonic()
        code = await asyncio.to_thread(process.stop)

    assert reply.status == 200
    assert code == 0
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("reads", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_that_is_being_read_is_in_flight(era: Era, *, reads: bool) -> None:
    """The drain waits until it is read to its end; a client that takes nothing is cut after its time (2 s here)."""
    headers, body = request(era, "tools/call", {"name": "huge_result", "arguments": {"size": 2_000_000}}, key=KEY)
    with Process(MCP_BODY_TIMEOUT_SECONDS="2") as process, socket.socket() as client:
        host = process.url.removeprefix("http://")
        sent = {"host": host, "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", int(host.rpartition(":")[2])))
        client.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
        await asyncio.to_thread(process.line, "tool call")
        process.child.send_signal(signal.SIGTERM)
        refusing = await asyncio.to_thread(process.line, "drain: refusing new work")
        if reads:
            with client.makefile("rb") as answer:
                fields = dict(line.lower().split(b": ", 1) for line in iter(answer.readline, b"\r\n") if b": " in line)
                size = int(fields[b"content-length"])
                assert len(answer.read(size)) == size > 2_000_000
        code = await asyncio.to_thread(process.wait)
        assert process.line("drain: complete")["in_flight"] == 0

    assert refusing["in_flight"] == 1
    assert code == 0


WITHOUT_THREADS = """
import threading
import sample
from hardening import HardeningSettings
from hardening.lifecycle import startup

before = startup.tidy
# From the moment when it serves, no thread can be started any more: there is no room for its stack.
startup.tidy = lambda: (before(), threading.stack_size(1 << 46))
raise SystemExit(startup.serve(HardeningSettings, sample.build))
"""


async def test_a_container_without_a_thread_drains() -> None:
    """The signal begins the drain all the same, and a call in flight is answered."""
    with Process("-c", WITHOUT_THREADS) as process:
        async with Wire(process.url, KEY) as wire:
            call = asyncio.create_task(wire.call("modern", "wait", {"seconds": 0.5}))
            await a_call_runs(wire)
            process.child.send_signal(signal.SIGTERM)
            reply = await call
        code = await asyncio.to_thread(process.wait)
    assert not reply.result["isError"]
    assert code == 0
    assert process.line("drain: complete")["in_flight"] == 0
