"""The default project, set up and running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.dev_server import Dev
from support.harness import DEFAULT
from support.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from support.harness import Template


@pytest.fixture(scope="session")
def project(template: Template) -> Path:
    """The default project, set up; it is shared, so nobody changes it."""
    return template.prepared(DEFAULT)


@pytest.fixture(scope="session")
def dev(project: Path) -> Generator[Dev]:
    """The default project's `dev` with its embedded PostgreSQL."""
    with Dev(project) as running:
        yield running


@pytest.fixture(scope="session")
def database() -> Generator[str]:
    """The address of a PostgreSQL that keeps running."""
    with Postgres() as running:
        yield running.url
