"""Checks of declarations: names, descriptions, hidden characters, bounds of schemas (exit 78).

A tool that would mislead a model, or that clients cannot read, is not served.
Runs at start, in `make check` and in the tests.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any, cast

from mcp.shared.inbound import find_invalid_x_mcp_header
from pydantic_core import to_json

from .ecmascript import pattern_problem
from .switches import is_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..settings import HardeningSettings
    from .tool import Tool

# The specification allows 128; interfaces of models take 64, of tools and of arguments.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SHORTEST_DESCRIPTION = 20
LONGEST_DESCRIPTION = 1024
# Beyond these a client may refuse a schema, and a model gets lost in it (2026-07-28, JSON Schema).
LARGEST_SCHEMA_BYTES = 32_768
DEEPEST_SCHEMA = 10

# Unicode categories that a person does not see: control, format, private use, surrogate, unassigned, separators.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Characters of visible categories that are shown as nothing (Unicode, Default_Ignorable_Code_Point; braille blank).
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
LAYOUT = frozenset("\n\t")

# Text that steers a model past its user: commands, secrecy, other tools.
COMMANDS = re.compile(
    r"ignore (all |any )?(previous|other|prior)|do not (tell|mention|inform)|without telling"
    r"|before (using|calling) (this|any) (tool|function)|instead of (using|calling)"
    r"|you must (always|first|never)|<!--|system prompt",
    re.IGNORECASE,
)

# Formats whose values have a natural length.
BOUNDED_FORMATS = frozenset({"date", "date-time", "time", "duration", "uuid", "ipv4", "ipv6"})
# Of Python objects that have none: a bound of it fails in every call.
WITHOUT_LENGTH = frozenset({"path", "file-path", "directory-path", "regex", "ipvanyaddress", "ipvanynetwork"})
BOUNDS = {"string": ("maxLength", "text"), "array": ("maxItems", "list"), "object": ("maxProperties", "mapping")}
EXAMPLES = {"text": "str", "list": "list[…]", "mapping": "dict[…]"}
# One of these says what a value may be.
TYPED = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"})


def problems(tools: Iterable[Tool]) -> list[str]:
    """Return one sentence for each rule that a tool breaks; empty when all may be served."""
    return [f"{tool.name}: {problem}" for tool in tools for problem in dict.fromkeys(_problems(tool))]


def asking_problems(tools: Iterable[Tool], settings: HardeningSettings) -> list[str]:
    """Return what keeps answers of people from being used once."""
    if settings.replicas == 1 or settings.redis_url is not None:
        return []
    cure = "set REDIS_URL: it asks the person, and with several replicas an answer is used once only through Redis"
    return [f"{tool.name}: {cure}" for tool in tools if tool.resolvers.asks or tool.declaration.confirm]


def drain_problems(tools: Iterable[Tool], settings: HardeningSettings) -> list[str]:
    """Return which tools may run for longer than a shutdown waits for them; one that is switched off does not run."""
    drain = settings.drain_timeout_seconds
    return [
        f"{tool.name}: timeout_seconds={seconds:g} must be below MCP_DRAIN_TIMEOUT_SECONDS={drain:g}, or its calls are"
        " cut at SIGTERM; shorten it, or raise the drain and the graces around it (docs/operations.md, The grace chain)"
        for tool in tools
        if (seconds := tool.declaration.timeout_seconds or 0) >= drain and is_on(tool, settings)
    ]


def undecided(tools: Iterable[Tool]) -> str:
    """Return one line about destructive tools that say nothing about consent; empty when there are none."""
    names = [tool.name for tool in tools if tool.declaration.destructive and tool.declaration.confirm is None]
    if not names:
        return ""
    return f"Decide whether the person is asked first, @tool(destructive=True, confirm=…): {', '.join(names)}"


def text_problems(place: str, text: str) -> list[str]:
    """Return what a text that a model reads must not have."""
    found: list[str] = []
    if any(unicodedata.category(one) in HIDDEN_CATEGORIES and one not in LAYOUT for one in text):
        found.append(f"{place} has a hidden or bidirectional character")
    elif INVISIBLE.search(text):
        found.append(f"{place} has an invisible character")
    if COMMANDS.search(text):
        found.append(f"{place} gives the model a command; describe what the tool does instead")
    return found


def _problems(tool: Tool) -> Iterator[str]:
    wire = tool.wire()
    if not NAME.fullmatch(tool.name):
        yield "name it with letters, digits, _ . - only, at most 64: interfaces of models refuse longer names"
    if not SHORTEST_DESCRIPTION <= len(wire.description or "") <= LONGEST_DESCRIPTION:
        yield f"write a docstring of {SHORTEST_DESCRIPTION} to {LONGEST_DESCRIPTION} characters"
    yield from _declared(tool)
    contract = {"title": wire.title, "docstring": wire.description, "arguments": wire.input_schema}
    for place, text in _texts({**contract, "result": wire.output_schema}, ""):
        yield from text_problems(place, text)
    if len(to_json(wire.input_schema)) > LARGEST_SCHEMA_BYTES:
        yield f"the schema of its arguments is larger than {LARGEST_SCHEMA_BYTES} bytes; ask for less"
    for name in wire.input_schema.get("properties", {}):
        if not NAME.fullmatch(name):
            yield f"name the argument {name!r} with letters, digits, _ . - only, at most 64"
    for path, schema in _schemas(wire.input_schema):
        yield from _loose(path, schema)
        yield from _unreadable(path, schema)
    for path, schema in _schemas(wire.output_schema, "result"):
        yield from _unreadable(path, schema)
    if reason := find_invalid_x_mcp_header(wire.input_schema):
        yield f"clients drop a tool whose x-mcp-header is invalid: {reason}"


def _declared(tool: Tool) -> Iterator[str]:
    declared = tool.declaration
    if declared.read_only and declared.destructive:
        yield "it cannot be both read_only and destructive"
    seconds = declared.timeout_seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        yield "timeout_seconds must be more than 0"
    if declared.rate_per_minute is not None and declared.rate_per_minute < 1:
        yield "rate_per_minute must be 1 or more"
    if declared.cost < 0:
        yield "cost must be 0 or more"
    if any(not scope or not scope.isascii() or not scope.isprintable() or " " in scope for scope in declared.scopes):
        yield "write each scope as one word (RFC 6749, section 3.3)"


def _loose(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Say what a caller could make as large as it likes."""
    kind = schema.get("type")
    keyword, what = BOUNDS.get(kind, ("", "")) if isinstance(kind, str) else ("", "")
    bounded = {keyword, "enum", "const"} & schema.keys() or schema.get("format") in BOUNDED_FORMATS
    if kind == "object" and "properties" in schema and schema.get("additionalProperties") is not False:
        yield f"{path}: refuse unknown fields: ConfigDict(extra='forbid')"
    elif what and not bounded and "properties" not in schema:
        other = "; or for a type without a length, Annotated[str, Field(max_length=100)]" if "format" in schema else ""
        yield f"{path}: bound the {what}, e.g. Annotated[{EXAMPLES[what]}, Field(max_length=100)]{other}"
    if keyword in schema and schema.get("format") in WITHOUT_LENGTH:
        yield f"{path}: the type has no length; take Annotated[str, Field(max_length=100)]"
    if "uniqueItems" in schema:
        yield f"{path}: take a list; a set drops the duplicates that this schema refuses"
    if any(option in {0, 1} for option in schema.get("enum", [schema.get("const")]) if isinstance(option, int | float)):
        yield f"{path}: offer words, or a range, in place of 0, 1, true and false, which are taken for each other"
    if not TYPED & schema.keys():
        yield f"{path}: give it a type"
    if not str(schema.get("$ref", "#")).startswith("#"):
        yield f"{path}: the schema refers to another document"
    if path.count(".") > DEEPEST_SCHEMA:
        yield f"{path}: nested too deep"


