"""The command line: serve, stdio, dev, migrate, probe, schema, settings."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Each imports only what it needs."""
    _leave_out_plugins()
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog=_name(), description="An MCP server, ready for production.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("serve", help="serve in production: strict settings, JSON logs")
    commands.add_parser("stdio", help="serve one client on this machine over standard input and output")
    commands.add_parser("dev", help="serve on this machine: database, key, client snippets, reload", add_help=False)
    commands.add_parser("migrate", help="bring the database up to date, or begin a migration", add_help=False)
    commands.add_parser("probe", help="check a running server from outside", add_help=False)
    commands.add_parser("schema", help="write, check or diff the published contract", add_help=False)
    commands.add_parser("settings", help="show the effective settings", add_help=False)
    command = parser.parse_args(given[:1]).command
    rest = given[1:]
    if command in {"serve", "stdio"}:
        return _serve() if command == "serve" else _stdio()
    if command == "dev":
        from .hardening.dev.command import main as dev

        return dev(rest, _name())
    if command == "migrate":
        from .hardening.migrations.command import main as migrate

        return migrate(rest, _name())
    if command == "probe":
        from .hardening.probe import main as probe

        return probe(rest)
    if command == "schema":
        return _schema(rest)
    return _settings(rest)


def _name() -> str:
    return __package__.replace("_", "-") if __package__ else "server"


def _leave_out_plugins() -> None:
    """Take out of OpenTelemetry's variables the plug-ins that would stop every command, or swallow every span.

    It raises at its import for a propagator, and for a provider, that is not installed; one that is installed takes the
    place of the server's own. Platforms set these for every workload. Here, because what comes next imports it.
    """
    variables = os.environ  # noqa: TID251 - OpenTelemetry's variables, not ours
    for provider in ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER"):
        if variables.pop(provider, ""):
            sys.stderr.write(f"{provider}: left out, the server has its own\n")
    named = [name.strip() for name in variables.get("OTEL_PROPAGATORS", "").split(",") if name.strip()]
    if not named:
        return
    from importlib.metadata import entry_points

    installed = {"none", *(entry.name for entry in entry_points(group="opentelemetry_propagator"))}
    if missing := [name for name in named if name not in installed]:
        sys.stderr.write(f"OTEL_PROPAGATORS: not installed, left out: {', '.join(missing)}\n")
        variables["OTEL_PROPAGATORS"] = ",".join(name for name in named if name in installed) or "tracecontext"


def _end_at_signals() -> None:
    """Let a signal end the process with 0 while it loads: nothing was promised to anybody yet.

    Process 1 of a container would not hear it otherwise, and be killed at the end of its grace.
    """

    def end(*_: object) -> None:
        os._exit(0)  # noqa: TID251 - nobody has called yet

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)  # noqa: TID251 - before the server takes them


def _serve() -> int:
    _end_at_signals()
    # Looking for garbage among modules that are being loaded finds none; `serve` turns it on again.
    gc.disable()
    from .hardening.lifecycle.startup import serve
    from .server import build
    from .settings import Settings

    return serve(Settings, build)


def _stdio() -> int:
    _end_at_signals()
    from .hardening.lifecycle.stdio import claim, serve_stdio

    # Before the author's code is even imported: standard output is the protocol's alone.
    wire = claim()
    from .server import build
    from .settings import Settings

    return serve_stdio(wire, Settings, build)


def _schema(arguments: Sequence[str]) -> int:
    from .hardening.contract.command import main as schema
    from .server import build
    from .settings import Settings

    return schema(arguments, Settings, build)


def _settings(arguments: Sequence[str]) -> int:
    from .hardening.settings.reference import main as settings
    from .settings import Settings

    return settings(arguments, Settings)


if __name__ == "__main__":
    raise SystemExit(main())
