"""URLs as providers give them: each is accepted, mapped, or refused with the parameter's name and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, TypeAdapter
from redis.asyncio import ConnectionPool

from hardening.settings import DatabaseUrl, HardeningSettings, RedisUrl, SecretUrl, certificates
from hardening.settings.checks import problems
from hardening.settings.redis_urls import redis_url
from hardening.settings.urls import InvalidUrlError, bare, database_target, shown_url

if TYPE_CHECKING:
    from pathlib import Path

# What people paste: (URL, what the driver gets, further attributes).
DATABASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Neon": (
        "postgresql://u:p@ep-a-pooler.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require",
        "postgresql://u:p@ep-a-pooler.eu-central-1.aws.neon.tech/db",
        {"system_roots": True},
    ),
    "Supabase direct": (
        "postgresql://postgres:p@db.ref.supabase.co:5432/postgres",
        "postgresql://postgres:p@db.ref.supabase.co:5432/postgres",
        {},
    ),
    "Supabase pooler with Prisma's word": (
        "postgres://postgres.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true",
        "postgres://postgres.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres",
        {"pooled": True},
    ),
    "RDS": (
        "postgresql://u:p@db.x.eu-central-1.rds.amazonaws.com:5432/db?sslmode=verify-full&sslrootcert=/ca.pem",
        "postgresql://u:p@db.x.eu-central-1.rds.amazonaws.com:5432/db?sslmode=verify-full&sslrootcert=%2Fca.pem",
        {},
    ),
    "Cloud SQL": (
        "postgresql://u:p@/db?host=/cloudsql/project:region:instance",
        "postgresql://u:p@/db?host=%2Fcloudsql%2Fproject%3Aregion%3Ainstance",
        {},
    ),
    "Azure": (
        "postgres://u%40server:p@server.postgres.database.azure.com:5432/db?sslmode=require",
        "postgres://u%40server:p@server.postgres.database.azure.com:5432/db?sslmode=require",
        {},
    ),
    "Heroku": ("postgres://u:p@ec2-1.compute-1.amazonaws.com:5432/db", "", {}),
    "Fly": ("postgres://u:p@app-db.flycast:5432/db?sslmode=disable", "", {}),
    "Railway": ("postgresql://postgres:p@postgres.railway.internal:5432/railway", "", {}),
    "SQLAlchemy": ("postgresql+asyncpg://u:p@h/db?ssl=require", "postgresql://u:p@h/db?sslmode=require", {}),
    "libpq's system roots": (
        "postgresql://u:p@h/db?sslmode=verify-full&sslrootcert=system",
        "postgresql://u:p@h/db",
        {"system_roots": True},
    ),
    "keep-alive of libpq": (
        "postgresql://u@h/db?connect_timeout=10&keepalives=1&keepalives_idle=30&tcp_user_timeout=9",
        "postgresql://u@h/db",
        {},
    ),
    "Prisma's schema": ("postgresql://u@h/db?schema=app", "postgresql://u@h/db", {"session": {"search_path": "app"}}),
    "options": (
        "postgresql://u@h/db?options=-c%20search_path%3Dapp",
        "postgresql://u@h/db",
        {"session": {"options": "-c search_path=app"}},
    ),
    "two hosts": (
        "postgresql://u:p@one:5432,two:5433/db?target_session_attrs=primary",
        "postgresql://u:p@one:5432,two:5433/db?target_session_attrs=primary",
        {},
    ),
    "CockroachDB": (
        "postgresql://u:p@x.aws-eu-1.cockroachlabs.cloud:26257/db?sslmode=verify-full&options=--cluster%3Dname-1",
        "postgresql://u:p@x.aws-eu-1.cockroachlabs.cloud:26257/db?sslmode=verify-full",
        {"session": {"options": "--cluster=name-1"}},
    ),
    "Neon without SNI": (
        "postgresql://u:p@ep-a.neon.tech/db?sslmode=require&options=endpoint%3Dep-a",
        "postgresql://u:p@ep-a.neon.tech/db?sslmode=require",
        {"session": {"options": "endpoint=ep-a"}},
    ),
    "Supabase by way of Vercel": (
        "postgres://u.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres?sslmode=require&supa=base-pooler.x",
        "postgres://u.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres?sslmode=require",
        {},
    ),
    "JDBC's words": (
        "postgresql://u@h/db?currentSchema=app&ssl=1&prepareThreshold=0",
        "postgresql://u@h/db?sslmode=require",
        {"session": {"search_path": "app"}},
    ),
    "psycopg by way of SQLAlchemy": ("postgresql+psycopg2://u:p@h/db", "postgresql://u:p@h/db", {}),
    "encoded": ("postgresql://u:p%40ss%2Fw%3Ard%231@h/db", "postgresql://u:p%40ss%2Fw%3Ard%231@h/db", {}),
    "IPv6": ("postgresql://u:p@[::1]:5432/db", "", {}),
    "two hosts of IPv6": ("postgresql://u:p@[::1]:5432,[2001:db8::1]/db", "", {}),
    "socket in the host": ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", "", {}),
    "a line end, as of echo": ("postgresql://u:p@h/db\n", "postgresql://u:p@h/db", {}),
    "blanks around it": (" postgresql://u:p@h/db ", "postgresql://u:p@h/db", {}),
    "quotes of a file that is no shell's": ('"postgresql://u:p@h/db"', "postgresql://u:p@h/db", {}),
    "single quotes": ("'postgresql://u:p@h/db'", "postgresql://u:p@h/db", {}),
    "capitals": ("POSTGRESQL://u:p@h/db?sslmode=REQUIRE", "postgresql://u:p@h/db?sslmode=require", {}),
    "Prisma's word in another form": ("postgresql://u@h/db?pgbouncer=yes", "postgresql://u@h/db", {"pooled": True}),
    "user and password as parameters": (
        "postgresql://h/db?user=u%40server&password=p%40ss",
        "postgresql://h/db?user=u%40server&password=p%40ss",
        {},
    ),
    "standby is enough": (
        "postgresql://u@one,two/db?target_session_attrs=Prefer-Standby",
        "postgresql://u@one,two/db?target_session_attrs=prefer-standby",
        {},
    ),
}
REFUSED = {
    "postgresql://u:p@ss/w:rd#1@h/db": "percent-encode",
    "postgresql://u:p/w@h/db": "percent-encode",
    "postgresql://u:p?w@h/db": "percent-encode",
    "postgresql://u:p#w@h/db": "percent-encode",
    "postgresql://u:p w@h/db": "percent-encode",
    "postgresql://u:p@w@h/db": "percent-encode",
    "postgresql://u:p@?w:rd@h/db": "percent-encode",
    "postgresql://u:p@?w:rd=x@h/db": "percent-encode",
    "postgresql://u:p@?word=x@h": "percent-encode",
    "postgresql://u:p@h?word": "percent-encode",
    "postgresql://u:p[w@h/db": "percent-encode",
    "postgresql://u:p@2001:db8::1:5432/db": "in brackets",
    "postgresql://u:p@h:99999/db": "the port must be 1 to 65535",
    "postgresql://u:p@h:0/db": "the port must be 1 to 65535",
    "postgresql://u:p@one,/db": "a host is missing",
    "postgresql://u@/db?host=one&port=x": "port: must be a number",
    "postgresql://u@h/db?target_session_attrs=readwrite": "target_session_attrs: must be one of",
    "postgresql://u@h/db?ssl_min_protocol_version=1.2": "ssl_min_protocol_version: must be TLSv1.2",
    "psql 'postgresql://u:p@h/db'": "postgresql://user:password@host/name",
    "host=h user=u password=p": "postgresql://user:password@host/name",
    "mysql://u@h/db": "postgresql://",
    "jdbc:postgresql://h/db": "postgresql://",
    "postgresql://u@h/db?connection_limit=5": "connection_limit: set MCP_POOL_MAX_SIZE",
    "postgresql://u@h/db?pool_timeout=5": "pool_timeout: set MCP_POOL_ACQUIRE_TIMEOUT_SECONDS",
    "postgresql://u@h/db?pool_size=5": "pool_size: set MCP_POOL_MAX_SIZE",
    "postgresql://u@h/db?pool_mode=transaction": "pool_mode: set MCP_DATABASE_PGBOUNCER",
    "postgresql://u@h/db?sslmode=no-verify": "sslmode: must be disable, require",
    "postgresql://u@h/db?require_auth=scram-sha-256": "require_auth: not known",
    "postgresql://u@h/db?surprise=1": "surprise: not known",
    "postgresql://u@h/db?pgbouncer=true&options=-cx=1": "options: PgBouncer",
    "postgresql://u@h/db?pgbouncer=true&schema=app": "search_path: PgBouncer",
}
REDIS = {
    "Upstash": ("rediss://default:p@eu1-x.upstash.io:6379", "rediss://default:p@eu1-x.upstash.io:6379"),
    "ElastiCache": ("rediss://master.x.cache.amazonaws.com:6379/0", "rediss://master.x.cache.amazonaws.com:6379/0"),
    "Heroku": ("rediss://:p@ec2-1.amazonaws.com:6380?ssl_cert_reqs=none", ""),
    "Railway": ("redis://default:p@redis.railway.internal:6379", ""),
    "ioredis": (
        "redis://default:p@redis.railway.internal:6379?family=0",
        "redis://default:p@redis.railway.internal:6379",
    ),
    "Celery": ("rediss://:p@h:6380/1?ssl_cert_reqs=CERT_REQUIRED", "rediss://:p@h:6380/1?ssl_cert_reqs=required"),
    "Valkey": ("valkey://h:6379/1", "redis://h:6379/1"),
    "Valkey with TLS": ("valkeys://u:p@h:6379", "rediss://u:p@h:6379"),
    "socket": ("unix:///run/redis.sock?db=1", ""),
    "quotes and a line end": ('"redis://u:p@h:6379"\n', "redis://u:p@h:6379"),
    "capitals": ("REDISS://u:p@h:6379", "rediss://u:p@h:6379"),
    "user without a password": ("redis://user@h:6379", ""),
    "IPv6": ("redis://[::1]:6379/0", ""),
    "half a second": ("redis://h:6379?socket_timeout=0.5", ""),
    "TLS at least": ("rediss://h:6379?ssl_min_version=TLSv1_2", "rediss://h:6379?ssl_min_version=771"),
}
REDIS_REFUSED = {
    "redis://:pa#ss@h": "percent-encode",
    "redis://:pa/ss@h": "percent-encode",
    "redis://default:12#ss@h": "percent-encode",
    "redis+sentinel://h:26379/primary": "Sentinel",
    "redis://h:6379?ssl=true": "ssl: write rediss://",
    "rediss://h:6379?ssl_cert_reqs=maybe": "ssl_cert_reqs: must be none, optional or required",
    "redis://h:6379?surprise=1": "surprise: not known",
    "redis://h:6379/name": "number of a database",
    "redis://h:port": "percent-encode",
    "http://h:6379": "redis://",
    "https://eu1-x.upstash.io": "redis://",
    "h:6379,password=p,ssl=True": "redis://",
    "redis-cli --tls -u redis://default:p@h:6379": "redis://",
    "redis+cluster://u:p@h:6379": "the address of one node",
    "redis://one:6379,two:6379": "write one address",
    "redis://::1:6379/0": "in brackets",
    "redis://h:99999": "the port must be 1 to 65535",
    "redis://h:6379?ssl_cert_reqs=none": "ssl_cert_reqs: write rediss://",
    "redis://h:6379?protocol=4": "protocol: must be 2 or 3",
    "redis://h:6379?health_check_interval=often": "health_check_interval: must be a number",
    "rediss://h:6379?ssl_min_version=1.0": "ssl_min_version: must be 1.2 or 1.3",
}


@pytest.mark.parametrize("provider", DATABASES)
def test_a_database_url_of_a_provider_is_read(provider: str) -> None:
    """What the driver does not know is mapped or left out, and nothing that protects is lost."""
    url, dsn, attributes = DATABASES[provider]
    target = database_target(url)
    assert target.dsn == (dsn or url)
    assert target.system_roots is attributes.get("system_roots", False)
    assert target.pooled is attributes.get("pooled", False)
    assert target.session == attributes.get("session", {})


@pytest.mark.parametrize("url", REFUSED)
def test_a_database_url_is_refused_with_the_cure(url: str) -> None:
    """The sentence names the parameter or the rule, and holds nothing else of the URL."""
    with pytest.raises(InvalidUrlError, match=REFUSED[url]) as rule:
        database_target(url)
    assert "w:rd" not in str(rule.value)
    assert not str(rule.value).startswith("word")


def test_what_pgbouncer_does_not_hand_on_is_refused() -> None:
    """With the setting as with the word in the URL."""
    assert database_target("postgresql://u@h/db?application_name=x", pgbouncer=True).session == {
        "application_name": "x"
    }
    with pytest.raises(InvalidUrlError, match="ALTER ROLE"):
        database_target("postgresql://u@h/db?options=-cx=1", pgbouncer=True)


@pytest.mark.parametrize("provider", REDIS)
def test_a_redis_url_of_a_provider_is_read(provider: str) -> None:
    """As its client reads it."""
    url, wanted = REDIS[provider]
    assert redis_url(url) == (wanted or url)


@pytest.mark.parametrize("url", REDIS_REFUSED)
def test_a_redis_url_is_refused_with_the_cure(url: str) -> None:
    """In one sentence, without the password."""
    with pytest.raises(InvalidUrlError, match=REDIS_REFUSED[url]) as rule:
        redis_url(url)
    assert "pa" not in str(rule.value).partition("percent-encode")[0]


@pytest.mark.parametrize("url", [one[1] or one[0] for one in REDIS.values()])
def test_what_is_accepted_its_client_can_use(url: str) -> None:
    """No URL of Redis that is accepted fails for its form when the first connection is made."""
    pool = ConnectionPool.from_url(url)
    pool.make_connection()


def test_settings_hold_a_url_without_what_was_pasted_around_it() -> None:
    """What a tool of the author's gets is the URL alone."""
    kinds: list[tuple[Any, str]] = [
        (DatabaseUrl, "postgresql://u:p@h/db"),
        (RedisUrl, "redis://u:p@h"),
        (SecretUrl, "https://u:p@h/x"),
    ]
    for kind, url in kinds:
        assert TypeAdapter[SecretStr](kind).validate_python(f" '{url}'\n").get_secret_value() == url
    assert bare('"') == '"'


