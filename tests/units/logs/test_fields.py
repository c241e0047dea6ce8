"""A line has the fields of one table, with their types, and nothing grows in it."""

from __future__ import annotations

import ast
from enum import IntEnum, StrEnum
from inspect import currentframe
from pathlib import Path
from typing import Any

import pytest
from captured import calling

from hardening.logs import fields as log_fields
from hardening.logs.fields import ALWAYS, FIELDS, admitted, cut
from hardening.logs.record import Lines

# What operators search for and authors may write; a name that goes is a breaking change.
NAMES = """
tool_name prompt_name duration_ms outcome error_type error_code notifications_sent layer status retry_after
suppressed rpc_method route settings field setting version schema host port pid signal exit_code in_flight
streams sessions calls dropped stream logger where backend key_id pool_size pool_idle waiting kind state step
reason source reference count total size bytes rows attempt limit share remaining cost seconds timeout_seconds
cached retryable ok
"""
MODULES = sorted(Path(log_fields.__file__).parent.glob("*.py"))


class Colour(StrEnum):
    """A text in all but name."""

    RED = "red"


class Exit(IntEnum):
    """A number in all but name."""

    OK = 0


def test_every_field_has_types_and_a_reason() -> None:
    """The table says of each field what it may hold and why it may be written."""
    with calling():
        line = Lines(()).make("info", "a text", {"city": 1}, ValueError(), currentframe())
    assert line.keys() == ALWAYS.keys()
    assert set(FIELDS) == set(NAMES.split())
    for name, (types, reason) in FIELDS.items():
        assert name.isidentifier()
        assert types
        assert len(reason.split()) > 1


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_what_the_hardening_logs_gets_through(module: Path) -> None:
    """Each text of ours is a literal and each field is in the table, so that no line of ours is cut."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "log"):
            continue
        (text,) = node.args
        assert isinstance(text, ast.Constant), f"{module.name}:{node.lineno}: the text is no literal"
        names = {keyword.arg for keyword in node.keywords}
        assert names <= FIELDS.keys() | {"exc_info"}, f"{module.name}:{node.lineno}: add the field to log_fields.FIELDS"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("city", "Bern"),
        ("arguments", {"city": "Bern"}),
        ("count", "three"),
        ("count", True),
        ("cached", 1),
        ("kind", {"city": "Bern"}),
        ("kind", ["Bern"]),
        ("kind", b"Bern"),
        ("kind", ValueError("Bern")),
        ("reference", object()),
    ],
)
def test_what_is_not_in_the_table_is_dropped_and_counted(name: str, value: Any) -> None:
    """A field of another name or type never gets into a line, and the line says that one is missing."""
    assert not admitted(name, value)
    with calling():
        line = Lines(()).make("info", "text", {name: value, "ok": True}, None, None)
    assert name not in line
    assert line["dropped_fields"] == 1
    assert line["ok"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", "a"), ("kind", None), ("kind", Colour.RED), ("count", Exit.OK), ("seconds", 1.5), ("ok", False)],
)
def test_what_is_in_the_table_is_admitted(name: str, value: Any) -> None:
    """Texts, numbers, flags, their enumerations, and null."""
    assert admitted(name, value)


def test_values_are_bounded() -> None:
    """A text has at most 128 characters, a list 128 items, and neither holds a structure."""
    assert cut("a" * 128) == "a" * 128
    assert cut("a" * 129) == "a" * 127 + "…"
    assert cut(["a"] * 200) == ["a"] * 128
    assert cut(["a", ["b"], {"c": 1}]) == ["a", "…", "…"]
    assert cut({"a": "b" * 200, "c": ["d"]}) == {"a": "b" * 127 + "…", "c": "…"}
    assert cut(1.5) == 1.5
