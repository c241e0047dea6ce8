"""The `migrate` command: Alembic runs what is in `migrations/` and has not run yet (exit 0, 1, 75, 78).

One transaction for all of them, so a failure changes nothing; of several processes at once one runs them
and the others wait. Needs `DATABASE_URL` only, so that it may be another role's than the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from ..settings import HardeningSettings
from ..settings.environment import AWAY, BAD_CONFIGURATION, refuse, refused_fields
from ..settings.source import EnvironmentSettings
from ..settings.values import DatabaseUrl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.config import Config

FOLDER = Path(__file__).parents[2] / "migrations"
FAILED = 1
MISSING = "Alembic is not installed: add the extra migrations (uv sync --extra migrations; EXTRAS of the image)"
START = HardeningSettings.model_fields["database_start_timeout_seconds"].default


class MigrationSettings(EnvironmentSettings):
    """How to reach the database, as the server does."""

    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL")
    database_pgbouncer: bool = False
    database_start_timeout_seconds: float = Field(default=START, gt=0)


def main(arguments: Sequence[str], name: str) -> int:
    """Bring the database up to date, or begin a migration: `migrate new "add a table"`."""
    parser = argparse.ArgumentParser(prog=f"{name} migrate", description=main.__doc__)
    parser.add_argument("action", nargs="?", choices=("run", "new", "list"), default="run", help="what to do")
    parser.add_argument("text", nargs="?", default="", help="what the new migration does")
    chosen = parser.parse_args(arguments)
    if util.find_spec("alembic") is None or util.find_spec("sqlalchemy") is None:
        refuse("installation", [MISSING])
    if chosen.action == "new":
        return _new(chosen.text)
    if not FOLDER.is_dir():
        refuse("project", ['there are no migrations; begin one with: migrate new "what it does"'])
    if chosen.action == "list":
        _command().history(_config(), verbose=False)
        return 0
    try:
        settings = MigrationSettings()  # pyright: ignore[reportCallIssue] - from the environment
    except ValidationError as invalid:
        refuse("settings", [sentence for _, sentence in refused_fields(MigrationSettings, invalid)])
    return run(settings)


def run(settings: Any) -> int:
    """Run what has not run yet; return the exit code.

    Args:
        settings: `MigrationSettings`, or those of a server.
    """
    # Only now: the drivers are for those who have a database.
    from ..database import DatabaseUnavailableError
    from ..lifecycle.event_loop import EventLoop
    from .connecting import connected

    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            before, after = runner.run(connected(settings, _upgrade))
    except DatabaseUnavailableError as unavailable:
        refuse("database", [str(unavailable)], AWAY if unavailable.away else BAD_CONFIGURATION)
    except Exception as error:  # noqa: BLE001 - whatever a migration raises; the database is as it was
        sys.stderr.write(f"The migrations failed, and nothing was changed: {type(error).__name__}: {error}\n")
        return FAILED
    sys.stdout.write(f"The database is up to date: {after or 'empty'}" + (f", before {before}\n" if before else "\n"))
    return 0


def _upgrade(connection: Any) -> tuple[str | None, str | None]:
    from alembic.runtime.migration import MigrationContext

    before = MigrationContext.configure(connection).get_current_revision()
    _command().upgrade(_config(connection), "heads")
    return before, MigrationContext.configure(connection).get_current_revision()


def _new(text: str) -> int:
    if not text.strip():
        refuse("command", ['say what it does: migrate new "add a table"'])
    FOLDER.mkdir(exist_ok=True)
    config = _config()
    from alembic.script import ScriptDirectory

    number = f"{len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1:04}"
    _command().revision(config, message=text, rev_id=number, version_path=str(FOLDER))
    return 0


def _command() -> Any:
    return import_module("alembic.command")


def _config(connection: object = None) -> Config:
    from alembic.config import Config

    config = Config(stdout=sys.stdout)
    # The percent sign is special in its files of settings.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config
