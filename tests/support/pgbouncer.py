"""PgBouncer in front of a PostgreSQL, in either mode, with TLS where wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from support.dev_server import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


@contextmanager
def pgbouncer(url: str, more: str = "", user: str = "postgres", mode: str = "transaction") -> Generator[str]:
    """Run PgBouncer, two server connections and no prepared statements, before the database."""
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
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 2\n"
            # Nobody reads what it says after its start.
            f"log_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0\n{prepared}{more}",
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


def certificates(folder: Path) -> Path:
    """Write two certificates for this machine, `server` and `other`, each its own authority; return the folder."""
    folder.chmod(0o755)
    now = datetime.now(UTC)
    for name in ("other", "server"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        signed = (
            builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).add_extension(here, critical=False)
        )
        signed = signed.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = signed.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for kind, content in (("crt", certificate), ("key", secret)):
            Path(folder, f"{name}.{kind}").write_bytes(content)
    return folder


def with_tls(folder: Path, name: str = "server") -> str:
    """Return the settings for TLS with one of the certificates."""
    files = f"client_tls_cert_file = {folder}/{name}.crt\nclient_tls_key_file = {folder}/{name}.key\n"
    return f"client_tls_sslmode = require\n{files}"
