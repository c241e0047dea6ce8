"""The template with all its releases, and projects that come from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from updating.releases import add_tags

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Template


@pytest.fixture(scope="session")
def repository(template: Template) -> Path:
    """The working tree as the next release, with a tag for every earlier one."""
    add_tags(template.repository)
    return template.repository
