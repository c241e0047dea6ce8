"""What the start, signals and the drain decide, each decision alone: one row for each case, and no other process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sample
import uvicorn
from captured import captured
from live import ENVIRONMENT, SECONDS, settings_from

from hardening.lifecycle import descriptors, lost_tasks, shutdown, signals, startup, stdio
from hardening.lifecycle.shutdown import DrainingServer
from hardening.lifecycle.signals import FirstSignal, Signals
from hardening.lifecycle.startup import Running, bind

if TYPE_CHECKING:
    from pathlib import Path

INFINITE = -1


class EndedError(BaseException):
    """The process has ended, with this code."""


def ends(code: int) -> None:
    """Stand in for the end of the process."""
    raise EndedError(code)


@pytest.mark.parametrize(
    ("limits", "granted", "connections", "asked", "said"),
    [
        # 4,096 connections and 256 + 10 + 20 besides.
        ((4382, 9000), True, 4096, None, None),
        ((INFINITE, INFINITE), True, 4096, None, None),
        ((4381, 9000), True, 4096, 4382, None),
        ((1000, INFINITE), True, 4096, 4382, None),
        ((1000, 4382), True, 4096, 4382, None),
        ((1000, 4381), True, 4095, 4381, (4095, 4381)),
        ((256, 1000), True, 714, 1000, (714, 1000)),
        # Half of them at least.
        ((256, 400), True, 200, 400, (200, 400)),
        # Stated and not granted.
        ((1000, 9000), False, 714, 4382, (714, 1000)),
    ],
)
def test_how_many_connections_the_descriptors_allow(  # noqa: PLR0913, PLR0917 - the row
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    limits: tuple[int, int],
    granted: bool,  # noqa: FBT001
    connections: int,
    asked: int | None,
    said: tuple[int, int] | None,
) -> None:
    """All that are configured where they fit; otherwise what the rest leaves, or half, and one line says so."""
    set_to: list[Any] = []

    def set_limit(_: int, to: tuple[int, int]) -> None:
        set_to.append(to)
        if not granted:
            raise ValueError

    monkeypatch.setattr(descriptors.resource, "RLIM_INFINITY", INFINITE)
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(descriptors.resource, "setrlimit", set_limit)
    settings = settings_from(
        ENVIRONMENT | {"MCP_MAX_CONNECTIONS": "4096", "MCP_POOL_MAX_SIZE": "10", "MCP_MAX_THREADS": "20"}
    )
    with captured(tmp_path / "log") as log:
        assert descriptors.most_connections(settings) == connections
        lines = [(line["setting"], line["limit"], line["total"]) for line in log.lines()]
    assert set_to == ([] if asked is None else [(asked, limits[1])])
    assert lines == ([] if said is None else [("MCP_MAX_CONNECTIONS", *said)])


async def test_tasks_of_the_author_are_told_from_all_others(tmp_path: Path) -> None:
    """Those of libraries and of this package, the one that asks, and those of before are not named."""
    hold = asyncio.Event()

    async def forgotten() -> None:
        await hold.wait()

    async def another() -> None:
        await hold.wait()

    async def of_before() -> None:
        await hold.wait()

    tasks = [asyncio.create_task(of_before())]
    before = lost_tasks.of_the_author()
    assert before == {tasks[0]}
    reaping = signals.reap()
    tasks += [asyncio.create_task(work) for work in (another(), forgotten(), forgotten(), hold.wait(), reaping)]
    await asyncio.sleep(0)
    assert lost_tasks.of_the_author() == set(tasks[:4])
    with captured(tmp_path / "log") as log:
        lost_tasks.warn_of_lost(before)
        lost_tasks.warn_of_lost(set(tasks))
        (line,) = log.lines()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    name = "test_tasks_of_the_author_are_told_from_all_others.<locals>"
    assert line["calls"] == [f"{name}.another", f"{name}.forgotten"]


def test_a_second_signal_is_one_that_comes_a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second it is the same once more; then the process ends with 130, and a line says why."""
    now, said = [100.0], []
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(signals.os, "_exit", ends)
    monkeypatch.setattr(signals, "write_final_line", said.append)
    first = FirstSignal()
    assert first.is_first()
    now[0] = 100.99
    assert not first.is_first()
    assert said == []
    now[0] = 101.0
    with pytest.raises(EndedError) as ended:
        first.is_first()
    assert ended.value.args == (130,)
    assert said == ["second signal, exiting at once"]


