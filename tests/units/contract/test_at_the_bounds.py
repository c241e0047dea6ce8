"""Rows of the contract's comparison where one word of a rule decides: what is breaking, compatible, or a text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.types import Tool

from hardening.contract import command
from hardening.contract.command import _wire
from hardening.contract.diff import diff, version_ok
from hardening.contract.report import Change
from hardening.contract.subset import Difference, differences, texts
from hardening.contract.subset.node import Node, Unprovable, bare
from hardening.settings import HardeningSettings

TOOL = {"name": "t", "inputSchema": {"type": "object"}}


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what has changed between two contracts of one tool."""
    found = diff({"tools": [TOOL]} | old, {"tools": [TOOL]} | new)
    return [(change.kind, change.tool, change.field, change.sentence) for change in found]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"ui": {"t": {"visibility": ["model"]}}}, {"ui": {"t": {"visibility": ["app"]}}}, ("breaking", "t")),
        ({}, {"ui": {"t": {"visibility": ["app"]}}}, ("text", "t")),
        ({"ui": {"t": {"sha256": "a"}}}, {"ui": {"t": {"sha256": "b"}}}, ("text", "t")),
        ({"discovery": {"capabilities": {"x": ["a"]}}}, {"discovery": {"capabilities": {"x": "a"}}}, ("breaking", "")),
        ({"discovery": {"capabilities": {"x": "a"}}}, {"discovery": {"capabilities": {"x": ["a"]}}}, ("breaking", "")),
        ({"discovery": {"x": ["a"]}}, {"discovery": {"x": ["b", "a"]}}, ("compatible", "")),
        ({"discovery": {"x": ["a", "b"]}}, {"discovery": {"x": ["a"]}}, ("breaking", "")),
        ({"discovery": {"x": False}}, {"discovery": {"x": True}}, ("compatible", "")),
        ({"discovery": {}}, {"discovery": {"x": True}}, ("compatible", "")),
        ({"discovery": {"x": True}}, {"discovery": {"x": False}}, ("breaking", "")),
        ({"resource": {}}, {"resource": {"x": True}}, ("breaking", "")),
        ({"resource": {"resource_name": "a"}}, {"resource": {"resource_name": "b"}}, ("text", "")),
        ({"discovery": {"instructions": "a"}}, {"discovery": {}}, ("text", "")),
        ({"declared": {"t": {}}}, {"declared": {"t": {"scopes": ["a"]}}}, ("breaking", "t")),
        ({"declared": {"t": {"scopes": ["a"]}}}, {"declared": {}}, ("compatible", "t")),
    ],
)
def test_the_kind_of_a_change(old: dict[str, Any], new: dict[str, Any], found: tuple[str, str]) -> None:
    """One change, and what it means to clients."""
    ((kind, tool, _, _),) = changes(old, new)

    assert (kind, tool) == found


@pytest.mark.parametrize(
    ("old", "new", "good"),
    [
        ("1.2.3", "2.0.0", True),
        ("1.2.3", "1.3.0", False),
        ("0.2.3", "0.3.0", True),
        ("0.2.3", "0.2.4", False),
        ("0.2.3", "1.0.0", True),
        ("1.2.3", "0.9.0", False),
        ("v1.2", "v2.0", True),
        ("x", "2.0", False),
        ("1.0", "x", False),
    ],
)
def test_a_version_that_is_raised_enough(old: str, new: str, good: bool) -> None:  # noqa: FBT001 - a column
    """A new major version, below 1.0 a new minor one; nothing breaks without a breaking change."""
    assert version_ok([Change("text", "", "", ""), Change("breaking", "", "", "")], old, new) is good
    assert version_ok([Change("text", "", "", "")], "1.0", "1.0")


def test_texts_are_found_along_the_keywords() -> None:
    """A property may be called as a keyword is, and what stands below an unknown keyword is no schema."""
    schema = {
        "title": "a",
        "items": {"title": "b"},
        "properties": {"title": {"description": "c"}},
        "$defs": {"x": {"title": "d"}},
        "anyOf": [{"title": "e"}],
        "not": {"title": "f"},
        "x-list": [{"title": "no"}],
        "x-mapping": {"title": "no"},
    }

    assert list(texts(schema)) == [
        ("", "title", "a"),
        ("[]", "title", "b"),
        (".title", "description", "c"),
        (".$defs.x", "title", "d"),
        (".anyOf[0]", "title", "e"),
        (".not", "title", "f"),
    ]
    assert bare(schema) == {
        "items": {},
        "properties": {"title": {}},
        "$defs": {"x": {}},
        "anyOf": [{}],
        "not": {},
        "x-list": [{"title": "no"}],
        "x-mapping": {"title": "no"},
    }
    dialect = "https://json-schema.org/draft/2020-12/schema"
    assert bare({"$schema": dialect, "items": {"$schema": "other", "type": "string"}, "enum": ["title"]}) == {
        "items": {"$schema": "other", "type": "string"},
        "enum": ["title"],
    }


