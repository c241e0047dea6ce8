"""Write hardening/README.md of the template: the life of a request, and one row for each guard, read from the code."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "template/tests/support"))

import alias  # noqa: E402 - found through the line above

alias.install()

import sample  # noqa: E402 - it needs the alias
from live import ENVIRONMENT, settings_from  # noqa: E402 - the same

from hardening.app import App  # noqa: E402 - the same

PAGE = alias.HARDENING / "README.md"
MOST_SETTINGS = 3
REFUSAL = (
    "A refusal has a constant JSON-RPC body, `X-Request-Id`, one bounded log line (`layer`)"
    " and one count (`mcp_refused_total`)."
)
TESTED = (
    "Tests that begin with `units/` are the template's; `tests/hardening/upstream/test_stack.py`"
    " asks every guard on a socket, in both eras."
)
PICTURE = """\
```text
connection   edge/connections.py        number, size and time of request heads: 400, 408, 429, 431, closed
   |
guards       stack.py                   the rows below, from top to bottom; the first answer ends the request
   |
protocol     protocol/stateless.py      one JSON-RPC request, both eras; sessions and streams beside it
   |
call         calls/                     arguments, deadline, the author's function, result, typed failure
   |                                    with one database connection and transaction (database/)
response     edge/pipeline.py           slots and connections are released with the last byte
   |
records      logs/, telemetry/          one line, counters, spans; never an argument of the call
```"""


def first_line(thing: Any) -> str:
    """Return the first line of what a module or a method says of itself."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


def settings_of(source: str) -> str:
    """Return the variables of the settings that a piece of code reads, those with one prefix as one."""
    read = {
        node.attr
        for node in ast.walk(ast.parse(inspect.cleandoc(f"if True:\n{source}") if source.startswith(" ") else source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"settings", "self.settings"}
    }
    fields = type(settings_from(ENVIRONMENT)).model_fields
    names = sorted(f"MCP_{name.upper()}" for name in read & fields.keys())
    if len(names) > MOST_SETTINGS:
        names = sorted({re.sub(r"^(MCP_[A-Z]+)_.*", r"\1_*", name) for name in names})
    return ", ".join(f"`{name}`" for name in names) or "-"


def test_of(module: str) -> str:
    """Return the test of a module, in the template."""
    room, _, name = module.rpartition(".")
    # A drain is tested as a whole.
    return "`units/lifecycle/test_shutdown.py`" if name == "draining" else f"`units/{room}/test_{name}.py`"


def rows(app: App) -> list[str]:
    """Return one row for each guard, in its order."""
    lines = ["| guard (`layer`) | file | what it does, and the status of a refusal | settings | test |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, guard in app.pipeline.guards:
        method = inspect.ismethod(guard)
        owner: Any = type(guard.__self__ if method else guard)  # type: ignore[attr-defined] - a bound method has it
        module = owner.__module__.partition(".hardening.")[2]
        shared = sum(type(other).__module__ == owner.__module__ for _, other in app.pipeline.guards) > 1
        said = first_line(guard if method else owner if shared else sys.modules[owner.__module__])
        file = f"{module.replace('.', '/')}.py"
        settings = settings_of(inspect.getsource(sys.modules[owner.__module__]))
        lines.append(f"| `{name}` | [`{file}`]({file}) | {said} | {settings} | {test_of(module)} |")
    return lines


def rooms() -> list[str]:
    """Return one row for each room, with its own first line."""
    folders = sorted(path.parent for path in alias.HARDENING.glob("*/__init__.py"))
    return [
        "| room | for |",
        "| --- | --- |",
        *(f"| `{folder.name}/` | {first_line_of(folder / '__init__.py')} |" for folder in folders),
    ]


def first_line_of(path: Path) -> str:
    """Return the first line of a module without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


def page() -> str:
    """Return the page."""
    app = App(sample.build(settings_from(ENVIRONMENT)))
    return "\n".join(
        [
            "# What protects this server",
            "",
            "Generated from `stack.py`. Every file here belongs to the template; `make check` says which were edited.",
            "",
            "## Life of a request",
            "",
            PICTURE,
            "",
            "## Guards",
            "",
            REFUSAL,
            TESTED,
            "",
            *rows(app),
            "",
            "## Rooms",
            "",
            *rooms(),
            "",
        ]
    )


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), "utf-8")
