"""What a tool must say about itself before it is served: a model acts on these words.

Runs at start and in the tests; a tool that breaks a rule is not served.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .tools import Tool

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
SHORTEST_DESCRIPTION = 20
LONGEST_DESCRIPTION = 1024

# Unicode categories that a person does not see: format, private use, surrogate.
HIDDEN = frozenset({"Cf", "Co", "Cs"})

# Text that steers a model past its user: commands, secrecy, other tools.
COMMANDS = re.compile(
    r"ignore (all |any )?(previous|other|prior)|do not (tell|mention|inform)|without telling"
    r"|before (using|calling) (this|any) (tool|function)|instead of (using|calling)"
    r"|you must (always|first|never)|<!--|system prompt",
    re.IGNORECASE,
)


def problems(tools: Iterable[Tool]) -> list[str]:
    """Return one sentence for each rule that a tool breaks; empty when all may be served."""
    return [f"{tool.name}: {problem}" for tool in tools for problem in _problems(tool)]


def _problems(tool: Tool) -> Iterator[str]:
    description = tool.wire().description or ""
    if not NAME.fullmatch(tool.name):
        yield "name it with letters, digits, _ . - only, at most 128"
    if not SHORTEST_DESCRIPTION <= len(description) <= LONGEST_DESCRIPTION:
        yield f"write a docstring of {SHORTEST_DESCRIPTION} to {LONGEST_DESCRIPTION} characters"
    if tool.declaration.read_only and tool.declaration.destructive:
        yield "it cannot be both read_only and destructive"
    for place, text in _texts(tool):
        if any(unicodedata.category(character) in HIDDEN for character in text):
            yield f"{place} has a hidden or bidirectional character"
        if COMMANDS.search(text):
            yield f"{place} gives the model a command; describe what the tool does instead"
    for path, schema in _schemas(tool.input_schema):
        yield from _unbounded(path, schema)


def _unbounded(path: str, schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("type") == "string" and not {"maxLength", "enum", "const", "format"} & schema.keys():
        yield f"{path}: bound the text, e.g. Field(max_length=200)"
    if schema.get("type") == "array" and "maxItems" not in schema:
        yield f"{path}: bound the list, e.g. Field(max_length=100)"
    if not str(schema.get("$ref", "#")).startswith("#"):
        yield f"{path}: the schema refers to another document"


def _texts(tool: Tool) -> Iterator[tuple[str, str]]:
    yield "name", tool.name
    yield "title", tool.declaration.title or ""
    yield "docstring", tool.function.__doc__ or ""
    for path, schema in _schemas(tool.input_schema):
        yield f"{path} description", str(schema.get("description", ""))


def _schemas(schema: Any, path: str = "arguments") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk a JSON schema and all schemas inside it."""
    if not isinstance(schema, dict):
        return
    here = cast("dict[str, Any]", schema)
    yield path, here
    for keyword in ("properties", "$defs"):
        for name, inner in cast("dict[str, Any]", here.get(keyword, {})).items():
            yield from _schemas(inner, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        yield from _schemas(here.get(keyword), f"{path}[]")
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in cast("list[Any]", here.get(keyword, [])):
            yield from _schemas(inner, path)
