"""A tool without a WHERE sees the rows of its tenant: the session says who is calling, for each transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import asyncpg
import pytest
from live import ENVIRONMENT, Live, settings_from
from pydantic import Field
from support.pgbouncer import PGBOUNCER, pgbouncer
from wire import ERAS, Era, Wire

from hardening import Context, connection, harden, tool

if TYPE_CHECKING:
    from collections.abc import Generator

KEYS = {name: f"{name}-0123456789-0123456789-0123456789" for name in ("ann", "abe", "bob", "eve")}
TENANTS = "ann=acme,abe=acme,bob=beta"
SCHEMA = """
DROP TABLE IF EXISTS tenant_notes;
CREATE TABLE tenant_notes (tenant text NOT NULL DEFAULT current_setting('mcp.tenant'),
                           owner text NOT NULL DEFAULT current_setting('mcp.principal'), body text NOT NULL);
ALTER TABLE tenant_notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_notes FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON tenant_notes
  USING (tenant = current_setting('mcp.tenant', true) AND tenant <> '')
  WITH CHECK (tenant = current_setting('mcp.tenant', true) AND tenant <> '');
DROP ROLE IF EXISTS tenant_app;
CREATE ROLE tenant_app LOGIN;
GRANT SELECT, INSERT ON tenant_notes TO tenant_app;
"""


@tool(read_only=False)
async def write(body: Annotated[str, Field(max_length=100)], ctx: Context) -> str:
    """Keep a note for the tenant that calls."""
    async with connection(ctx) as db:
        await db.execute("INSERT INTO tenant_notes (body) VALUES ($1)", body)
    return "kept"


@tool(read_only=True)
async def read(ctx: Context) -> list[list[str]]:
    """List every note, without a WHERE in the statement."""
    async with connection(ctx) as db:
        return [[row["tenant"], row["owner"], row["body"]] for row in await db.fetch("SELECT * FROM tenant_notes")]


@pytest.fixture
async def url(database_url: str) -> Any:
    """A database with rows of tenants, and the URL of a role that is bound by their rules."""
    admin = await asyncpg.connect(database_url)
    await admin.execute(SCHEMA)
    yield database_url.replace("postgres:@", "tenant_app:@").replace("postgres@", "tenant_app@")
    await admin.execute("DROP TABLE tenant_notes; DROP ROLE tenant_app")
    await admin.close()


@contextmanager
def serving(url: str, **environment: str) -> Generator[Live]:
    """Serve with keys of three tenants, one of them none."""
    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    given = {"MCP_API_KEYS": keys, "MCP_API_KEY_TENANTS": TENANTS, "DATABASE_URL": url}
    settings = settings_from(ENVIRONMENT | given | environment)
    with Live(settings, lambda settings: harden(settings, tools=(write, read))) as live:
        yield live


async def called(live: Live, era: Era, who: str, name: str, **arguments: str) -> Any:
    """Call a tool with somebody's key."""
    async with Wire(live.url, KEYS[who]) as wire:
        return (await wire.ask(era, "tools/call", {"name": name, "arguments": arguments})).result


@pytest.mark.parametrize("bouncer", [False, True], ids=["direct", "pgbouncer"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_without_a_where_sees_its_tenant_only(url: str, era: Era, *, bouncer: bool) -> None:
    """Two keys of one tenant share rows, another tenant and a caller without one see none of them."""
    if bouncer:
        assert PGBOUNCER, "pgbouncer is needed"
    with (
        pgbouncer(url, user="tenant_app") if bouncer else nullcontext(url) as address,
        serving(address, MCP_DATABASE_PGBOUNCER=str(int(bouncer))) as live,
    ):
        for who in ("ann", "bob"):
            assert not (await called(live, era, who, "write", body=f"of {who}")).get("isError")
        assert (await called(live, era, "eve", "write", body="of nobody"))["isError"]
        # Many at once, so that connections are shared between tenants.
        callers = ["ann", "abe", "bob", "eve"] * 5
        results = await asyncio.gather(*(called(live, era, who, "read") for who in callers))

    seen: Counter[tuple[str, str]] = Counter()
    for who, result in zip(callers, results, strict=True):
        seen[who, str(result["structuredContent"]["result"])] += 1
    assert seen == {
        ("ann", "[['acme', 'api_key ann', 'of ann']]"): 5,
        ("abe", "[['acme', 'api_key ann', 'of ann']]"): 5,
        ("bob", "[['beta', 'api_key bob', 'of bob']]"): 5,
        ("eve", "[]"): 5,
    }
