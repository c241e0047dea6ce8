"""The `schema` command: writes, checks and compares the published contract (exit 0 same, 4 differs).

`schema/tools.json` holds the tools as they go over the wire, in either era, sorted by name, and beside
them what `server/discover` says, the metadata of the protected resource and the scopes of each tool.
`schema/tools.sha256` holds one line per digest, as `sha256sum` writes them:
first `tools` for the whole list, then `tools/<name>` for each tool.
The project's version stands in the file too, but a new version alone is no new contract.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..calls import lint
from ..calls.canonical import Json, canonical, tool_hashes, tools_sha256
from ..calls.declaration import built_or_exit
from ..logs import setup as logs
from .diff import diff, version_ok
from .offered import PARTS, offered
from .report import Change, as_markdown, as_text
from .revision import FILE, WRITE, NoRevisionError, UnreadableError, from_file, from_revision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp import Client
    from mcp.types import Tool

    from ..server import HardenedServer
    from ..settings import HardeningSettings

SettingsT = TypeVar("SettingsT", bound="HardeningSettings")

HASHES = Path("schema/tools.sha256")
SAME, UNREADABLE, DIFFERS = 0, 2, 4


def main(arguments: Sequence[str], settings_type: type[SettingsT], build: Callable[[SettingsT], HardenedServer]) -> int:
    """Write, check or compare the published contract; 0 same, 4 differs."""
    parser = argparse.ArgumentParser(prog="schema", description=main.__doc__)
    parser.add_argument("action", choices=("write", "check", "diff"), help="what to do with schema/tools.json")
    parser.add_argument("--against", metavar="REF", help="a git revision to compare with")
    chosen = parser.parse_args(arguments)
    logs.configure(level="warning", fmt="console")
    # Defaults without a check: a contract must be the same wherever it is written, and needs no secret.
    server = built_or_exit(build, settings_type.model_construct())
    if chosen.action == "check" and (undecided := lint.undecided(server.declared.values())):
        sys.stdout.write(f"{undecided}\n")
    return run(chosen.action, current=asyncio.run(published(server)), root=Path.cwd(), against=chosen.against)


async def published(server: HardenedServer) -> dict[str, Any]:
    """Return the contract of a server, asked for as a client would."""
    from mcp import Client

    async with Client(server) as client:
        listed = await client.list_tools()
        ui = {tool.name: await _ui(client, tool) for tool in listed.tools if _ui_of(tool)}
        known = client.server_capabilities
        prompts = (await client.list_prompts()).prompts if known.prompts else []
        resources = (await client.list_resources()).resources if known.resources else []
        templates = (await client.list_resource_templates()).resource_templates if known.resources else []
        discovery = {
            "capabilities": _wire(client.server_capabilities),
            "instructions": client.instructions,
        }
    return canonical(
        [_wire(tool) for tool in listed.tools],
        discovery,
        None,
        scopes={tool.name: tool.declaration.scopes for tool in server.declared.values()},
        version=server.version,
        ui=ui,
        offered={
            part: offered(part, map(_wire, found))
            for part, found in zip(PARTS, (prompts, resources, templates), strict=True)
        },
    )


async def _ui(client: Client, tool: Tool) -> Json:
    """Return what a tool shows in a client's window: where it is, what it may do there, and a digest of its text."""
    shown = _ui_of(tool)
    (content,) = (await client.read_resource(str(shown["resourceUri"]))).contents
    read = getattr(content, "text", None) or getattr(content, "blob", "")
    listed = (await client.list_resources()).resources
    metas: list[Json] = [one.meta or {} for one in listed if str(one.uri) == shown["resourceUri"]]
    sha256 = hashlib.sha256(read.encode()).hexdigest()
    return {**shown, "mimeType": content.mime_type, "sha256": sha256, **(metas[0].get("ui", {}) if metas else {})}


def _ui_of(tool: Tool) -> Json:
    return (tool.meta or {}).get("ui") or {}


def _wire(model: Any) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def dump(document: Mapping[str, Any]) -> str:
    """Return the contract as the text of `schema/tools.json`."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def hash_lines(document: Mapping[str, Any]) -> str:
    """Return the contract's digests as the text of `schema/tools.sha256`."""
    tools = document["tools"]
    lines = [f"{tools_sha256(tools)}  tools", *(f"{hexes}  tools/{name}" for name, hexes in tool_hashes(tools).items())]
    return "\n".join(lines) + "\n"


def run(action: Literal["write", "check", "diff"], *, current: Json, root: Path, against: str | None = None) -> int:
    """Write, check or compare the contract of a project; return the exit code: 0 same, 4 differs, 2 no such revision.

    `write` brings both files up to date.
    `check` fails where they are not; with `against` also where a change since that revision breaks
    clients and the version does not say so.
    `diff` prints the changes since that revision, or since the file, in Markdown.

    Args:
        action: What to do.
        current: What the server serves now.
        root: The project's directory.
        against: A git revision.
    """
    if action == "write":
        (root / FILE).parent.mkdir(parents=True, exist_ok=True)
        _replace(root / FILE, dump(current))
        _replace(root / HASHES, hash_lines(current))
        return SAME
    try:
        found = _check(current, root) if action == "check" else SAME
        if found == SAME and (against is not None or action == "diff"):
            old = from_file(root) if against is None else from_revision(root, against)
            found = _check_version(old, current) if action == "check" else _show(old, current)
    except UnreadableError as problem:
        sys.stderr.write(f"{problem}\n")
        return UNREADABLE if isinstance(problem, NoRevisionError) else DIFFERS
    return found


def _replace(file: Path, text: str) -> None:
    """Write a file whole or not at all: on a full disk the contract of before stays."""
    new = file.with_name(f"{file.name}.new")
    try:
        new.write_text(text, encoding="utf-8", newline="\n")
        new.replace(file)
    except OSError as problem:
        with contextlib.suppress(OSError):
            new.unlink()
        sys.exit(f"{file} cannot be written, and is as it was: {problem.strerror}")


def _show(old: Json, current: Json) -> int:
    changes = changes_between(old, current)
    sys.stdout.write(as_markdown(changes))
    return DIFFERS if changes else SAME


def _check(current: Json, root: Path) -> int:
    changes = changes_between(from_file(root), current)
    if changes:
        sys.stdout.write(f"{as_text(changes)}The server does not serve what {FILE} says. {WRITE}\n")
        return DIFFERS
    hashes = root / HASHES
    if not hashes.is_file() or hashes.read_text(encoding="utf-8", errors="replace") != hash_lines(current):
        sys.stdout.write(f"{HASHES} does not belong to {FILE}. {WRITE}\n")
        return DIFFERS
    return SAME


def _check_version(old: Json, current: Json) -> int:
    breaking = [change for change in changes_between(old, current) if change.kind == "breaking"]
    if version_ok(breaking, old["version"], current["version"]):
        return SAME
    sys.stdout.write(
        f"{as_text(breaking)}Clients break: the version was {old['version']} and is {current['version']}. "
        "Raise it in pyproject.toml to the next major version, below 1.0 to the next minor one.\n"
    )
    return DIFFERS


def changes_between(old: Json, current: Json) -> list[Change]:
    """Return the changes; whatever differs apart from the version is at least one."""
    changes = diff(old, current)
    if not changes and dump({**old, "version": ""}) != dump({**current, "version": ""}):
        return [Change("breaking", "", "", "differs in a way that cannot be named")]
    return changes
