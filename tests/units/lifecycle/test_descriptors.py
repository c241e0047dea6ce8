"""File descriptors: the limit is raised at start, and connections leave enough of them to everything else."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import sample
from live import Process

# With `HARDENING` in it, where another copy is tested.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sample.__file__).parent), "MCP_AUTH": "none"}
ASK = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
import alias
alias.install()
from hardening import HardeningSettings
from hardening.lifecycle.descriptors import most_connections
print(most_connections(HardeningSettings()), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def asked(soft: int, hard: int) -> list[int]:
    """Return how many connections there may be below these limits, and what the limits are then."""
    code = ASK.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, check=True, timeout=60)
    return [int(word) for word in done.stdout.split()[-3:]]


def limited(soft: int, hard: int) -> tuple[str, ...]:
    """Return the command that serves below these limits."""
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
    return "-c", f"{code} runpy.run_path({str(Path(sample.__file__))!r}, run_name='__main__')"


def test_the_soft_limit_is_raised_at_start() -> None:
    """With 256 descriptors of 8,192 allowed, the server has what 4,096 connections need, and says nothing."""
    with Process(*limited(256, 8192)) as server:
        assert server.url
        soft, _ = resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE)
        server.stop()
        lines = list(server.lines)

    assert 4096 + 256 < soft <= 8192
    assert not any("fewer connections" in line for line in lines)


def test_a_soft_limit_that_is_enough_stays() -> None:
    """What somebody has set higher is not taken back."""
    assert asked(8000, 8192) == [4096, 8000, 8192]


def test_connections_leave_descriptors_to_the_rest() -> None:
    """Where only 1,024 are allowed, one line names the setting, and fewer connections are accepted."""
    with Process(*limited(512, 1024)) as server:
        line = server.line("fewer connections than configured")
        assert server.url
        server.stop()

    assert (line["setting"], line["total"]) == ("MCP_MAX_CONNECTIONS", 1024)
    assert 512 <= line["limit"] <= 768
    connections, *limits = asked(512, 1024)
    assert 512 <= connections <= 768
    assert limits == [1024, 1024]
