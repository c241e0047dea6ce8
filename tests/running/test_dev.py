"""`dev` on a laptop: one command, a database, a key, snippets, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from support.dev_server import KEY, PROBE_KEY, SECONDS, Dev, free_port
from support.harness import DEFAULT, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template


def own(template: Template, to: Path) -> Path:
    """Return a project of the caller's own, with the shared environment's packages."""
    prepared = template.prepared(DEFAULT)
    shutil.copytree(prepared, to, ignore=shutil.ignore_patterns(".venv", ".dev"), symlinks=True)
    run("uv", "sync", "--quiet", cwd=to)
    return to


def test_prints_what_to_paste(dev: Dev) -> None:
    """The snippets of four clients, each with the address and the key."""
    url = dev.url
    printed = "\n".join(dev.lines)

    for client in ("Claude Code:", "VS Code", "Cursor", "Inspector:"):
        assert client in printed
    assert printed.count(f"Bearer {KEY}") == 4
    assert printed.count(url) >= 5


def test_prints_how_to_probe(dev: Dev) -> None:
    """Another terminal needs no key of its own making: the line can be pasted as it stands."""
    assert dev.url
    (line,) = (line for line in dev.lines if " make probe URL=" in line)

    assert "healthy (exit code 0)" in run("bash", "-c", line, cwd=dev.project).stdout


def test_what_to_paste_for_a_client_on_this_machine_works(dev: Dev) -> None:
    """The command that clients are to start speaks the protocol on standard output, and ends with its input."""
    assert dev.url
    (line,) = (line for line in dev.lines if '"mcpServers"' in line and '"stdio"' in line)
    (server,) = json.loads(line)["mcpServers"].values()
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    child = subprocess.run(
        [server["command"], *server["args"]],
        check=False,
        env={**os.environ, **server.get("env", {})},
        input=json.dumps(opening) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout)["result"]["serverInfo"]["name"] == "weather-server"


def test_makes_a_key_when_none_is_set(project: Path) -> None:
    """Nobody has to invent a secret to try it."""
    with Dev(project, environment={"MCP_API_KEYS": ""}) as running:
        assert running.url
        key = running.until("Key: ").removeprefix("Key: ")

    assert len(key) >= 32


def test_ctrl_c_leaves_nothing_running(template: Template, tmp_path: Path) -> None:
    """Neither the server nor the database outlives the command; the data does."""
    project = own(template, tmp_path / "project")
    with Dev(project) as running:
        url = running.url
        running.child.send_signal(signal.SIGINT)
        code = running.child.wait(SECONDS)

    left = subprocess.run(["pgrep", "--full", str(project)], capture_output=True, text=True, check=False).stdout
    assert code == 0
    assert left == ""
    assert (project / ".dev/postgres").is_dir()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=2)  # noqa: S310 - where the server was


def test_starts_again_when_a_file_changes(template: Template, tmp_path: Path) -> None:
    """An edit is served without a command."""
    project = own(template, tmp_path / "project")
    with Dev(project, arguments=()) as running:
        assert running.url
        tool = project / "src/weather_server/tools/countdown.py"
        tool.write_text(tool.read_text("utf-8") + "\n# edited\n", "utf-8")
        running.until("A file has changed")
        running.until('"msg":"started"', times=2)


def test_a_mistake_in_a_file_does_not_end_it(template: Template, tmp_path: Path) -> None:
    """A server that cannot start waits for the next edit."""
    project = own(template, tmp_path / "project")
    tool = project / "src/weather_server/tools/countdown.py"
    good = tool.read_text("utf-8")
    with Dev(project, arguments=()) as running:
        assert running.url
        tool.write_text(good + "\nraise SystemExit(1)\n", "utf-8")
        running.until("it starts again when a file changes")
        tool.write_text(good, "utf-8")
        running.until('"msg":"started"', times=2)


def test_a_given_database_is_used(project: Path) -> None:
    """`DATABASE_URL` wins over the embedded one, and one that is away is named."""
    with Dev(project, environment={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}) as running:
        running.until("DATABASE_URL: no answer within 10 s")

    assert not any("Starting PostgreSQL" in line for line in running.lines)


def test_tokens_can_be_tried_offline(project: Path) -> None:
    """`dev --jwt` accepts the token that it prints, and no other."""
    with Dev(project, arguments=("--no-reload", "--jwt")) as running:
        url = running.url
        token = running.until("Key: ").removeprefix("Key: ")
        probe = (project / ".venv/bin/python", "-m", "weather_server", "probe", url)
        good = run(*probe, cwd=project, env={"MCP_PROBE_KEY": token}, check=False)
        bad = run(*probe, cwd=project, env={"MCP_PROBE_KEY": KEY}, check=False)

    assert good.returncode == 0, good.stdout
    assert bad.returncode == 3, bad.stdout


AWKWARD_FOLDERS = ["my server's (HOME) ü", "a" * 100 + "/" + "b" * 40]


@pytest.mark.parametrize("folder", AWKWARD_FOLDERS, ids=["spaces, quotes, umlauts", "long"])
def test_runs_wherever_the_project_lies(template: Template, tmp_path: Path, folder: str) -> None:
    """Neither a shell, nor the limit of a path of a socket, nor a long TMPDIR decides where a project may be."""
    project = own(template, tmp_path / folder)
    scratch = tmp_path / ("t" * 90)
    scratch.mkdir()
    tmp_path.chmod(0o755)
    with Dev(project, environment={"TMPDIR": str(scratch)}) as running:
        probe = (project / ".venv/bin/python", "-m", "weather_server", "probe", running.url)
        done = run(*probe, cwd=project, env={"MCP_PROBE_KEY": PROBE_KEY}, check=False)
        pasted = shlex.split(running.until("claude mcp add --env"))
        for _ in range(3):
            running.child.send_signal(signal.SIGTERM)
        code = running.child.wait(SECONDS)

    assert done.returncode == 0, done.stdout
    assert pasted[pasted.index("--") + 1 :] == [f"{project}/.venv/bin/python", "-m", "weather_server", "stdio"]
    # A signal to the process group comes several times, and is one.
    assert code == 0
    assert [line for line in running.lines if "Traceback" in line] == []


def test_a_folder_in_which_postgresql_cannot_run_is_named(template: Template, tmp_path: Path) -> None:
    """Its programs put their paths into a shell: one sentence says so."""
    project = own(template, tmp_path / "cheap $HOME")
    with Dev(project) as running:
        running.until("PostgreSQL cannot run below a folder with '$' in its name: call the folder something else")
        assert running.child.wait(SECONDS) == 1


@pytest.mark.parametrize("names", [("MCP_PORT",), ("MCP_PORT", ".env"), ("PORT", ".env")])
def test_prints_the_port_that_is_served(template: Template, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Whichever name sets it, and wherever it stands."""
    project = own(template, tmp_path / "project")
    port = str(free_port())
    environment = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    if ".env" in names:
        (project / ".env").write_text(f"{names[0]}={port}\n", "utf-8")
    else:
        environment[names[0]] = port
    with Dev(project, environment=environment, port=None) as running:
        printed = running.until(" serves http")

    assert printed.endswith(f"http://127.0.0.1:{port}/mcp")


