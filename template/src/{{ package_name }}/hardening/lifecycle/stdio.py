"""The `stdio` command: the same tools for a client on this machine, without network and credentials (exit 0, 75, 78).

Standard output carries JSON-RPC and nothing else, whatever the author's code prints; logs go to standard error.
Ends at the end of input and at SIGTERM, SIGINT, SIGQUIT or SIGHUP, with calls in flight answered; deadlines, limits,
boundary and scrubbing are those of `serve`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, TypeVar

import structlog

from ..calls.declaration import built_or_exit
from ..logs import past_redaction
from ..logs import setup as logs
from ..logs.stdio import StdioCapture
from ..protocol.long_lived_streams import Listening, serve_listen
from ..protocol.stdio_framing import LineReader
from ..protocol.stdio_transport import StdioTransport
from ..settings.environment import AWAY, settings_or_exit
from . import lost_tasks
from .shutdown import CLOSING_SECONDS, STUCK
from .signals import FirstSignal, Signals
from .startup import open_log, opened, run_to_the_end, tidy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..server import HardenedServer
    from ..settings import HardeningSettings

log = structlog.get_logger()
SettingsT = TypeVar("SettingsT", bound="HardeningSettings")

# About a network and its callers, or about other replicas: there are none.
NETWORK = frozenset({"HOST", "MCP_HOST", "REDIS_URL", "MCP_REPLICAS", "MCP_REQUEST_STATE_KEYS"})
# A connection of its own is what older protocols call a session.
LOCAL = {"MCP_AUTH": "none", "MCP_LEGACY": "stateful"}


def claim() -> tuple[int, int]:
    """Take standard input and output, before any code of the author runs; return copies of them.

    What is read from now on is empty, and what is printed goes to standard error.
    """
    wire = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return wire


def serve_stdio(
    wire: tuple[int, int], settings_type: type[SettingsT], build: Callable[[SettingsT], HardenedServer]
) -> int:
    """Serve until the input ends or a signal comes, then end the process with 0; with 75 when the state is lost."""
    for name in list(os.environ):
        if name.upper().removesuffix("_FILE") in NETWORK | LOCAL.keys():
            del os.environ[name]
    os.environ.update(LOCAL)
    server = built_or_exit(build, settings_or_exit(settings_type))
    output = open_log(server)
    taken = StdioCapture(output)
    signals = Signals()
    signals.install()
    run_to_the_end(_run(server, wire, taken, signals), output, taken)


async def _run(server: HardenedServer, wire: tuple[int, int], taken: StdioCapture, signals: Signals) -> int:
    taken.watch(asyncio.get_running_loop())
    settings = server.hardening_settings
    async with opened(server):
        tidy()
        past_redaction.warn()
        before = lost_tasks.of_the_author()
        # How the SDK gives out its low-level server.
        sdk = server.open_protocol().app
        listening = serve_listen(sdk, server.bus)
        source, target = wire
        transport = StdioTransport(settings, LineReader(source, settings.max_body_bytes), target)
        loop, first, code = asyncio.get_running_loop(), FirstSignal(), 0

        def leave(*_: object) -> None:
            if first.is_first():
                loop.call_soon_threadsafe(transport.ended.set, context=Context())

        def lost() -> None:
            nonlocal code
            if not transport.leaving:
                code = AWAY
                transport.leaving = True
                transport.ended.set()

        server.services.state.when_lost(lost)
        ending = asyncio.ensure_future(_end(server, transport, listening))
        log.info("started", version=server.version, schema=server.schema_sha256)
        with signals.handled_by(leave):
            try:
                await sdk.run(transport, transport, sdk.create_initialization_options())
            finally:
                ending.cancel()
        lost_tasks.warn_of_lost(before)
        log.info("stopped")
    return code


async def _end(server: HardenedServer, transport: StdioTransport, listening: Listening | None) -> None:
    """Wait for the end of the input or a signal, then for what is in flight."""
    grace = server.hardening_settings.drain_timeout_seconds
    await transport.ended.wait()
    transport.leaving = True
    # A thread, so that the deadline holds even when the event loop does not run.
    watchdog = threading.Timer(grace + CLOSING_SECONDS, _stuck, (server,))
    watchdog.daemon = True
    with suppress(RuntimeError):
        # No thread is left: it ends without.
        watchdog.start()
    server.questions.leaving.set()
    if listening is not None:
        listening.end()
    log.info("drain: refusing new work", in_flight=len(transport.in_flight), seconds=grace)
    try:
        async with asyncio.timeout(grace):
            await transport.idle()
            await server.background.idle()
    except TimeoutError:
        for name in server.background.cut_short():
            log.warning("drain: background task cut short", tool_name=name)
        for name in server.deadlines.cut_short():
            log.warning("drain: call cut short", tool_name=name)
        await asyncio.wait({asyncio.ensure_future(transport.idle())}, timeout=CLOSING_SECONDS / 2)
    log.info("drain: complete", in_flight=len(transport.in_flight))
    transport.close()


def _stuck(server: HardenedServer) -> None:
    logs.write_final_line("drain: deadline passed, exiting", calls=server.deadlines.names())
    os._exit(STUCK)
