"""Runs a command with the embedded database of the project, where its settings require one and none is set.

`python scripts/with_database.py COMMAND …`; the exit code is the command's, and its database is empty and ends with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

SET = {"DATABASE_URL", "DATABASE_URL_FILE"}


def main() -> int:
    """Run the command, and return its exit code."""
    command = sys.argv[1:]
    (hardening,) = Path("src").glob("*/hardening")
    package = hardening.parent.name
    field = import_module(f"{package}.settings").Settings.model_fields["database_url"]
    if SET & os.environ.keys() or not field.is_required():
        return subprocess.run(command, check=False).returncode
    postgres = import_module(f"{package}.hardening.dev.postgres")
    with (
        TemporaryDirectory(prefix="postgres-") as folder,
        postgres.EmbeddedPostgres(Path(folder), confined=True) as url,
    ):
        environment = {**os.environ, "DATABASE_URL": url}
        if (hardening.parent / "migrations").is_dir():
            subprocess.run([sys.executable, "-m", package, "migrate"], env=environment, check=True)
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
