"""Fixtures: a real PostgreSQL, the sample tools behind the whole stack on a socket, and clients of it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from live import KEY, PROBE_KEY, Live, live
from wire import Wire

from hardening.dev.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL that these tests may stop and start."""
    # Not below pytest's own folder: run by root, each run closes it to the user that PostgreSQL runs as.
    with TemporaryDirectory(prefix="postgres-") as folder:
        embedded = EmbeddedPostgres(Path(folder))
        with embedded:
            yield embedded


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> str:
    """A real PostgreSQL: the one of `TEST_DATABASE_URL`, or one started for these tests."""
    given = os.environ.get("TEST_DATABASE_URL")
    return given or request.getfixturevalue("postgres").server.get_uri()


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """The sample tools behind the whole stack, on a socket."""
    with live() as running:
        yield running


@pytest.fixture
async def wire(server: Live) -> AsyncIterator[Wire]:
    """A raw client with a good key."""
    async with Wire(server.url, KEY) as client:
        yield client


@pytest.fixture
async def probe(server: Live) -> AsyncIterator[Wire]:
    """A raw client with the probe key."""
    async with Wire(server.url, PROBE_KEY) as client:
        yield client
