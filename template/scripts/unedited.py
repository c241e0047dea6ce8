"""Says which files of the template were edited or deleted in this project; works offline, and never fails for an edit.

`hardening/MANIFEST.sha256` has a line for each file that is the same in every project:
its SHA-256, its path, the answer that it comes with (`-` for all), and line 1 of what it says of itself.
A file whose content depends on an answer has one line for each content.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"[0-9a-f]{64}  \S+  \S+  .")


def answers() -> tuple[str, str]:
    """Return the version of the template and the text of the answers."""
    path = ROOT / ".copier-answers.yml"
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    version = re.search(r"^_commit: *(\S+)", text, re.MULTILINE)
    return version[1] if version else "unknown version", text


def main() -> int:
    """Compare, and print one line for each difference."""
    manifest = next(ROOT.glob("src/*/hardening/MANIFEST.sha256"), None)
    if manifest is None:
        sys.stderr.write("There is no MANIFEST.sha256 in src/*/hardening, so nobody knows what was edited\n")
        return 1
    lines = manifest.read_text("utf-8", "replace").splitlines()
    if not lines or not all(LINE.match(line) for line in lines):
        name = manifest.relative_to(ROOT)
        sys.stderr.write(f"{name} is damaged, so nobody knows what was edited: rm {name} && make restore FILE={name}\n")
        return 1
    package = manifest.parents[1].name
    version, chosen = answers()
    released: dict[str, set[str]] = {}
    about: dict[str, tuple[str, str]] = {}
    for line in lines:
        digest, path, answer, what = line.split("  ", 3)
        path = path.replace("src/*/", f"src/{package}/")
        released.setdefault(path, set()).add(digest)
        about[path] = answer, what
    changed: list[str] = []
    for path, digests in released.items():
        answer, what = about[path]
        file = ROOT / path
        if not file.is_file():
            # A target that was not chosen has no files.
            if answer == "-" or re.search(rf"^(- |database: ){answer}$|\b{answer}\b.*\]$", chosen, re.MULTILINE):
                changed.append(f"deleted: {path}: {what}")
        elif hashlib.sha256(file.read_bytes()).hexdigest() not in digests:
            changed.append(f"edited: {path}: {what}")
    if changed:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that shows ASCII alone still gets every name.
            sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout.write(f"{len(changed)} files of the template ({version}) are not as released; what lives in them:\n")
        sys.stdout.writelines(f"  {line}\n" for line in sorted(changed))
    else:
        sys.stdout.write(f"unedited: {len(released)} files of the template are as released in {version}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
