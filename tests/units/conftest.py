"""Runs the tests of single modules against the package in place, or against the folder that `HARDENING` names."""

import logging
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "template/tests/support"))

import alias
import pytest

alias.install()

from fixtures import database_url, postgres, probe, server, wire

from hardening.logs import redaction, setup

__all__ = ["database_url", "postgres", "probe", "server", "wire"]


@pytest.fixture(autouse=True)
def new_process() -> None:
    """Forget the calls of earlier tests, which log lines are compared with, and the level that a command has set."""
    # A process has no reason to do either, so there are no names for it.
    redaction.RECENT._generations.clear()  # noqa: SLF001
    setup._filter(logging.DEBUG)  # noqa: SLF001
