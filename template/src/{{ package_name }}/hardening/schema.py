"""The contract with clients and models, in one canonical form that is committed and compared.

`schema/tools.json` holds the tools as they go over the wire, in either era, sorted by name, and beside
them what `server/discover` says, the metadata of the protected resource and the scopes of each tool.
`schema/tools.sha256` holds one line per digest, as `sha256sum` writes them:
first `tools` for the whole list, then `tools/<name>` for each tool.
A digest is the SHA-256 of the JSON with sorted keys and without spaces, in UTF-8.
The project's version stands in the file too, but a new version alone is no new contract.

Sources: MCP 2026-07-28 and 2025-11-25, Tools and Caching.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .schema_diff import diff, version_ok
from .schema_report import Change, as_markdown, as_text
from .schema_source import FILE, WRITE, Json, NoRevisionError, UnreadableError, from_file, from_revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Change", "as_markdown", "as_text", "canonical", "diff", "dump", "run", "tool_hashes", "tools_sha256"]

HASHES = Path("schema/tools.sha256")
# What a client or a model acts on; `_meta`, cursors and cache hints may change from answer to answer.
TOOL_FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons")
DISCOVERY_FIELDS = ("capabilities", "instructions")
SAME, UNREADABLE, DIFFERS = 0, 2, 4


def canonical(
    tools: Sequence[Mapping[str, Any]],
    discovery: Mapping[str, Any],
    resource_metadata: Mapping[str, Any] | None,
    *,
    scopes: Mapping[str, Iterable[str]] | None = None,
    version: str = "",
) -> Json:
    """Return the contract.

    Args:
        tools: All pages of `tools/list`, in their wire form of any era.
        discovery: The result of `server/discover`; a legacy handshake words its capabilities differently.
        resource_metadata: The document of RFC 9728, where the server has one.
        scopes: What each tool needs, as declared beside it.
        version: Version of the project.

    Raises:
        ValueError: A tool has no name, or two have the same.
    """
    names = [str(tool.get("name") or "") for tool in tools]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"every tool needs a name of its own: {', '.join(sorted(names))}")
    document: Json = {
        "tools": sorted((_kept(tool, TOOL_FIELDS) for tool in tools), key=lambda tool: tool["name"]),
        "discovery": _kept(discovery, DISCOVERY_FIELDS),
        "declared": {name: {"scopes": sorted(needed)} for name, needed in (scopes or {}).items() if needed},
        "version": version,
    }
    if resource_metadata is not None:
        document["resource"] = dict(resource_metadata)
    return document


def _kept(source: Mapping[str, Any], fields: Iterable[str]) -> Json:
    return {field: source[field] for field in fields if source.get(field) is not None}


def dump(document: Mapping[str, Any]) -> str:
    """Return the contract as the text of `schema/tools.json`."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def tools_sha256(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of tools in canonical form."""
    return _sha256(tools)


def tool_hashes(tools: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digest of each tool in canonical form, by its name."""
    return {tool["name"]: _sha256(tool) for tool in tools}


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
        (root / FILE).write_text(dump(current), encoding="utf-8", newline="\n")
        (root / HASHES).write_text(hash_lines(current), encoding="utf-8", newline="\n")
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
    if not hashes.is_file() or hashes.read_text(encoding="utf-8") != hash_lines(current):
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
