"""PgBouncer in transaction mode in front of a PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from live import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


@contextmanager
def pgbouncer(url: str, more: str = "", user: str = "postgres") -> Generator[str]:
    """Run PgBouncer in transaction mode, two server connections and no prepared statements, before the database."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname])[0]
    port = free_port()
    version = subprocess.run([PGBOUNCER, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    # Newer ones can keep prepared statements; managed ones often do not.
    prepared = "max_prepared_statements = 0\n" if int(version.split(".")[1]) >= 21 else ""
    with TemporaryDirectory(prefix="pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(
            f"[databases]\npostgres = host={host} port={parts.port or 5432} user={user}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n{prepared}{more}",
            encoding="utf-8",
        )
        # It refuses to run as root, as PostgreSQL does; the owner of the socket may use it.
        sockets = list(Path(host or "/").glob(".s.PGSQL.*"))
        owner = sockets[0].stat().st_uid if os.geteuid() == 0 and sockets else None
        with subprocess.Popen(
            [PGBOUNCER, str(settings)], user=owner, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stderr is not None
            said: list[str] = []
            for line in child.stderr:
                said.append(line)
                if "process up" in line:
                    break
            assert child.poll() is None, said
            try:
                yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
            finally:
                child.terminate()
                child.communicate(timeout=20)
