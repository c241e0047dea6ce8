"""Lets tests say `hardening` for the hardening of this project, whatever the project is called.

`hardening.logs` and `<package>.hardening.logs` are one and the same module, so a type or a setting
that a test sees is the one that the server uses.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module, metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ROOT = Path(__file__).parents[2]
# The folder can be another project's: HARDENING=path/to/src/weather_server/hardening pytest …
(HARDENING,) = [Path(os.environ["HARDENING"]).resolve()] if "HARDENING" in os.environ else ROOT.glob("src/*/hardening")
PACKAGE = HARDENING.parent.name


class HardeningAlias(MetaPathFinder, Loader):
    """Answers an import of `hardening…` with the module of the package."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a spec for `hardening` and what is inside it; everything else is not ours."""
        del path, target
        return ModuleSpec(name, self) if name.partition(".")[0] == "hardening" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the real module and keep its own spec, which the import system is about to replace."""
        module = import_module(f"{PACKAGE}.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which has run already, its own spec back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


class Uninstalled(metadata.Distribution):
    """What the package manager would say of a package that is tested where it lies."""

    def read_text(self, filename: str) -> str | None:
        """Return the metadata; there is no other file."""
        said = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\nSummary: A server under test.\n"
        return said if filename == "METADATA" else None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Return where a file of it would be."""
        return HARDENING.parents[1] / path


class UninstalledFinder(metadata.DistributionFinder):
    """Finds the package under test when it is not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Find no module."""

    def find_distributions(self, context: metadata.DistributionFinder.Context | None = None) -> list[Uninstalled]:
        """Answer for this one name."""
        return [Uninstalled()] if context is not None and context.name == PACKAGE.replace("_", "-") else []


def install() -> None:
    """Make the alias work, once."""
    source = str(HARDENING.parents[1])
    if source not in sys.path:
        sys.path.insert(0, source)
    if not any(isinstance(finder, HardeningAlias) for finder in sys.meta_path):
        sys.meta_path.insert(0, HardeningAlias())
        # Last, so that what is installed answers for itself.
        sys.meta_path.append(UninstalledFinder())
