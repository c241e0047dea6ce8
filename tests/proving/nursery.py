"""Runs pytest again and again without loading the libraries each time: a third of a run's time.

Started with the interpreter of a project. Each line of standard input is a run, as JSON with `folder`,
`arguments`, `seconds`, `output` and `environment`; the answer is a line with the exit code, or null when it
took too long.
Each run has a process of its own, into which nothing of the project was loaded.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from importlib import import_module

LIBRARIES = (
    "asyncpg",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "httpx2",
    "hypothesis",
    "jsonschema",
    "jwt",
    "mcp.server.mcpserver",
    "prometheus_client",
    "pydantic_settings",
    "pytest",
    "pytest_asyncio.plugin",
    "redis.asyncio",
    "structlog",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
PAUSE_SECONDS = 0.01


def child(folder: str, arguments: list[str], output: str, environment: dict[str, str]) -> None:
    """Become one run; never return."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, into), (2, into)):
        os.dup2(source, target)
    sys.path[0] = folder
    code = 3
    try:
        import pytest

        code = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit code of a run; end it when its time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(PAUSE_SECONDS)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main() -> None:
    """Answer each line until there is no more."""
    for name in LIBRARIES:
        import_module(name)
    # What is loaded stays; looked at by a collection, it would be copied into each process.
    gc.freeze()
    for line in sys.stdin:
        run = json.loads(line)
        pid = os.fork()
        if not pid:
            child(run["folder"], run["arguments"], run["output"], run["environment"])
        sys.stdout.write(json.dumps(wait(pid, run["seconds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
