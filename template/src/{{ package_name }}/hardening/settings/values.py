"""Types of settings, the author's too: read from text as people write it, refused with a sentence, never printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin

from pydantic import AfterValidator, AliasChoices, BeforeValidator, SecretStr
from pydantic_core import from_json
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode

from .urls import InvalidUrlError, database_target, redis_url, shown_url

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "MCP_"
LISTS = (list, tuple, set, frozenset)


def split(value: object) -> object:
    """Return the parts between commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def pairs(value: object) -> object:
    """Return `a=1,b=2` as a mapping; the rule is in the message, no value is."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in value.split(","):
        name, equals, content = part.partition("=")
        if part.strip() and not (equals and name.strip()):
            raise InvalidUrlError("write name=value, separated by commas")
        if part.strip():
            found[name.strip()] = content.strip()
    return found


def _database(value: SecretStr) -> SecretStr:
    database_target(value.get_secret_value())
    return value


def _redis(value: SecretStr) -> SecretStr:
    return SecretStr(redis_url(value.get_secret_value()))


def _secret_url(value: SecretStr) -> SecretStr:
    scheme, found, address = shown_url(value.get_secret_value()).partition("://")
    if not (found and scheme and address.strip("/")):
        raise InvalidUrlError("must be a URL: scheme://host/path")
    return value


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(pairs)]


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
