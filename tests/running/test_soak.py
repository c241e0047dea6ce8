"""`make soak` looks at what a server holds, and says when it is more and more."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from support.harness import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

sys.path.append(str(ROOT / "bench"))
from soak import Sample, grown

FLAT = Sample(memory_kib=80_000, descriptors=20, threads=3, tasks=4, sessions=1, streams=0, pool=2)


@pytest.mark.slow
def test_a_short_soak_prints_samples_and_ends_well(project: Path) -> None:
    """Both servers are asked, looked at again and again, and told to be flat."""
    short = {"MINUTES": "0.1", "EVERY": "2"}

    done = run(sys.executable, ROOT / "bench/soak.py", project, cwd=project, env=short)

    for server in ("stateless", "stateful"):
        line = rf"min  {server} +[1-9]\d* requests  memory \d+\.\d MiB  descriptors \d+  threads \d+  tasks \d+"
        assert len(re.findall(line, done.stdout)) >= 2, done.stdout
    assert done.stdout.endswith("Flat.\n")


@pytest.mark.parametrize("part", ["memory_kib", "descriptors", "threads", "tasks", "sessions", "streams", "pool"])
def test_whatever_grows_is_named(part: str) -> None:
    """One that comes with each minute is noticed, one that was there for a moment is not."""
    step = 1000 if part == "memory_kib" else 1
    growing = [Sample(**{**vars(FLAT), part: getattr(FLAT, part) + step * minute}) for minute in range(60)]
    moment = [FLAT] * 30 + [Sample(**{**vars(FLAT), part: 100_000.0})] + [FLAT] * 29

    assert [problem.split(" ")[1] for problem in grown("server:", growing)] == [part]
    assert grown("server:", moment) == []
