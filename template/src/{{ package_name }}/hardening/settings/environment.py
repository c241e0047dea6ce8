"""Reads the settings from the environment, and names every problem at once by its variable (exit 78).

Nothing is opened before; no value is in a message, since a value may be a secret.
"""

from __future__ import annotations

import os
import re
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

from pydantic import ValidationError

from ..logs.origin import type_name
from . import HardeningSettings
from .checks import problems as problems_of
from .source import PREFIX, is_secret, read_secret, variables
from .urls import InvalidUrlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .source import EnvironmentSettings

SettingsT = TypeVar("SettingsT", bound=HardeningSettings)

# Shorter parts of a value are common words.
SHORTEST_PART = 4
_PARTS = re.compile(r"[,=:/@?&{}\[\]\"\s]+")
# EX_CONFIG of sysexits.h: a supervisor must not restart what only a person can mend.
BAD_CONFIGURATION = 78
# EX_TEMPFAIL: a system that this server needs is away; a supervisor tries again.
AWAY = 75
# What a client of this server reads, not the server; present where both run.
# The probe's, and those of compose.yaml, whose one file the server is given whole.
NOT_SETTINGS = frozenset(
    {"MCP_PROBE_URL", "MCP_DOMAIN", "MCP_BIND", "MCP_HTTP_PORT", "MCP_HTTPS_PORT", "MCP_TRUSTED_PROXIES"}
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
    files = _files(settings_type)
    problems = list(files.values())
    settings: SettingsT | None = None
    broken = set(files)
    try:
        settings = settings_type()
    except ValidationError as invalid:
        for field, sentence in refused_fields(settings_type, invalid):
            if field not in files:
                broken.add(field)
                problems.append(sentence)
    except Exception as error:  # noqa: BLE001 - whatever the author's own code raises; its text may hold a value
        problems.append(f"{settings_type.__name__}: a validator of yours raised {type_name(error)}; raise ValueError")
    # What does not fit together is told in the same run; for this the broken ones take their defaults.
    for field, sentence in problems_of(settings or _without(broken)):
        if field not in broken:
            problems.append(f"{variables(settings_type, field)[0]}: {sentence}")
    if problems or settings is None:
        raise InvalidSettingsError(sorted(set(problems)))
    return settings


def refused_fields(settings_type: type[EnvironmentSettings], invalid: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield each field that cannot be used, and the sentence that names its variable; no value is in it."""
    for error in invalid.errors(include_input=False, include_url=False):
        field, variable = _place_of(settings_type, error["loc"])
        yield field, f"{variable}: {_sentence(settings_type, field, error)}"


def _files(settings_type: type[HardeningSettings]) -> dict[str, str]:
    """Return what is wrong with the files that secrets are in, by field."""
    found: dict[str, str] = {}
    for field, info in settings_type.model_fields.items():
        for name in variables(settings_type, field):
            path = os.environ.get(f"{name}_FILE") if is_secret(info) else None
            if path and name in os.environ:
                found[field] = f"{name}_FILE: set this or {name}, not both"
            elif path and not read_secret(path):
                found[field] = f"{name}_FILE: the file cannot be read, or is empty"
    return found


def _without(broken: set[str]) -> HardeningSettings:
    names = {name for field in broken for name in variables(HardeningSettings, field)}
    hidden = names | {f"{name}_FILE" for name in names}
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.upper() in hidden}
    try:
        return HardeningSettings()
    finally:
        os.environ.update(kept)


def unknown_names(settings_type: type[HardeningSettings], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return one sentence for each `MCP_*` variable that means nothing: most often a typing mistake."""
    fields = settings_type.model_fields.items()
    known = {name for field, _ in fields for name in variables(settings_type, field)}
    known |= {f"{name}_FILE" for field, info in fields if is_secret(info) for name in variables(settings_type, field)}
    sentences: list[str] = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper().partition("__")[0] not in known | NOT_SETTINGS:
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.7)
            sentences.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences


def _place_of(settings_type: type[EnvironmentSettings], location: tuple[int | str, ...]) -> tuple[str, str]:
    """Return the field that pydantic names by its alias, and the variable to set, nested ones with `__`."""
    if not location:
        return "", settings_type.__name__
    first = str(location[0])
    field = next(
        (one for one in settings_type.model_fields if first == one or first.upper() in variables(settings_type, one)),
        first,
    )
    info = settings_type.model_fields.get(field)
    names = list(variables(settings_type, field)[:1])
    # What is inside of a mapping may be a value; only names of a nested model are told.
    kind: Any = info.annotation if info else None
    for part in location[1:]:
        kinds = [kind, *get_args(kind)]
        fields = {
            name: one for model in kinds if hasattr(model, "model_fields") for name, one in model.model_fields.items()
        }
        if part not in fields:
            break
        names.append(str(part).upper())
        kind = fields[str(part)].annotation
    return field, "__".join(names)


def _sentence(settings_type: type[EnvironmentSettings], field: str, error: Any) -> str:
    if error["type"] == "missing":
        info = settings_type.model_fields.get(field)
        meaning = f" ({info.description})" if info and info.description else ""
        return f"required, and not set{meaning}"
    sentence = str(error["msg"]).removeprefix("Input ")
    if error["type"] in {"value_error", "assertion_error"}:
        cause = error["ctx"]["error"]
        if isinstance(cause, InvalidUrlError) or field in HardeningSettings.model_fields:
            return str(cause)
        sentence = str(cause)
    return _without_value(sentence, [os.environ.get(name, "") for name in variables(settings_type, field)])


def _without_value(sentence: str, given: Sequence[str]) -> str:
    """Take what was set, or a part of it, out of a sentence that an author's check has made."""
    for value in given:
        for part in sorted({value, *_PARTS.split(value)}, key=len, reverse=True):
            if len(part) >= SHORTEST_PART:
                sentence = sentence.replace(part, "…")
    return sentence


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