def test_of_several_promises_the_nearest_is_told() -> None:
    """The one that lacks least."""
    promises = {"allOf": [{"type": "string"}, {"type": "string", "minLength": 5}]}
    demand = {"type": "string", "minLength": 5, "pattern": "a"}

    assert differences(promises, demand) == [Difference("", "pattern", "none", '"a"')]


def test_a_tool_is_published_as_it_goes_over_the_wire() -> None:
    """With the names of the protocol, and without what is not there."""
    assert _wire(Tool(name="a", input_schema={"type": "object"})) == {"name": "a", "inputSchema": {"type": "object"}}


def test_what_a_reference_names() -> None:
    """A definition of the document, however its name is written; what is encoded otherwise proves nothing."""
    root = {"$defs": {"a/b~": {"type": "null"}, "a%20b": {}, "x": {}}, "definitions": {"y": True}}
    node = Node({}, root)

    assert node.target("#").schema == root
    assert node.target("#/$defs/a~1b~0").schema == {"type": "null"}
    assert node.target("#/definitions/y").schema == {}
    for reference in ("#/$defs/a%20b", "#/$defs/missing", "#/other/x", "https://h/$defs/x", "#/$defs", 5):
        with pytest.raises(Unprovable):
            node.target(reference)
    with pytest.raises(Unprovable):
        Node({}, {"$defs": []}).target("#/$defs/x")


@pytest.mark.parametrize(
    ("promise", "demand", "found"),
    [
        ({"type": "integer"}, {"multipleOf": 2}, ("multipleOf", "none", "2")),
        ({"type": "integer", "multipleOf": 3}, {"multipleOf": 2}, ("multipleOf", "3", "2")),
        ({"type": "integer", "multipleOf": 4}, {"multipleOf": 2}, None),
        ({"type": "integer", "enum": [2, 4]}, {"multipleOf": 2}, None),
        ({"type": "integer", "minimum": 1}, {"minimum": 2}, ("minimum", "1", "2")),
        ({"type": "integer", "exclusiveMinimum": 1}, {"minimum": 2}, None),
        ({"type": "number", "exclusiveMinimum": 1}, {"minimum": 2}, ("minimum", "above 1", "2")),
        ({"type": "integer", "maximum": 3}, {"exclusiveMaximum": 3}, ("maximum", "3", "below 3")),
        ({"type": "string", "maxLength": 3}, {"maxLength": 2}, ("maxLength", "3", "2")),
        ({"type": "string", "enum": ["ab"]}, {"maxLength": 2, "minLength": 2}, None),
        ({"type": "string"}, {"format": "date"}, ("format", "none", '"date"')),
        ({"type": "number"}, {"type": "integer"}, ("type", "number", "integer")),
        ({"enum": [1, 2]}, {"enum": [1]}, ("value 2", "accepted", "refused")),
        ({"type": "integer"}, {"enum": [1]}, ("values", "any", "1")),
    ],
)
def test_one_rule_of_single_values(promise: Any, demand: Any, found: tuple[str, str, str] | None) -> None:
    """What is demanded and not promised, with both sides as they are written."""
    expected = [] if found is None else [Difference("", *found)]

    assert differences(promise, {"type": promise.get("type", "integer")} | demand) == expected


def test_the_command_does_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Action and revision go on as they were given; nothing of the log is shown below a warning."""
    given: list[Any] = []
    server = SimpleNamespace(declared={})

    async def published(_: object) -> dict[str, Any]:
        return {"tools": []}

    monkeypatch.setattr(command, "published", published)
    monkeypatch.setattr(command, "built_or_exit", lambda *_: server)
    monkeypatch.setattr(command.logs, "configure", lambda **options: given.append(options))
    monkeypatch.setattr(command, "run", lambda action, **options: given.append((action, options)) or 4)

    assert command.main(["diff", "--against", "v1"], HardeningSettings, lambda _: server) == 4  # type: ignore[arg-type]
    assert given == [
        {"level": "warning", "fmt": "console"},
        ("diff", {"current": {"tools": []}, "root": Path.cwd(), "against": "v1"}),
    ]
