"""Runs a project as if it were installed, in the environment of these tests: seconds instead of a minute."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def pretend(project: Path, scratch: Path) -> dict[str, str]:
    """Leave what an installation would; return the environment in which Python finds the project."""
    (hardening,) = project.glob("src/*/hardening")
    package = hardening.parent.name
    about = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 2.4.1\nSummary: Forecasts.\n"
    (scratch / f"{package}-2.4.1.dist-info").mkdir(parents=True)
    (scratch / f"{package}-2.4.1.dist-info/METADATA").write_text(about, "utf-8")
    return {"PYTHONPATH": f"{project / 'src'}{os.pathsep}{scratch}"}
