"""What neither lint nor types see in your own code: fields of logs, defaults that are secrets, answers without a bound.

Each failure says what to write instead; docs/tools.md has the reasons.
"""

from __future__ import annotations

import ast
from importlib import import_module
from typing import TYPE_CHECKING, Any

import alias
from pydantic import SecretStr

from hardening.calls.lint import undecided
from hardening.calls.tool import read_tools
from hardening.logs.fields import ALWAYS, FIELDS
from hardening.settings.source import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = alias.HARDENING.parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# Arguments of the logging call itself.
OWN = {"exc_info", "stack_info"}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Yield every call of `log` in your files."""
    for path in PACKAGE.rglob("*.py"):
        if alias.HARDENING in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if level in LEVELS:
                    yield path, node


def settings_type() -> Any:
    """Return your class of settings."""
    return import_module(f"{alias.PACKAGE}.settings").Settings


def place(path: Path, node: ast.Call) -> str:
    """Return where a call stands."""
    return f"{path.relative_to(alias.ROOT).as_posix()}:{node.lineno}"


def test_log_lines_have_a_literal_message() -> None:
    """A message that is put together holds a value sooner or later; the server writes none such."""
    found = [place(path, node) for path, node in calls() if node.args and not _is_literal(node.args[0])]

    assert not found, f"Write a fixed message, and give values as fields of log_fields: {', '.join(found)}"


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_log_fields_are_declared() -> None:
    """A field that nobody has declared is dropped, since it may hold an argument."""
    known = {*ALWAYS, *FIELDS, *OWN, *settings_type().log_fields}
    found = [
        f"{keyword.arg} ({place(path, node)})"
        for path, node in calls()
        for keyword in node.keywords
        if keyword.arg not in known
    ]

    assert not found, f"Declare numbers and codes in log_fields of your settings, never arguments: {', '.join(found)}"


def test_no_secret_has_a_default() -> None:
    """What stands in the code stands in its history too, and in every copy of it."""
    found = [
        name
        for name, field in settings_type().model_fields.items()
        if is_secret(field) and isinstance(field.default, SecretStr) and field.default.get_secret_value()
    ]

    assert not found, f"Take the default away, and set MCP_… or MCP_…_FILE where it runs: {', '.join(found)}"


def test_lists_that_are_returned_have_a_bound() -> None:
    """A table grows, and the answer with it, until it is refused as too large."""
    tools = read_tools(import_module(f"{alias.PACKAGE}.tools").TOOLS)
    found = [
        f"{name}: {path}" for name, tool in tools.items() for path in unbounded(tool.wire().output_schema, "result")
    ]

    assert not found, f"Add Field(max_length=…) to the list, and a LIMIT to its query: {', '.join(found)}"


def unbounded(schema: Any, path: str) -> Iterator[str]:
    """Yield the lists of a schema without a largest number of items."""
    if isinstance(schema, dict):
        if schema.get("type") == "array" and "maxItems" not in schema and "prefixItems" not in schema:
            yield path
        for name, inner in schema.items():
            yield from unbounded(inner, path if name in {"properties", "$defs", "items"} else f"{path}.{name}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from unbounded(inner, path)


def test_consent_is_decided() -> None:
    """A tool that may delete or overwrite says whether the person is asked first."""
    said = undecided(read_tools(import_module(f"{alias.PACKAGE}.tools").TOOLS).values())

    assert not said, said
