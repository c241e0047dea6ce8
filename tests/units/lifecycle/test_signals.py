"""Signals are handled from the first moment; children of the process hold nothing of it, and are collected."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live import KEY, OTHER_KEY, SECONDS, Process
from wire import ERAS, Era, Wire

from hardening.lifecycle import signals
from hardening.lifecycle.signals import reap_left_over

FORKING = str(Path(__file__).with_name("forking_server.py"))


def test_a_signal_before_it_serves_ends_it() -> None:
    """While it waits for what it needs, the server can be stopped: nothing was promised yet."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://user@127.0.0.1:{port}/name"
        with Process(DATABASE_URL=url, MCP_DATABASE_START_TIMEOUT_SECONDS="60") as process:
            silent.settimeout(SECONDS)
            held, _ = silent.accept()
            started = time.monotonic()
            assert process.stop() == 0
            held.close()
    assert time.monotonic() - started < 5
    assert any("stopped before it served" in line for line in process.lines)


@pytest.mark.parametrize(
    "sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ids=lambda sig: sig.name
)
@pytest.mark.parametrize("command", ["serve", "stdio"])
def test_a_signal_while_modules_load_ends_it(tmp_path: Path, command: str, sig: signal.Signals) -> None:
    """Exit 0 without a word: process 1 of a container would not hear it, and be killed at the end of its grace."""
    room = tmp_path / "early" / "hardening"
    room.mkdir(parents=True)
    (room / "__init__.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n", "utf-8")
    shutil.copy(Path(signals.__file__).parents[2] / "__main__.py", room.parent)
    (room.parent / "__init__.py").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "early", command],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "loading\n"
        child.send_signal(sig)
        _, error = child.communicate(timeout=SECONDS)
    assert (child.returncode, error) == (0, "")


def test_what_was_ignored_stays_ignored() -> None:
    """Under `nohup`, a terminal that is closed ends nothing."""
    script = (
        "import runpy, signal, sample; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "runpy.run_path(sample.__file__, run_name='__main__')"
    )
    with Process("-c", script) as process:
        assert process.url
        process.child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.child.wait(1.0)
        assert process.stop() == 0


@pytest.mark.parametrize("era", ERAS)
async def test_children_hold_neither_the_port_nor_a_connection(era: Era) -> None:
    """A pool of processes that a tool has started: connections close with the server's end, and the port is free."""
    with Process(FORKING) as process:
        port = int(process.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200" in idle.recv(1000)
            async with Wire(process.url, KEY) as wire:
                pid = int((await wire.call(era, "fork", {})).result["structuredContent"]["result"])
            try:
                # The child keeps the output open, so it has no end yet.
                process.child.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.child.wait, 60) == 0
                # The child is still there, and yet:
                os.kill(pid, 0)
                while idle.recv(1000):
                    pass
                with socket.create_server(("127.0.0.1", port)):
                    pass
                os.kill(pid, signal.SIGTERM)
                await gone(pid)
            finally:
                if state(pid) not in {"Z", ""}:
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("era", ERAS)
async def test_a_task_that_nobody_waits_for_is_named_when_it_is_lost(era: Era) -> None:
    """`asyncio.create_task` in a tool: the server ends with 0, and one line names the function."""
    with Process(FORKING) as process:
        async with Wire(process.url, KEY) as wire:
            await wire.call(era, "forget", {})
        assert await asyncio.to_thread(process.stop) == 0

    assert process.line("tasks lost at the end")["calls"] == ["never_delivered"]


async def gone(pid: int) -> None:
    """Wait until a process that is nobody's child here has ended."""
    async with asyncio.timeout(SECONDS):
        while state(pid) not in {"Z", ""}:
            await asyncio.sleep(0.01)


def state(pid: int) -> str:
    """Return the state of a process as one letter, Z when it has ended uncollected; empty when it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def test_children_that_nobody_waits_for_are_collected() -> None:
    """One that was there at the last look already is collected; one that has just ended is left to its owner."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        deadline = time.monotonic() + SECONDS
        while state(child.pid) != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = reap_left_over(set())
        assert child.pid in before
        assert state(child.pid) == "Z"
        assert child.pid not in reap_left_over({child.pid})
        assert not state(child.pid)


async def test_children_are_looked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the server runs; here every few milliseconds, and not every ten seconds."""
    monkeypatch.setattr(signals, "REAP_SECONDS", 0.01)
    reaping = asyncio.create_task(signals.reap())
    with await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", ""]) as child:
        async with asyncio.timeout(SECONDS):
            while state(child.pid):
                await asyncio.sleep(0.01)
        reaping.cancel()


def test_a_child_that_runs_has_not_ended() -> None:
    """It is not remembered, so its owner has time to ask for its exit code when it ends."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        assert child.pid not in reap_left_over(set())


@pytest.mark.parametrize("era", ERAS)
async def test_code_that_stops_the_event_loop_ends_nobody_elses_call(era: Era) -> None:
    """`sys.exit` in a task or a callback of a tool's, and `loop.stop()`: the caller is answered, and so is all else."""
    with Process(FORKING) as process:
        async with Wire(process.url, KEY) as wire, Wire(process.url, OTHER_KEY) as other:
            replies = {}
            for by in ("child", "task", "callback", "stop", "cancel"):
                beside = asyncio.create_task(other.call(era, "leave", {"by": "task"}))
                replies[by] = await wire.call(era, "leave", {"by": by})
                assert (await beside).text == "went on"
            ready = await wire.get("/readyz")
        code = await asyncio.to_thread(process.stop)

    assert [by for by, reply in replies.items() if reply.result.get("isError")] == ["child", "cancel"]
    assert all("internal" in replies[by].text for by in ("child", "cancel"))
    assert process.line("event loop was stopped, goes on")["level"] == "error"
    assert ready.status == 200
    assert code == 0


TAKES = """
import asyncio, signal
import sample
from hardening import HardeningSettings, harden, tool
from hardening.lifecycle.startup import serve

@tool(read_only=True)
async def take() -> str:
    \"\"\"Set signal handlers, as some libraries do when they are used first.\"\"\"
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return "taken"

raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(take,))))
"""


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_a_handler_that_a_tool_has_set_is_put_back(sig: signal.Signals) -> None:
    """Within a tenth of a second the server drains again at every signal, and a line says what happened."""
    with Process("-c", TAKES) as process:
        async with Wire(process.url, KEY) as wire:
            await wire.call("modern", "take", {})
        await asyncio.to_thread(process.line, "signal handler was replaced, put back")
        code = await asyncio.to_thread(process.stop, sig)

    assert code == 0
    assert process.line("drain: complete")
