"""The newest Python of the matrix, where no interpreter of it with sockets can be installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.harness import DEFAULT, run, tool
from support.node import NODE, PYTHON_3_14, package

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Template

pytestmark = pytest.mark.slow

# CPython in WebAssembly: it compiles and has no sockets, so no server runs in it.
COMPILE = """
const {loadPyodide} = require(process.argv[1]);
loadPyodide().then(python => {
  python.mountNodeFS("/project", process.argv[2]);
  console.log(python.runPython(`
import json, pathlib, sys, warnings

def problem(path):
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError, Warning) as error:
        return f"{path}: {error}"

warnings.simplefilter("error")
found = {str(path): problem(path) for path in pathlib.Path("/project").rglob("*.py")}
json.dumps({"version": sys.version_info[:2], "found": found})
`));
});
"""


def compiled(project: Path) -> dict[str, str | None]:
    """Return what CPython 3.14 says of each module of a folder."""
    said = json.loads(run(NODE, "-e", COMPILE, package(*PYTHON_3_14), project, cwd=project).stdout)
    assert said["version"] == [3, 14]
    return said["found"]


def test_python_3_14_compiles_every_module(template: Template) -> None:
    """No module of a project is an error or a warning to the compiler of CPython 3.14."""
    found = compiled(template.render(DEFAULT))

    assert len(found) > 150
    assert [problem for problem in found.values() if problem] == []


def test_what_python_3_14_warns_of_is_found(tmp_path: Path) -> None:
    """Control: a `return` in a `finally` is a warning since 3.14, and no error in the Python of these tests."""
    (tmp_path / "module.py").write_text("def f():\n    try:\n        pass\n    finally:\n        return 1\n", "utf-8")

    assert ["'return' in a 'finally' block" in (problem or "") for problem in compiled(tmp_path).values()] == [True]


def test_python_3_14_has_a_wheel_of_everything(template: Template) -> None:
    """Every dependency, with all extras and what develops it, can be installed there without a compiler."""
    options = ("--quiet", "--no-header", "--python-version", "3.14", "--only-binary", ":all:", "--all-extras")
    project = template.render(DEFAULT)
    names = run(tool("uv"), "pip", "compile", *options, "--group", "dev", "pyproject.toml", cwd=project).stdout

    assert "\nmcp==" in names
    assert "\npydantic-core==" in names
