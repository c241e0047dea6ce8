"""URLs of PostgreSQL as providers write them: accepted, mapped, or refused with what to write instead.

Without a connection; no sentence holds a part of a URL but the names of its parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

MASK = "********"
ENCODE = "percent-encode what is special in user and password: @ is %40, / is %2F, # is %23, ? is %3F, % is %25"
# Of the library that connects.
DRIVER = frozenset(
    {"host", "port", "user", "password", "dbname", "passfile", "sslmode", "sslcert", "sslkey", "sslpassword"}
    | {"sslrootcert", "sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"}
    | {"krbsrvname", "gsslib"}
)
# Settings of a session, which the server takes with the connection.
SESSION = frozenset(
    {"application_name", "client_encoding", "datestyle", "extra_float_digits", "jit", "options", "role", "timezone"}
    | {"idle_in_transaction_session_timeout", "lock_timeout", "search_path", "statement_timeout", "work_mem"}
    | {"default_transaction_isolation", "default_transaction_read_only", "intervalstyle"}
)
# What has no effect here: the deadlines of this server are the shorter ones.
WITHOUT_EFFECT = frozenset(
    {"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
    | {"tcp_user_timeout", "gssencmode", "sslcompression", "sslsni", "sslnegotiation", "fallback_application_name"}
    | {"statement_cache_size", "socket_timeout", "sslaccept", "channel_binding"}
    # Of drivers of other languages, and of what providers put into the URLs that they hand out.
    | {"prepared_statement_cache_size", "preparethreshold", "uselibpqcompat", "supa", "gssdelegation"}
    | {"load_balance_hosts", "hostrecheckseconds", "tcpkeepalive"}
)
SSLMODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
SESSION_ATTRIBUTES = frozenset({"any", "primary", "standby", "read-write", "read-only", "prefer-standby"})
TLS_VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
LARGEST_PORT = 65_535
# What can be told: anything else may be what a password that was not encoded has left behind.
CREDENTIALS = frozenset({"user", "username", "password"})
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
INSTEAD = {
    "connection_limit": "set MCP_POOL_MAX_SIZE instead",
    "pool_size": "set MCP_POOL_MAX_SIZE instead",
    "max_pool_size": "set MCP_POOL_MAX_SIZE instead",
    "min_pool_size": "set MCP_POOL_MIN_SIZE instead",
    "pool_timeout": "set MCP_POOL_ACQUIRE_TIMEOUT_SECONDS instead",
    "pool_mode": "set MCP_DATABASE_PGBOUNCER instead",
    "hostaddr": "write the address as the host",
    "service": "write host, port and name into the URL",
}


class InvalidUrlError(ValueError):
    """A sentence that holds nothing of the value that broke it."""


@dataclass(slots=True)
class DatabaseTarget:
    """How to connect.

    Attributes:
        dsn: What the driver reads.
        system_roots: Whether the certificate is checked against the authorities of this machine.
        pooled: Whether the URL says that PgBouncer answers.
        session: Settings of the session.
    """

    dsn: str
    system_roots: bool = False
    pooled: bool = False
    session: dict[str, str] = field(default_factory=dict[str, str])


def bare(url: str) -> str:
    """Return a URL without what is pasted around it: blanks, line ends, a pair of quotes."""
    url = url.strip()
    return url[1:-1].strip() if len(url) > 1 and url[0] in {'"', "'"} and url[0] == url[-1] else url


def database_target(url: str, *, pgbouncer: bool = False) -> DatabaseTarget:
    """Return how to connect to PostgreSQL.

    Raises:
        InvalidUrlError: It cannot be used; says what to write instead.
    """
    scheme, found, rest = bare(url).partition("://")
    # What SQLAlchemy adds: postgresql+asyncpg.
    scheme = scheme.partition("+")[0].lower()
    if not found or scheme not in {"postgresql", "postgres"}:
        raise InvalidUrlError("must start with postgresql:// or postgres://, e.g. postgresql://user:password@host/name")
    parts = split(f"{scheme}://{rest}")
    if parts.netloc.count("@") > 1:
        # The driver would take the rest of a password for a host, and ask for it by name.
        raise InvalidUrlError(ENCODE)
    if not all(addresses(parts)):
        raise InvalidUrlError("a host is missing beside a comma")
    target = DatabaseTarget("")
    kept: dict[str, str] = {}
    given = dict(parameters(parts))
    for name, value in given.items():
        _place(name, value, target, kept)
    _check(kept)
    _secure(target, kept, channel_binding=given.get("channel_binding", ""))
    if (pgbouncer or target.pooled) and (kept_back := sorted(target.session.keys() - {"application_name"})):
        raise InvalidUrlError(f"{kept_back[0]}: PgBouncer does not hand it on; set it for the user: ALTER ROLE … SET")
    target.dsn = f"{scheme}://{rest.partition('?')[0]}" + (f"?{urlencode(kept)}" if kept else "")
    return target


def _place(name: str, value: str, target: DatabaseTarget, kept: dict[str, str]) -> None:
    lower = name.lower()
    if lower in INSTEAD:
        raise InvalidUrlError(f"{name}: {INSTEAD[lower]}")
    if lower == "pgbouncer":
        target.pooled = value.lower() in {"true", "1", "on", "yes"}
    elif lower in {"schema", "currentschema"}:
        target.session["search_path"] = value
    elif lower == "ssl":
        value = value.lower()
        kept["sslmode"] = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)
    elif lower in SESSION:
        target.session[lower] = value
    elif lower in DRIVER:
        kept[lower] = value.lower() if lower in {"sslmode", "target_session_attrs"} else value
    elif lower not in WITHOUT_EFFECT:
        if not value:
            raise InvalidUrlError(ENCODE)
        raise InvalidUrlError(f"{name}: not known; leave it out, or set it for the user: ALTER ROLE … SET")


def _check(kept: dict[str, str]) -> None:
    """Refuse what the driver would refuse with a text of its own, or take for something else."""
    if kept.get("sslmode", "require") not in SSLMODES:
        raise InvalidUrlError("sslmode: must be disable, require, verify-ca or verify-full")
    if kept.get("target_session_attrs", "any") not in SESSION_ATTRIBUTES:
        raise InvalidUrlError(f"target_session_attrs: must be one of {', '.join(sorted(SESSION_ATTRIBUTES))}")
    if not kept.get("port", "1").replace(",", "").isdecimal():
        raise InvalidUrlError("port: must be a number")
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if kept.get(name, "TLSv1.2") not in TLS_VERSIONS:
            raise InvalidUrlError(f"{name}: must be TLSv1.2 or TLSv1.3")


def _secure(target: DatabaseTarget, kept: dict[str, str], *, channel_binding: str) -> None:
    if channel_binding == "require":
        # The driver cannot bind; checking who answers prevents the same attack.
        kept["sslmode"] = "verify-full"
    if kept.get("sslrootcert") == "system" or (channel_binding == "require" and "sslrootcert" not in kept):
        kept.pop("sslrootcert", None)
        kept.pop("sslmode", None)
        target.system_roots = True


def split(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        InvalidUrlError: Something special in it is not encoded, or the address cannot be one.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidUrlError(ENCODE) from None
    # A special character ends the address too early: what is left of the password looks like a path or a fragment.
    if "@" in parts.path or "#" in url or any(character.isspace() for character in url):
        raise InvalidUrlError(ENCODE)
    if "@" in parts.query and parts.username is None:
        raise InvalidUrlError(ENCODE)
    for address in addresses(parts):
        port = address.rpartition("]")[2].partition(":")[2]
        if ":" in port:
            raise InvalidUrlError("write an IPv6 address in brackets, e.g. [::1]; else " + ENCODE)
        if port and not port.isdecimal():
            raise InvalidUrlError(ENCODE)
        if port and not 0 < int(port) <= LARGEST_PORT:
            raise InvalidUrlError(f"the port must be 1 to {LARGEST_PORT}")
    return parts


def addresses(parts: SplitResult) -> list[str]:
    """Return each host with its port."""
    address = parts.netloc.rpartition("@")[2]
    return address.split(",") if address else []


def parameters(parts: SplitResult) -> list[tuple[str, str]]:
    """Return the parameters of a URL.

    Raises:
        InvalidUrlError: One of them may be what is left of a password, and is not told.
    """
    given = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in given:
        cut_off = "@" in parts.query and "@" in value and name.lower() not in CREDENTIALS
        if cut_off or not _PARAMETER.fullmatch(name):
            raise InvalidUrlError(ENCODE)
    return given


def shown_url(url: str) -> str:
    """Return a URL without user, password and fragment, its query masked."""
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    # Whatever stands before the last @ may be a password that was not encoded.
    address = rest.rpartition("@")[2]
    place, mark, _ = address.partition("#")[0].partition("?")
    return f"{scheme}://{place}" + (f"?{MASK}" if mark else "")
