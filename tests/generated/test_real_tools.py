"""A project with twelve usual parts, written as docs/tools.md says, keeps the promises of the hardening."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult, TextResourceContents
from support.harness import DEFAULT, ROOT, run, tool
from support.installed import pretend
from support.postgres import Postgres
from support.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from support.harness import Template

SOURCE = ROOT / "tests/support/real_tools"
MODES = {"modern": "2026-07-28", "legacy": "legacy"}
KEYS = {name: f"{name}-0123456789-0123456789-0123456789" for name in ("alice", "amy", "bob", "ben")}
TENANTS = {"alice": "acme", "amy": "acme", "bob": "other", "ben": "other"}
PROBE_KEY = "probe-0123456789-0123456789-0123456789"
TOKEN = "token-of-the-rates-0123456789"  # noqa: S105 - to be looked for
HOOK = "hook-0123456789"
SECONDS = 30.0
HELD = ("mcp_threads_busy ", "mcp_background_tasks ", "mcp_pool_waiting ")
CSV = {"text": "name,city\nAda,Rome\n"}
SAFE: list[tuple[str, dict[str, Any]]] = [
    ("add_note", {"body": "a note to keep"}),
    ("classify", {"text": "where is my parcel"}),
    ("convert_csv", CSV),
    ("exchange_rate", {"currency": "EUR"}),
    ("import_articles", {"articles": [{"title": f"umbrella {number}"} for number in range(60)]}),
    ("list_notes", {}),
    ("place_order", {"item": "tea", "amount": 3}),
    ("sales_report", {}),
    ("search_articles", {"query": "umbrella"}),
]


@pytest.fixture(scope="module")
def project(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project with the author's files in place of the examples."""
    project = template.project(DEFAULT, tmp_path_factory.mktemp("real") / "project")
    package = project / "src/weather_server"
    shutil.rmtree(package / "tools")
    shutil.rmtree(package / "migrations")
    shutil.rmtree(project / "tests/tools")
    shutil.copytree(SOURCE / "package", package, dirs_exist_ok=True)
    shutil.copytree(SOURCE / "tests", project / "tests/tools")
    return project


