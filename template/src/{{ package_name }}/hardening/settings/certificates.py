"""Files of certificates that URLs name: one that cannot be read is refused at start, since no waiting brings it.

No sentence holds the path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from .urls import database_target

if TYPE_CHECKING:
    from . import HardeningSettings

FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"} | {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
# Where the driver looks when the URL names none.
USUAL = "~/.postgresql/root.crt"
CURE = "sslrootcert: write sslrootcert=system, or name the file of the authority that signed the certificate"


def certificate_problems(settings: HardeningSettings) -> list[tuple[str, str]]:
    """Return what cannot be read, as (field, sentence)."""
    found: list[tuple[str, str]] = []
    if settings.redis_url is not None:
        found += [("redis_url", one) for one in _unreadable(settings.redis_url.get_secret_value())]
    if settings.database_url is not None:
        # What does not fit together besides is told elsewhere.
        dsn = database_target(settings.database_url.get_secret_value()).dsn
        found += [("database_url", one) for one in _unreadable(dsn)]
        named = _parameters(dsn)
        verified = named.get("sslmode", "").startswith("verify") and "sslrootcert" not in named
        # A user without a home, as some platforms choose it, has none.
        usual = os.environ.get("PGSSLROOTCERT") or os.path.expanduser(USUAL)  # noqa: PTH111 - this one does not raise
        if verified and not os.access(usual, os.R_OK):
            found.append(("database_url", CURE))
    return found


def _parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def _unreadable(url: str) -> list[str]:
    files = [(name, path) for name, path in _parameters(url).items() if name in FILES]
    return [f"{name}: the file cannot be read" for name, path in files if not os.access(path, os.R_OK)]
