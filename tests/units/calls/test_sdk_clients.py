"""The whole corpus of the SDK's words in one server, with the clients that people use.

Every tool, prompt, resource and template is listed and asked for, in both eras where the client has them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from captured import captured
from live import ENVIRONMENT, KEY, Live, settings_from
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference
from support import node
from units.calls import test_sdk_primitives as primitives
from units.calls import test_sdk_words as words

from hardening import Context, HardeningSettings, harden

if TYPE_CHECKING:
    from pathlib import Path

LISTINGS = ("prompts", "resources", "templates")
# An address that is none: templates without a scheme are served as in the SDK.
NO_ADDRESS = "no scheme"


def told() -> list[tuple[Any, str | None]]:
    """Return every function that is given one value, and the text that it is given, if any."""
    read = [(*primitives.SERVED[row], primitives.EMPTY)[:3] for row in primitives.SERVED]
    read += [(hint, text, primitives.EMPTY) for hint, text, _ in primitives.READ_HERE.values()]
    read += [(float, text, primitives.EMPTY) for text in primitives.REFUSED_HERE.values()]
    functions = [
        (primitives.told(hint, default), None if text is primitives.EMPTY else str(text))
        for hint, text, default in read
    ]
    return functions + [(function, "a") for function in primitives.FUNCTIONS.values()]


def declare_prompts(server: Any) -> dict[str, dict[str, str]]:
    """Declare every prompt; return what each is asked with."""
    asked: dict[str, dict[str, str]] = {}
    for number, (function, text) in enumerate(told()):
        server.prompt(name=f"told_{number}")(function)
        asked[f"told_{number}"] = {} if text is None else {"value": text}
    for number, make in enumerate(primitives.MESSAGES.values()):
        server.prompt(name=f"message_{number}")(primitives.giving(make, blocking=False))
        asked[f"message_{number}"] = {}
    fields = {name: primitives.DECLARED[name] for name in ("title", "description", "icons")}
    server.prompt(name="declared", **fields)(primitives.giving(lambda: "a", blocking=True))

    @server.prompt()
    async def several(count: int, ctx: Context) -> list[Any]:
        """Answer with messages of every kind."""
        return [f"{count} {ctx.read_only}", words.PICTURE, words.SOUND, words.PAGE, words.FILE]

    _ = several
    return asked | {"declared": {}, "several": {"count": "1"}}


def declare_resources(server: Any) -> list[str]:
    """Declare every resource and every template, each under a scheme of its own; return the addresses to read."""
    asked: list[str] = []
    for number, (function, text) in enumerate(told()):
        server.resource(f"told{number}://{{value}}", name="told")(function)
        if text:
            asked.append(f"told{number}://" + "".join(f"%{byte:02X}" for byte in text.encode()))
    for number, make in enumerate(primitives.CONTENTS.values()):
        server.resource(f"static{number}://b")(primitives.giving(make, blocking=False))
        server.resource(f"template{number}://{{value}}")(primitives.giving(make, blocking=False, parameter=True))
        asked += [f"static{number}://b", f"template{number}://b"]
    for number, (row, (function, template, address)) in enumerate(primitives.TEMPLATES.items()):
        if row != NO_ADDRESS:
            server.resource(template.replace("a://", f"of{number}://"), name="template")(function)
            asked.append(address.replace("a://", f"of{number}://").replace("A://", f"OF{number}://"))
    for address, parameter in (("declared://b", False), ("declared-template://{value}", True)):
        function = primitives.giving(lambda: b"a", blocking=False, parameter=parameter)
        server.resource(address, **primitives.DECLARED)(function)
    return [*asked, "declared://b", "declared-template://b", "nowhere://b"]


def declare_completion(server: Any) -> dict[str, Any]:
    """Declare what completes; return what it is asked: each row for a prompt and for a template."""
    completed = primitives.COMPLETED | primitives.CUT

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return completed[argument.value](ref, argument, context)

    _ = complete
    refs = (
        PromptReference(type="ref/prompt", name="several"),
        ResourceTemplateReference(type="ref/resource", uri="declared-template://{value}"),
    )
    return {
        f"{row} of {ref.type}": {
            "ref": ref.model_dump(mode="json", by_alias=True, exclude_none=True),
            "argument": {"name": "value", "value": row},
            "context": {"arguments": {"other": "b"}},
        }
        for row in completed
        for ref in refs
    }


class Corpus:
    """The server, and what to ask it for."""

    def __init__(self, settings: HardeningSettings) -> None:
        functions, calls = words.corpus()
        self.server = harden(settings, tools=functions)
        self.asked: dict[str, Any] = {
            "tools": calls,
            "prompts": declare_prompts(self.server),
            "resources": declare_resources(self.server),
            "completions": declare_completion(self.server),
        }

    async def answers(self) -> dict[str, Any]:
        """Return what the SDK's own client gets, as JSON; for an error of the protocol its code."""
        asked = self.asked
        async with Client(self.server) as client:
            questions = {f"prompt {name}": client.get_prompt(name, given) for name, given in asked["prompts"].items()}
            questions |= {f"resource {uri}": client.read_resource(uri) for uri in asked["resources"]}
            for what, one in asked["completions"].items():
                kind = PromptReference if one["ref"]["type"] == "ref/prompt" else ResourceTemplateReference
                asking = client.complete(kind(**one["ref"]), one["argument"], one["context"]["arguments"])
                questions[f"completion {what}"] = asking
            found: dict[str, Any] = {}
            for what, question in questions.items():
                try:
                    answer: Any = await question
                except MCPError as error:
                    found[what] = error.error.code
                    continue
                whole = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
                found[what] = whole[{"p": "messages", "r": "contents", "c": "completion"}[what[0]]]
            return found

    async def listings(self) -> dict[str, Any]:
        """Return what the SDK's own client is shown, as JSON."""
        async with Client(self.server) as client:
            found: dict[str, Any] = {
                "prompts": (await client.list_prompts()).prompts,
                "resources": (await client.list_resources()).resources,
                "templates": (await client.list_resource_templates()).resource_templates,
            }
        return {
            kind: [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in entries]
            for kind, entries in found.items()
        }


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The whole corpus."""
    # More calls than a person makes in a minute.
    plenty = {"MCP_RATE_PRINCIPAL_PER_MINUTE": "100000", "MCP_RATE_TOOL_PER_MINUTE": "100000"}
    return Corpus(settings_from(ENVIRONMENT | plenty))


@pytest.fixture(scope="module")
def expected(corpus: Corpus) -> dict[str, Any]:
    """What the SDK's own client gets."""

    async def ask() -> dict[str, Any]:
        return {"answers": await corpus.answers(), "listings": await corpus.listings()}

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def served(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The whole corpus on a socket; what its failures log goes to a file."""
    log = tmp_path_factory.mktemp("corpus") / "log"
    with Live(corpus.server.hardening_settings, lambda _: corpus.server) as running, captured(log):
        yield running


@pytest.mark.parametrize(
    "client",
    [
        (node.TYPESCRIPT_1, "1", {}),
        (node.TYPESCRIPT_2, "2", {}),
        (node.TYPESCRIPT_2, "2", {"versionNegotiation": {"mode": "auto"}}),
    ],
    ids=["v1", "v2", "v2, modern"],
)
def test_clients_in_typescript_accept_every_listing_and_every_result(
    corpus: Corpus, served: Live, expected: dict[str, Any], tmp_path: Path, client: tuple[Any, str, dict[str, Any]]
) -> None:
    """They compile every schema and every pattern, check each result against it, formats included, and lose nothing."""
    package, major, options = client
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps(corpus.asked), "utf-8")
    folders = (node.package(*package), major, node.package(*node.TYPESCRIPT_1))
    command = [node.NODE, node.SUPPORT / "typescript_client.mjs", *folders, f"{served.url}/mcp", KEY, asked]
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env={"OPTIONS": json.dumps(options)}
    )

    assert ran.returncode == 0, ran.stderr[-2000:]
    said = json.loads(ran.stdout)
    before = len(words.ARGUMENTS) + len(words.RESULTS) + len(words.WRITTEN)
    failed = {f"row_{before + at}" for at, row in enumerate((*words.CONTENT, *words.UNTOLD)) if "failed" in row}
    calls = corpus.asked["tools"]
    assert said["refused"] == {}
    assert len(said["listed"]["tools"]) == len(calls)
    assert {name for name in calls if said["listed"][name] == "failed"} == failed
    assert said["answers"] == expected["answers"]
    assert {kind: said["listed"][kind] for kind in LISTINGS} == expected["listings"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/list", "resources/templates/list"])
def test_the_inspector_finds_nothing_to_complain_of(corpus: Corpus, served: Live, method: str, era: str) -> None:
    """Its strict check of schemas passes over the whole corpus, and it shows every entry."""
    inspector = node.command(*node.INSPECTOR, "mcp-inspector")
    usual = ("--cli", f"{served.url}/mcp", "--transport", "http", "--protocol-era", era, "--format", "json", "-q")
    strict = ("--strict",) if method == "tools/list" else ()
    command = [*inspector, *usual, "--method", method, *strict, "--header", f"Authorization: Bearer {KEY}"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stderr[-2000:]
    names = {
        "tools/list": corpus.asked["tools"],
        "prompts/list": corpus.asked["prompts"],
        "resources/list": [uri for uri in corpus.asked["resources"] if uri.startswith(("static", "declared:"))],
        "resources/templates/list": [f"told{number}://{{value}}" for number in range(len(told()))],
    }
    assert all(f'"{name}"' in ran.stdout for name in names[method])
