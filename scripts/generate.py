"""Write the files of the template that a project generates from its own code, for each kind of database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PACKAGE = "weather_server"
# Command of the project, file in the project.
PRINTED = {("settings", "--env-file"): ".env.example", ("settings", "--markdown"): "docs/settings.md"}
WRITTEN = ("schema/tools.json", "schema/tools.sha256")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command in a clean environment; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
    parts = [str(part) for part in command]
    return subprocess.run(parts, cwd=cwd, env=clean, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def generate(database: str, folder: Path) -> None:
    """Render one kind of project and take over what it generates."""
    project = folder / database
    answers = ("--data", f"database={database}")
    run(BIN / "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", *answers, TEMPLATE, project, cwd=folder)
    run(BIN / "uv", "sync", "--quiet", "--no-dev", cwd=project)
    server = (project / ".venv/bin/python", "-m", PACKAGE)
    for command, name in PRINTED.items():
        (project / name).write_text(run(*server, *command, cwd=project), "utf-8")
    run(*server, "schema", "write", cwd=project)
    for name in (*PRINTED.values(), *WRITTEN):
        path = TEMPLATE / "template" / name
        conditional = path.with_name(f"{{% if database == '{database}' %}}{path.name}{{% endif %}}")
        conditional.parent.mkdir(exist_ok=True)
        conditional.write_bytes((project / name).read_bytes())
        print(conditional.relative_to(TEMPLATE))


def main() -> int:
    """Generate for both kinds."""
    with tempfile.TemporaryDirectory(prefix="generate-") as folder:
        for database in ("postgres", "none"):
            generate(database, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
