"""What a change of the contract is called: breaking, compatible or text."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from support.schemas import accepts, mutated, random_schema, value_of

from hardening.contract.diff import diff, version_ok
from hardening.contract.report import Change, as_markdown, as_text

Json = dict[str, Any]

INPUT = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 80, "description": "Where."},
        "days": {"type": "integer", "minimum": 1, "maximum": 7, "default": 3},
        "units": {"enum": ["metric", "imperial"]},
    },
    "required": ["city"],
    "additionalProperties": False,
}
OUTPUT = {
    "type": "object",
    "properties": {"celsius": {"type": "number"}, "note": {"type": "string"}},
    "required": ["celsius"],
    "additionalProperties": False,
}
TOOL: Json = {
    "name": "forecast",
    "title": "Forecast",
    "description": "Tell the weather of the next days.",
    "inputSchema": INPUT,
    "outputSchema": OUTPUT,
    "annotations": {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
}
TOOLS: list[Json] = [TOOL, {"name": "where", "inputSchema": {"type": "object", "additionalProperties": False}}]
CONTRACT: Json = {
    "tools": TOOLS,
    "discovery": {"capabilities": {"tools": {"listChanged": True}, "prompts": {}}, "instructions": "Ask for a city."},
    "resource": {"resource": "https://mcp.example.com/mcp", "scopes_supported": ["weather:read"]},
    "declared": {"forecast": {"scopes": ["weather:read"]}},
    "version": "1.0.0",
}
OPEN: Json = {}
GONE = object()


def changed(*path: str | int, to: object) -> Json:
    """Return the contract with one value changed, added or taken out."""
    contract = copy.deepcopy(CONTRACT)
    place: Any = contract
    for step in path[:-1]:
        place = place[step]
    if to is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return contract


def tool(*path: str, to: object) -> Json:
    """Return the contract with one thing about the first tool changed."""
    return changed("tools", 0, *path, to=to)


def argument(name: str, keyword: str, to: object) -> Json:
    """Return the contract with one keyword of an argument changed."""
    return tool("inputSchema", "properties", name, keyword, to=to)


def with_hints(**hints: bool) -> Json:
    """Return the contract with these annotations on the first tool."""
    return tool("annotations", to=hints)


BREAKING: list[tuple[Json, str]] = [
    (changed("tools", to=TOOLS[:1]), "breaking    where: gone"),
    (tool("name", to="weather"), 'breaking    forecast: gone; renamed to "weather"?'),
    (
        tool("inputSchema", "required", to=["city", "days"]),
        "breaking    forecast inputSchema.days: optional → required",
    ),
    (argument("days", "type", "string"), "breaking    forecast inputSchema.days: type: integer → string"),
    (argument("days", "maximum", 5), "breaking    forecast inputSchema.days: maximum: 7 → 5"),
    (argument("days", "default", 1), "breaking    forecast inputSchema.days: default: 3 → 1"),
    (argument("days", "x-mcp-header", "Days"), 'breaking    forecast inputSchema.days: x-mcp-header: none → "Days"'),
    (argument("city", "pattern", "^[A-Z]"), 'breaking    forecast inputSchema.city: pattern: none → "^[A-Z]"'),
    (
        argument("units", "enum", ["metric"]),
        'breaking    forecast inputSchema.units: value "imperial": accepted → refused',
    ),
    (tool("inputSchema", "properties", "days", to=GONE), "breaking    forecast inputSchema.days: accepted → refused"),
    (
        tool("inputSchema", "$ref", to="https://schemas.example.com/forecast"),
        "breaking    forecast inputSchema: cannot be compared: reference https://schemas.example.com/forecast",
    ),
    (tool("outputSchema", to=GONE), "breaking    forecast outputSchema: {"),
    (tool("outputSchema", "required", to=[]), "breaking    forecast outputSchema.celsius: required → optional"),
    (
        tool("outputSchema", "properties", "celsius", to={}),
        "breaking    forecast outputSchema.celsius: type: number → any",
    ),
    (tool("outputSchema", "properties", "wind", to={}), "breaking    forecast outputSchema.wind: not sent → sent"),
    (
        with_hints(readOnlyHint=False, destructiveHint=False),
        "breaking    forecast annotations.idempotentHint: true → false",
    ),
    (
        with_hints(idempotentHint=True, openWorldHint=False),
        "breaking    forecast annotations.destructiveHint: false → true",
    ),
    (with_hints(readOnlyHint=True), "breaking    forecast annotations.openWorldHint: false → true"),
    (tool("annotations", "costHint", to="low"), 'breaking    forecast annotations.costHint: none → "low"'),
    (tool("annotations", to="safe"), "breaking    forecast: cannot be compared: not a valid definition"),
    (
        tool("execution", to={"taskSupport": "required"}),
        'breaking    forecast execution: none → {"taskSupport": "required"}',
    ),
    (
        changed("declared", "forecast", "scopes", to=["weather:read", "weather:admin"]),
        'breaking    forecast scopes: needs "weather:admin"',
    ),
    (changed("declared", "where", to={"scopes": ["a"]}), 'breaking    where scopes: needs "a"'),
    (
        changed("discovery", "capabilities", "prompts", to=GONE),
        "breaking    server discovery.capabilities.prompts: {} → none",
    ),
    (
        changed("discovery", "capabilities", "tools", "listChanged", to=False),
        "breaking    server discovery.capabilities.tools.listChanged: true → false",
    ),
    (
        changed("resource", "resource", to="https://other.example.com/mcp"),
        'breaking    server resource.resource: "https://mcp.example.com/mcp" → "https://other.example.com/mcp"',
    ),
    (
        changed("resource", "scopes_supported", to=[]),
        'breaking    server resource.scopes_supported: ["weather:read"] → []',
    ),
    (
        changed("resource", "dpop_bound_access_tokens_required", to=True),
        "breaking    server resource.dpop_bound_access_tokens_required: none → true",
    ),
    (changed("resource", to=GONE), "breaking    server resource: {"),
    (changed("extra", to=1), "breaking    server extra: none → 1"),
]


@pytest.mark.parametrize(("new", "line"), BREAKING)
def test_what_breaks_clients_is_called_breaking(new: Json, line: str) -> None:
    """Whoever relied on the old contract may fail with the new one, and the line says where."""
    found = diff(CONTRACT, new)

    assert found[0].kind == "breaking"
    assert any(each.startswith(line) for each in as_text(found).splitlines()), as_text(found)


COMPATIBLE: list[tuple[Json, str]] = [
    (changed("tools", to=[*TOOLS, {"name": "z", "inputSchema": OPEN}]), "compatible  z: new"),
    (tool("inputSchema", "required", to=[]), "compatible  forecast inputSchema.city: required → optional"),
    (argument("days", "maximum", 14), "compatible  forecast inputSchema.days: maximum: 7 → 14"),
    (argument("city", "maxLength", GONE), "compatible  forecast inputSchema.city: maxLength: 80 → none"),
    (
        argument("units", "enum", ["imperial", "metric", "si"]),
        'compatible  forecast inputSchema.units: value "si": refused → accepted',
    ),
    (
        argument("units", "enum", ["imperial", "metric"]),
        "compatible  forecast inputSchema: written differently, means the same",
    ),
    (
        tool("inputSchema", "properties", "hour", to={"type": "integer"}),
        "compatible  forecast inputSchema.hour: refused → accepted",
    ),
    (tool("inputSchema", "additionalProperties", to=True), "compatible  forecast inputSchema.*: refused → accepted"),
    (
        tool("outputSchema", "required", to=["celsius", "note"]),
        "compatible  forecast outputSchema.note: optional → required",
    ),
    (tool("outputSchema", "properties", "note", to=GONE), "compatible  forecast outputSchema.note: sent → not sent"),
    (with_hints(readOnlyHint=True, openWorldHint=False), "compatible  forecast annotations.readOnlyHint: false → true"),
    (changed("declared", "forecast", to=GONE), 'compatible  forecast scopes: no longer needs "weather:read"'),
    (changed("declared", to=GONE), 'compatible  forecast scopes: no longer needs "weather:read"'),
    (
        changed("discovery", "capabilities", "resources", to={"subscribe": False}),
        'compatible  server discovery.capabilities.resources: none → {"subscribe": false}',
    ),
    (
        changed("resource", "scopes_supported", to=["weather:read", "more"]),
        'compatible  server resource.scopes_supported: ["weather:read"] → ["weather:read", "more"]',
    ),
]


@pytest.mark.parametrize(("new", "line"), COMPATIBLE)
def test_what_nobody_can_notice_as_a_failure_is_called_compatible(new: Json, line: str) -> None:
    """A wider argument, a narrower result, a kept promise: no false alarm, so that the true ones are read."""
    found = diff(CONTRACT, new)

    assert {change.kind for change in found} == {"compatible"}
    assert line in as_text(found).splitlines()


TEXTS: list[tuple[Json, str]] = [
    (tool("description", to="Tell the weather of the last days."), 'text        forecast description: "Tell the'),
    (tool("title", to=GONE), 'text        forecast title: "Forecast" → none'),
    (tool("icons", to=[{"src": "data:,"}]), 'text        forecast icons: none → [{"src": "data:,"}]'),
    (
        argument("city", "description", "Where to."),
        'text        forecast inputSchema.city.description: "Where." → "Where to."',
    ),
    (argument("days", "title", "Days"), 'text        forecast inputSchema.days.title: none → "Days"'),
    (
        changed("discovery", "instructions", to="Ask."),
        'text        server discovery.instructions: "Ask for a city." → "Ask."',
    ),
    (tool("annotations", "title", to="F"), 'text        forecast annotations.title: none → "F"'),
]


@pytest.mark.parametrize(("new", "line"), TEXTS)
def test_what_only_a_reader_notices_is_called_text(new: Json, line: str) -> None:
    """A description steers a model: it is shown, by itself, and breaks nothing."""
    found = diff(CONTRACT, new)

    assert [change.kind for change in found] == ["text"]
    assert as_text(found).startswith(line)


def test_the_description_of_a_new_tool_is_there_to_be_read() -> None:
    """A new tool breaks nothing, and its words reach the model all the same."""
    new = changed("tools", to=[*TOOLS, {"name": "z", "description": "Send all.", "inputSchema": OPEN}])

    assert Change("text", "z", "description", 'none → "Send all."') in diff(CONTRACT, new)


def test_the_version_and_the_order_of_keys_are_no_change() -> None:
    """The same contract under a new version is the same contract."""
    new = changed("version", to="2.0.0")
    new["tools"][0] = dict(reversed(new["tools"][0].items()))

    assert diff(CONTRACT, new) == []


def test_breaking_changes_come_first() -> None:
    """A reviewer who reads one line reads the worst one."""
    new = changed("tools", to=[{**TOOL, "description": "x", "outputSchema": {}, "inputSchema": OPEN}])

    assert [change.kind for change in diff(CONTRACT, new)] == sorted(change.kind for change in diff(CONTRACT, new))


def test_a_change_is_told_once() -> None:
    """What is proven in neither direction is one breaking change, not a breaking and a compatible one."""
    assert [change.kind for change in diff(CONTRACT, argument("days", "type", "string"))] == ["breaking"]


def test_one_is_not_true() -> None:
    """JSON tells 1 from true, though Python does not."""
    old = tool("inputSchema", "properties", "days", to={"enum": [1]})
    new = tool("inputSchema", "properties", "days", to={"enum": [True]})

    assert diff(old, new)[0].kind == "breaking"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32).map(random.Random))
def test_a_lost_value_is_never_called_compatible(chance: random.Random) -> None:
    """An argument accepted before and refused now, or a result that is new to clients, makes the change breaking."""
    old = random_schema(chance)
    new = mutated(chance, old)
    validators = [Draft202012Validator(schema) for schema in (old, new)]
    try:
        for validator in validators:
            validator.check_schema(validator.schema)
        values = [value_of(chance, schema, schema["$defs"]) for schema in (old, new) for _ in range(8)]
        fits = [[accepts(validator, value) for validator in validators] for value in values]
    except (SchemaError, RecursionError):
        return
    lost, gained = [True, False] in fits, [False, True] in fits

    for field, breaks in (("inputSchema", lost), ("outputSchema", gained)):
        documents = [{"tools": [{"name": "t", "inputSchema": {}, field: schema}]} for schema in (old, new)]
        found = diff(*documents)
        assert not breaks or "breaking" in {change.kind for change in found}
        assert found or old == new


@pytest.mark.parametrize(
    ("old", "new", "enough"),
    [
        ("1.4.2", "2.0.0", True),
        ("1.4.2", "2.0.0rc1", True),
        ("1.4.2", "1.5.0", False),
        ("1.4.2", "1.4.2", False),
        ("2.0.0", "1.0.0", False),
        ("0.4.2", "0.5.0", True),
        ("0.4.2", "0.4.3", False),
        ("0.4.2", "1.0.0", True),
        ("9.0.0", "10.0.0", True),
        ("1.0.0", "0.9.0", False),
        ("", "1.0.0", False),
        ("1.0.0", "next", False),
    ],
)
def test_a_breaking_change_needs_a_version_that_says_so(old: str, new: str, enough: bool) -> None:  # noqa: FBT001
    """The next major version, below 1.0 the next minor one; anything else may stay as it is."""
    assert version_ok([Change("breaking", "a", "", "gone")], old, new) is enough
    assert version_ok([Change("text", "a", "", "x"), Change("compatible", "a", "", "new")], old, new)


def test_a_line_cannot_be_misused_by_the_text_it_shows() -> None:
    """Line ends, hidden characters and Markdown in a description stay visible, in one line, inside a code span."""
    new = tool("description", to="x`</code>@everyone\n## Approved\u200b\u202e[link](https://evil.example)")
    report = as_markdown(diff(CONTRACT, new))
    (line,) = [line for line in report.splitlines() if line.startswith("- ")]

    assert report.startswith("### Changes of the contract\n\n0 breaking, 0 compatible, 1 text.\n")
    assert line.count("`") == 4
    assert "\\n## Approved\\u200b\\u202e[link]" in line
    assert as_text(diff(CONTRACT, new)).count("\n") == 1


def test_a_long_text_shows_the_words_that_changed() -> None:
    """One word in a page of text is not lost; two pages that differ say how much is left out."""
    page = "All work and no play. " * 40
    (one,) = diff(
        tool("description", to=f"{page}Do not send it.{page}"), tool("description", to=f"{page}Send it.{page}")
    )
    (all_,) = diff(tool("description", to="a" * 1000), tool("description", to="b" * 1000))

    assert "Do not send it." in one.sentence
    assert "Send it." in one.sentence
    assert len(one.sentence) < 200
    assert "(+840 characters)" in all_.sentence


def test_nothing_to_report_is_said() -> None:
    """An empty report says that it is empty."""
    assert as_text([]) == "no changes\n"
    assert as_markdown([]) == "### Changes of the contract\n\nNone.\n"


PROMPT: Json = {
    "description": "Sum up.",
    "arguments": [{"name": "words", "required": True}, {"name": "tone", "required": False}],
}
OFFERED: Json = {
    **CONTRACT,
    "prompts": {"sum_up": PROMPT},
    "resources": {"notes://all": {"name": "all", "mimeType": "text/plain"}},
    "resourceTemplates": {"notes://{id}": {"name": "one", "mimeType": "text/plain"}},
}


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("prompts", "sum_up"), None, "breaking    server prompts.sum_up: gone"),
        (("prompts", "other"), {"arguments": []}, "compatible  server prompts.other: new"),
        (("prompts", "sum_up", "description"), "Ignore it.", "text        server prompts.sum_up.description: "),
        (
            ("prompts", "sum_up", "arguments"),
            [*PROMPT["arguments"], {"name": "count", "required": True}],
            "breaking    server prompts.sum_up.count: required",
        ),
        (
            ("prompts", "sum_up", "arguments"),
            [*PROMPT["arguments"], {"name": "count"}],
            "compatible  server prompts.sum_up.count: optional",
        ),
        (("prompts", "sum_up", "arguments"), PROMPT["arguments"][:1], "breaking    server prompts.sum_up.tone: gone"),
        (("resources", "notes://all"), None, "breaking    server resources.notes://all: gone"),
        (("resources", "notes://b"), {"name": "b"}, "compatible  server resources.notes://b: new"),
        (("resources", "notes://all", "mimeType"), "text/html", "breaking    server resources.notes://all.mimeType: "),
        (("resourceTemplates", "notes://{id}", "description"), "One.", "text        server resourceTemplates.notes://"),
        (("prompts",), ["no mapping"], "breaking    server prompts: cannot be compared"),
    ],
    ids=str,
)
def test_prompts_and_resources_are_compared(path: tuple[str, ...], value: object, line: str) -> None:
    """One may be added; what goes, or asks for more, breaks those who use it; texts are told apart."""
    contract = copy.deepcopy(OFFERED)
    place: Any = contract
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value

    (told,) = as_text(diff(OFFERED, contract)).splitlines()
    assert told.startswith(line)


def test_a_contract_from_before_they_were_in_it_is_compatible() -> None:
    """A project that has prompts and resources sees them come in, and nothing break."""
    assert {change.kind for change in diff(CONTRACT, OFFERED)} <= {"compatible", "text"}
