"""Source of settings: the environment alone, and files that it names (`…_FILE`); `.env` is for `dev`.

A file that cannot be read is an empty value, and counts up to 1 MiB. No value is in the sentence that refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

from pydantic import AliasChoices
from pydantic_core import from_json
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from .values import pairs, split

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "MCP_"
LISTS = (list, tuple, set, frozenset)


class Environment(EnvSettingsSource):
    """The environment: lists and pairs may be written without JSON, and secrets may be in files (`…_FILE`)."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a variable, or what is in the file that `…_FILE` names."""
        value, key, is_complex = super().get_field_value(field, field_name)
        if value is None and is_secret(field):
            for name in variables(self.settings_cls, field_name):
                path = self.env_vars.get(f"{name}_FILE".lower())
                if path:
                    return read_secret(path), key, is_complex
        return value, key, is_complex

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return JSON, or the same written as people do; what is neither is left for the checks to refuse by name."""
        del field_name
        try:
            decoded: Any = from_json(value)
        except ValueError:
            decoded = value
        if isinstance(decoded, (list, dict)) or not isinstance(value, str):
            return cast("Any", decoded)
        kinds = {get_origin(kind) or kind for kind in (field.annotation, *get_args(field.annotation))}
        if get_origin(field.annotation) in LISTS or kinds & set(LISTS):
            return split(value)
        try:
            return pairs(value) if dict in kinds else value
        except ValueError:
            return value


class EnvironmentSettings(BaseSettings):
    """Settings that come from the environment and never change afterwards."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, and files that it names; `.env` is for `dev` alone."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, Environment(settings_cls)


def variables(settings_type: type[BaseSettings], field: str) -> tuple[str, ...]:
    """Return the names a setting has in the environment, the usual one first."""
    info = settings_type.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (alias.upper() if isinstance(alias, str) else f"{PREFIX}{field.upper()}",)


def is_secret(field: FieldInfo) -> bool:
    """Return whether a setting holds a secret, which may come from a file."""
    return "Secret" in f"{field.annotation} {field.metadata}"


def read_secret(path: str) -> str:
    """Return what is in a file, without the line end that editors add; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a path of the platform's, as it is written
            return file.read(1_048_576).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError):
        return ""
