"""Start-up in a fixed order that fails before traffic: settings, tools, port, database, listen."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import uvicorn

from . import configuration, logs
from .app import App
from .database import Database, DatabaseUnavailableError
from .lint import problems as tool_problems
from .shutdown import CLOSING_SECONDS, Server
from .tool import InvalidDeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .server import HardenedServer
    from .settings import HardeningSettings

log = structlog.get_logger()
SettingsT = TypeVar("SettingsT", bound="HardeningSettings")

# EX_CONFIG of sysexits.h: the supervisor must not restart what only a person can mend.
BAD_SETTINGS = 78
PORT_TAKEN = 71


def settings_or_exit(settings_type: type[SettingsT]) -> SettingsT:
    """Return the settings, or list every problem on standard error and exit with 78."""
    for sentence in configuration.unknown_names(settings_type):
        sys.stderr.write(f"warning: {sentence}\n")
    try:
        return configuration.load(settings_type)
    except configuration.InvalidSettingsError as invalid:
        _refuse("settings", invalid.problems)


def serve(settings_type: type[SettingsT], build: Callable[[SettingsT], HardenedServer]) -> int:
    """Serve until a signal comes; return the exit code."""
    settings = settings_or_exit(settings_type)
    try:
        server = build(settings)
    except InvalidDeclarationError as invalid:
        _refuse("tools", str(invalid).split("\n"))
    found = tool_problems(server.declared.values())
    if found:
        _refuse("tools", found)
    logs.configure(level=settings.log_level, fmt=settings.log_format)
    listener = _bind(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_run(server, listener))
        logs.close()
        # A thread that never returns must not keep the process: everything that matters is closed.
        os._exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop  # noqa: PLC0415 - only the server needs it

    return uvloop.new_event_loop


def _refuse(what: str, problems: Sequence[str]) -> Any:  # noqa: ANN401 - does not return
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(f"Cannot start: {len(problems)} problem(s) in the {what}.\n{lines}\n")
    raise SystemExit(BAD_SETTINGS)


def _bind(settings: HardeningSettings) -> socket.socket:
    """Take the port, and say so in one sentence when somebody else has it."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        reason = error.strerror or "not possible"
        sys.stderr.write(f"Cannot start: HOST and PORT: {settings.host}:{settings.port}: {reason.lower()}.\n")
        raise SystemExit(PORT_TAKEN) from None
    return listener


async def _run(server: HardenedServer, listener: socket.socket) -> int:
    settings = server.hardening
    if settings.database_url is not None:
        server.database = Database(settings)
        try:
            await server.database.open()
        except DatabaseUnavailableError as unavailable:
            sys.stderr.write(f"Cannot start: {unavailable}.\n")
            return BAD_SETTINGS
    app = App(server)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        # The drain ends calls by itself; this is for what it cannot reach.
        timeout_graceful_shutdown=int(settings.drain_timeout_seconds + CLOSING_SECONDS / 2),
    )
    http = Server(config, settings, app.drain, app)
    async with app.run():
        host, port = listener.getsockname()[:2]
        log.info("started", host=host, port=port, version=server.version, settings=configuration.effective(settings))
        await http.serve([listener])
    if server.database is not None:
        await server.database.close()
    log.info("stopped")
    http.finished.set()
    return 0
