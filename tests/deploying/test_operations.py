"""The runbook speaks of things that exist."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import ROOT
from support.kubernetes import build, of_kind, pods
from support.kubernetes_api import kubernetes_api
from support.overlays import with_components
from support.programs import KEY, PROBE_KEY, find, run
from support.projects import WITHOUT_DATABASE
from support.servers import Server, install

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

# Configuration of clients, on the machines of those who use them.
OF_CLIENTS = {".vscode/mcp.json", ".cursor/mcp.json", "claude_desktop_config.json"}
# The page has its text; a test builds it.
ADDED = {"deploy/kubernetes/overlays/probe/kustomization.yaml", "compose.override.yaml"}


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    """The text."""
    return (project / "docs/operations.md").read_text("utf-8")


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere(page: str, project: Path) -> None:
    """Inside the page to a heading, outside it to a file."""
    links = re.findall(r"\]\(([^)]+)\)", page)
    inside = {link[1:] for link in links if link.startswith("#")}
    outside = {link for link in links if not link.startswith("#")}

    assert inside - anchors(page) == set()
    assert [link for link in outside if not (project / "docs" / link).exists()] == []


def test_every_file_that_is_named_exists(page: str, project: Path) -> None:
    """Paths in the text and in the checklist are those of the project."""
    (hardening,) = project.glob("src/*/hardening")
    places = (project, hardening, project / ".github/workflows", project / "tests/hardening", ROOT / "tests")
    # A target that has to be asked for.
    chart = {f"deploy/helm/{path.name.removesuffix('.jinja')}" for path in ROOT.glob("template/deploy/*helm*/*")}
    named = set(re.findall(r"`([\w./-]+\.(?:py|yaml|yml|json|md|toml|conf|env)|deploy/[\w/-]+)`", page))

    named -= OF_CLIENTS | ADDED | chart | {"deploy/helm"}
    assert len(named) > 40
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()


def test_every_component_that_is_named_exists(page: str, project: Path) -> None:
    """Components of the manifests keep the names that the page uses."""
    there = {path.name for path in (project / "deploy/kubernetes/components").iterdir()}
    named = set(re.findall(r"component `([\w-]+)`|the `([\w-]+)` component", page))

    assert {name for pair in named for name in pair if name} <= there


def test_every_verdict_of_the_probe_is_explained(page: str, project: Path) -> None:
    """The first table has a row for each thing that the probe can say."""
    probe = (project / "src/weather_server/hardening/probe.py").read_text("utf-8")
    verdicts = re.search(r"class Verdict\(.+?\n\n((?:    [A-Z_]+ = \d\n)+)", probe, re.DOTALL)
    assert verdicts
    names = re.findall(r"([A-Z_]+) =", verdicts[1])
    first = page[page.index("\n## First look") : page.index("\n## Alerts")]
    explained = re.findall(r"^\| ([\w ,]+) \| ", first, re.MULTILINE)

    said = {"HTTP alive, MCP dead" if name == "MCP_DEAD" else name.lower().replace("_", " ") for name in names}
    assert said <= set(explained)


def test_every_make_target_exists(page: str, project: Path) -> None:
    """Commands can be typed as they stand."""
    makefile = (project / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))

    assert set(re.findall(r"(?:`|^|… )make (\w+)", page, re.MULTILINE)) <= targets


def test_the_twelve_items_are_all_there(page: str) -> None:
    """Each row names where it is implemented and where it is tested."""
    checklist = page[page.index("\n## The production checklist") :]
    rows = re.findall(r"^\| (\d+) \|(.+)\|$", checklist, re.MULTILINE)

    assert [int(number) for number, _ in rows] == list(range(1, 13))
    for number, row in rows:
        promise, implemented, _, tested = (cell.strip() for cell in row.split(" | "))
        assert promise, number
        assert "`" in implemented, number
        assert tested, number


def test_the_grace_chain_is_the_one_of_the_files(page: str, project: Path) -> None:
    """The numbers of the table are those of the files that state them."""
    table = dict(re.findall(r"^\| ([\w.,;() ]+) \| .+ \| (\d+) s \|$", page, re.MULTILINE))
    compose = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))
    deployment = yaml.safe_load((project / "deploy/kubernetes/base/deployment.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    fly = re.search(r"kill_timeout = (\d+)", (project / "fly.toml").read_text("utf-8"))
    railway = re.search(r'"drainingSeconds": (\d+)', (project / "railway.json").read_text("utf-8"))

    assert fly
    assert railway
    assert f"{table['Compose']}s" == compose["services"]["server"]["stop_grace_period"]
    assert int(table["Kubernetes"]) == pod["terminationGracePeriodSeconds"]
    assert table["Fly.io"] == fly[1]
    assert table["Railway"] == railway[1]


@pytest.mark.parametrize(
    ("settings", "arguments", "code"),
    [
        ({"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": KEY}, ("--schema", "schema/tools.json"), 4),
        ({"MCP_LEGACY": "refuse"}, (), 1),
        ({"MCP_LEGACY": "refuse"}, ("--era", "modern"), 0),
    ],
    ids=["several replicas without Redis", "older clients refused", "older clients refused, and not asked for"],
)
async def test_what_it_says_of_the_probe_is_so(
    template: Template, tmp_path: Path, settings: dict[str, str], arguments: tuple[str, ...], code: int
) -> None:
    """A contract that says more than these settings allow has drifted; who refuses an era is not asked in it."""
    project = template.project(WITHOUT_DATABASE, tmp_path / "project")
    install(project)
    async with Server(project, proxy="http://127.0.0.1", MCP_TRUSTED_PROXY_HOPS="0", **settings) as server:
        done = await asyncio.to_thread(
            run,
            *(sys.executable, "-m", "weather_server", "probe", f"http://{server.address}/mcp", *arguments),
            cwd=project,
            env={"PYTHONPATH": str(project / "site"), "MCP_PROBE_KEY": PROBE_KEY},
        )

    assert done.returncode == code, done.stdout + done.stderr


def test_what_failed_is_listed_slowest_first(page: str) -> None:
    """The command of the page as it stands, on a log that begins with a line of plain text."""
    (command,) = re.findall(r"^… \| (jq .+)", page, re.MULTILINE)
    find("jq")
    call = '{{"ts":"{}","msg":"tool call","tool_name":"greet","error_code":{},"duration_ms":{}}}\n'.format
    log = "Cannot start: 1 problem(s) in the settings.\n  MCP_AUTH: required, and not set\n"
    log += call("1", '"timeout"', 900.5) + call("2", "null", 5000) + call("3", '"busy"', 30000.0)

    done = run("bash", "-euo", "pipefail", "-c", command, stdin=log)

    assert [line.split("\t")[1:] for line in done.stdout.splitlines()] == [
        ["3", "greet", "busy"],
        ["1", "greet", "timeout"],
    ]


def section(page: str, name: str) -> str:
    """Return the text below a heading, down to the next one."""
    found = re.search(rf"\n#+ {re.escape(name)}\n(.*?)(?=\n#+ |\Z)", page, re.DOTALL)
    assert found, name
    return found[1]


@pytest.mark.parametrize(
    "name",
    [
        *("Deploying", "Changes to the database", "Rolling back"),
        *("Secrets of each platform", "A changed secret reaches the server"),
    ],
)
def test_every_platform_has_its_row(page: str, name: str) -> None:
    """What is to be done is said for each platform that can be chosen."""
    said = "\n".join(re.findall(r"^\| ([^|]+) \|", section(page, name), re.MULTILINE))

    assert {one for one in ("Kubernetes", "Helm", "Compose", "Fly.io", "Railway") if one not in said} == set()


def test_a_secret_that_is_replaced_holds_what_the_file_says(page: str, tmp_path: Path) -> None:
    """A line that was removed is gone from the Secret, which is there already: the command as it stands."""
    (command,) = re.findall(
        r"```console\n(kubectl .+ create secret .+?)```", section(page, "Secrets of each platform"), re.DOTALL
    )
    (tmp_path / ".env.production").write_text("MCP_PROBE_KEY=new\n", "utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kubectl").symlink_to(find("kubectl"))
    old = {name: base64.b64encode(b"old").decode() for name in ("MCP_API_KEY", "MCP_PROBE_KEY")}

    with kubernetes_api({"data": old}, "weather") as api:
        done = run(
            *("bash", "-euo", "pipefail", "-c", command),
            cwd=tmp_path,
            env={
                "NAMESPACE": "weather",
                "KUBECONFIG": str(api.kubeconfig(tmp_path / "config")),
                "HOME": str(tmp_path),
                "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            },
        )
        (secret,) = api.kept.values()

    assert done.returncode == 0, done.stderr
    assert secret["data"] == {"MCP_PROBE_KEY": base64.b64encode(b"new").decode()}


def test_the_job_of_the_probe_gets_the_contract(page: str, project: Path, tmp_path: Path) -> None:
    """The kustomization of the page, as it stands, with the copy that its command makes: one ConfigMap, mounted."""
    copy = shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns(".git"))
    (path,) = set(re.findall(r"`(deploy/kubernetes/overlays/\w+/kustomization\.yaml)`", section(page, "Watching it")))
    (text,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "mcp-server-contract" in text]
    (copying,) = re.findall(r"^cp .+", section(page, "Watching it"), re.MULTILINE)
    (copy / path).parent.mkdir()
    (copy / path).write_text(text, "utf-8")
    done = run("bash", "-euc", copying, cwd=copy)
    assert done.returncode == 0, done.stderr

    built = build((copy / path).parent)
    contract, job = of_kind(built, "ConfigMap"), of_kind(built, "CronJob")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    assert contract["data"] == {"tools.json": (project / "schema/tools.json").read_text("utf-8")}
    assert pod["volumes"] == [{"name": "contract", "configMap": {"name": contract["metadata"]["name"]}}]
    assert pod["containers"][0]["image"] == "registry.example.com/your-server:0.1.0"
    assert {one["metadata"]["namespace"] for one in built} == {"mcp-probe"}
    asked = {one["valueFrom"]["secretKeyRef"]["name"] for one in pod["containers"][0]["env"]}
    assert asked == {"mcp-server-probe"}
    assert "create secret generic mcp-server-probe" in section(page, "Watching it")


def test_images_come_from_a_private_registry(page: str, project: Path) -> None:
    """The patch of the page, as it stands, reaches the pods of server and migrations, and its other path the probe."""
    (patch,) = re.findall(r"```yaml\n(.*?)```", section(page, "A private registry"), re.DOTALL)
    said = yaml.safe_load(patch)
    with with_components(project / "deploy/kubernetes", ("gateway", "migrations"), **said) as overlay:
        built = build(overlay)
    (path,) = re.findall(r"the path `([\w/]+)`", section(page, "A private registry"))
    (again,) = said["patches"]
    again["target"] = {"kind": "CronJob", "name": "mcp-server-probe"}
    again["patch"] = again["patch"].replace("path: /imagePullSecrets", f"path: {path}")
    said |= {"resources": ["../../probe"], "replacements": [], "images": [], "configMapGenerator": []}
    with with_components(project / "deploy/kubernetes", (), **said) as overlay:
        probe = of_kind(build(overlay), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    account, secrets = of_kind(built, "ServiceAccount"), [{"name": "registry"}]
    assert account["imagePullSecrets"] == probe["imagePullSecrets"] == secrets
    assert {pod["spec"]["serviceAccountName"] for _, pod in pods(built)} == {account["metadata"]["name"]}
    assert {name for name, _ in pods(built)} == {"mcp-server", "mcp-server-migrations"}


def test_commands_of_compose_name_the_file_of_its_variables(page: str, project: Path) -> None:
    """Without it Compose refuses every command, `logs` and `ps` too, because a needed variable is missing."""
    pages = [page, *((project / "docs" / name).read_text("utf-8") for name in ("first-deployment.md", "elsewhere.md"))]
    commands = re.findall(r"docker compose (\S+ ?\S*)", "\n".join(pages))

    assert len(commands) > 10
    assert {words for words in commands if words != "--env-file .env.compose"} == set()


def test_a_sentence_is_a_line(page: str) -> None:
    """One sentence on each line, so that a change shows what changed."""
    prose = re.sub(r"```.*?```|^\|.*$|^    .*$", "", page, flags=re.DOTALL | re.MULTILINE)

    assert [line for line in prose.splitlines() if re.search(r"[.!?] [A-Z]", line)] == []
