"""The contract in its canonical form, and the files it is committed in."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import Tool
from wire import ERAS, Era, Wire

from hardening import probe
from hardening.calls.canonical import canonical, tool_hashes, tools_sha256
from hardening.contract import revision as revisions
from hardening.contract.command import _ui_of, dump, run

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

TOOLS: list[Json] = [
    {
        "name": "b_tool",
        "description": "Zähle — alles.",
        "inputSchema": {"type": "object", "properties": {"n": {"type": "integer", "default": None, "maximum": 9}}},
        "outputSchema": None,
        "_meta": {"com.example/build": "17"},
        "execution": {"taskSupport": "forbidden"},
    },
    {"name": "a_tool", "title": "A", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
]
DISCOVERY: Json = {
    "capabilities": {"tools": {"listChanged": False}},
    "instructions": "Be kind.",
    "supportedVersions": ["2026-07-28"],
    "ttlMs": 1000,
    "cacheScope": "public",
    "resultType": "complete",
}


def contract(version: str = "1.0.0", **first: Any) -> Json:
    """Return a contract; the keywords change its first tool."""
    return canonical([{**TOOLS[0], **first}, TOOLS[1]], DISCOVERY, None, scopes={"b_tool": ["x", "a"]}, version=version)


BREAKING: Json = {"inputSchema": {"type": "object", "properties": {}, "additionalProperties": False}}
WIDER: Json = {"inputSchema": {"type": "object"}}


def test_the_form_is_readable_and_holds_only_what_is_agreed() -> None:
    """Sorted by name, one field per line, words as written; nothing that may change from answer to answer."""
    text = dump(contract())

    assert text.startswith('{\n  "declared": {\n    "b_tool": {\n      "scopes": [\n        "a",\n        "x"\n')
    assert text.endswith("}\n")
    assert "Zähle — alles." in text
    assert [tool["name"] for tool in contract()["tools"]] == ["a_tool", "b_tool"]
    assert set(contract()["tools"][1]) == {"name", "description", "inputSchema"}
    assert contract()["discovery"] == {key: DISCOVERY[key] for key in ("capabilities", "instructions")}
    assert "resource" not in contract()
    # A null inside a schema is a value of the contract.
    assert contract()["tools"][1]["inputSchema"]["properties"]["n"]["default"] is None


@pytest.mark.parametrize(
    ("meta", "shown"),
    [
        ({"ui": {"resourceUri": "ui://one"}, "com.example/build": "17"}, {"resourceUri": "ui://one"}),
        ({"ui": None}, {}),
        ({"com.example/build": "17"}, {}),
        (None, {}),
    ],
)
def test_what_a_tool_shows_in_a_window(meta: Json | None, shown: Json) -> None:
    """Only that is read of what it says beside its schema; most tools show nothing."""
    assert _ui_of(Tool.model_validate({"name": "one", "inputSchema": {}, "_meta": meta})) == shown


def test_the_resource_is_part_of_it_where_there_is_one() -> None:
    """Where tokens come from is agreed with clients too."""
    resource = {"resource": "https://mcp.example.com/mcp", "authorization_servers": ["https://id.example.com"]}

    assert canonical(TOOLS, DISCOVERY, resource)["resource"] == resource


@given(st.integers(0, 2**32).map(random.Random))
def test_order_does_not_matter(chance: random.Random) -> None:
    """The same contract is the same text, in whatever order it was sent."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = sorted(cast("Json", value))
            chance.shuffle(names)
            return {name: shuffled(value[name]) for name in names}
        return value

    tools = [shuffled(tool) for tool in TOOLS]
    chance.shuffle(tools)

    assert dump(canonical(tools, shuffled(DISCOVERY), None)) == dump(canonical(TOOLS, DISCOVERY, None))


@pytest.mark.parametrize("tools", [[TOOLS[0], TOOLS[0]], [{"inputSchema": {}}], [{**TOOLS[0], "name": ""}]])
def test_two_tools_of_one_name_are_no_contract(tools: list[Json]) -> None:
    """A name stands for one tool; anything else would hide one of two."""
    with pytest.raises(ValueError, match="a name of its own"):
        canonical(tools, DISCOVERY, None)