def test_a_signal_is_handed_on_or_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is served it is an end with 0, and the line names the signal."""
    said: list[Any] = []
    monkeypatch.setattr(signals.os, "_exit", ends)
    monkeypatch.setattr(signals, "write_final_line", lambda text, **fields: said.append((text, fields)))
    handler = Signals()
    with pytest.raises(EndedError) as ended:
        handler(signal.SIGTERM, None)
    assert ended.value.args == (0,)
    assert said == [("stopped before it served", {"signal": "SIGTERM"})]
    handler.begin = lambda *given: said.append(given)
    handler(signal.SIGHUP, None)
    assert said[1:] == [(signal.SIGHUP, None)]


def test_a_child_gets_default_handlers_and_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the port is closed in it; another port, a pair of sockets and a file are left alone."""
    handlers: dict[int, Any] = {}
    wakeup: list[int] = []
    monkeypatch.setattr(signals.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signals.signal, "set_wakeup_fd", wakeup.append)
    listener, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    pair = socket.socketpair()
    signals._release(listener.family, listener.getsockname()[1])  # noqa: SLF001 - what a child runs
    for closed in (listener, accepted):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(closed.fileno())
        closed.detach()
    for kept in (other, client, *pair):
        os.fstat(kept.fileno())
        kept.close()
    names = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    default = {signal.Signals[name]: signal.SIG_DFL for name in names}
    assert handlers == default | {signal.SIGINT: signal.default_int_handler}
    assert wakeup == [-1]


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Handlers of signals, as the process would have them."""
    there: dict[int, Any] = dict.fromkeys((*signals.STOP, *signals.WITHOUT_EFFECT), signal.SIG_DFL)
    monkeypatch.setattr(signals.signal, "getsignal", there.__getitem__)
    monkeypatch.setattr(signals.signal, "signal", there.__setitem__)
    return there


def test_what_was_ignored_at_the_start_stays_so(handlers: dict[int, Any]) -> None:
    """Every other signal that stops is handled, and whether one had to be put back is told."""
    handlers[signal.SIGHUP] = signal.SIG_IGN
    ours = Signals()
    assert ours.install()
    kept = {number: handlers[number] for number in signals.STOP}
    stops = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), ours)
    assert kept == stops | {signal.SIGHUP: signal.SIG_IGN}
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        assert handlers[number] not in {ours, signal.SIG_DFL, signal.SIG_IGN}
        assert handlers[number](number, None) is None
    assert not ours.install()
    handlers[signal.SIGINT] = signal.SIG_DFL
    assert ours.install()
    assert handlers[signal.SIGINT] is ours


@pytest.mark.parametrize(("process", "works"), [(1, {"keep", "reap"}), (2, {"keep"}), (4711, {"keep"})])
async def test_what_is_looked_after_while_the_server_serves(
    monkeypatch: pytest.MonkeyPatch, handlers: dict[int, Any], process: int, works: set[str]
) -> None:
    """Handlers always; children of others only as process 1: elsewhere an init does it. Nothing goes on afterwards."""
    monkeypatch.setattr(signals.os, "getpid", lambda: process)
    ours = Signals()
    with ours.handled_by(print):  # type: ignore[arg-type] - is not called
        assert ours.begin is print
        assert {handlers[number] for number in signals.STOP} == {ours}
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert {task.get_coro().__name__ for task in tasks if task is not None} == works  # type: ignore[union-attr]
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_handler_that_was_replaced_is_told_of(
    monkeypatch: pytest.MonkeyPatch, handlers: dict[int, Any], tmp_path: Path
) -> None:
    """Looked at every second; a line only when there was another one."""
    slept: list[float] = []
    ours = Signals()
    ours.install()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            handlers[signal.SIGTERM] = signal.SIG_DFL
        if len(slept) > 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(signals, "asyncio", SimpleNamespace(sleep=sleep))
    with captured(tmp_path / "log") as log:
        with pytest.raises(asyncio.CancelledError):
            await ours.keep()
        said = [line["msg"] for line in log.lines()]
    assert slept == [0.1] * 4
    assert said == ["signal handler was replaced, put back"]


async def test_children_are_looked_for_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one look has found is given to the next."""
    slept: list[float] = []
    looks: list[set[int]] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise asyncio.CancelledError

    def look(before: set[int]) -> set[int]:
        looks.append(before)
        return {len(looks)}

    monkeypatch.setattr(signals, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(signals, "reap_left_over", look)
    with pytest.raises(asyncio.CancelledError):
        await signals.reap()
    assert slept == [10.0] * 4
    assert looks == [set(), {1}, {2}]


@pytest.mark.parametrize(
    ("found", "kept", "collected"), [({1, 2}, {1, 2}, set()), ({2, 3}, {3}, {2}), (set(), set(), set())]
)
def test_a_child_is_collected_at_the_second_look(
    monkeypatch: pytest.MonkeyPatch, found: set[int], kept: set[int], collected: set[int]
) -> None:
    """The first look leaves its owner time to ask for the exit code."""
    waited: set[int] = set()
    monkeypatch.setattr(signals, "_ended_children", lambda: found)
    monkeypatch.setattr(signals.os, "waitpid", lambda child, _: waited.add(child))
    assert signals.reap_left_over({2, 9} if found != {1, 2} else set()) == kept
    assert waited == collected


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("localhost", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_the_port_is_taken_on_the_address_that_is_set(host: str, family: int) -> None:
    """IPv4 or IPv6, as it is written."""
    with bind(settings_from(ENVIRONMENT | {"HOST": host})) as listener:
        assert listener.family == family
        assert listener.getsockname()[0] in {"127.0.0.1", "::1"}
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_a_reason_without_words_is_a_sentence_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is no address has no text of the system's."""
    settings = settings_from(ENVIRONMENT)
    for error, words in (
        (OSError(), "not possible"),
        (OSError(98, "Address already in use"), "address already in use"),
    ):

        def refuse(*_: object, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(startup.socket, "socket", refuse)
        with pytest.raises(SystemExit) as ended:
            bind(settings)
        assert ended.value.code == 71
        assert capsys.readouterr().err == f"Cannot start: HOST and PORT 127.0.0.1:0: {words}.\n"


async def test_the_http_server_is_set_up_for_a_drain() -> None:
    """Neither its own log, signals, headers nor web sockets; its own last deadline is half of the time to close."""
    settings = settings_from(ENVIRONMENT | {"MCP_KEEP_ALIVE_SECONDS": "75", "MCP_DRAIN_TIMEOUT_SECONDS": "40"})
    config = Running(sample.build(settings)).http.config
    expected: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
    expected |= {"server_header": False, "proxy_headers": False}
    expected |= {"timeout_keep_alive": 75, "timeout_graceful_shutdown": 42}
    assert {name: getattr(config, name) for name in expected} == expected
    assert not isinstance(config.http, str)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_line_at_the_start_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str) -> None:
    """Address, port, version, contract and settings, on IPv6 too."""
    settings = settings_from(ENVIRONMENT | {"HOST": host})
    served: list[Any] = []

    async def serve(sockets: list[socket.socket]) -> None:
        served.extend(sockets)

    running = Running(server := sample.build(settings))
    monkeypatch.setattr(running.http, "serve", serve)
    with bind(settings) as listener, captured(tmp_path / "log") as log:
        port = listener.getsockname()[1]
        await running.serve(listener)
        (line,) = log.lines()
    assert served == [listener]
    assert (line["msg"], line["host"], line["port"]) == ("started", host, port)
    assert (line["version"], line["schema"]) == (server.version, server.schema_sha256)
    assert line["settings"]["MCP_AUTH"] == "api_key"


def draining(app: Any, **settings: float) -> Any:
    """Return a server that has not begun anything."""
    server: Any = DrainingServer.__new__(DrainingServer)
    server.settings = SimpleNamespace(**settings)
    server.app = app
    return server


@pytest.mark.parametrize(("connected", "waited"), [((True,) * 20, 1.0), ((True, True, False), 0.2), ((False,), 0.0)])
async def test_idle_connections_have_a_second(
    monkeypatch: pytest.MonkeyPatch, connected: tuple[bool, ...], waited: float
) -> None:
    """The port is closed first; nobody waits when no connection is left."""
    done: list[Any] = []

    async def sleep(seconds: float) -> None:
        done.append(seconds)
        if len(left) > 1:
            left.pop(0)

    async def library(_: object, sockets: object) -> None:
        done.append(sockets)

    left = list(connected)
    server = draining(None)
    server.servers = [SimpleNamespace(close=lambda: done.append("port"))]
    server.server_state = type("State", (), {"connections": property(lambda _: left[0])})()
    monkeypatch.setattr(shutdown, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(uvicorn.Server, "shutdown", library)
    await server.shutdown(["sockets"])
    assert (done[0], done[-1]) == ("port", ["sockets"])
    assert sum(done[1:-1]) == pytest.approx(waited)


@pytest.mark.parametrize("finished", [True, False])
def test_the_deadline_of_the_process_is_the_whole_chain(
    monkeypatch: pytest.MonkeyPatch,
    finished: bool,  # noqa: FBT001 - the row
) -> None:
    """Delay, drain and 5 s; then the process ends with 70, and the line names the calls."""
    waited: list[float] = []
    said: list[Any] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return finished

    app = SimpleNamespace(server=SimpleNamespace(deadlines=SimpleNamespace(names=lambda: ["export"])))
    server = draining(app, readiness_delay_seconds=3, drain_timeout_seconds=20)
    server.finished = SimpleNamespace(wait=wait)
    monkeypatch.setattr(shutdown.os, "_exit", said.append)
    monkeypatch.setattr(shutdown, "write_final_line", lambda text, **fields: said.append((text, fields)))
    server._watch()  # noqa: SLF001 - what the thread runs
    assert waited == [28]
    assert said == ([] if finished else [("drain: deadline passed, exiting", {"calls": ["export"]}), 70])


def test_what_is_stuck_on_standard_input_ends_with_its_calls_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line, and 70."""
    said: list[Any] = []
    monkeypatch.setattr(stdio.os, "_exit", said.append)
    monkeypatch.setattr(stdio.logs, "write_final_line", lambda text, **fields: said.append((text, fields)))
    stdio._stuck(SimpleNamespace(deadlines=SimpleNamespace(names=lambda: ["export"])))  # type: ignore[arg-type]  # noqa: SLF001
    assert said == [("drain: deadline passed, exiting", {"calls": ["export"]}), 70]


async def test_a_server_is_run_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is prepared before the port is served, what is read by the metrics, and what is said at the end."""
    done: list[Any] = []
    settings = settings_from(ENVIRONMENT)

    class Noted(Signals):
        def install(self) -> bool:
            # Again and again while it serves.
            done.extend({"signals"}.difference(map(str, done)))
            return False

    handler = Noted()
    monkeypatch.setattr(startup, "tidy", lambda: done.append("tidy"))
    monkeypatch.setattr(startup.past_redaction, "warn", lambda: done.append("warn"))
    monkeypatch.setattr(startup.lost_tasks, "of_the_author", lambda: {"before"})
    monkeypatch.setattr(startup.lost_tasks, "warn_of_lost", lambda before: done.append(("lost", before)))
    seen: list[bytes] = []

    @asynccontextmanager
    async def opened(server: Any) -> Any:
        async with opening(server) as running:
            serve = running.serve

            async def served(listener: socket.socket) -> None:
                seen.append(running.app.metrics.render())
                assert handler.begin == running.http.handle_exit
                handler(signal.SIGTERM, None)
                threads = [thread for thread in threading.enumerate() if thread.name == "exit deadline"]
                assert [thread.daemon for thread in threads[-1:]] == [True]
                await serve(listener)
                done.append("served")

            running.serve = served
            yield running

    opening = Running.open
    monkeypatch.setattr(startup.Running, "open", opened)
    output: Any = SimpleNamespace(dropped=3, dropped_fields=4)
    taken: Any = SimpleNamespace(watch=lambda loop: done.append(("watch", loop)))
    with captured(tmp_path / "log") as log, bind(settings) as listener:
        async with asyncio.timeout(SECONDS):
            code = await startup._run(sample.build(settings), listener, output, taken, handler)  # noqa: SLF001
        said = [line["msg"] for line in log.lines()]
    assert done == [
        *(("watch", asyncio.get_running_loop()), "tidy", "warn", "signals", "served"),
        ("lost", {"before"}),
    ]
    assert (said[0], said[-1]) == ("started", "stopped")
    assert b"mcp_log_lines_dropped_total 3.0" in seen[0]
    assert b"mcp_log_fields_dropped_total 4.0" in seen[0]
    assert code == 0


class Transport:
    """Standard input and output, with a request that ends when it is told to."""

    def __init__(self, done: list[Any], *, stuck: bool) -> None:
        self.ended = asyncio.Event()
        self.leaving = False
        self.in_flight = {"1": None}
        self._done = done
        self._stuck = stuck

    async def idle(self) -> None:
        """Wait for the request."""
        self._done.append("idle")
        if self._stuck:
            await asyncio.sleep(3600)
        self.in_flight.clear()

    def close(self) -> None:
        """Close."""
        self._done.append("close")


@pytest.mark.parametrize("stuck", [False, True], ids=["idle", "stuck"])
async def test_the_end_of_standard_input_is_a_drain(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stuck: bool,  # noqa: FBT001 - the row
) -> None:
    """Questions and streams end, calls have the drain and 2.5 s to be told; a thread holds the deadline."""
    done: list[Any] = []
    timers: list[Any] = []
    waited: list[Any] = []

    async def wait(tasks: set[asyncio.Task[None]], *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        waited.append(timeout)
        for task in tasks:
            task.cancel()

    def timer(*given: Any) -> Any:
        timers.append(SimpleNamespace(given=given, daemon=False, start=lambda: done.append("timer")))
        return timers[-1]

    async def background() -> None:
        done.append("background")

    monkeypatch.setattr(stdio, "asyncio", SimpleNamespace(**{**vars(asyncio), "wait": wait}))
    monkeypatch.setattr(stdio.threading, "Timer", timer)
    server: Any = SimpleNamespace(
        hardening_settings=SimpleNamespace(drain_timeout_seconds=0.05 if stuck else 20),
        questions=SimpleNamespace(leaving=asyncio.Event()),
        background=SimpleNamespace(idle=background, cut_short=lambda: ["mail"]),
        deadlines=SimpleNamespace(cut_short=lambda: ["export"]),
    )
    listening: Any = SimpleNamespace(end=lambda: done.append("streams"))
    transport: Any = Transport(done, stuck=stuck)
    with captured(tmp_path / "log") as log:
        ending = asyncio.create_task(stdio._end(server, transport, listening))  # noqa: SLF001 - what a signal begins
        await asyncio.sleep(0.01)
        assert (transport.leaving, done) == (False, [])
        transport.ended.set()
        async with asyncio.timeout(SECONDS):
            await ending
        said = [(line["msg"], line.get("tool_name"), line.get("in_flight")) for line in log.lines()]

    assert transport.leaving
    assert server.questions.leaving.is_set()
    grace = server.hardening_settings.drain_timeout_seconds
    assert [(one.given, one.daemon) for one in timers] == [((grace + 5, stdio._stuck, (server,)), True)]  # noqa: SLF001
    if stuck:
        assert done == ["timer", "streams", "idle", "close"]
        assert waited == [2.5]
        cut = [("drain: background task cut short", "mail", None), ("drain: call cut short", "export", None)]
        assert said == [("drain: refusing new work", None, 1), *cut, ("drain: complete", None, 1)]
    else:
        assert done == ["timer", "streams", "idle", "background", "close"]
        assert waited == []
        assert said == [("drain: refusing new work", None, 1), ("drain: complete", None, 0)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, False) for name in ("HOST", "MCP_HOST", "REDIS_URL", "MCP_REPLICAS", "MCP_REQUEST_STATE_KEYS")),
        *((name, False) for name in ("REDIS_URL_FILE", "mcp_host", "MCP_AUTH_FILE", "MCP_LEGACY_FILE")),
        *((name, True) for name in ("MCP_LOG_LEVEL", "DATABASE_URL_FILE", "PORT")),
    ],
)
def test_settings_of_a_network_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kept: bool,  # noqa: FBT001 - the row
) -> None:
    """However they are written, and from a file too; authentication is none, and a connection is a session."""
    left: dict[str, str] = {}

    def load(_: object) -> None:
        left.update(os.environ)
        raise EndedError

    monkeypatch.setattr(stdio.os, "environ", {name: "given"})
    monkeypatch.setattr(stdio, "settings_or_exit", load)
    with pytest.raises(EndedError):
        stdio.serve_stdio((0, 1), None, None)  # type: ignore[arg-type]
    assert left == {"MCP_AUTH": "none", "MCP_LEGACY": "stateful"} | ({name: "given"} if kept else {})


@pytest.mark.parametrize("known", [None, 9999], ids=["no name for it", "refused"])
def test_a_system_without_a_bound_on_what_is_unsent_serves(monkeypatch: pytest.MonkeyPatch, known: int | None) -> None:
    """The bound saves memory; a sandbox or a system that does not know it has the port all the same."""
    if known is None:
        monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT")
    else:
        monkeypatch.setattr(socket, "TCP_NOTSENT_LOWAT", known)
    with bind(settings_from(ENVIRONMENT)) as listener:
        assert listener.getsockname()[1]
