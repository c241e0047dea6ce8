"""The runbook speaks of things that exist."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from support.harness import ROOT
from support.programs import KEY, PROBE_KEY, run
from support.projects import WITHOUT_DATABASE
from support.servers import Server, install

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

# Configuration of clients, on the machines of those who use them.
OF_CLIENTS = {".vscode/mcp.json", ".cursor/mcp.json", "claude_desktop_config.json"}


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

    named -= OF_CLIENTS | chart | {"deploy/helm"}
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


def test_a_sentence_is_a_line(page: str) -> None:
    """One sentence on each line, so that a change shows what changed."""
    prose = re.sub(r"```.*?```|^\|.*$|^    .*$", "", page, flags=re.DOTALL | re.MULTILINE)

    assert [line for line in prose.splitlines() if re.search(r"[.!?] [A-Z]", line)] == []