def test_the_digest_can_be_computed_by_anybody() -> None:
    """It is the SHA-256 of the tools as JSON: sorted keys, no spaces, UTF-8."""
    tools = contract()["tools"]
    text = json.dumps(tools, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert tools_sha256(tools) == hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert tool_hashes(tools).keys() == {"a_tool", "b_tool"}


def test_a_digest_changes_with_its_tool_only() -> None:
    """Whoever pins one tool is not bothered by another."""
    before, after = tool_hashes(contract()["tools"]), tool_hashes(contract(description="Count.")["tools"])

    assert before["a_tool"] == after["a_tool"]
    assert before["b_tool"] != after["b_tool"]
    assert tools_sha256(contract()["tools"]) != tools_sha256(contract(description="Count.")["tools"])


def test_the_probe_sees_the_same_contract() -> None:
    """The probe imports nothing from here, and yet its form and its digest are the same, byte for byte."""
    assert probe.contract(TOOLS) == contract()["tools"]
    assert probe.digest(TOOLS) == tools_sha256(contract()["tools"])


@pytest.mark.parametrize("era", ERAS)
async def test_both_eras_serve_one_contract(wire: Wire, era: Era) -> None:
    """A modern and a legacy client get the same tools, digest for digest."""
    modern, mine = [(await wire.ask(each, "tools/list")).result["tools"] for each in ("modern", era)]
    documents = [canonical(tools, {}, None) for tools in (modern, mine)]

    assert len(documents[0]["tools"]) > 10
    assert dump(documents[1]) == dump(documents[0])
    assert tools_sha256(documents[1]["tools"]) == tools_sha256(documents[0]["tools"])


def test_what_was_written_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After `write`, `check` and `diff` find nothing, and both files are for people to read."""
    assert run("write", current=contract(), root=tmp_path) == 0
    assert run("check", current=contract(), root=tmp_path) == 0
    assert run("diff", current=contract(), root=tmp_path) == 0
    assert capsys.readouterr().out.endswith("None.\n")
    assert (tmp_path / "schema/tools.json").read_bytes() == dump(contract()).encode()
    hashes = tool_hashes(contract()["tools"])
    assert (tmp_path / "schema/tools.sha256").read_text().splitlines() == [
        f"{tools_sha256(contract()['tools'])}  tools",
        f"{hashes['a_tool']}  tools/a_tool",
        f"{hashes['b_tool']}  tools/b_tool",
    ]


def test_what_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    """On a full disk `write` fails with the file's name, and the contract of before is whole."""
    run("write", current=contract("1.0.0"), root=tmp_path)
    before = (tmp_path / "schema/tools.json").read_bytes()
    (tmp_path / "schema/tools.json.new").symlink_to("/dev/full")

    with pytest.raises(SystemExit, match=r"schema/tools\.json cannot be written, and is as it was: No space left"):
        run("write", current=contract("1.0.1"), root=tmp_path)

    assert (tmp_path / "schema/tools.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "schema").iterdir()) == ["tools.json", "tools.sha256"]


def test_a_new_version_alone_is_no_drift(tmp_path: Path) -> None:
    """A release that changes no tool need not touch the contract."""
    run("write", current=contract("1.0.0"), root=tmp_path)

    assert run("check", current=contract("2.0.0"), root=tmp_path) == 0
    assert run("diff", current=contract("2.0.0"), root=tmp_path) == 0


def test_drift_is_shown_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreviewed change fails the check, names each change and says how to accept it."""
    run("write", current=contract(), root=tmp_path)

    assert run("check", current=contract(**BREAKING, description="Count."), root=tmp_path) == 4
    told = capsys.readouterr().out
    assert "breaking    b_tool inputSchema.n: accepted → refused" in told
    assert 'text        b_tool description: "Zähle — alles." → "Count."' in told
    assert "make schema" in told


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("tools.json", None, "cannot be read"),
        ("tools.json", "<<<<<<< ours\n{}", "merge"),
        ("tools.json", '{"tools": {"a": 1}}', "not a contract"),
        ("tools.json", '{"tools": [{"name": "a"}, {"name": "a"}]}', "not a contract"),
        ("tools.json", "[" * 100_000, "not a contract"),
        ("tools.sha256", None, "does not belong"),
        ("tools.sha256", f"{'0' * 64}  tools\n", "does not belong"),
    ],
)
def test_a_file_that_was_lost_or_edited_is_drift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, word: str
) -> None:
    """Missing, merged badly or edited by hand: one sentence that says what to do, and exit code 4."""
    run("write", current=contract(), root=tmp_path)
    if content is None:
        (tmp_path / "schema" / name).unlink()
    else:
        (tmp_path / "schema" / name).write_text(content)

    assert run("check", current=contract(), root=tmp_path) == 4
    told = capsys.readouterr()
    assert word in told.out + told.err
    assert "make schema" in told.out + told.err


def test_what_no_rule_knows_is_still_drift(tmp_path: Path) -> None:
    """A value that differs in the file and in no change that can be named fails all the same."""
    run("write", current=contract(), root=tmp_path)
    edited = contract()
    edited["declared"]["gone"] = {"scopes": []}
    (tmp_path / "schema/tools.json").write_text(dump(edited))

    assert run("check", current=contract(), root=tmp_path) == 4


def git(root: Path, *arguments: str) -> None:
    """Run git with a name and an address of its own."""
    person = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *person, *arguments], cwd=root, check=True, capture_output=True, timeout=20)


@pytest.fixture(params=["", "services/weather"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with a released contract, at the root of its repository and below it."""
    root = tmp_path / request.param
    root.mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text('[project]\nname = "weather"\nversion = "1.2.0"\n')
    git(tmp_path, "init", "--quiet")
    run("write", current=contract("1.0.0"), root=root)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Release")
    git(tmp_path, "tag", "v1.2.0")
    return root


def test_any_revision_can_be_compared_with(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pull request shows, in Markdown, what it changes for clients since a tag or a branch."""
    current = contract("1.2.0", **BREAKING)
    run("write", current=current, root=project)

    assert run("diff", current=current, root=project) == 0
    capsys.readouterr()
    for revision in ("v1.2.0", "HEAD", "HEAD~0"):
        assert run("diff", current=current, root=project, against=revision) == 4
        assert "- **breaking** `b_tool inputSchema.n`: `accepted → refused`" in capsys.readouterr().out
    assert run("diff", current=contract("1.2.0"), root=project, against="v1.2.0") == 0


@pytest.mark.parametrize(
    ("change", "version", "code"),
    [
        (BREAKING, "1.2.0", 4),
        # The version of the contract's file is 1.0.0, but 1.2.0 was released with it.
        (BREAKING, "1.3.0", 4),
        (BREAKING, "2.0.0", 0),
        (WIDER, "1.2.0", 0),
        ({"description": "Count."}, "1.2.0", 0),
    ],
)
def test_a_breaking_change_needs_a_new_major_version(
    project: Path, capsys: pytest.CaptureFixture[str], change: Json, version: str, code: int
) -> None:
    """A change that is committed and reviewed fails nevertheless if clients break and the version hides it."""
    current = contract(version, **change)
    run("write", current=current, root=project)

    assert run("check", current=current, root=project) == 0
    assert run("check", current=current, root=project, against="v1.2.0") == code
    told = capsys.readouterr().out
    assert ("pyproject.toml" in told and "the version was 1.2.0" in told) == bool(code)


def test_a_version_that_the_build_decides_is_taken_from_the_contract(project: Path) -> None:
    """Without a static version in pyproject.toml the contract's own version counts."""
    (project / "pyproject.toml").write_text('[project]\nname = "weather"\ndynamic = ["version"]\n')
    git(project, "commit", "--quiet", "--all", "--message", "Dynamic")
    current = contract("1.9.0", **BREAKING)
    run("write", current=current, root=project)

    assert run("check", current=current, root=project, against="HEAD") == 4
    assert run("check", current={**current, "version": "2.0.0"}, root=project, against="HEAD") == 0


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD\n", "[tool.x]\n", None])
def test_a_version_that_cannot_be_read_is_not_the_one_of_the_contract(
    project: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """An older version in the contract would let a break through: without `pyproject.toml` nothing is compared."""
    if text is None:
        (project / "pyproject.toml").unlink()
    else:
        (project / "pyproject.toml").write_text(text)
    git(project, "commit", "--quiet", "--all", "--message", "Damage")
    current = contract("2.0.0", **BREAKING)
    run("write", current=current, root=project)

    assert run("check", current=current, root=project, against="HEAD") == 2
    assert "pyproject.toml at HEAD cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("revision", ["nowhere", "--output=/tmp/x", "HEAD:schema", ""])
def test_a_revision_that_is_not_there_is_wrong_usage(
    project: Path, capsys: pytest.CaptureFixture[str], revision: str
) -> None:
    """One sentence and exit code 2; an option is never passed on to git."""
    for action in ("diff", "check"):
        assert run(action, current=contract(), root=project, against=revision) == 2
        assert "is not a git revision here" in capsys.readouterr().err


def test_a_revision_before_the_first_contract_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A revision without the file is told apart from one that does not exist."""
    git(project, "rm", "--quiet", "-r", "schema")
    git(project, "commit", "--quiet", "--message", "Remove")

    assert run("diff", current=contract(), root=project, against="HEAD") == 2
    assert "has no schema/tools.json" in capsys.readouterr().err


def test_without_git_there_is_a_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine without git says so instead of showing a traceback."""
    monkeypatch.setenv("PATH", str(project))

    assert run("diff", current=contract(), root=project, against="HEAD") == 2
    assert "git" in capsys.readouterr().err


def test_a_git_that_hangs_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may ask for a password that nobody types: after half a minute there is a sentence, and exit code 2."""
    monkeypatch.setattr(revisions, "GIT_SECONDS", 0.1)
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 20\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert run("diff", current=contract(), root=tmp_path, against="HEAD") == 2
    assert "git does not answer" in capsys.readouterr().err


def test_the_given_tools_stay_as_they_are() -> None:
    """Making the contract changes nothing about the tools it was made from."""
    before = copy.deepcopy(TOOLS)
    canonical(TOOLS, DISCOVERY, None)

    assert before == TOOLS