@pytest.fixture(scope="module")
def environment(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes Python find the project."""
    return pretend(project, tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
def test_it_passes_its_checks(project: Path, environment: dict[str, str]) -> None:
    """What `make check` runs is clean, and so are the tests of the author, two at a time."""
    names = ("migrations", "tools", "server.py", "settings.py", "state.py")
    mine = [project / "src/weather_server" / name for name in names]
    mine.append(project / "tests/tools")
    run(tool("ruff"), "format", "--check", "--no-cache", cwd=project)
    run(tool("ruff"), "check", "--no-cache", cwd=project)
    run(tool("pyright"), "--pythonpath", sys.executable, *mine, cwd=project)
    run(sys.executable, "-m", "weather_server", "schema", "write", cwd=project, env=environment)
    said = run(sys.executable, "-m", "weather_server", "schema", "check", cwd=project, env=environment).stdout
    assert "Decide whether the person is asked first" not in said
    run(sys.executable, "-m", "pytest", "--quiet", "--numprocesses=2", "tests/tools", cwd=project)


@pytest.fixture(scope="module")
def postgres(project: Path, environment: dict[str, str]) -> Iterator[Postgres]:
    """A database whose tables belong to a role without rights beyond them, as the migrations have made them."""
    with Postgres() as running:
        asyncio.run(_lay_out(running.url))
        url = {"DATABASE_URL": of_the_server(running)}
        run(sys.executable, "-m", "weather_server", "migrate", cwd=project, env=environment | url)
        yield running


async def _lay_out(url: str) -> None:
    db = await asyncpg.connect(url)
    await db.execute("CREATE ROLE mcp LOGIN; ALTER SCHEMA public OWNER TO mcp; CREATE EXTENSION vector")
    await db.close()


def of_the_server(postgres: Postgres) -> str:
    """Return the address for the role of the server."""
    return postgres.url.replace("//postgres@", "//mcp@")


@pytest.fixture
async def admin(postgres: Postgres) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A look at the database past all rules, emptied before."""
    db = await asyncpg.connect(postgres.url)
    await db.execute("TRUNCATE notes, orders, articles")
    yield db
    await db.close()


class Upstream:
    """The systems that the tools speak to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[int] = []
        self.rates_down = self.hooks_down = False
        self.slow = asyncio.Event()
        self.slow.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                self.asked.append(head)
                status, said = await self._decide(head, body)
                content = json.dumps(said).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _decide(self, head: str, body: bytes) -> tuple[int, Any]:
        if head.startswith("GET /v1/rate"):
            return (503, {}) if self.rates_down else (200, {"rate": 0.95})
        await self.slow.wait()
        if self.hooks_down:
            return 500, {}
        self.told.append(json.loads(body)["order"])
        return 200, {}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The other systems, well at first."""
    async with Upstream() as running:
        yield running


@asynccontextmanager
async def serving(project: Path, postgres: Postgres, upstream: Upstream, env: dict[str, str]) -> AsyncGenerator[Server]:
    """Serve the project as in production."""
    settings = {
        "DATABASE_URL": of_the_server(postgres),
        "MCP_API_KEYS": ",".join(f"{name}:{key}" for name, key in KEYS.items()),
        "MCP_API_KEY_TENANTS": ",".join(f"{name}={tenant}" for name, tenant in TENANTS.items()),
        "MCP_PROBE_KEY": PROBE_KEY,
        "MCP_TRUSTED_PROXY_HOPS": "0",
        "MCP_LEGACY": "stateful",
        "MCP_HTTP_ALLOW": "127.0.0.1/32",
        "MCP_READINESS_DELAY_SECONDS": "0",
        "MCP_RATE_TOOL_PER_MINUTE": "10000",
        "MCP_RATES__URL": upstream.url,
        "MCP_RATES__TOKEN": TOKEN,
        "MCP_LABELS": "billing=Money",
        "MCP_WEBHOOK_URL": f"{upstream.url}/{HOOK}",
        **env,
    }
    async with Server(project, proxy="", **settings) as server:
        yield server


@pytest.fixture
async def server(
    project: Path, postgres: Postgres, upstream: Upstream, environment: dict[str, str], admin: object
) -> AsyncIterator[Server]:
    """The project as a process; nothing secret is in its log at the end."""
    del admin
    async with serving(project, postgres, upstream, environment) as running:
        yield running
    text = "".join(running.output)
    for secret in (TOKEN, HOOK, "a note to keep", "where is my parcel", "umbrella", *KEYS.values()):
        assert secret not in text


@asynccontextmanager
async def client(server: Server, era: str, name: str = "alice", seats: int = 4) -> AsyncGenerator[Client]:
    """Connect as a client whose person agrees to everything."""

    async def answer(_: object, params: Any) -> ElicitResult:
        asked = params.requested_schema["properties"]
        return ElicitResult(action="accept", content={"confirm": True} if "confirm" in asked else {"seats": seats})

    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEYS[name]}"}, timeout=SECONDS)
    transport = streamable_http_client(f"http://{server.address}/mcp", http_client=http)
    async with http, Client(transport, mode=MODES[era], elicitation_callback=answer) as one:
        yield one


def kind(result: Any) -> str:
    """Return what a call came to."""
    return result.meta["hardening/error"]["kind"] if result.is_error else "ok"


@pytest.mark.parametrize("era", MODES)
async def test_every_part_works(server: Server, upstream: Upstream, era: str) -> None:
    """Eleven tools, a resource with a template, a prompt with completions; progress, questions and consent too."""
    seen: list[float] = []

    async def progress(done: float, _total: float | None, _text: str | None) -> None:
        seen.append(done)

    async with client(server, era) as one:
        results = {name: await one.call_tool(name, arguments, progress_callback=progress) for name, arguments in SAFE}
        assert {name: kind(result) for name, result in results.items()} == dict.fromkeys(results, "ok")
        assert results["classify"].structured_content == {"result": "shipping"}
        assert results["exchange_rate"].structured_content == {"result": 0.95}
        assert results["search_articles"].structured_content["result"][0]["shelf"] == "none"
        assert results["convert_csv"].content[0].type == "resource"
        assert seen[-1] == 60
        assert f"authorization: bearer {TOKEN}" in upstream.asked[0].lower()

        booked = await one.call_tool("book_table", {"restaurant": "Da Ada"})
        assert booked.structured_content == {"result": "4 seats at Da Ada for alice"}
        number = results["add_note"].structured_content["result"]
        (note,) = (await one.read_resource(f"note://{number}")).contents
        assert isinstance(note, TextResourceContents)
        assert note.text == "a note to keep"
        prompt = await one.get_prompt("answer_customer", {"topic": "billing"})
        assert "about Money" in prompt.messages[0].content.text
        (listed,) = (await one.list_prompts()).prompts
        offered = await one.complete({"type": "ref/prompt", "name": listed.name}, {"name": "topic", "value": "ship"})
        assert offered.completion.values == ["shipping"]
        gone = await one.call_tool("purge_notes", {"containing": "note to keep"})
        assert gone.structured_content == {"result": 1}