FILE = {
    "sslmode=verify-full&sslrootcert=/none.pem": ["sslrootcert: the file cannot be read"],
    "sslmode=verify-full": [certificates.CURE],
    "sslmode=require&sslcert=/none.pem&sslkey=/none.key": [
        "sslcert: the file cannot be read",
        "sslkey: the file cannot be read",
    ],
    "sslmode=verify-full&sslrootcert=system": [],
    "sslmode=require": [],
}


@pytest.mark.parametrize("query", FILE)
def test_a_certificate_that_cannot_be_read_is_refused(
    query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At start, by the name of the parameter, instead of a server that waits for what never comes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:p@h/db?{query}")
    monkeypatch.setenv("REDIS_URL", "rediss://h?ssl_ca_certs=/none.pem")
    redis = [("redis_url", "ssl_ca_certs: the file cannot be read")]
    told = [one for one in problems(HardeningSettings()) if one[0] in {"redis_url", "database_url"}]
    assert told == redis + [("database_url", one) for one in FILE[query]]


def test_the_usual_place_of_an_authority_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the driver looks there when the URL names no file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/db?sslmode=verify-ca")
    monkeypatch.delenv("REDIS_URL", raising=False)
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_text("-")
    assert certificates.certificate_problems(HardeningSettings()) == []


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    """User, password, query and fragment are left out, also when the password was not encoded."""
    assert shown_url("https://u:p@ss/w#1@h.example/path?key=1#x") == "https://h.example/path?********"
    assert shown_url("no url") == "no url"
