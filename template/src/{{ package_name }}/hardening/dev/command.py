"""The `dev` command: the server with a database, a key, client snippets, readable logs and reload.

Starts the very server that production starts, as a child; nothing here is imported by it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .postgres import EmbeddedPostgres
from .snippets import snippets, stdio_snippets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DATA = Path(".dev")
STOP_SECONDS = 15.0
WATCH_SECONDS = 0.5


def main(arguments: Sequence[str], name: str) -> int:
    """Serve on this machine until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"{name} dev", description=main.__doc__)
    parser.add_argument("--no-reload", action="store_true", help="do not restart when a file changes")
    parser.add_argument("--jwt", action="store_true", help="accept tokens of a local issuer, and print one")
    parser.add_argument("--migrate", metavar="COMMAND", help="run this in place of the project's migrations")
    chosen = parser.parse_args(arguments)
    package = __name__.partition(".")[0]
    with ExitStack() as stack:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            environment = {**_env_file(Path(".env")), **os.environ, "PYTHONUNBUFFERED": "1"}
            key = _defaults(environment)
            url = _url(environment)
            if chosen.jwt:
                from .issuer import LocalIssuer

                issuer = stack.enter_context(LocalIssuer())
                environment.update(issuer.environment(url))
                key = issuer.token(url, scopes=_scopes(package))
            if "DATABASE_URL" not in environment and _needs_database(package):
                _say("Starting PostgreSQL …\n")
                environment["DATABASE_URL"] = stack.enter_context(EmbeddedPostgres(DATA / "postgres", confined=True))
                _say(f"DATABASE_URL={environment['DATABASE_URL']}\n")
                chosen.migrate = chosen.migrate or _own_migrations(package)
            if chosen.migrate:
                _migrate(chosen.migrate, environment)
            _say(snippets(name, url, key, environment["MCP_PROBE_KEY"]))
            _say(stdio_snippets(name, package, environment.get("DATABASE_URL")))
            return _supervise(package, environment, reload=not chosen.no_reload)
        except KeyboardInterrupt:
            return 0


def _url(environment: Mapping[str, str]) -> str:
    """Return where the server will answer on this machine."""
    host = environment.get("MCP_HOST") or environment.get("HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://{host}:{environment['PORT']}/mcp"


def _own_migrations(package: str) -> str | None:
    """Return the command for the project's migrations; of the database here only, never of one that was named."""
    folder = Path(__file__).parents[2] / "migrations"
    return shlex.join((sys.executable, "-m", package, "migrate")) if folder.is_dir() else None


def _migrate(command: str, environment: Mapping[str, str]) -> None:
    """Run what brings the database up to date; the server does not start after one that failed."""
    _say(f"Running {command}\n")
    code = subprocess.run(shlex.split(command), env=dict(environment), check=False).returncode  # noqa: S603 - the developer's own
    if code:
        sys.exit(f"The migrations ended with {code}: {command}")


def _say(text: str) -> None:
    """Write at once, wherever it goes to: the server writes to the same place."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _interrupt(*_: object) -> None:
    # The same signal comes again when a process group gets it: nothing interrupts what ends the database.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _env_file(path: Path) -> dict[str, str]:
    """Read `.env`; only here, since in production the platform sets the variables."""
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _defaults(environment: dict[str, str]) -> str:
    """Fill in what a laptop needs; whatever is set stays. Return the key to show."""
    given = environment.get("MCP_API_KEYS") or environment.get("MCP_API_KEY")
    if not given:
        given = environment["MCP_API_KEYS"] = f"dev:dev-{secrets.token_hex(24)}"
    environment.setdefault("MCP_AUTH", "api_key")
    environment.setdefault("MCP_PROBE_KEY", f"probe-{secrets.token_hex(24)}")
    environment.setdefault("MCP_LOG_FORMAT", "console")
    environment.setdefault("MCP_READINESS_DELAY_SECONDS", "0")
    # The server reads MCP_PORT first; 0 is any free port, which has to be known before it is printed.
    asked = environment.get("MCP_PORT") or environment.get("PORT") or "8000"
    fixed = asked != "0" and {"MCP_PORT", "PORT"} & environment.keys()
    environment["PORT"] = environment["MCP_PORT"] = asked if fixed else str(_free_port(int(asked)))
    secret = given.split(",")[0].partition(":")[2] or given
    return "(the one whose digest you have set)" if secret.startswith("sha256:") else secret


def _scopes(package: str) -> set[str]:
    """Return every scope that a tool asks for, so that the printed token may call them all."""
    tools = import_module(f"{package}.tools").TOOLS
    return {scope for function in tools for scope in function.__tool__.scopes}


def _free_port(wanted: int) -> int:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", wanted))
        except OSError:
            trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _needs_database(package: str) -> bool:
    field = import_module(f"{package}.settings").Settings.model_fields["database_url"]
    return bool(field.is_required())


def _supervise(package: str, environment: Mapping[str, str], *, reload: bool) -> int:
    """Keep the server running; start it anew when a source file changes."""
    command = [sys.executable, "-m", package, "serve"]
    sources = Path(__file__).parents[2]
    while True:
        # A group of its own, so that Ctrl-C reaches it once, from here.
        child = subprocess.Popen(command, env=dict(environment), start_new_session=True)  # noqa: S603 - our own
        try:
            seen = _stamp(sources)
            while child.poll() is None and (not reload or _stamp(sources) == seen):
                time.sleep(WATCH_SECONDS)
            if child.poll() is not None and not reload:
                return child.returncode
            if child.poll() is not None:
                _say("The server has ended; it starts again when a file changes.\n")
                while _stamp(sources) == seen:
                    time.sleep(WATCH_SECONDS)
            _say("A file has changed; starting again.\n")
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    """Return what changes when a source file does."""

    def files() -> Iterator[tuple[str, int]]:
        for path in sorted(folder.rglob("*.py")):
            try:
                yield str(path), path.stat().st_mtime_ns
            except FileNotFoundError:
                continue

    return tuple(files())
