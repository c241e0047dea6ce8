"""Settings from the environment: all problems at once, by name, before anything is opened."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic_core import PydanticUndefined

from .settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic.fields import FieldInfo

SettingsT = TypeVar("SettingsT", bound=HardeningSettings)

PREFIX = "MCP_"
MASK = "********"
# What a client of this server reads, not the server; present where both run.
NOT_SETTINGS = frozenset({"MCP_PROBE_URL"})


class InvalidSettingsError(Exception):
    """The settings cannot be used; `problems` names each variable and what it would accept."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problem(s)")
        self.problems = problems


def load(settings_type: type[SettingsT]) -> SettingsT:
    """Read and check every setting.

    Raises:
        InvalidSettingsError: Lists every problem; no value is in it, since a value may be a secret.
    """
    problems: list[str] = []
    settings: SettingsT | None = None
    broken: set[str] = set()
    try:
        settings = settings_type()
    except ValidationError as invalid:
        for error in invalid.errors(include_input=False, include_url=False):
            field = _field_of(settings_type, str(error["loc"][0]))
            broken.add(field)
            problems.append(f"{variables(settings_type, field)[0]}: {_sentence(settings_type, field, error)}")
    # What does not fit together is told in the same run; for this the broken ones take their defaults.
    for field, sentence in (settings or _without(broken)).problems():
        if field not in broken:
            problems.append(f"{variables(settings_type, field)[0]}: {sentence}")
    if problems or settings is None:
        raise InvalidSettingsError(sorted(set(problems)))
    return settings


def _without(broken: set[str]) -> HardeningSettings:
    hidden = {name for field in broken for name in variables(HardeningSettings, field)}
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.upper() in hidden}
    try:
        return HardeningSettings()
    finally:
        os.environ.update(kept)


def unknown_names(settings_type: type[HardeningSettings], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return one sentence for each `MCP_*` variable that means nothing: most often a typing mistake."""
    known = {name for field in settings_type.model_fields for name in variables(settings_type, field)}
    sentences: list[str] = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known | NOT_SETTINGS:
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.7)
            sentences.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences


def variables(settings_type: type[HardeningSettings], field: str) -> tuple[str, ...]:
    """Return the names a setting has in the environment, the usual one first."""
    info = settings_type.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (alias.upper() if isinstance(alias, str) else f"{PREFIX}{field.upper()}",)


def _field_of(settings_type: type[HardeningSettings], location: str) -> str:
    """Find the field that pydantic names by its alias."""
    for field in settings_type.model_fields:
        if location == field or location.upper() in variables(settings_type, field):
            return field
    return location


def _sentence(settings_type: type[HardeningSettings], field: str, error: Any) -> str:
    if error["type"] == "missing":
        info = settings_type.model_fields.get(field)
        meaning = f" ({info.description})" if info and info.description else ""
        return f"required, and not set{meaning}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return str(error["msg"]).removeprefix("Input ")


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
        given = next((name for name in names if name in os.environ), None)
        value = getattr(settings, field) if settings is not None else info.default
        default = "required" if info.is_required() else _shown(info.default)
        table.append(Row(names[0], _shown(value), given or "default", default, _bounds(info), info.description or ""))
    return table


def effective(settings: HardeningSettings) -> dict[str, str]:
    """Return what differs from the defaults, masked; for the start line."""
    return {row.variable: row.value for row in rows(type(settings), settings) if row.value != row.default}


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, tuple | frozenset):
        items = [_shown(item) for item in cast("Iterable[object]", value)]
        return ",".join(items if isinstance(value, tuple) else sorted(items))
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        return 78
    for row in rows(settings_type, settings):
        sys.stdout.write(f"{row.variable}={row.value}  # {row.origin}\n")
    return 0
