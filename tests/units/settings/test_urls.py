"""URLs as providers give them: each is accepted, mapped, or refused with the parameter's name and the cure."""

from __future__ import annotations

from typing import Any

import pytest

from hardening.settings.urls import InvalidUrlError, database_target, redis_url, shown_url

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
}
REFUSED = {
    "postgresql://u:p@ss/w:rd#1@h/db": "percent-encode",
    "postgresql://u:p/w@h/db": "percent-encode",
    "postgresql://u:p?w@h/db": "percent-encode",
    "postgresql://u:p#w@h/db": "percent-encode",
    "postgresql://u:p w@h/db": "percent-encode",
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


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    """User, password, query and fragment are left out, also when the password was not encoded."""
    assert shown_url("https://u:p@ss/w#1@h.example/path?key=1#x") == "https://h.example/path?********"
    assert shown_url("no url") == "no url"
