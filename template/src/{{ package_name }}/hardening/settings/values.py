"""Types of settings, the author's too: read from text as people write it, refused with a sentence, never printed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from .redis_urls import redis_url
from .urls import InvalidUrlError, bare, database_target, shown_url


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
        if part.strip() and found.setdefault(name.strip(), content.strip()) != content.strip():
            raise InvalidUrlError("write each name once")
    return found


def _database(value: SecretStr) -> SecretStr:
    url = bare(value.get_secret_value())
    database_target(url)
    return SecretStr(url)


def _redis(value: SecretStr) -> SecretStr:
    return SecretStr(redis_url(value.get_secret_value()))


def _secret_url(value: SecretStr) -> SecretStr:
    url = bare(value.get_secret_value())
    scheme, found, address = shown_url(url).partition("://")
    if not (found and scheme and address.strip("/")):
        raise InvalidUrlError("must be a URL: scheme://host/path")
    return SecretStr(url)


AuthModes = Annotated[frozenset[Literal["api_key", "jwt", "none"]], NoDecode, BeforeValidator(split)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(pairs)]
