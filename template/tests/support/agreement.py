"""Whether the advertised schema of a tool and its validator accept the same arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from json_values import accepts, near
from pydantic_core import from_json

from hardening import errors

if TYPE_CHECKING:
    from hardening.calls.tool import Tool


def takes(one: Tool, arguments: Any) -> bool:
    """Return whether the validator accepts arguments that came as JSON."""
    try:
        one.arguments.validate(from_json(json.dumps(arguments)))
    except errors.InvalidArguments:
        return False
    return True


def check_agreement(one: Tool) -> None:
    """Ask schema and validator of a tool about arguments that are nearly right."""

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(near(one.input_schema, one.input_schema))
    def agree(arguments: Any) -> None:
        if isinstance(arguments, dict):
            assert takes(one, arguments) == accepts(one.input_schema, arguments), arguments

    agree()
