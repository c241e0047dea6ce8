"""The Compose file is valid, publishes the proxy alone, and is the same with and without PostgreSQL."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.programs import find, run
from support.projects import WITHOUT_DATABASE

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

NEEDED = {"MCP_API_KEYS", "MCP_PROBE_KEY", "POSTGRES_PASSWORD"}


@pytest.fixture(scope="module")
def without_database(template: Template) -> Path:
    """A project that has no database."""
    return template.render(WITHOUT_DATABASE)


def services(root: Path) -> dict[str, Any]:
    """Return the services of the Compose file."""
    return yaml.safe_load((root / "compose.yaml").read_text(encoding="utf-8"))["services"]


def test_it_fits_the_schema(project: Path, without_database: Path) -> None:
    """Both variants are what Compose accepts."""
    for root in (project, without_database):
        check = find("check-jsonschema")
        done = run(check, "--builtin-schema", "vendor.compose-spec", root / "compose.yaml")
        assert done.returncode == 0, done.stdout


def test_only_the_proxy_is_published(project: Path) -> None:
    """Nobody reaches the server, the database or Redis around the proxy, and at first nobody outside."""
    published = {name: service.get("ports") for name, service in services(project).items()}
    proxy = published.pop("caddy")

    assert {port.split(":-")[1].partition("}")[0] for port in proxy} == {"127.0.0.1"}
    assert set(published.values()) == {None}


def test_the_datastores_have_no_way_out(project: Path) -> None:
    """They share an internal network with the server alone."""
    compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
    on_data = {n for n, service in compose["services"].items() if "data" in service["networks"]}

    assert compose["networks"]["data"]["internal"] is True
    assert on_data == {"server", "postgres", "redis"}
    assert "data" not in compose["services"]["caddy"]["networks"]


def test_each_service_is_confined(project: Path) -> None:
    """No new privileges, bounded memory and processes; what can be read-only is."""
    for name, service in services(project).items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        if name != "postgres":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


def test_each_service_waits_for_what_it_needs(project: Path) -> None:
    """Health, not start, is what the next one waits for; each has a health check that can fail."""
    found = services(project)

    assert set(found["caddy"]["depends_on"]) == {"server"}
    assert set(found["server"]["depends_on"]) == {"postgres", "redis"}
    for service in found.values():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}
    # Each has its own: an image in the format of OCI has none.
    assert all("healthcheck" in service for service in found.values())
    assert "'/readyz'" in found["server"]["healthcheck"]["test"][-1]
    assert found["server"]["init"] is True


def test_the_example_has_every_variable(project: Path, without_database: Path) -> None:
    """What the Compose file reads stands in the example, and the other way round."""
    for root in (project, without_database):
        compose = (root / "compose.yaml").read_text("utf-8")
        example = (root / "deploy/compose/env.example").read_text("utf-8")
        read = set(re.findall(r"\$\{(\w+)", compose))
        said = set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, re.MULTILINE))

        assert read - said == set()
        assert said - read == {"MCP_API_KEYS", "MCP_PROBE_KEY", "MCP_AUTH"}


def test_a_fresh_copy_needs_one_command(project: Path, without_database: Path, tmp_path: Path) -> None:
    """What is needed is made up, differs each time, is readable by its owner alone, and is never written over."""
    for root in (project, without_database):
        secrets = []
        for number in (1, 2):
            copied = tmp_path / root.name / str(number)
            for name in ("scripts", "deploy"):
                shutil.copytree(root / name, copied / name)
            mounted = [path for path in (copied / "deploy/caddy", copied / "deploy/postgres/role.sql") if path.exists()]
            # As a checkout under a umask of 077 has them.
            for path in (copied / "deploy").rglob("*"):
                path.chmod(path.stat().st_mode & 0o700)
            assert run("bash", "scripts/compose-env.sh", cwd=copied).returncode == 0
            for path in mounted:
                found = [path, *path.rglob("*")] if path.is_dir() else [path]
                modes = {one.name: one.stat().st_mode & 0o055 for one in found if one.name != ".gitkeep"}
                assert modes == {one.name: 0o055 if one.is_dir() else 0o044 for one in found if one.name in modes}
            written = copied / ".env.compose"
            values = dict(line.split("=", 1) for line in written.read_text("utf-8").splitlines() if line[:1].isupper())
            secrets += [values[name].removeprefix("first:") for name in values if name in NEEDED]
            assert written.stat().st_mode & 0o777 == 0o600
            assert all(values.values())
            again = run("bash", "scripts/compose-env.sh", cwd=copied)
            assert again.returncode == 1
            assert "is there already" in again.stderr
        assert len(set(secrets)) == len(secrets) == 2 * (3 if root is project else 2)
        assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)


def test_secrets_come_from_a_file_that_is_ignored(project: Path) -> None:
    """No secret is in the file, and the one that has them cannot be committed."""
    ignored = (project / ".gitignore").read_text(encoding="utf-8").splitlines()
    server = services(project)["server"]

    assert server["env_file"] == [".env.compose"]
    # Anybody on this machine who has the superuser's password could run programs in the database's name.
    postgres = services(project)["postgres"]["environment"]
    assert postgres["POSTGRES_PASSWORD_FILE"] == "/proc/sys/kernel/random/uuid"  # noqa: S105 - a path
    assert "POSTGRES_PASSWORD" not in postgres
    assert ".env.*" in ignored
    assert "${POSTGRES_PASSWORD:?" in server["environment"]["DATABASE_URL"]


def test_caddy_is_one_that_notices_who_leaves(project: Path) -> None:
    """Before 2.11, a client that leaves does not cancel its call: neither the image nor the tested program is older."""
    image = services(project)["caddy"]["image"]
    said = run(find("caddy"), "version").stdout
    shipped, tested = re.search(r"caddy:(\d+)\.(\d+)\.", image), re.match(r"v?(\d+)\.(\d+)\.", said)

    assert shipped
    assert tested
    assert (int(shipped[1]), int(shipped[2])) >= (2, 11)
    assert (int(tested[1]), int(tested[2])) >= (2, 11)


def test_redis_never_drops_a_counter(project: Path) -> None:
    """A counter that is evicted opens a limit; Redis refuses to write instead."""
    command = " ".join(services(project)["redis"]["command"])

    assert "--maxmemory-policy noeviction" in command


def test_without_a_database_only_the_database_is_gone(project: Path, without_database: Path) -> None:
    """The two variants differ in PostgreSQL and in nothing else."""
    full = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
    plain = yaml.safe_load((without_database / "compose.yaml").read_text(encoding="utf-8"))

    del full["services"]["postgres"]
    del full["services"]["server"]["depends_on"]["postgres"]
    del full["services"]["server"]["environment"]["DATABASE_URL"]
    del full["volumes"]["postgres-data"]

    assert plain == full
    with_it, without_it = (
        [line for line in (root / "deploy/compose/env.example").read_text("utf-8").splitlines() if line[:1].isupper()]
        for root in (project, without_database)
    )
    assert without_it == [line for line in with_it if line != "POSTGRES_PASSWORD="]
