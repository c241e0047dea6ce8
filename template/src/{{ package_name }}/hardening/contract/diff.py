"""Classifies changes of the contract: breaking, compatible or text.

It fails closed: what is not proven compatible is breaking.
Arguments may only be accepted more widely, results may only be promised more narrowly.
Texts are told apart because they steer a model: nothing breaks, and yet somebody has to read them.
Sources: MCP 2026-07-28, Tools and server/discover; RFC 9728; JSON Schema 2020-12.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

from .offered import PARTS, offered_changes
from .report import KINDS, Change, Kind, compare, show
from .subset import Difference, differences, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json = dict[str, Any]

# What a hint means where it is absent (MCP, ToolAnnotations), and the value that promises more.
HINTS = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
PROMISES = {hint: not absent for hint, absent in HINTS.items()}
TOOL_TEXTS = ("title", "description", "icons")
SERVER_TEXTS = ("instructions", "resource_name", "resource_documentation", "resource_policy_uri", "resource_tos_uri")
SENT = {"accepted": "sent", "refused": "not sent"}
BROKEN = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return every change between two contracts in canonical form, breaking ones first."""
    before, after = ({tool["name"]: tool for tool in document["tools"]} for document in (old, new))
    found: list[Change] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            arguments = before[name].get("inputSchema")
            twin = [
                other for other in sorted(after.keys() - before.keys()) if after[other].get("inputSchema") == arguments
            ]
            found.append(Change("breaking", name, "", f"gone; renamed to {show(twin[0])}?" if twin else "gone"))
        elif name not in before:
            found.append(Change("compatible", name, "", "new"))
            found += _text(name, "description", None, after[name].get("description"))
        else:
            try:
                found += _tool(name, before[name], after[name])
                found += _scopes(name, *(document.get("declared", {}).get(name, {}) for document in (old, new)))
            except BROKEN:
                found.append(Change("breaking", name, "", "cannot be compared: not a valid definition"))
        found += _ui(name, *(document.get("ui", {}).get(name, {}) for document in (old, new)))
    for part in PARTS:
        try:
            found += offered_changes(part, old.get(part, {}), new.get(part, {}))
        except BROKEN:
            found.append(Change("breaking", "", part, "cannot be compared: not a valid definition"))
    for part in sorted((old.keys() | new.keys()) - {"tools", "declared", "version", "ui", *PARTS}):
        found += _server(part, old.get(part), new.get(part))
    return sorted(found, key=lambda change: KINDS.index(change.kind))


def version_ok(changes: Sequence[Change], old_version: str, new_version: str) -> bool:
    """Whether the version has been raised as far as the changes ask for.

    A breaking change needs a new major version, below 1.0 a new minor one (SemVer 2.0.0, 4 and 8).
    A version that cannot be read is not raised.
    """
    if all(change.kind != "breaking" for change in changes):
        return True
    found = [re.match(r"v?(\d+)\.(\d+)", version) for version in (old_version, new_version)]
    old, new = ([int(part) for part in match.groups()] if match else [] for match in found)
    if not old or not new:
        return False
    return new[0] > old[0] or (old[0] == new[0] == 0 and new[1] > old[1])


def _tool(name: str, old: Json, new: Json) -> Iterator[Change]:
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if _equal(before, after):
            continue
        if field in TOOL_TEXTS:
            yield from _text(name, field, before, after)
        elif field == "annotations":
            yield from _annotations(name, before or {}, after or {})
        elif field == "outputSchema" and before is None:
            yield Change("compatible", name, field, "new")
        elif field.endswith("Schema") and after is not None:
            yield from _schema(name, field, before, after)
        else:
            yield Change("breaking", name, field, f"{show(before)} → {show(after)}")


