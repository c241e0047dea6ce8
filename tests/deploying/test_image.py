"""The image is built from the shipped Dockerfile, and run as the shipped manifests run it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml
from support.containers import PYTHON_IMAGE, Container, Engine
from support.mcp_client import ERAS, Era, Reply, events, tool_call
from support.postgres import Postgres
from support.programs import KEY, PROBE_KEY
from support.proxies import free_port
from support.watched_server import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

IMAGE = "localhost/weather-server:test"
# Dependencies, those of the extras included, and project, on top of the base.
SIZE_BUDGET = 145 * 1000**2
LAYER_BUDGET = 5
START_SECONDS = 30
MANAGERS = {"apt", "apt-get", "dpkg", "pip", "pip3", "uv", "uvx", "gcc", "cc", "make", "curl", "wget"}


MIGRATION = '''\
"""Add notes."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Add a table."""
    op.execute("CREATE TABLE notes (body text)")
'''


@pytest.fixture(scope="module")
def image(engine: Engine, locked: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built as `make image` does, with a migration and the extras of a project that has a database."""
    migrating = shutil.copytree(locked, tmp_path_factory.mktemp("image") / "project")
    migrations = migrating / "src/weather_server/migrations"
    migrations.mkdir()
    (migrations / "0001_add_notes.py").write_text(MIGRATION, encoding="utf-8")
    (extras,) = re.findall(r'^ARG (EXTRAS)="(.+)"$', (project / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    # Older builders find the labels of another version in their cache.
    done, output = engine.build(
        migrating, IMAGE, "--no-cache", "--build-arg", "VERSION=1.2.3", "--build-arg", "=".join(extras)
    )
    assert done, output
    return IMAGE


@pytest.fixture
def start(engine: Engine, image: str) -> Iterator[Callable[..., tuple[Container, str]]]:
    """Start the image with the given settings; return it and its address once it is ready."""
    running: list[Container] = []

    def starter(of: str = image, **settings: str) -> tuple[Container, str]:
        port = free_port()
        values = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "MCP_AUTH": "api_key",
            "MCP_API_KEYS": f"test:{KEY}",
            "MCP_PROBE_KEY": PROBE_KEY,
            "MCP_READINESS_DELAY_SECONDS": "0.5",
            **settings,
        }
        options = [part for name, value in values.items() for part in ("--env", f"{name}={value}")]
        container = engine.run(of, "--memory", "512m", "--pids-limit", "128", *options)
        running.append(container)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx2.get(f"{address}/readyz", timeout=2).status_code == httpx2.codes.OK:
                    return container, address
            except httpx2.TransportError:
                pass
            assert time.monotonic() < deadline, container.logs()
            time.sleep(0.1)

    yield starter
    for container in running:
        container.remove()


def test_without_a_lock_the_build_says_what_to_do(engine: Engine, locked: Path, tmp_path: Path) -> None:
    """No lock, no image: and one sentence says which command makes it."""
    unlocked = shutil.copytree(locked, tmp_path / "unlocked")
    (unlocked / "uv.lock").unlink()

    done, output = engine.build(unlocked, "localhost/unlocked:test")

    assert not done
    assert "uv.lock is missing: run 'uv sync' and commit uv.lock" in output


def test_with_a_stale_lock_the_build_stops(engine: Engine, locked: Path, tmp_path: Path) -> None:
    """What is installed is what was reviewed: a lock that does not fit is refused."""
    stale = shutil.copytree(locked, tmp_path / "stale")
    pyproject = (stale / "pyproject.toml").read_text(encoding="utf-8")
    (stale / "pyproject.toml").write_text(
        pyproject.replace('"structlog>=', '"tomli>=2",\n    "structlog>='), encoding="utf-8"
    )

    done, output = engine.build(stale, "localhost/stale:test")

    assert not done
    assert "lockfile" in output


def test_it_stays_small(engine: Engine, image: str) -> None:
    """Five layers on the base, and a budget of bytes."""
    base, whole = engine.inspect(PYTHON_IMAGE), engine.inspect(image)

    assert whole["Size"] - base["Size"] < SIZE_BUDGET
    assert len(whole["RootFS"]["Layers"]) - len(base["RootFS"]["Layers"]) <= LAYER_BUDGET


def test_a_change_of_the_source_is_one_small_layer(engine: Engine, locked: Path, tmp_path: Path) -> None:
    """A release pushes the project again, not its dependencies."""
    changed = shutil.copytree(locked, tmp_path / "changed")
    with (changed / "src/weather_server/server.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    layers: list[list[str]] = []
    for context, tag in ((locked, "localhost/before:test"), (changed, "localhost/after:test")):
        done, output = engine.build(context, tag)
        assert done, output
        layers.append(engine.inspect(tag)["RootFS"]["Layers"])

    before, after = layers
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_nothing_that_installs_is_left(engine: Engine, image: str) -> None:
    """No package manager and no compiler are in the image that runs; in the base there was one."""
    find = 'import os; print(*{f for _, _, files in os.walk("/") for f in files})'
    run = ("run", "--rm", "--network", "none", "--entrypoint", "python")
    there = set(engine(*run, image, "-c", find, check=True).split())
    before = set(engine(*run, PYTHON_IMAGE, "-c", find, check=True).split())

    assert before & MANAGERS
    assert there & MANAGERS == set()
    has_pip = 'import importlib.util; print(importlib.util.find_spec("pip"))'
    assert engine(*run, image, "-c", has_pip, check=True) == "None"


def test_its_job_brings_the_database_up_to_date(engine: Engine, image: str, project: Path) -> None:
    """The command of the migrations job, in the image as a pod runs it: not as root, with a read-only root."""
    job = yaml.safe_load((project / "deploy/kubernetes/components/migrations/job.yaml").read_text("utf-8"))
    command = tuple(job["spec"]["template"]["spec"]["containers"][0]["command"])
    with Postgres() as postgres:
        postgres.folder.chmod(0o755)
        options = ("--volume", f"{postgres.folder}:{postgres.folder}", "--env", f"DATABASE_URL={postgres.url}")
        for said in ("The database is up to date: 0001\n", "The database is up to date: 0001, before 0001\n"):
            container = engine.run(image, *options, command=command)
            try:
                assert container.wait(60) == 0, container.logs()
                assert said in container.logs()
            finally:
                container.remove()


def test_it_says_what_it_is(engine: Engine, image: str, locked: Path) -> None:
    """Labels carry name, source and version; the registry's equals that of server.json."""
    labels = engine.inspect(image)["Config"]["Labels"]
    entry = json.loads((locked / "server.json").read_text(encoding="utf-8"))

    assert labels["org.opencontainers.image.title"] == "weather-server"
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.source"] == entry["repository"]["url"]
    assert labels["io.modelcontextprotocol.server.name"] == entry["name"]


def test_unconfigured_it_refuses_to_start(engine: Engine, image: str) -> None:
    """Without settings it ends with 78, and names each setting that is needed."""
    container = engine.run(image)

    code = container.wait(START_SECONDS)
    said = container.logs()
    container.remove()

    assert code == 78, said
    assert "MCP_AUTH" in said
    assert "MCP_PUBLIC_URL" in said


def test_it_runs_confined(start: Callable[..., tuple[Container, str]]) -> None:
    """Process 1 is the server itself, not root, without capabilities, on a read-only root."""
    container, _ = start()

    command = container.exec("cat", "/proc/1/cmdline").split("\0")
    status = container.exec("cat", "/proc/1/status")

    assert command[0].endswith("/python")
    assert command[1:3] == ["/app/project/bin/weather-server", "serve"]
    assert re.search(r"^Uid:\s+10001\s+10001", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert container.exec("sh", "-c", "touch /app/x 2>&1").endswith("Read-only file system")
    assert container.exec("sh", "-c", "touch /tmp/x && echo written") == "written"


def test_the_probe_passes(start: Callable[..., tuple[Container, str]]) -> None:
    """The image's own probe, in a second process, speaks both eras with the running server."""
    container, address = start()

    engine = container.engine
    said = engine(
        *("exec", "--env", f"MCP_PROBE_KEY={PROBE_KEY}", container.name),
        *("weather-server", "probe", f"{address}/mcp"),
        check=True,
    )

    assert "modern" in said
    assert "legacy" in said


def test_the_health_check_can_fail(start: Callable[..., tuple[Container, str]]) -> None:
    """Healthy while the server answers; unhealthy when it hangs."""
    container, _ = start()
    assert container.healthy()

    container.signal("STOP")
    hung = container.healthy()
    container.signal("CONT")

    assert not hung
    assert container.healthy()


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_in_flight_is_answered_before_the_exit(
    start: Callable[..., tuple[Container, str]], era: Era
) -> None:
    """SIGTERM: the call ends with its result, then process 1 exits with 0 by itself."""
    container, address = start()
    request = tool_call(era, KEY, "countdown", {"steps": 6, "step_seconds": 0.5})
    reached = asyncio.Event()

    async def calling() -> Reply:
        started = time.monotonic()
        async with httpx2.AsyncClient(timeout=60) as client:
            headers, content = request
            url = f"{address}/mcp"
            async with client.stream("POST", url, headers=headers, content=content) as response:
                reply = Reply(response.status_code, response.headers)
                async for event in events(response, started):
                    reply.events.append(event)
                    reached.set()
        return reply

    task = asyncio.ensure_future(calling())
    async with asyncio.timeout(20):
        await reached.wait()
    await asyncio.to_thread(container.signal, "TERM")
    reply = await task
    code = await asyncio.to_thread(container.wait, 20)

    assert reply.result["structuredContent"] == {"steps": 6}
    assert len(reply.progress) == 6
    assert code == 0
    assert "stopped" in container.logs()


def test_process_1_collects_children(start: Callable[..., tuple[Container, str]]) -> None:
    """What a command leaves behind becomes a child of process 1: it ends, and keeps no entry of the process table."""
    container, _ = start()

    def ended() -> int:
        return container.exec("sh", "-c", "cat /proc/[0-9]*/stat").count(") Z ")

    container.exec("sh", "-c", "for each in 1 2 3; do (sleep 0.1 &); done")
    until(lambda: ended() == 3)
    # It looks every ten seconds, and takes what was there at the last look.
    until(lambda: ended() == 0)


def test_a_shell_as_process_1_fails_the_same_test(
    engine: Engine, start: Callable[..., tuple[Container, str]], locked: Path, tmp_path: Path
) -> None:
    """The control: with a command in shell form nobody hears SIGTERM, and SIGKILL is needed."""
    shell = shutil.copytree(locked, tmp_path / "shell")
    text = (shell / "Dockerfile").read_text(encoding="utf-8")
    command = 'CMD ["weather-server", "serve"]'
    assert command in text
    changed = text.replace(command, "CMD weather-server serve || exit 1")
    (shell / "Dockerfile").write_text(changed, encoding="utf-8")
    done, output = engine.build(shell, "localhost/shell:test")
    assert done, output
    container, _ = start("localhost/shell:test")

    container.signal("TERM")

    with pytest.raises(AssertionError, match="still running"):
        container.wait(5)
