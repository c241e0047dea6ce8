"""A connection that was idle is asked before a call gets it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from queries import settings_for
from support.relay import Relay

from hardening.database import idle_check
from hardening.database.failures import lost
from hardening.database.pool import Database

if TYPE_CHECKING:
    from hardening.dev.postgres import EmbeddedPostgres


@pytest.mark.parametrize(("idle", "another"), [(9, False), (11, True)])
async def test_a_connection_that_was_forgotten_reaches_no_call(
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    idle: int,
    another: bool,  # noqa: FBT001 - a parameter
) -> None:
    """After more than 10 s idle a connection that answers nothing costs 1 s, and a call gets another one."""
    database = Database(settings_for(postgres.server.get_uri()))
    await database.open()
    first = await database.take()
    pid = first.get_server_pid()
    await database.give_back(first)
    # Nothing comes back from it, and nothing says so.
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(idle_check, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + idle))
        started = time.monotonic()
        taken = await database.take()
        seconds = time.monotonic() - started

        assert (taken.get_server_pid() != pid) is another
        assert (seconds >= 1) is another
        assert seconds < 10
        database.cut(taken)
        await database.give_back(taken)
        assert lost(taken)
    finally:
        os.kill(pid, signal.SIGCONT)
        await database.close()


def socket_of(postgres: EmbeddedPostgres) -> Path:
    """Return the socket that it listens on."""
    folder = parse_qs(urlsplit(postgres.server.get_uri()).query)["host"][0]
    return next(Path(folder).glob(".s.PGSQL.*[0-9]"))


async def test_a_ping_that_hangs_costs_a_second_and_its_connection(postgres: EmbeddedPostgres) -> None:
    """What a firewall has forgotten is closed by the look at it, and no later look or call meets it again."""
    async with Relay(lambda: asyncio.open_unix_connection(socket_of(postgres))) as relay:
        database = Database(settings_for(f"postgresql://postgres@127.0.0.1:{relay.port}/postgres"))
        await database.open()
        try:
            assert await database.ping()
            relay.forget()
            started = time.monotonic()
            assert not await database.ping()
            # Giving it back would take two further seconds, waiting for the end of what was asked.
            assert time.monotonic() - started < 2
            assert database.idle == 0
            assert await database.ping()
        finally:
            await database.close()