def _schema(name: str, field: str, old: Any, new: Any) -> Iterator[Change]:
    """Arguments that were accepted have to be accepted; results that come have to be known."""
    lost, gained = differences(old, new), [_turned(item) for item in differences(new, old)]
    if field == "outputSchema":
        lost, gained = gained, lost
    # What is proven in neither direction shows up in both.
    gained = [item for item in gained if item not in lost]
    kinds: tuple[tuple[Kind, list[Difference]], ...] = (("breaking", lost), ("compatible", gained))
    for kind, items in kinds:
        for item in items:
            words = [SENT.get(word, word) if field == "outputSchema" else word for word in (item.before, item.after)]
            told = filter(None, (item.what, " → ".join(words) if any(words) else ""))
            yield Change(kind, name, field + item.path, ": ".join(told))
    before, after = ({(path, word): text for path, word, text in texts(schema)} for schema in (old, new))
    changed = [
        change
        for path, word in sorted(before.keys() | after.keys())
        for change in _text(name, f"{field}{path}.{word}", before.get((path, word)), after.get((path, word)))
    ]
    yield from changed
    if not lost and not gained and not changed:
        yield Change("compatible", name, field, "written differently, means the same")


def _turned(item: Difference) -> Difference:
    return item._replace(before=item.after, after=item.before)


def _annotations(name: str, old: Json, new: Json) -> Iterator[Change]:
    before, after = _meaning(old), _meaning(new)
    for hint in sorted(before.keys() | after.keys()):
        if hint == "title":
            yield from _text(name, "annotations.title", before.get(hint), after.get(hint))
        elif not _equal(before.get(hint), after.get(hint)):
            kind: Kind = "compatible" if after.get(hint) is PROMISES.get(hint, ...) else "breaking"
            yield Change(kind, name, f"annotations.{hint}", f"{show(before.get(hint))} → {show(after.get(hint))}")


def _meaning(annotations: Json) -> Json:
    """Fill in what is absent; what only reads destroys nothing and can be repeated."""
    stated = {hint: value for hint, value in annotations.items() if value is not None}
    harmless = {"destructiveHint": False, "idempotentHint": True} if stated.get("readOnlyHint") is True else {}
    return {**HINTS, **stated, **harmless}


def _scopes(name: str, old: Json, new: Json) -> Iterator[Change]:
    before, after = set(old.get("scopes", ())), set(new.get("scopes", ()))
    for scope in sorted(after - before):
        yield Change("breaking", name, "scopes", f"needs {show(scope)}")
    for scope in sorted(before - after):
        yield Change("compatible", name, "scopes", f"no longer needs {show(scope)}")


def _ui(name: str, old: Json, new: Json) -> Iterator[Change]:
    """Compare what is shown beside a result: a client can do without, but somebody has to look at what changes."""
    for field in sorted(old.keys() | new.keys()):
        if not _equal(old.get(field), new.get(field)):
            kind: Kind = "breaking" if field == "visibility" and old else "text"
            yield Change(kind, name, f"ui.{field}", f"{show(old.get(field))} → {show(new.get(field))}")


def _server(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Compare capabilities and metadata: more may be offered, nothing may go or change."""
    if _equal(old, new):
        return
    if path.rpartition(".")[2] in SERVER_TEXTS:
        yield from _text("", path, old, new)
    elif type(old) is type(new) is dict:
        for key in sorted(old.keys() | new.keys()):
            yield from _server(f"{path}.{key}", old.get(key), new.get(key))
    else:
        yield Change("compatible" if _more(path, old, new) else "breaking", "", path, f"{show(old)} → {show(new)}")


def _more(path: str, old: object, new: object) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return _members(cast("list[object]", old)) <= _members(cast("list[object]", new))
    # A new capability asks for nothing; new metadata of the resource may.
    return path.startswith("discovery.") and (old is None or old is False)


def _members(items: list[object]) -> set[str]:
    return {json.dumps(item, sort_keys=True) for item in items}


def _text(name: str, field: str, old: object, new: object) -> Iterator[Change]:
    if not _equal(old, new):
        yield Change("text", name, field, compare(old, new))


def _equal(one: object, other: object) -> bool:
    """Compare JSON: 1 is not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