def test_prints_the_database_and_runs_migrations(template: Template, tmp_path: Path) -> None:
    """A tool that needs a table can be tried: its URL can be pasted, and a command runs before the server."""
    project = own(template, tmp_path / "project")
    (project / "migrate.py").write_text(
        "import asyncio, asyncpg, os\n\n\nasync def main():\n"
        "    connection = await asyncpg.connect(os.environ['DATABASE_URL'])\n"
        "    await connection.execute('CREATE TABLE places (name text)')\n"
        "    await connection.close()\n\n\nasyncio.run(main())\n",
        "utf-8",
    )
    command = f"{project / '.venv/bin/python'} migrate.py"
    with Dev(project, arguments=("--no-reload", "--migrate", command)) as running:
        assert running.url
        url = running.until("DATABASE_URL=").removeprefix("DATABASE_URL=")
        count = (
            "import asyncio, asyncpg, sys\n\nasync def main():\n"
            "    print(await (await asyncpg.connect(sys.argv[1])).fetchval('SELECT count(*) FROM places'))\n\n"
            "asyncio.run(main())\n"
        )
        assert run(project / ".venv/bin/python", "-c", count, url, cwd=project).stdout == "0\n"

    with Dev(project, arguments=("--no-reload",)) as usual:
        usual.until("The database is up to date: 0001")
        assert usual.url

    with Dev(project, arguments=("--no-reload", "--migrate", command)) as again:
        again.until("The migrations ended with 1: ")
        assert again.child.wait(SECONDS) == 1
