"""The schemas of this project's own tools tell clients what the validator takes."""

from __future__ import annotations

from importlib import import_module

import alias
import pytest
from agreement import check_agreement

from hardening.calls.tool import Tool


def project_tools() -> list[Tool]:
    """Return the tools that this project serves."""
    return [Tool(function) for function in import_module(f"{alias.PACKAGE}.tools").TOOLS]


@pytest.mark.parametrize("one", project_tools(), ids=lambda one: one.name)
def test_the_tools_of_this_project_agree_with_their_schemas(one: Tool) -> None:
    """What holds for every type holds for the tools that are served."""
    check_agreement(one)