async def test_tenants_stay_apart_under_load(server: Server, admin: Any) -> None:
    """Four callers of two tenants in both eras at once: every call is answered, and nothing is held afterwards."""
    outcomes: Counter[str] = Counter()

    async def work(era: str, name: str) -> None:
        async with client(server, era, name) as one:
            for number in range(8):
                await one.call_tool("add_note", {"body": f"of {TENANTS[name]}"})
                tool_name, arguments = SAFE[number % len(SAFE)]
                outcomes[kind(await one.call_tool(tool_name, arguments))] += 1
                listed = await one.call_tool("list_notes", {})
                outcomes[kind(listed)] += 1
                bodies = {note["body"] for note in listed.structured_content["result"]}
                assert bodies <= {f"of {TENANTS[name]}", "a note to keep"}

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        for name in KEYS:
            for era in MODES:
                group.create_task(work(era, name))
    assert outcomes == {"ok": 128}
    assert await admin.fetchval("SELECT count(*) FROM notes WHERE tenant NOT IN ('acme', 'other')") == 0
    assert await _until_idle(server) == {}


async def _until_idle(server: Server) -> dict[str, float]:
    """Return what is still in use after a while, by metric."""
    held: dict[str, float] = {}
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {PROBE_KEY}"}) as http:
        for _ in range(100):
            text = (await http.get(f"http://{server.address}/metrics")).text
            values = dict(line.split(" ") for line in text.splitlines() if line.startswith(HELD))
            assert len(values) == len(HELD)
            held = {name: float(value) for name, value in values.items() if float(value)}
            if not held:
                break
            await asyncio.sleep(0.05)
    return held


@pytest.mark.parametrize("era", MODES)
async def test_a_drain_loses_no_work(server: Server, upstream: Upstream, admin: Any, era: str) -> None:
    """SIGTERM while webhooks wait: the process ends with 0, and every order that was answered has been told."""
    upstream.slow.clear()
    async with client(server, era) as one:
        orders = [await one.call_tool("place_order", {"item": "tea", "amount": 1}) for _ in range(5)]
    server.process.send_signal(signal.SIGTERM)
    await server.line(lambda line: line["msg"] == "drain: refusing new work", SECONDS)
    assert upstream.told == []
    upstream.slow.set()
    async with asyncio.timeout(SECONDS):
        assert await server.process.wait() == 0
    numbers = {order.structured_content["result"] for order in orders}
    assert set(upstream.told) == numbers
    assert await admin.fetchval("SELECT count(*) FROM orders WHERE told") == 5


@pytest.mark.parametrize("era", MODES)
async def test_failures_of_other_systems_are_told(server: Server, upstream: Upstream, admin: Any, era: str) -> None:
    """The caller hears what to do, the order is kept although nobody could be told, and the breaker opens."""
    upstream.rates_down = upstream.hooks_down = True
    async with client(server, era) as one:
        kinds = [kind(await one.call_tool("exchange_rate", {"currency": "EUR"})) for _ in range(7)]
        assert kinds == ["upstream_unavailable"] * 7
        assert sum("/v1/rate" in head for head in upstream.asked) == 5
        assert kind(await one.call_tool("place_order", {"item": "tea", "amount": 1})) == "ok"
        failed = await server.line(lambda line: line["msg"] == "background task failed", SECONDS)
        assert (failed["tool_name"], failed["error_code"]) == ("place_order", "upstream_unavailable")
        assert await admin.fetchval("SELECT count(*) FROM orders WHERE NOT told") == 1
        missing = await one.call_tool("book_table", {"restaurant": "Da Ada", "seats": 3})
        assert kind(missing) == "invalid_input"
