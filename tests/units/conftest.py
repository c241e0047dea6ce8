"""Runs the tests of single modules against the package in place, or against the folder that `HARDENING` names."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "template/tests/support"))

import alias
import pytest

alias.install()

from fixtures import database_url, postgres, probe, server, wire

from hardening.logs import redaction

__all__ = ["database_url", "postgres", "probe", "server", "wire"]


@pytest.fixture(autouse=True)
def no_recent_calls() -> None:
    """Forget the calls of earlier tests: a log line is compared with them too."""
    redaction.RECENT._generations.clear()  # noqa: SLF001 - a process has no reason to forget, so there is no name for it
