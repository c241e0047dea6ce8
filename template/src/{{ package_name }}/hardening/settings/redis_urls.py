"""URLs of Redis as providers write them: accepted, mapped, or refused with what to write instead.

Without a connection; no sentence holds a part of a URL but the names of its parameters.
"""

from __future__ import annotations

from ssl import TLSVersion
from urllib.parse import urlencode

from .urls import ENCODE, InvalidUrlError, addresses, bare, parameters, split

SCHEMES = frozenset({"redis", "rediss", "unix"})
MUST_START = "must start with redis://, rediss:// or unix://, e.g. rediss://host:6379/0"
NUMBERS = frozenset({"db", "health_check_interval", "socket_connect_timeout", "socket_timeout", "port"})
FRACTIONS = frozenset({"socket_connect_timeout", "socket_timeout"})
TLS = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
KNOWN = frozenset({"client_name", "socket_keepalive", "username", "password", "host", "path", "encoding", "protocol"})
# Of clients of other languages.
WITHOUT_EFFECT = frozenset({"family"})
VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}


def redis_url(url: str) -> str:
    """Return a Redis URL as its client reads it.

    Raises:
        InvalidUrlError: It cannot be used; says what to write instead.
    """
    scheme, found, rest = bare(url).partition("://")
    scheme = scheme.lower()
    if "sentinel" in scheme:
        raise InvalidUrlError("Sentinel is not supported; write the address that always leads to the primary")
    if "cluster" in scheme:
        raise InvalidUrlError("write redis:// or rediss:// and the address of one node: it names the others")
    scheme = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
    if not found or scheme not in SCHEMES:
        raise InvalidUrlError(MUST_START)
    parts = split(f"{scheme}://{rest}")
    if scheme != "unix" and not parts.netloc:
        raise InvalidUrlError(ENCODE)
    if len(addresses(parts)) > 1:
        raise InvalidUrlError("write one address; of a cluster one node, which names the others")
    given = parameters(parts)
    kept = [(name, _value(scheme, name, value)) for name, value in given if name not in WITHOUT_EFFECT]
    if kept != given:
        rest = rest.partition("?")[0] + (f"?{urlencode(kept)}" if kept else "")
    number = parts.path.strip("/")
    if scheme != "unix" and number and not number.isdecimal():
        raise InvalidUrlError("what follows the address must be the number of a database, e.g. /0")
    return f"{scheme}://{rest}"


def _value(scheme: str, name: str, value: str) -> str:
    if name in {"ssl", "tls"}:
        raise InvalidUrlError(f"{name}: write rediss:// instead, and leave it out")
    if name in TLS or name in {"ssl_check_hostname", "ssl_min_version"}:
        return _tls_value(scheme, name, value)
    if name not in KNOWN | NUMBERS:
        raise InvalidUrlError(f"{name}: not known; leave it out")
    if name in NUMBERS and not value.replace(".", "", 1 if name in FRACTIONS else 0).isdecimal():
        raise InvalidUrlError(f"{name}: must be a number")
    if name == "protocol" and value not in {"2", "3"}:
        raise InvalidUrlError("protocol: must be 2 or 3")
    return value


def _tls_value(scheme: str, name: str, value: str) -> str:
    if scheme != "rediss":
        raise InvalidUrlError(f"{name}: write rediss:// for TLS, or leave it out")
    if name == "ssl_cert_reqs":
        value = value.lower().removeprefix("cert_")
        if value not in {"none", "optional", "required"}:
            raise InvalidUrlError("ssl_cert_reqs: must be none, optional or required")
    if name == "ssl_min_version":
        version = VERSIONS.get(value.lower().removeprefix("tls").removeprefix("v").replace("_", "."))
        if version is None:
            raise InvalidUrlError("ssl_min_version: must be 1.2 or 1.3")
        value = str(int(version))
    return value
