"""Write hardening/MANIFEST.sha256 of the template: every file of ours that is the same in each project."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.ownership import owners  # noqa: E402 - found through the line above

TEMPLATE = ROOT / "template"
MANIFEST = TEMPLATE / "src/{{ package_name }}/hardening/MANIFEST.sha256"
LONGEST = 120


def rendered(path: str) -> tuple[str, str]:
    """Return the path in a project, and the deploy target or the database that it comes with, `-` for all."""
    target = re.search(r"\{% if (?:database == )?'(\w+)'", path)
    plain = re.sub(r"\{% if [^%]* %\}|\{% endif %\}", "", path).replace("{{ package_name }}", "*")
    return plain, target[1] if target else "-"


def line_1(path: Path) -> str:
    """Return the first line of what a file says of itself."""
    text = path.read_text("utf-8")
    if path.suffix == ".py" or path.name.endswith(".py{% endif %}"):
        said = ast.get_docstring(ast.parse(text)) or ""
    else:
        said = next(iter(re.findall(r"^(?:#|--|//) +(\w.*)$", text, re.MULTILINE)), "")
    return said.split("\n")[0][:LONGEST].strip() or "-"


def manifest() -> str:
    """Return the lines, sorted by path."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "template")
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")  # noqa: S603 - git, for which there is no other way
    lines: list[tuple[str, str]] = []
    for name in filter(None, listed):
        path = ROOT / name
        plain, target = rendered(path.relative_to(TEMPLATE).as_posix())
        if path == MANIFEST or path.suffix == ".jinja" or owners(plain) != ["ours"] or not path.is_file():
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append((plain, f"{digest}  {plain}  {target}  {line_1(path)}"))
    return "".join(f"{line}\n" for _, line in sorted(lines))


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(manifest())
    else:
        MANIFEST.write_text(manifest(), "utf-8")