def _unreadable(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Say which patterns a client cannot compile."""
    pattern = schema.get("pattern")
    for one in (*([pattern] if isinstance(pattern, str) else ()), *schema.get("patternProperties", {})):
        if problem := pattern_problem(one):
            yield f"{path}: write the pattern for ECMAScript, which clients compile it with; it has no {problem}"


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Walk everything that a client shows to a model, names and examples included."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            yield place or "name", name
            yield from _texts(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner, place)


def _schemas(schema: Any, path: str = "arguments") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk a JSON schema and all schemas inside it."""
    if not isinstance(schema, dict):
        return
    here = cast("dict[str, Any]", schema)
    yield path, here
    for keyword in ("properties", "patternProperties", "$defs"):
        for name, inner in cast("dict[str, Any]", here.get(keyword, {})).items():
            yield from _schemas(inner, f"{path}.{name}")
    for keyword in ("items", "additionalProperties", "contains"):
        yield from _schemas(here.get(keyword), f"{path}[]")
    if names := here.get("propertyNames"):
        # Texts all of them, which Pydantic leaves out.
        yield from _schemas(names if TYPED & names.keys() else {"type": "string", **names}, f"{path}[]")
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in cast("list[Any]", here.get(keyword, [])):
            yield from _schemas(inner, path)
