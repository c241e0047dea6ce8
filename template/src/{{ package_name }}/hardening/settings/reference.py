"""Shows the settings: the effective ones with secrets masked, `.env.example`, `docs/settings.md`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import TYPE_CHECKING, cast
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import MultiHostUrl, PydanticUndefined

from .environment import BAD_CONFIGURATION, InvalidSettingsError, load, unknown_names, variables
from .urls import MASK, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic.fields import FieldInfo

    from . import HardeningSettings

# A text with such a name is a secret, whatever its type says.
SENSITIVE = re.compile(r"password|passwd|passphrase|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
# Of these the text is what was set; a type that is not here may hold a secret.
PLAIN = (int, Decimal, date, time, timedelta, UUID, PurePath, IPv4Address, IPv6Address, IPv4Network, IPv6Network)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the operator sees it."""

    variable: str
    value: str
    origin: str
    default: str
    bounds: str
    description: str


def rows(settings_type: type[HardeningSettings], settings: HardeningSettings | None = None) -> list[Row]:
    """Return every setting, in the order of the class; secrets masked."""
    table: list[Row] = []
    for field, info in settings_type.model_fields.items():
        names = variables(settings_type, field)
        given = next((name for name in (*names, *(f"{name}_FILE" for name in names)) if name in os.environ), None)
        value = getattr(settings, field) if settings is not None else info.default
        default = "required" if info.is_required() else _shown(info.default, info, field)
        table.append(
            Row(
                names[0], _shown(value, info, field), given or "default", default, _bounds(info), info.description or ""
            )
        )
    return table


def effective(settings: HardeningSettings) -> dict[str, str]:
    """Return what differs from the defaults, masked; for the start line."""
    return {row.variable: row.value for row in rows(type(settings), settings) if row.value != row.default}


def secrets_of(value: object) -> Iterator[str]:
    """Yield every secret of the settings, wherever in them: what no log line may hold."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from secrets_of(inner)
    elif isinstance(value, dict):
        yield from secrets_of(tuple(cast("dict[object, object]", value).values()))
    elif isinstance(value, tuple | list | frozenset):
        for inner in cast("Iterable[object]", value):
            yield from secrets_of(inner)


def _shown(value: object, info: FieldInfo | None = None, name: str = "") -> str:
    """Return what may be shown: plain values, URLs without user, password and query; of unknown types nothing.

    `Field(json_schema_extra={"shown": True})` says otherwise.
    """
    if info is not None and info.json_schema_extra == {"shown": True}:
        return str(value)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return " ".join(f"{inner}={_shown(item, fields.get(inner), inner)}" for inner, item in value)
    if isinstance(value, tuple | list | set | frozenset):
        items = [_shown(item, None, name) for item in cast("Iterable[object]", value)]
        return ",".join(items if isinstance(value, tuple | list) else sorted(items))
    return _shown_plain(cast("object", value.value) if isinstance(value, Enum) else value, name)


def _shown_plain(value: object, name: str) -> str:
    if isinstance(value, SecretStr | SecretBytes):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, PLAIN):
        return str(value)
    address = isinstance(value, MultiHostUrl) or type(value).__module__.startswith("pydantic.networks")
    if (isinstance(value, str) or address) and not SENSITIVE.search(name):
        return shown_url(str(value))
    return MASK if value else ""


def _bounds(info: FieldInfo) -> str:
    limits = {name: getattr(item, name) for item in info.metadata for name in ("ge", "le") if hasattr(item, name)}
    return f"{limits['ge']} to {limits['le']}" if {"ge", "le"} <= limits.keys() else ""


def as_env_file(settings_type: type[HardeningSettings]) -> str:
    """Return `.env.example`: every setting, commented out, with its meaning."""
    lines = ["# Every setting; remove the # to set one. Read by `dev` only: in production the platform sets them."]
    for row in rows(settings_type):
        bounds = f" ({row.bounds})" if row.bounds else ""
        value = "" if row.default == "required" else row.default
        lines += ["", f"# {row.description}{bounds}", f"#{row.variable}={value}"]
    return "\n".join(lines) + "\n"


def as_markdown(settings_type: type[HardeningSettings]) -> str:
    """Return `docs/settings.md`."""
    lines = ["# Settings", "", "Generated by `make settings`; a test fails when it is out of date.", ""]
    lines += ["| variable | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for row in rows(settings_type):
        meaning = row.description.replace("|", "\\|")
        lines.append(f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.bounds} | {meaning} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str], settings_type: type[HardeningSettings]) -> int:
    """Show the effective settings, or generate the two files about them."""
    parser = argparse.ArgumentParser(prog="settings", description=main.__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--env-file", action="store_true", help="print .env.example")
    choice.add_argument("--markdown", action="store_true", help="print docs/settings.md")
    chosen = parser.parse_args(arguments)
    if chosen.env_file or chosen.markdown:
        sys.stdout.write(as_env_file(settings_type) if chosen.env_file else as_markdown(settings_type))
        return 0
    for sentence in unknown_names(settings_type):
        sys.stderr.write(f"warning: {sentence}\n")
    try:
        settings = load(settings_type)
    except InvalidSettingsError as invalid:
        sys.stderr.write("".join(f"{problem}\n" for problem in invalid.problems))
        return BAD_CONFIGURATION
    for row in rows(settings_type, settings):
        sys.stdout.write(f"{row.variable}={row.value}  # {row.origin}\n")
    return 0
