"""Canonical form of the tool contract, and its SHA-256 digests.

A digest is the SHA-256 of the JSON with sorted keys and without spaces, in UTF-8; it is the same in either era.
Sources: MCP 2026-07-28 and 2025-11-25, Tools and Caching.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp.types import Tool

Json = dict[str, Any]

# What a client or a model acts on; `_meta`, cursors and cache hints may change from answer to answer.
TOOL_FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons")
DISCOVERY_FIELDS = ("capabilities", "instructions")


def canonical(  # noqa: PLR0913 - one for each part of the contract
    tools: Sequence[Mapping[str, Any]],
    discovery: Mapping[str, Any],
    resource_metadata: Mapping[str, Any] | None,
    *,
    scopes: Mapping[str, Iterable[str]] | None = None,
    version: str = "",
    ui: Mapping[str, Mapping[str, Any]] | None = None,
    offered: Mapping[str, Json] | None = None,
) -> Json:
    """Return the contract.

    Args:
        tools: All pages of `tools/list`, in their wire form of any era.
        discovery: The result of `server/discover`; a legacy handshake words its capabilities differently.
        resource_metadata: The document of RFC 9728, where the server has one.
        scopes: What each tool needs, as declared beside it.
        version: Version of the project.
        ui: What each tool shows besides its result (MCP Apps), by its name.
        offered: Prompts, resources and templates, where the server has any.

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
    if ui:
        document["ui"] = {name: dict(shown) for name, shown in ui.items()}
    document |= {part: dict(listed) for part, listed in (offered or {}).items() if listed}
    if resource_metadata is not None:
        document["resource"] = dict(resource_metadata)
    return document


def _kept(source: Mapping[str, Any], fields: Iterable[str]) -> Json:
    return {field: source[field] for field in fields if source.get(field) is not None}


def tools_sha256(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of tools in canonical form."""
    return _sha256(tools)


def tool_hashes(tools: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digest of each tool in canonical form, by its name."""
    return {tool["name"]: _sha256(tool) for tool in tools}


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def schema_sha256(tools: Iterable[Tool]) -> str:
    """Return the digest of the tool contract that a process serves."""
    wire = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    return tools_sha256(canonical(wire, {}, None)["tools"])
