"""What is written past the loggers is counted and not shown; what nobody caught becomes a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SECONDS = 30.0
VALUE = "S3ntinel"

PREPARED = """
import alias; alias.install()
import asyncio, ctypes, faulthandler, gc, itertools, logging, os, subprocess, sys, threading, traceback
import structlog
from captured import calling
from hardening.logs.setup import configure
from hardening.logs.stdio import StdioCapture

value = sys.argv[1]
logs = configure(level="info", fmt="json")
log = structlog.get_logger()

def end(taken, code=0):
    taken.release()
    logs.close(20)
    os._exit(code)
"""

# Everything that writes past the loggers, by where it arrives.
STRAY = {
    "stdout": [
        "print(value)",
        "print(value, flush=True)",
        "print(value, end='\\n\\n')",
        "sys.stdout.write(value); sys.stdout.flush()",
        "sys.stdout.buffer.write(value.encode())",
        "sys.stdout.close(); print(value)",
        "sys.stdout.write(value); sys.stdout.flush()",
    ],
    "stderr": [
        "print(value, file=sys.stderr)",
        "logging.StreamHandler().handle(logging.makeLogRecord({'msg': value}))",
        "exec('try: int(value)\\nexcept ValueError: traceback.print_exc()')",
    ],
    "descriptor": [
        "os.write(1, value.encode())",
        "os.write(2, value.encode())",
        "subprocess.run(['echo', value])",
        "subprocess.run(['sh', '-c', 'echo $0 >&2', value])",
        "subprocess.run(['echo', value], stdout=sys.stdout)",
        "print(value, file=sys.__stdout__, flush=True)",
        "ctypes.CDLL(None).puts(value.encode()); ctypes.CDLL(None).fflush(None)",
    ],
}

UNCAUGHT = """
def fail():
    int(value)

class Final:
    def __del__(self):
        fail()

async def failing():
    fail()

async def main():
    loop = asyncio.get_running_loop()
    taken.watch(loop)
    loop.call_soon(fail)
    task = asyncio.create_task(failing())
    for _ in range(3):
        await asyncio.sleep(0)
    del task
    gc.collect()

thread = threading.Thread(target=fail)
thread.start()
thread.join()
Final()
gc.collect()
asyncio.run(main())
"""


def run(code: str, *, line: str = '"$@"', **streams: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose output is taken over."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    command = ["/bin/sh", "-c", f"exec {line}", "sh", sys.executable, "-c", PREPARED + code, VALUE]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, text=True, check=False, timeout=SECONDS, **streams)


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the log lines of a process."""
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture(scope="module")
def done() -> subprocess.CompletedProcess[str]:
    """A process that writes past the loggers in every way, and lets exceptions escape everywhere."""
    stray = "\n".join(code for codes in STRAY.values() for code in codes)
    return run(
        "taken = StdioCapture(logs, itertools.count(step=10).__next__)\n"
        f"{stray}\n"
        "with calling({'a': value}): print('in a call')\n"
        f"{UNCAUGHT}\n"
        "taken.release()\n"
        "print('given back')\n"
        "sys.stdout.flush()\n"
        "logs.close(20)\n"
        "os._exit(0)\n"
    )


@pytest.fixture(scope="module")
def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What that process has logged."""
    return lines_of(done)


def test_stray_output_is_not_shown(done: subprocess.CompletedProcess[str]) -> None:
    """A print, a traceback, a child process, C code: nothing of it comes out, on either stream."""
    assert done.returncode == 0
    assert VALUE not in done.stdout + done.stderr


@pytest.mark.parametrize(("stream", "least"), [("stdout", 7 * 8 + 5 + 10), ("stderr", 100), ("descriptor", 7 * 8 + 5)])
def test_stray_output_is_counted(lines: list[dict[str, Any]], stream: str, least: int) -> None:
    """The log says how much was written, to the byte."""
    size = sum(line["size"] for line in lines if line.get("stream") == stream)
    assert size == least if stream != "stderr" else size > least


def test_stray_output_of_a_tool_carries_its_request_id(lines: list[dict[str, Any]]) -> None:
    """The author finds the tool that prints."""
    sizes = [line["size"] for line in lines if line.get("request_id") == "0123456789abcdef"]
    assert sizes == [len("in a call\n")]


def test_what_nobody_caught_is_a_line(lines: list[dict[str, Any]]) -> None:
    """A thread, a finalizer, a task, a callback: type and places, not the message that holds the value."""
    caught = [line for line in lines if "exception" in line]
    assert len(caught) == 4
    assert {line["level"] for line in caught} == {"error"}
    assert [line["kind"] for line in caught if "kind" in line] == ["handle", "future"]
    assert all([one["type"] for one in line["exception"]] == ["ValueError"] for line in caught)


def test_everything_is_given_back(done: subprocess.CompletedProcess[str]) -> None:
    """After release, output goes where it went before."""
    assert done.stdout == "given back\n"


@pytest.mark.parametrize("code", ["sys.stdout = sys.stderr = None", "sys.stdout.close()"])
def test_streams_that_an_author_has_replaced_do_not_stop_the_end(code: str) -> None:
    """A tool that puts something else in their place, or closes them, leaves the exit code as it is."""
    ended = run(f"taken = StdioCapture(logs)\n{code}\ntaken.release()\nprint('given back')")
    assert (ended.returncode, ended.stdout) == (0, "given back\n")


def test_an_exception_that_ends_the_process_is_a_line() -> None:
    """The last line says what ended it."""
    ended = run("taken = StdioCapture(logs)\nraise ValueError(value)")
    assert ended.returncode == 1
    (line,) = lines_of(ended)
    assert (line["level"], line["msg"]) == ("critical", "uncaught exception")
    assert line["exception"][0]["type"] == "ValueError"


def test_a_crash_of_the_interpreter_says_where() -> None:
    """A segmentation fault leaves the names of the functions, on the real standard error."""
    crashed = run("taken = StdioCapture(logs)\nfaulthandler._sigsegv()")
    assert crashed.returncode != 0
    assert "Fatal Python error" in crashed.stderr
    assert "most recent call first" in crashed.stderr


def test_a_process_without_standard_output_works() -> None:
    """Started with closed descriptors, the server can still be taken over, and its tools may print."""
    started = run("taken = StdioCapture(logs)\nprint(value)\nend(taken, logs.dropped)", line='"$@" 0<&- 1>&-')
    assert started.returncode == 0
    assert [line["msg"] for line in lines_of(started)] == ["stray output"]


def test_a_reader_that_sleeps_stops_nobody() -> None:
    """Nobody reads standard error; a tool that logs, one that prints in a loop and a child all get on."""
    reader, writer = os.pipe()
    try:
        code = (
            "taken = StdioCapture(logs)\n"
            "for _ in range(20_000): log.warning(value, size=1)\n"
            "for _ in range(20_000): print('x' * 100)\n"
            "subprocess.run(['sh', '-c', 'yes | head -c 3000000'], check=True)\n"
            "os._exit(0 if logs.dropped > 10_000 else 1)"
        )
        assert run(code, stderr=writer).returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_tool_that_prints_in_a_loop_is_one_line_a_second() -> None:
    """Everything is counted and little is written."""
    printed = run("taken = StdioCapture(logs)\nfor _ in range(20_000): print('x' * 9)\nend(taken)")
    found = lines_of(printed)
    assert sum(line["size"] for line in found) == 200_000
    assert len(found) < 20
