"""Reads the settings from the environment, and names every problem at once by its variable (exit 78).

Nothing is opened before; no value is in a message, since a value may be a secret.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import AliasChoices, ValidationError

from . import HardeningSettings
from .checks import problems as problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SettingsT = TypeVar("SettingsT", bound=HardeningSettings)

PREFIX = "MCP_"
# EX_CONFIG of sysexits.h: a supervisor must not restart what only a person can mend.
BAD_CONFIGURATION = 78
# EX_TEMPFAIL: a system that this server needs is away; a supervisor tries again.
AWAY = 75
# What a client of this server reads, not the server; present where both run.
# The probe's, and those of compose.yaml, whose one file the server is given whole.
NOT_SETTINGS = frozenset(
    {
        *("MCP_PROBE_URL", "MCP_DOMAIN", "MCP_BIND", "MCP_HTTP_PORT", "MCP_HTTPS_PORT", "MCP_TRUSTED_PROXIES"),
    }
)


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
    for field, sentence in problems_of(settings or _without(broken)):
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


def settings_or_exit(settings_type: type[SettingsT]) -> SettingsT:
    """Return the settings, or list every problem on standard error and exit with 78."""
    for sentence in unknown_names(settings_type):
        sys.stderr.write(f"warning: {sentence}\n")
    try:
        return load(settings_type)
    except InvalidSettingsError as invalid:
        refuse("settings", invalid.problems)


def refuse(what: str, problems: Sequence[str], code: int = BAD_CONFIGURATION) -> NoReturn:
    """List what is wrong on standard error, and exit: with 78, or with the code given."""
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(f"Cannot start: {len(problems)} problem(s) in the {what}.\n{lines}\n")
    raise SystemExit(code)
