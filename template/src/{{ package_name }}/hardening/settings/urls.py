"""URLs of PostgreSQL and Redis as providers write them: accepted, mapped, or refused with what to write instead.

Without a connection; no sentence holds a part of a URL but the names of its parameters.
"""

from __future__ import annotations

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
REDIS = frozenset(
    {"db", "protocol", "client_name", "health_check_interval", "socket_connect_timeout", "socket_timeout"}
    | {"socket_keepalive", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
    | {"ssl_check_hostname", "ssl_min_version", "username", "password", "host", "port", "path", "encoding"}
)


# Of clients of other languages.
REDIS_WITHOUT_EFFECT = frozenset({"family"})


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


def database_target(url: str, *, pgbouncer: bool = False) -> DatabaseTarget:
    """Return how to connect to PostgreSQL.

    Raises:
        InvalidUrlError: It cannot be used; says what to write instead.
    """
    scheme, found, rest = url.partition("://")
    # What SQLAlchemy adds: postgresql+asyncpg.
    scheme = scheme.partition("+")[0]
    if not found or scheme not in {"postgresql", "postgres"}:
        raise InvalidUrlError("must start with postgresql:// or postgres://")
    parts = _split(f"{scheme}://{rest}")
    target = DatabaseTarget("")
    kept: dict[str, str] = {}
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in given.items():
        _place(name, value, target, kept)
    if kept.get("sslmode", "require") not in SSLMODES:
        raise InvalidUrlError("sslmode: must be disable, require, verify-ca or verify-full")
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
        target.pooled = value.lower() in {"true", "1", "on"}
    elif lower in {"schema", "currentschema"}:
        target.session["search_path"] = value
    elif lower == "ssl":
        kept["sslmode"] = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)
    elif lower in SESSION:
        target.session[lower] = value
    elif lower in DRIVER:
        kept[lower] = value
    elif lower not in WITHOUT_EFFECT:
        raise InvalidUrlError(f"{name}: not known; leave it out, or set it for the user: ALTER ROLE … SET")


def _secure(target: DatabaseTarget, kept: dict[str, str], *, channel_binding: str) -> None:
    if channel_binding == "require":
        # The driver cannot bind; checking who answers prevents the same attack.
        kept["sslmode"] = "verify-full"
    if kept.get("sslrootcert") == "system" or (channel_binding == "require" and "sslrootcert" not in kept):
        kept.pop("sslrootcert", None)
        kept.pop("sslmode", None)
        target.system_roots = True


def redis_url(url: str) -> str:
    """Return a Redis URL as its client reads it.

    Raises:
        InvalidUrlError: It cannot be used; says what to write instead.
    """
    scheme, found, rest = url.partition("://")
    if "sentinel" in scheme:
        raise InvalidUrlError("Sentinel is not supported; write the address that always leads to the primary")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    if not found or scheme not in {"redis", "rediss", "unix"}:
        raise InvalidUrlError("must start with redis://, rediss:// or unix://")
    parts = _split(f"{scheme}://{rest}", host=scheme != "unix")
    given = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, _redis_value(name, value)) for name, value in given if name not in REDIS_WITHOUT_EFFECT]
    if kept != given:
        rest = rest.partition("?")[0] + (f"?{urlencode(kept)}" if kept else "")
    number = parts.path.strip("/")
    if scheme != "unix" and number and not number.isdigit():
        raise InvalidUrlError("what follows the address must be the number of a database, e.g. /0")
    return f"{scheme}://{rest}"


def _redis_value(name: str, value: str) -> str:
    if name in {"ssl", "tls"}:
        raise InvalidUrlError(f"{name}: write rediss:// instead, and leave it out")
    if name not in REDIS:
        raise InvalidUrlError(f"{name}: not known; leave it out")
    if name == "db" and not value.isdigit():
        raise InvalidUrlError("db: must be a number")
    if name == "ssl_cert_reqs":
        value = value.lower().removeprefix("cert_")
        if value not in {"none", "optional", "required"}:
            raise InvalidUrlError("ssl_cert_reqs: must be none, optional or required")
    return value


def _split(url: str, *, host: bool = False) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidUrlError(ENCODE) from None
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [one.rpartition(":")[2] for one in hosts if ":" in one and not one.endswith("]")]
    if any(port and not port.isdigit() for port in ports):
        raise InvalidUrlError(ENCODE)
    # A special character ends the address too early: what is left of the password looks like a path or a fragment.
    if "@" in parts.path or "#" in url or (host and not parts.netloc):
        raise InvalidUrlError(ENCODE)
    if "@" in parts.query and parts.username is None:
        raise InvalidUrlError(ENCODE)
    if any(character.isspace() for character in url):
        raise InvalidUrlError(ENCODE)
    return parts


def shown_url(url: str) -> str:
    """Return a URL without user, password and fragment, its query masked."""
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    # Whatever stands before the last @ may be a password that was not encoded.
    address = rest.rpartition("@")[2]
    place, mark, _ = address.partition("#")[0].partition("?")
    return f"{scheme}://{place}" + (f"?{MASK}" if mark else "")
