"""Prompts and resources in the contract: what clients and people choose from, by name or address.

A prompt or a resource may be added; one that goes, and an argument that becomes required, breaks clients.
Sources: MCP 2026-07-28, Prompts and Resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .report import Change, compare, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Json = dict[str, Any]

# Part of the contract: what names one, and what a client or a person acts on.
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prompts": ("name", ("title", "description", "arguments", "icons")),
    "resources": ("uri", ("name", "title", "description", "mimeType", "annotations", "icons")),
    "resourceTemplates": ("uriTemplate", ("name", "title", "description", "mimeType", "annotations", "icons")),
}
TEXTS = frozenset({"title", "description", "icons"})


def offered(part: str, listed: Iterable[Mapping[str, Any]]) -> Json:
    """Return one part in canonical form: by name, without what may change from answer to answer."""
    key, fields = PARTS[part]
    return {
        one[key]: {field: one[field] for field in fields if one.get(field) is not None}
        for one in sorted(listed, key=lambda one: one[key])
    }


def offered_changes(part: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Change]:
    """Return every change of one part."""
    for name in sorted(old.keys() | new.keys()):
        where = f"{part}.{name}"
        if name not in new:
            yield Change("breaking", "", where, "gone")
            continue
        if name not in old:
            yield Change("compatible", "", where, "new")
        before, after = old.get(name, {}), new[name]
        for field in sorted(before.keys() | after.keys()):
            was, now = before.get(field), after.get(field)
            if was == now:
                continue
            if field in TEXTS:
                yield Change("text", "", f"{where}.{field}", compare(was, now))
            elif field == "arguments":
                yield from _arguments(where, was or [], now or [], known=name in old)
            elif name in old:
                yield Change("breaking", "", f"{where}.{field}", f"{show(was)} → {show(now)}")


def _arguments(where: str, old: list[Json], new: list[Json], *, known: bool) -> Iterator[Change]:
    before, after = ({one["name"]: one for one in arguments} for arguments in (old, new))
    for name in sorted(before.keys() | after.keys()):
        place = f"{where}.{name}"
        was, now = before.get(name), after.get(name)
        if now is None:
            yield Change("breaking", "", place, "gone")
            continue
        needed, needs = bool(was and was.get("required")), bool(now.get("required"))
        if known and (was is None or needed != needs):
            yield Change("breaking" if needs else "compatible", "", place, "required" if needs else "optional")
        if (was or {}).get("description") != now.get("description"):
            yield Change(
                "text", "", f"{place}.description", compare((was or {}).get("description"), now.get("description"))
            )
