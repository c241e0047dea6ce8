"""Start-up in a fixed order that fails before traffic: settings, tools, port, database, state (exit 78, 75, 71)."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import structlog
import uvicorn

from ..app import App
from ..calls.declaration import built_or_exit
from ..calls.state import StateUnavailableError
from ..database import DatabaseUnavailableError
from ..edge import connections, unread_answers
from ..logs import past_redaction
from ..logs import setup as logs
from ..logs.stdio import StdioCapture
from ..settings.environment import AWAY, BAD_CONFIGURATION, refuse, settings_or_exit
from ..settings.reference import effective, secrets_of
from ..telemetry import otlp
from . import lost_tasks
from .descriptors import most_connections
from .event_loop import EventLoop
from .shutdown import CLOSING_SECONDS, DrainingServer
from .signals import Signals, release_in_children

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from ..server import HardenedServer
    from ..settings import HardeningSettings

log = structlog.get_logger()
SettingsT = TypeVar("SettingsT", bound="HardeningSettings")

PORT_TAKEN = 71
# Objects that calls have made and not given back: a few megabytes, where Python's own 700 is a few calls.
COLLECT_AFTER = 20_000


def serve(settings_type: type[SettingsT], build: Callable[[SettingsT], HardenedServer]) -> int:
    """Serve until a signal comes, then end the process with 0 after a complete drain."""
    settings = settings_or_exit(settings_type)
    server = built_or_exit(build, settings)
    output = open_log(server)
    listener = bind(settings)
    release_in_children(listener)
    taken = StdioCapture(output)
    signals = Signals()
    signals.install()
    run_to_the_end(_run(server, listener, output, taken, signals), output, taken)


def open_log(server: HardenedServer) -> logs.Logs:
    """Configure the log for a server: its words are written, its author's fields too, its secrets never."""
    settings = server.hardening_settings
    output = logs.configure(level=settings.log_level, fmt=settings.log_format)
    output.allow_words(server.words())
    output.declare(settings.log_fields, secrets_of(settings))
    return output


def run_to_the_end(work: Coroutine[Any, Any, int], output: logs.Logs, taken: StdioCapture) -> NoReturn:
    """Run a server, then end the process with what it returns; 75 and 78 when a part of it did not open."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        code, refused = 0, None
        try:
            code = _run_whole(runner.get_loop(), work)
        except StateUnavailableError as unavailable:
            log.exception("state did not open")
            refused = "state", unavailable
        except DatabaseUnavailableError as unavailable:
            refused = "database", unavailable
        taken.release()
        output.flush()
        if refused is not None:
            part, error = refused
            code = AWAY if error.away else BAD_CONFIGURATION
            with suppress(SystemExit):
                refuse(part, [str(error)], code)
            sys.stderr.flush()
        # Neither a thread that never returns, or that reads standard input, nor a lifespan that ignores its
        # cancellation must keep the process.
        os._exit(code)


def _run_whole(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, int]) -> int:
    """Run a server to its end, also when the author's code stops the event loop in a task or a callback of its own.

    `SystemExit` and `KeyboardInterrupt` there, and `loop.stop()`, would end every call without an answer.
    """
    whole = loop.create_task(work)
    while not whole.done():
        try:
            loop.run_until_complete(whole)
        except (SystemExit, KeyboardInterrupt, RuntimeError):
            # What the server itself raises, such as the exit code of a start that failed, ends it.
            if whole.done() or loop.is_closed():
                raise
            log.exception("event loop was stopped, goes on")
    return whole.result()


def bind(settings: HardeningSettings) -> socket.socket:
    """Take the port, and say so in one sentence when somebody else has it."""
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        unread_answers.keep_little_unsent(listener)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        sys.stderr.write(f"Cannot start: HOST and PORT {settings.host}:{settings.port}: {reason}.\n")
        raise SystemExit(PORT_TAKEN) from None
    return listener


async def _run(
    server: HardenedServer, listener: socket.socket, output: logs.Logs, taken: StdioCapture, signals: Signals
) -> int:
    taken.watch(asyncio.get_running_loop())
    async with Running.open(server) as running:
        tidy()
        past_redaction.warn()
        before = lost_tasks.of_the_author()
        running.app.metrics.read(
            log_lines_dropped=lambda: output.dropped, log_fields_dropped=lambda: output.dropped_fields
        )
        with signals.handled_by(running.http.handle_exit):
            await running.serve(listener)
        lost_tasks.warn_of_lost(before)
        log.info("stopped")
    return running.http.exit_code


@asynccontextmanager
async def opened(server: HardenedServer) -> AsyncGenerator[None]:
    """Open what calls need, whatever brings them: HTTP, standard input or a test; close it in the reverse order.

    Raises:
        DatabaseUnavailableError: The database did not answer in time.
        StateUnavailableError: The state did not open.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.services.opened())
        stack.push_async_callback(otlp.stop, await otlp.start(server))
        yield


class Running:
    """Everything that is open while the server runs, closed in the reverse order."""

    def __init__(self, server: HardenedServer) -> None:
        settings = server.hardening_settings
        self.server = server
        self.app = App(server)
        self.loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            self.app,
            http=connections.bounded(settings, self.app.pipeline.access_log, most_connections(settings)),
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
        self.http = DrainingServer(config, self.app)

    @classmethod
    @asynccontextmanager
    async def open(cls, server: HardenedServer) -> AsyncGenerator[Running]:
        """Open what the server needs.

        Raises:
            DatabaseUnavailableError: The database did not answer in time.
            StateUnavailableError: The state did not open.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(opened(server))
            running = cls(server)
            await stack.enter_async_context(running.app.run())
            yield running
        running.http.finished.set()

    async def serve(self, listener: socket.socket) -> None:
        """Listen until a signal comes, or the author's state fails, and the drain is over."""
        server, (host, port, *_) = self.server, listener.getsockname()
        shown = effective(server.hardening_settings)
        log.info("started", host=host, port=port, version=server.version, schema=server.schema_sha256, settings=shown)
        self.server.services.state.when_lost(self.http.state_lost)
        await self.http.serve([listener])


def tidy() -> None:
    """Let the collector of garbage rest: what the start has made stays, and calls leave few cycles behind.

    Otherwise it looks at everything that was ever imported, in the middle of somebody's call.
    """
    # Without a last collection: it takes as long as a tenth of the start, and finds next to nothing.
    gc.freeze()
    gc.enable()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
